//! Nodes of this version beside one of the next, as in a rollout: it is played, since there is only one
//! version. What it says and keeps in formats of its own costs nobody anything. And nodes that come to sign what
//! they say, one after the other.

use std::time::Duration;

use futures::StreamExt as _;
use serde_json::json as value;

use super::load::Load;
use super::processes::restart_all;
use super::watch::{Memory, all_ready};
use super::{Busy, assert_no_errors, load, report, settings};
use crate::harness::{Client, summed};
use crate::servers::{Cluster, SIGNED, Setup};

const NEXT: &str = "next-0123456789abcdef0123456789abcdef";

/// For so long.
const BESIDE: Duration = Duration::from_secs(8);

/// Its lease, with facts that nobody knows here, and a session of its own format that is due.
fn joins(cluster: &mut Cluster) -> String {
    let redis = cluster.redis();
    let now: u64 = redis.ask(&["time"]).lines().next().unwrap().parse().unwrap();
    let (until, due) = (((now + 3600) * 1000).to_string(), ((now - 1) * 1000).to_string());
    redis.ask(&["zadd", "hf:{nodes}", &until, NEXT]);
    redis.ask(&["hset", "hf:{nodes}:facts", NEXT, r#"{"version":"9.9.9","later":[1]}"#]);
    let session = "0123456789abcdef0123456789abcdef".to_owned();
    let touched = (now * 1000).to_string();
    redis.ask(&["hset", &format!("hf:{{{session}}}"), "format", "2", "touched", &touched, "later", "x"]);
    redis.ask(&["zadd", "hf:{index}:ids", "0", &session]);
    redis.ask(&["zadd", "hf:{index}:due", &due, &session]);
    session
}

/// It answers, and says to every node what only the next version knows, until it is dropped.
async fn talks(url: String, nodes: Vec<String>) {
    let nats = async_nats::connect(url).await.unwrap();
    let mut pings = nats.subscribe(format!("holdfast.v1.ping.{NEXT}")).await.unwrap();
    let mut rounds = tokio::time::interval(Duration::from_millis(100));
    let mut number = 0;
    loop {
        tokio::select! {
            Some(ping) = pings.next() => nats.publish(ping.reply.unwrap(), "".into()).await.unwrap(),
            _ = rounds.tick() => {
                number += 1;
                let at = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
                let said = match number % 3 {
                    0 => value!({ "format": 2, "whom": NEXT, "what": [number] }),
                    1 => value!({ "format": 1, "from": NEXT, "number": number, "at": at, "kind": "gossip" }),
                    _ => value!({ "format": 1, "from": NEXT, "number": number, "at": at, "kind": "tally", "later": 1 }),
                };
                for node in &nodes {
                    nats.publish(format!("holdfast.v1.node.{node}"), format!("{said}\n").into()).await.unwrap();
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p6_p7_a_node_of_the_next_version_does_no_harm() {
    let load = Load { clients: 100, ..load() };
    // The next version is played without a key.
    let unsigned = settings(&[("cluster.accept_unsigned", "on")]);
    let mut busy = Busy::start(Setup { settings: unsigned, ..Setup::default() }, load).await;
    let memory = Memory::watch(&busy.scene.cluster);
    let (before, _) = busy.for_a_while(Duration::from_secs(4)).await;
    let nodes = busy.scene.cluster.redis().ask(&["zrange", "hf:{nodes}", "0", "-1"]);
    let nodes: Vec<_> = nodes.lines().map(str::to_owned).collect();
    let session = joins(&mut busy.scene.cluster);
    let talks = talks(busy.scene.cluster.nats.url(), nodes);
    let beside = async {
        let ready = all_ready(&busy.scene.cluster).await;
        // Its session is not this version's to serve, and not gone.
        let mut client = Client::new(&busy.scene.cluster.url());
        client.session = Some(session);
        let ping = value!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
        assert_eq!(client.try_post(&ping).await.unwrap().status(), 503);
        (ready, busy.for_a_while(BESIDE).await)
    };
    let (ready, (beside, refused)) = tokio::select! {
        beside = beside => beside,
        () = talks => panic!("it talks for ever"),
    };
    memory.check("beside the next version", &busy.scene.cluster);
    let (ledger, server) = busy.finish().await;
    println!("{before:.0} results/s before, {beside:.0} beside the next version, {ready:.1?}");
    report("beside the next version", &ledger, &server);
    assert_no_errors(&ledger);
    assert_eq!((refused, ledger.refusals()), (0, 0));
    assert!(beside > before / 2.0);
}

/// A metric of each node's, all labels together.
async fn counted(busy: &Busy, name: &str) -> Vec<f64> {
    let mut counts = Vec::new();
    for url in busy.scene.cluster.admin_urls() {
        let text = Client::new(&url).ask("GET", "/metrics", &[], "").await.text;
        counts.push(summed(&text, name).unwrap());
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p6_nodes_come_to_sign_under_load_and_hear_each_other_all_the_while() {
    const REFUSED: &str = "holdfast_bus_refused_total";
    const UNSIGNED: &str = "holdfast_bus_unsigned_total";
    let drain = settings(&[("drain.notice", "3s"), ("drain.handover", "2s"), ("drain.timeout", "14s")]);
    let setup = Setup { settings: drain, unsigned: true, ..Setup::default() };
    let mut busy = Busy::start(setup, Load { clients: 60, ..load() }).await;
    busy.scene.cluster.set(SIGNED);
    busy.scene.cluster.set(("cluster.accept_unsigned", "on"));
    restart_all(&mut busy).await;
    let taken = counted(&busy, UNSIGNED).await;
    assert!(taken[0] > 0.0, "others did not sign yet: {taken:?}");
    assert_eq!(counted(&busy, REFUSED).await, [0.0; 3]);
    let before = counted(&busy, UNSIGNED).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(counted(&busy, UNSIGNED).await, before, "all of them sign");
    busy.scene.cluster.set(("cluster.accept_unsigned", "off"));
    restart_all(&mut busy).await;
    assert_eq!(counted(&busy, REFUSED).await, [0.0; 3]);
    let (ledger, server) = busy.finish().await;
    report("coming to sign", &ledger, &server);
    assert_no_errors(&ledger);
    assert_eq!((ledger.refusals(), ledger.broken.lock().unwrap().len()), (0, 0));
}
