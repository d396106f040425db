//! A primary of Redis dies for good and its replica takes its place: in a Cluster, and behind Sentinels.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::watch::{Memory, all_ready};
use super::{Busy, load, report};
use crate::servers::{RedisCluster, Sentinels, Setup, State};

/// From when the replica is the primary: every node opens sessions again, and is heard by the others.
const READY_WITHIN: Duration = Duration::from_secs(5);

/// Kills the primaries of these keys, each after the failover before it.
async fn suffer(what: &str, state: fn() -> State, keys: &[&str], forgets: Option<Duration>) {
    let state = tokio::task::spawn_blocking(state).await.unwrap();
    let mut busy = Busy::start(Setup { state: Some(state), ..Setup::default() }, load()).await;
    let memory = Memory::watch(&busy.scene.cluster);
    for key in keys {
        if let Some(while_) = forgets {
            tokio::task::block_in_place(|| busy.scene.cluster.state.cut_replica());
            tokio::time::sleep(while_).await;
        }
        let refused = busy.ledger().refusals();
        let state = &mut busy.scene.cluster.state;
        tokio::task::block_in_place(|| state.kill_primary_of(key));
        let killed = Instant::now();
        tokio::task::block_in_place(|| state.promoted());
        let promoted = killed.elapsed();
        let ready = all_ready(&busy.scene.cluster).await;
        println!(
            "{what}: the replica took over {promoted:.1?} after its primary's death; after that {ready:.1?}, {} refused",
            busy.ledger().refusals() - refused
        );
        assert!(ready.opens < READY_WITHIN, "{ready:?}");
        assert!(ready.heard < READY_WITHIN * 2, "{ready:?}");
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let (rate, refused) = busy.for_a_while(Duration::from_secs(4)).await;
    memory.check(what, &busy.scene.cluster);
    let (ledger, server) = busy.finish().await;
    println!("{what}: afterwards {rate:.0} results/s, {refused} refused");
    report(what, &ledger, &server);
    assert_eq!(refused, 0, "all is well again");
    let errors = ledger.errors.lock().unwrap();
    let honest =
        |error: &String| ["can't be replayed", "may have run"].iter().any(|told| error.contains(told));
    assert!(errors.iter().all(honest), "what was forgotten is told: {errors:?}");
    let told = errors.len() + ledger.losses_told.load(Ordering::Relaxed);
    assert!(forgets.is_some() || told < load().clients / 10, "next to nothing was forgotten: {told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_p7_primaries_of_a_cluster_die_under_load() {
    let cluster = || State::Cluster(RedisCluster::with_replicas(1));
    suffer("Redis Cluster", cluster, &["{index}", "{nodes}"], None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_p7_the_primary_behind_sentinels_dies_under_load() {
    suffer("Sentinels", || State::Sentinels(Sentinels::start()), &[""], None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_p5_what_a_failover_forgot_is_told_under_load() {
    let forgets = Some(Duration::from_secs(2));
    suffer("a forgetful failover", || State::Sentinels(Sentinels::start()), &[""], forgets).await;
}
