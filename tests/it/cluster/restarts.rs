//! Redis is killed and comes back, with its data and without.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::load::Load;
use super::watch::all_ready;
use super::{Busy, assert_no_errors, load, report};
use crate::servers::{Redis, Setup, State};

/// How long it is away.
const AWAY: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_p7_redis_is_killed_and_comes_back_with_its_data() {
    let redis = tokio::task::spawn_blocking(Redis::keeping).await.unwrap();
    let mut busy = Busy::start(Setup { state: Some(State::One(redis)), ..Setup::default() }, load()).await;
    for _ in 0..2 {
        busy.scene.cluster.redis().kill();
        tokio::time::sleep(AWAY).await;
        tokio::task::block_in_place(|| busy.scene.cluster.redis().restart());
        println!("after its return {:.1?}", all_ready(&busy.scene.cluster).await);
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let (ledger, server) = busy.finish().await;
    report("Redis killed twice, with its data", &ledger, &server);
    assert_eq!(server.calls(), ledger.results(), "what ran was answered");
    assert_no_errors(&ledger);
    assert_eq!(ledger.losses_told.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_p7_redis_is_killed_and_comes_back_without_its_data() {
    let load = Load { sessions_end: true, ..load() };
    let mut busy = Busy::start(Setup::default(), load).await;
    for _ in 0..2 {
        busy.scene.cluster.redis().kill();
        tokio::time::sleep(AWAY).await;
        tokio::task::block_in_place(|| busy.scene.cluster.redis().restart());
        println!("after its return {:.1?}", all_ready(&busy.scene.cluster).await);
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let (rate, refused) = busy.for_a_while(Duration::from_secs(4)).await;
    let (ledger, server) = busy.finish().await;
    println!("afterwards {rate:.0} results/s, {refused} refused");
    report("Redis killed twice, without its data", &ledger, &server);
    let gone = ledger.gone.load(Ordering::Relaxed);
    assert!(gone >= load.clients * 2, "every client was told, each time: {gone}");
    assert!(gone <= load.clients * 2, "and only once: {gone}");
    assert_eq!(refused, 0, "all is well again");
    assert!(rate > 0.0);
}
