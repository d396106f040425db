//! One node alone has a bad way to Redis, to NATS, or to both; the others have not.

use std::time::Duration;

use tokio::time::Instant;

use super::load::Load;
use super::server::LedgerServer;
use super::{Busy, assert_honest_errors, load, report, settings};
use crate::harness::Client;
use crate::servers::{Cluster, NODES, Setup, Way};

/// The node with ways of its own.
const LONELY: usize = 1;

/// Its streams are handed over within two seconds, once it is known to be the only one; those of
/// HTTP+SSE wait two more for what is answered on them.
const SETTINGS: [(&str, &str); 3] =
    [("drain.notice", "1s"), ("drain.handover", "1s"), ("drain.timeout", "4s")];

const REDIS: &[Backend] = &[Backend::Redis];
const NATS: &[Backend] = &[Backend::Nats];
const BOTH: &[Backend] = &[Backend::Redis, Backend::Nats];

#[derive(Clone, Copy)]
enum Backend {
    Redis,
    Nats,
}

/// What is done to the node's ways, and for how long.
struct Fault {
    ways: &'static [Backend],
    way: Way,
    lasts: Duration,
}

const fn fault(ways: &'static [Backend], way: Way, seconds: u64) -> Fault {
    Fault { ways, way, lasts: Duration::from_secs(seconds) }
}

impl Fault {
    /// Whether the node says that it is ready meanwhile, if that is certain: what it can still reach
    /// tells it that others reach the rest.
    fn leaves_it_ready(&self) -> Option<bool> {
        match self.way {
            Way::Slow(_) => None,
            Way::Passes | Way::Cut | Way::Silent => Some(self.ways.len() == BOTH.len()),
        }
    }

    fn set(&self, cluster: &Cluster, way: Way) {
        for backend in self.ways {
            match backend {
                Backend::Redis => cluster.links().redis.set(way),
                Backend::Nats => cluster.links().nats.set(way),
            }
        }
    }
}

/// Whether each node says that it is ready.
async fn ready(cluster: &Cluster) -> Vec<bool> {
    let asked = cluster
        .admin_urls()
        .into_iter()
        .map(|admin| async move { Client::new(&admin).try_ask("/readyz").await == Some(200) });
    futures::future::join_all(asked).await
}

/// How long it takes until all of them do, but for the lonely one if it shall not.
async fn until_ready(cluster: &Cluster, lonely: bool) -> Duration {
    let began = Instant::now();
    let mut expected = [true; NODES];
    expected[LONELY] = lonely;
    while ready(cluster).await != expected {
        assert!(began.elapsed() < Duration::from_secs(20), "ready: {:?}", ready(cluster).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    began.elapsed()
}

/// Gives the node each of these faults, and time to recover after each. Returns the longest silence of
/// a session's stream, on which the server says something each second.
async fn suffer(what: &str, faults: &[Fault]) -> Duration {
    let setup = Setup { linked: Some(LONELY), settings: settings(&SETTINGS), ..Setup::default() };
    let busy = Busy::start(setup, load()).await;
    let cluster = &busy.scene.cluster;
    let (before, _) = busy.for_a_while(Duration::from_secs(3)).await;
    for fault in faults {
        fault.set(cluster, fault.way);
        let told = async {
            match fault.leaves_it_ready() {
                Some(ready) => until_ready(cluster, ready).await,
                None => Duration::ZERO,
            }
        };
        let (told, (rate, refused)) = futures::join!(told, busy.for_a_while(fault.lasts));
        if let Some(ready) = fault.leaves_it_ready() {
            assert_eq!(until_ready(cluster, ready).await.as_secs(), 0, "and it stays so");
        }
        fault.set(cluster, Way::Passes);
        let back = until_ready(cluster, true).await;
        println!(
            "{what}, {:?}: {before:.0} results/s before, {rate:.0} meanwhile, {refused} refused; told after {told:.1?}, ready {back:.1?} after its return",
            fault.way
        );
        assert!(rate > before / 3.0, "the others go on");
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    let (after, refused) = busy.for_a_while(Duration::from_secs(3)).await;
    println!("{what}: {after:.0} results/s afterwards, {refused} refused");
    let (ledger, server) = busy.finish().await;
    report(what, &ledger, &server);
    assert_honest_errors(&ledger);
    assert_eq!(refused, 0, "all is well again");
    ledger.silence()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p7_one_node_loses_redis() {
    let faults = [fault(REDIS, Way::Silent, 13), fault(REDIS, Way::Cut, 6)];
    let silence = suffer("one node without Redis", &faults).await;
    assert!(silence < Duration::from_secs(12), "its streams go on elsewhere: {silence:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p7_one_node_loses_nats() {
    let faults = [fault(NATS, Way::Silent, 12), fault(NATS, Way::Cut, 8)];
    let silence = suffer("one node without NATS", &faults).await;
    assert!(silence < Duration::from_secs(12), "its streams go on elsewhere: {silence:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p7_one_node_loses_both() {
    suffer("one node without both", &[fault(BOTH, Way::Silent, 9), fault(BOTH, Way::Cut, 6)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p7_one_node_has_slow_links() {
    let (slow, slower) = (Way::Slow(Duration::from_millis(100)), Way::Slow(Duration::from_millis(300)));
    suffer("one node with slow links", &[fault(BOTH, slow, 7), fault(BOTH, slower, 9)]).await;
}

/// Others take it for dead; what it runs can be run nowhere else, and ends here with its result.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_one_node_without_nats_finishes_what_it_runs() {
    let setup = Setup { linked: Some(LONELY), settings: settings(&SETTINGS), ..Setup::default() };
    let load = Load { clients: 60, steps: 6, ..load() };
    let busy = Busy::before(LedgerServer::that(false).await, setup, load).await;
    busy.scene.cluster.links().nats.set(Way::Cut);
    until_ready(&busy.scene.cluster, false).await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    busy.scene.cluster.links().nats.set(Way::Passes);
    until_ready(&busy.scene.cluster, true).await;
    let (ledger, server) = busy.finish().await;
    report("one node without NATS, a server that can't resume", &ledger, &server);
    // Over HTTP+SSE others hold the stream of what it ran, and can only say that it may have run.
    let errors = ledger.errors.lock().unwrap();
    assert!(errors.iter().all(|error| error.starts_with("old")), "{errors:?}");
}
