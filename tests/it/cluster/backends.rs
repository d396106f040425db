//! Redis or NATS away, for all nodes.

use std::time::Duration;

use super::load::Load;
use super::watch::{Memory, all_ready};
use super::{Busy, assert_no_errors, report};
use crate::servers::Setup;

const OUTAGE: Duration = Duration::from_secs(20);

/// From the return of what was away.
const READY_WITHIN: Duration = Duration::from_secs(3);

/// What happened in the outage is caught up with as fast as the processors allow, and beside it everything is
/// as slow: with so many clients that takes unoptimized nodes less than a second of two.
fn load() -> Load {
    let all = super::load();
    Load { clients: all.clients * 2 / 5, ..all }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p7_nats_is_away_for_a_while() {
    let mut busy = Busy::start(Setup::default(), load()).await;
    let memory = Memory::watch(&busy.scene.cluster);
    busy.scene.cluster.nats.kill();
    let (rate, _) = busy.for_a_while(OUTAGE).await;
    busy.scene.cluster.nats.restart();
    let ready = all_ready(&busy.scene.cluster).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    memory.check("NATS away", &busy.scene.cluster);
    let (ledger, server) = busy.finish().await;
    println!("NATS away: {rate:.0} results/s meanwhile, after its return {ready:.1?}");
    report("NATS away for 20 s", &ledger, &server);
    assert_no_errors(&ledger);
    assert!(ready.heard < READY_WITHIN, "{ready:?}");
    let slowest = ledger.took().last().copied().unwrap_or_default();
    assert!(slowest < OUTAGE / 2, "what another node answers is read from the log: {slowest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p7_redis_is_away_for_a_while() {
    let mut busy = Busy::start(Setup::default(), load()).await;
    let memory = Memory::watch(&busy.scene.cluster);
    busy.scene.cluster.redis().freeze();
    let (rate, _) = busy.for_a_while(OUTAGE).await;
    busy.scene.cluster.redis().thaw();
    let ready = all_ready(&busy.scene.cluster).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    memory.check("Redis away", &busy.scene.cluster);
    let (ledger, server) = busy.finish().await;
    println!("Redis away: {rate:.0} results/s meanwhile, after its return {ready:.1?}");
    report("Redis away for 20 s", &ledger, &server);
    assert_eq!(server.calls(), ledger.results(), "what ran was answered");
    assert_no_errors(&ledger);
    assert!(ready.heard < READY_WITHIN, "{ready:?}");
}
