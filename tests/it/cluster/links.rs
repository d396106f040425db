//! One node alone has a bad way to Redis, to NATS, or to both; the others have not.

use std::time::Duration;

use super::{Busy, assert_no_errors, load, report};
use crate::servers::{Setup, Way};

/// The node with ways of its own.
const LONELY: usize = 1;

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

/// Gives the node each of these faults, and time to recover after each.
async fn suffer(what: &str, faults: &[Fault]) {
    let busy = Busy::start(Setup { linked: Some(LONELY), ..Setup::default() }, load()).await;
    let set = |fault: &Fault, way: Way| {
        for backend in fault.ways {
            match backend {
                Backend::Redis => busy.scene.cluster.links().redis.set(way),
                Backend::Nats => busy.scene.cluster.links().nats.set(way),
            }
        }
    };
    let (before, _) = busy.for_a_while(Duration::from_secs(3)).await;
    for fault in faults {
        set(fault, fault.way);
        let (rate, refused) = busy.for_a_while(fault.lasts).await;
        set(fault, Way::Passes);
        println!(
            "{what}, {:?}: {before:.0} results/s before, {rate:.0} meanwhile, {refused} refused",
            fault.way
        );
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let (after, refused) = busy.for_a_while(Duration::from_secs(3)).await;
    println!("{what}: {after:.0} results/s afterwards, {refused} refused");
    let (ledger, server) = busy.finish().await;
    report(what, &ledger, &server);
    assert_no_errors(&ledger);
    assert_eq!(refused, 0, "all is well again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p7_one_node_loses_redis() {
    suffer("one node without Redis", &[fault(REDIS, Way::Silent, 15), fault(REDIS, Way::Cut, 8)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p7_one_node_loses_nats() {
    suffer("one node without NATS", &[fault(NATS, Way::Silent, 15), fault(NATS, Way::Cut, 8)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p7_one_node_loses_both() {
    suffer("one node without both", &[fault(BOTH, Way::Silent, 15), fault(BOTH, Way::Cut, 8)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p7_one_node_has_slow_links() {
    let (slow, slower) = (Way::Slow(Duration::from_millis(100)), Way::Slow(Duration::from_millis(300)));
    suffer("one node with slow links", &[fault(BOTH, slow, 10), fault(BOTH, slower, 12)]).await;
}
