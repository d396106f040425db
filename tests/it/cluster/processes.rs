//! Nodes that die, freeze, and are restarted one after the other.

use std::time::Duration;

use crate::harness::{Client, summed};

use super::{Busy, assert_honest_errors, assert_nothing_failed, load, report, settings};
use crate::servers::{NODES, Setup};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_p5_a_node_is_killed_under_load() {
    let mut busy = Busy::start(Setup::default(), load()).await;
    busy.scene.cluster.kill_node(1);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(deaths(&busy).await, 2.0, "seen by each of the others");
    let (ledger, server) = busy.finish().await;
    report("kill -9", &ledger, &server);
    assert_honest_errors(&ledger);
    let worst = ledger.resumed.lock().unwrap().iter().max().copied().unwrap_or_default();
    assert!(worst < Duration::from_secs(5), "{worst:?}");
}

/// What the nodes that run have found dead.
async fn deaths(busy: &Busy) -> f64 {
    let mut deaths = 0.0;
    for admin in busy.scene.cluster.admin_urls() {
        let node = Client::new(&admin);
        if node.try_ask("/livez").await.is_some() {
            let page = node.ask("GET", "/metrics", &[], "").await.text;
            deaths += summed(&page, "holdfast_node_deaths_total").unwrap();
        }
    }
    deaths
}

/// One after the other, in order.
pub(super) async fn restart_all(busy: &mut Busy) {
    for node in 0..NODES {
        let cluster = &mut busy.scene.cluster;
        tokio::task::block_in_place(|| {
            let code = cluster.process(node).terminate(Duration::from_secs(20));
            assert_eq!(code, Some(0), "node {node} ends in order");
            cluster.start_node(node);
        });
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p6_a_rolling_restart_is_not_an_outage() {
    let drain = [("drain.notice", "3s"), ("drain.handover", "2s"), ("drain.timeout", "14s")];
    let mut busy = Busy::start(Setup { settings: settings(&drain), ..Setup::default() }, load()).await;
    restart_all(&mut busy).await;
    assert_eq!(deaths(&busy).await, 0.0, "who leaves in order does not die");
    let (ledger, server) = busy.finish().await;
    report("rolling restart", &ledger, &server);
    assert_nothing_failed(&ledger);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_p5_a_node_is_frozen_and_wakes_up() {
    let mut busy = Busy::start(Setup::default(), load()).await;
    busy.scene.cluster.process(1).signal("-STOP");
    tokio::time::sleep(Duration::from_secs(8)).await;
    busy.scene.cluster.process(1).signal("-CONT");
    tokio::time::sleep(Duration::from_secs(6)).await;
    let (ledger, server) = busy.finish().await;
    report("SIGSTOP for 8 s", &ledger, &server);
    assert_honest_errors(&ledger);
}
