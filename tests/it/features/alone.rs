//! One node alone can't reach the store, or the bus: it is not ready, and its clients go on elsewhere.
//! While nobody can, every node stays (P7).

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use holdfast::app::Shared;

use crate::harness::{
    Client, Faults, Gateway, Hand, POST, Stream, call, configured, faulty, request, step, steps, wait_until,
};

struct Two {
    hand: Hand,
    nodes: [Gateway; 2],
    faults: [Arc<Faults>; 2],
}

impl Two {
    async fn start() -> Self {
        let hand = Hand::start().await;
        let quick = [("cluster.lease", "400ms"), ("drain.notice", "200ms"), ("drain.handover", "200ms")];
        let config = configured(&hand.upstream.url, &quick);
        let shared = Shared::memory(&config);
        let (one, one_faults) = faulty(shared.clone());
        let (other, other_faults) = faulty(shared);
        let nodes = [Gateway::start_on(&config, one).await, Gateway::start_on(&config, other).await];
        wait_until("both are alive", || nodes[0].metric("holdfast_nodes") == Some(2.0)).await;
        Self { hand, nodes, faults: [one_faults, other_faults] }
    }

    async fn status(&self, node: usize, path: &str) -> u16 {
        Client::new(&self.nodes[node].admin).ask("GET", path, &[], "").await.status
    }

    async fn becomes(&self, node: usize, status: u16) {
        for _ in 0..1000 {
            if self.status(node, "/readyz").await == status {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("node {node} does not become {status}");
    }
}

fn away(faults: &Faults) -> &AtomicBool {
    &faults.away
}

fn cut(faults: &Faults) -> &AtomicBool {
    &faults.cut
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p7_a_node_that_alone_lost_the_store_or_the_bus_is_not_ready_until_it_is_back() {
    for fault in [away, cut] {
        let two = Two::start().await;
        Faults::set(fault(&two.faults[0]), true);
        two.becomes(0, 503).await;
        assert_eq!(two.status(0, "/readyz?leaving=404").await, 404, "what is open may stay");
        assert_eq!(two.status(0, "/livez").await, 200, "a restart would not help");
        assert_eq!(two.status(1, "/readyz").await, 200);
        Faults::set(fault(&two.faults[0]), false);
        two.becomes(0, 200).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p7_while_the_store_or_the_bus_is_away_for_all_every_node_stays_ready() {
    for fault in [away, cut] {
        let two = Two::start().await;
        for faults in &two.faults {
            Faults::set(fault(faults), true);
        }
        // Ten leases.
        for _ in 0..40 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            for node in 0..2 {
                assert_eq!(two.status(node, "/readyz").await, 200);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_p5_what_another_node_answers_arrives_while_the_bus_is_away() {
    let two = Two::start().await;
    let there = two.nodes[1].client();
    let mut stream = Stream::new(there.sse().await);
    let endpoint = String::from_utf8(stream.event().await.unwrap().data.unwrap().to_vec()).unwrap();
    let params = serde_json::json!({ "protocolVersion": "2024-11-05", "capabilities": {},
        "clientInfo": { "name": "t", "version": "1" } });
    let here = two.nodes[0].client();
    let initialize = request(0, "initialize", &params).to_string();
    assert_eq!(here.ask("POST", &endpoint, &POST, &initialize).await.status, 202);
    assert_eq!(stream.message().await["id"], 0);
    for faults in &two.faults {
        Faults::set(&faults.cut, true);
    }
    assert_eq!(here.ask("POST", &endpoint, &POST, &call(1).to_string()).await.status, 202);
    two.hand.take("tools/call").await.finish().await;
    let asked = tokio::time::Instant::now();
    assert_eq!(stream.message().await["id"], 1);
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_p7_the_streams_of_a_node_that_is_alone_are_handed_over() {
    for fault in [away, cut] {
        let two = Two::start().await;
        let mut client = two.nodes[0].client();
        client.initialize("2025-11-25").await;
        let mut elsewhere = two.nodes[1].client();
        (elsewhere.session, elsewhere.version) = (client.session.clone(), client.version.clone());
        let mut stream = Stream::new(client.get(None).await);
        let said = two.hand.take("GET").await;
        said.say_as("e-1", &step(1)).await;
        assert_eq!(steps(&[stream.message().await]), [1]);
        Faults::set(fault(&two.faults[0]), true);
        assert!(stream.rest().await.is_empty(), "it ends");
        assert_eq!(stream.retries, 2, "one at the start, one at the end");
        let mut resumed = Stream::new(elsewhere.get(stream.position.as_deref()).await);
        let again = two.hand.take("GET").await;
        assert_eq!(again.asked.header("last-event-id"), "e-1");
        again.say_as("e-2", &step(2)).await;
        assert_eq!(steps(&[resumed.message().await]), [2]);
        drop(said);
    }
}
