//! What each path costs of the shared state and the bus, counted. What a node does of its own (beats,
//! reaping, touching, tallies) is counted apart.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast::app::Shared;
use serde_json::json as value;

use crate::harness::{
    Client, Faults, Gateway, Hand, Stream, call, configured, faulty, step, steps, wait_until,
};

struct Scene {
    hand: Hand,
    a: Gateway,
    b: Gateway,
    faults: Arc<Faults>,
    client: Client,
}

async fn scene() -> Scene {
    let hand = Hand::start().await;
    let config = configured(&hand.upstream.url, &[("requests.json_wait", "2s")]);
    let (shared, faults) = faulty(Shared::memory(&config));
    let a = Gateway::start_on(&config, shared.clone()).await;
    let b = Gateway::start_on(&config, shared).await;
    let mut client = a.client();
    client.initialize("2025-11-25").await;
    wait_until("both are alive", || a.metric("holdfast_nodes") == Some(2.0)).await;
    Scene { hand, a, b, faults, client }
}

fn costs(steps: &[(&'static str, usize)]) -> BTreeMap<&'static str, usize> {
    steps.iter().copied().collect()
}

#[tokio::test]
async fn a_hot_post_answered_in_json_costs_nothing() {
    let scene = scene().await;
    scene.faults.count();
    for id in 1..=20 {
        let body = call(id);
        // The server answers as a stream, as the SDKs' servers do, priming event and all.
        let (reply, ()) = futures::join!(scene.client.posted(&body), async {
            let answer = scene.hand.take("tools/call").await;
            answer.raw("id: e-0\nretry: 10\ndata:\n\n").await;
            answer.finish().await;
        });
        assert_eq!(reply.header("content-type"), "application/json");
    }
    assert_eq!(scene.faults.count(), costs(&[]));
}

#[tokio::test]
async fn a_streamed_call_costs_a_begin_an_append_for_each_event_and_no_message_while_it_is_held_here() {
    let scene = scene().await;
    scene.faults.count();
    let body = call(1);
    let (mut stream, ()) = futures::join!(scene.client.streamed(&body), async {
        let answer = scene.hand.take("tools/call").await;
        for number in 1..=5 {
            answer.say(&step(number)).await;
        }
        answer.finish().await;
    });
    assert_eq!(stream.rest().await.len(), 6);
    wait_until("it is released", || scene.a.metric("holdfast_streams{kind=\"post\"}") == Some(0.0)).await;
    // What was bound is given back.
    wait_until("released", || scene.faults.taken.lock().unwrap().contains_key("release")).await;
    assert_eq!(scene.faults.count(), costs(&[("begin", 1), ("append", 6), ("release", 1)]));
}

#[tokio::test]
async fn an_event_for_a_stream_at_another_node_costs_one_append_and_one_message() {
    let scene = scene().await;
    let mut elsewhere = scene.b.client();
    (elsewhere.session, elsewhere.version) = (scene.client.session.clone(), scene.client.version.clone());
    let body = call(1);
    let (mut stream, answer) = futures::join!(scene.client.streamed(&body), async {
        let answer = scene.hand.take("tools/call").await;
        answer.say(&step(0)).await;
        answer
    });
    assert_eq!(steps(&[stream.message().await]), [0]);
    let mut moved = Stream::new(elsewhere.get(stream.position.as_deref()).await);
    wait_until("the first node lets go", || scene.a.metric("holdfast_streams{kind=\"post\"}") == Some(0.0))
        .await;
    scene.faults.count();
    for number in 1..=5 {
        answer.say(&step(number)).await;
    }
    for number in 1..=5 {
        assert_eq!(steps(&[moved.message().await]), [number]);
    }
    let mut counted = scene.faults.count();
    // The first node's release may come late.
    counted.remove("release");
    assert_eq!(counted, costs(&[("append", 5), ("send", 5)]));
}

#[tokio::test]
async fn a_cold_session_costs_one_load_and_its_end_one_announcement() {
    let scene = scene().await;
    let mut elsewhere = scene.b.client();
    (elsewhere.session, elsewhere.version) = (scene.client.session.clone(), scene.client.version.clone());
    scene.faults.count();
    for id in 1..=3 {
        let body = value!({ "jsonrpc": "2.0", "id": id, "method": "ping" });
        let (reply, ()) = futures::join!(elsewhere.posted(&body), async {
            scene.hand.take("ping").await.finish().await;
        });
        assert_eq!(reply.status, 200);
    }
    assert_eq!(scene.faults.count(), costs(&[("load", 1)]));
    assert_eq!(elsewhere.delete().await.status, 204);
    assert_eq!(scene.faults.count(), costs(&[("close", 1), ("announce", 1)]));
    let body = value!({ "jsonrpc": "2.0", "id": 9, "method": "ping" });
    assert_eq!(scene.client.posted(&body).await.status, 404, "what was cached elsewhere is dropped");
}
