//! A node dies without a word: what it ran ends all the same, on another node (P3, P4, P5).

use std::sync::Arc;
use std::time::Duration;

use holdfast::app::Shared;
use holdfast::domain::Principal;
use serde_json::{Value, json as value};
use tokio::time::Instant;

use crate::harness::{
    Client, Faults, Gateway, Hand, Mortal, POST, Stream, call, configured, faulty, step, steps, wait_until,
};

/// A dead node is known within three seconds; what follows takes no longer.
const SOON: Duration = Duration::from_secs(5);

struct Two {
    hand: Hand,
    doomed: Mortal,
    other: Gateway,
    /// Of the other one.
    faults: Arc<Faults>,
}

impl Two {
    async fn start() -> Self {
        let hand = Hand::start().await;
        let config = configured(&hand.upstream.url, &[("requests.json_wait", "50ms")]);
        let shared = Shared::memory(&config);
        let doomed = Mortal::start(&config, shared.clone());
        let (shared, faults) = faulty(shared);
        let other = Gateway::start_on(&config, shared).await;
        wait_until("both are alive", || other.metric("holdfast_nodes") == Some(2.0)).await;
        Self { hand, doomed, other, faults }
    }

    fn elsewhere(&self, client: &Client) -> Client {
        let mut elsewhere = self.other.client();
        (elsewhere.session, elsewhere.version) = (client.session.clone(), client.version.clone());
        elsewhere
    }
}

fn result(id: u64) -> Value {
    value!({ "jsonrpc": "2.0", "id": id, "result": { "ok": true } })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_the_result_of_a_dead_nodes_call_arrives_through_another_if_the_server_can_resume() {
    for primed_only in [false, true] {
        let two = Two::start().await;
        let mut client = two.doomed.client();
        client.initialize("2025-11-25").await;
        let elsewhere = two.elsewhere(&client);
        let body = call(1);
        let (mut stream, answer) = futures::join!(client.streamed(&body), async {
            let answer = two.hand.take("tools/call").await;
            answer.raw("id: e-0\nretry: 10\ndata:\n\n").await;
            if !primed_only {
                answer.say_as("e-1", &step(1)).await;
            }
            answer
        });
        let mut seen = Vec::new();
        if primed_only {
            stream.primed().await;
        } else {
            seen.push(stream.message().await);
        }
        let position = stream.position.clone().unwrap();
        let died = Instant::now();
        two.doomed.kill();
        drop(answer);
        let mut resumed = Stream::new(elsewhere.get(Some(&position)).await);
        let again = two.hand.take("GET").await;
        assert_eq!(again.asked.header("last-event-id"), if primed_only { "e-0" } else { "e-1" });
        // It repeats the event of the position, as some do.
        if !primed_only {
            again.say_as("e-1", &step(1)).await;
        }
        again.say_as("e-2", &step(2)).await;
        again.say_as("e-3", &result(1)).await;
        seen.extend(resumed.rest().await);
        let expected = if primed_only { vec![2] } else { vec![1, 2] };
        assert_eq!(steps(&seen), expected, "once each, in order: {seen:?}");
        assert_eq!(seen.last(), Some(&result(1)));
        assert!(died.elapsed() < SOON, "{:?}", died.elapsed());
        assert_eq!(two.hand.upstream.count(|asked| asked.rpc() == "tools/call"), 1, "it is never run twice");
        assert_eq!(two.other.metric("holdfast_takeovers_total{outcome=\"resumed\"}"), Some(1.0));
        assert_eq!(two.other.metric("holdfast_exchanges"), Some(0.0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_an_error_says_so_if_the_server_can_not_resume() {
    let two = Two::start().await;
    let mut client = two.doomed.client();
    client.initialize("2025-11-25").await;
    let elsewhere = two.elsewhere(&client);
    let body = call(1);
    let (mut stream, answer) = futures::join!(client.streamed(&body), async {
        let answer = two.hand.take("tools/call").await;
        answer.say(&step(1)).await;
        answer
    });
    stream.message().await;
    let died = Instant::now();
    two.doomed.kill();
    let mut resumed = Stream::new(elsewhere.get(stream.position.as_deref()).await);
    let rest = resumed.rest().await;
    assert_eq!((rest.len(), rest[0]["error"]["code"].clone()), (1, value!(-32000)), "{rest:?}");
    assert!(rest[0]["error"]["message"].as_str().unwrap().contains("may have run"), "{rest:?}");
    assert!(died.elapsed() < SOON, "{:?}", died.elapsed());
    drop(answer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_a_202_of_a_node_that_dies_is_followed_by_the_result_on_the_stream_of_another() {
    for resumable in [true, false] {
        let two = Two::start().await;
        let mut stream = Stream::new(two.other.client().sse().await);
        let endpoint = String::from_utf8(stream.event().await.unwrap().data.unwrap().to_vec()).unwrap();
        let initialize = value!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } } });
        let doomed = two.doomed.client();
        assert_eq!(doomed.ask("POST", &endpoint, &POST, &initialize.to_string()).await.status, 202);
        assert_eq!(stream.message().await["id"], 0);
        assert_eq!(doomed.ask("POST", &endpoint, &POST, &call(1).to_string()).await.status, 202);
        let answer = two.hand.take("tools/call").await;
        if resumable {
            answer.raw("id: e-0\ndata:\n\n").await;
            let query = holdfast::ports::Query { limit: 10, ..Default::default() };
            let page = two.other.hub().find(&query).await.unwrap();
            assert_eq!(page.sessions[0].owner, Principal::anonymous());
            let id = page.sessions[0].id.clone();
            for _ in 0..200 {
                let seen = two.other.hub().inspect(&id).await.unwrap().unwrap();
                if seen.running.iter().any(|record| record.upstream_event.is_some()) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        let died = Instant::now();
        two.doomed.kill();
        if resumable {
            loop {
                let again = two.hand.take("GET").await;
                if again.asked.header("last-event-id") == "e-0" {
                    again.say_as("e-1", &result(1)).await;
                    break;
                }
            }
        }
        let last = stream.message().await;
        assert_eq!(last["id"], 1, "{last}");
        assert_eq!(last["result"]["ok"] == true, resumable, "{last}");
        assert!(died.elapsed() < SOON, "{:?}", died.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_a_dead_nodes_call_is_taken_over_once_however_often_its_client_comes_back() {
    let two = Two::start().await;
    let mut client = two.doomed.client();
    client.initialize("2025-11-25").await;
    let elsewhere = two.elsewhere(&client);
    let body = call(1);
    let (mut stream, answer) = futures::join!(client.streamed(&body), async {
        let answer = two.hand.take("tools/call").await;
        answer.say_as("e-1", &step(1)).await;
        answer
    });
    stream.message().await;
    let position = stream.position.clone().unwrap();
    two.doomed.kill();
    drop(answer);
    wait_until("it is known to be dead", || two.other.metric("holdfast_node_deaths_total") == Some(1.0))
        .await;
    two.faults.slow("steal", Duration::from_millis(500));
    let first = Stream::new(elsewhere.get(Some(&position)).await);
    drop(first);
    let mut resumed = Stream::new(elsewhere.get(Some(&position)).await);
    let again = two.hand.take("GET").await;
    let _none = tokio::time::timeout(Duration::from_secs(1), two.hand.take("GET")).await;
    again.say_as("e-2", &step(2)).await;
    again.say_as("e-3", &result(1)).await;
    assert_eq!(steps(&resumed.rest().await), [2]);
    assert_eq!(two.hand.upstream.count(|asked| asked.header("last-event-id") == "e-1"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_a_steal_whose_answer_was_lost_is_asked_again() {
    let two = Two::start().await;
    let mut client = two.doomed.client();
    client.initialize("2025-11-25").await;
    let elsewhere = two.elsewhere(&client);
    let body = call(1);
    let (mut stream, answer) = futures::join!(client.streamed(&body), async {
        let answer = two.hand.take("tools/call").await;
        answer.say_as("e-1", &step(1)).await;
        answer
    });
    stream.message().await;
    let position = stream.position.clone().unwrap();
    two.faults.forget("steal");
    two.doomed.kill();
    drop(answer);
    let mut resumed = Stream::new(elsewhere.get(Some(&position)).await);
    let again = two.hand.take("GET").await;
    again.say_as("e-2", &result(1)).await;
    assert_eq!(resumed.rest().await, [result(1)]);
}
