//! In which form an answer comes, and what goes where when there is no stream to take it.

use serde_json::{Value, json as value};

use crate::harness::{Client, Gateway, Hand, POST, Stream, call, read, step, steps};

async fn by_hand(version: &str, settings: &[(&'static str, &str)]) -> (Hand, Gateway, Client) {
    let hand = Hand::start().await;
    let gateway = Gateway::start(&hand.upstream.url, settings).await;
    let mut client = gateway.client();
    client.initialize(version).await;
    (hand, gateway, client)
}

fn question(id: &str) -> Value {
    value!({ "jsonrpc": "2.0", "id": id, "method": "roots/list" })
}

#[tokio::test]
async fn sse_forced_streams_even_an_instant_answer() {
    let (hand, _gateway, client) = by_hand("2025-11-25", &[("servers.default.answers", "sse")]).await;
    let body = call(1);
    let (mut stream, ()) = futures::join!(client.streamed(&body), async {
        hand.take("tools/call").await.finish().await;
    });
    let rest = stream.rest().await;
    assert_eq!((rest.len(), rest[0]["id"].clone()), (1, value!(1)));
    assert!(stream.position.is_some());
}

#[tokio::test]
async fn json_forced_sends_what_comes_before_to_the_sessions_stream() {
    let (hand, _gateway, client) = by_hand("2025-11-25", &[("servers.default.answers", "json")]).await;
    let mut unasked = Stream::new(client.get(None).await);
    let body = call(1);
    let (reply, ()) = futures::join!(client.posted(&body), async {
        let answer = hand.take("tools/call").await;
        answer.say(&step(1)).await;
        answer.say(&question("q")).await;
        assert_eq!(steps(&[unasked.message().await]), [1]);
        assert_eq!(unasked.message().await["id"], "q");
        let reply = value!({ "jsonrpc": "2.0", "id": "q", "result": { "roots": [] } });
        assert_eq!(client.posted(&reply).await.status, 202);
        answer.finish().await;
    });
    assert_eq!((reply.status, reply.header("content-type")), (200, "application/json"));
    assert_eq!(reply.json()["result"]["ok"], true);
    assert_eq!(hand.upstream.count(|asked| asked.body["id"] == "q"), 1);
}

#[tokio::test]
async fn json_forced_needs_no_client_that_accepts_streams() {
    let (hand, _gateway, client) = by_hand("2025-11-25", &[("servers.default.answers", "json")]).await;
    let session = client.session.clone().unwrap();
    let headers = [POST[0], ("accept", "application/json"), ("mcp-session-id", &*session)];
    let body = call(1).to_string();
    let (reply, ()) = futures::join!(client.ask("POST", "/mcp", &headers, &body), async {
        hand.take("tools/call").await.finish().await;
    });
    assert_eq!(reply.status, 200, "{}", reply.text);
}

#[tokio::test]
async fn l10_a_batch_with_progress_is_one_stream_with_every_answer() {
    let (hand, _gateway, client) = by_hand("2025-03-26", &[]).await;
    let mut second = call(2);
    second["method"] = value!("prompts/get");
    let body = value!([call(1), second, { "jsonrpc": "2.0", "method": "notifications/x" }]);
    let (mut stream, (one, two)) = futures::join!(client.streamed(&body), async {
        let one = hand.take("tools/call").await;
        let two = hand.take("prompts/get").await;
        two.say(&step(1)).await;
        (one, two)
    });
    assert_eq!(steps(&[stream.message().await]), [1]);
    two.finish().await;
    assert_eq!(stream.message().await["id"], 2);
    one.say(&step(2)).await;
    one.finish().await;
    let rest = stream.rest().await;
    assert_eq!((steps(&rest), rest[1]["id"].clone(), rest.len()), (vec![2], value!(1), 2));
}

#[tokio::test]
async fn a_batch_whose_first_answer_is_early_and_whose_second_is_slow_says_both() {
    let (hand, _gateway, client) = by_hand("2025-03-26", &[("requests.json_wait", "60ms")]).await;
    let mut second = call(2);
    second["method"] = value!("prompts/get");
    let body = value!([call(1), second]);
    let (mut stream, two) = futures::join!(client.streamed(&body), async {
        hand.take("tools/call").await.finish().await;
        hand.take("prompts/get").await
    });
    assert_eq!(stream.message().await["id"], 1);
    two.finish().await;
    let rest = stream.rest().await;
    assert_eq!((rest.len(), rest[0]["id"].clone()), (1, value!(2)));
}

#[tokio::test]
async fn p8_without_a_place_for_a_stream_the_answer_is_json() {
    let settings = [("limits.streams_per_session_max", "1"), ("requests.json_wait", "0s")];
    let (hand, _gateway, client) = by_hand("2025-11-25", &settings).await;
    let mut unasked = Stream::new(client.get(None).await);
    let body = call(1);
    let (reply, ()) = futures::join!(client.post(&body), async {
        let answer = hand.take("tools/call").await;
        answer.say(&step(7)).await;
        assert_eq!(steps(&[unasked.message().await]), [7]);
        answer.finish().await;
    });
    let reply = read(reply).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, "application/json"));
}

#[tokio::test]
async fn l22_what_was_answered_while_the_client_was_away_is_replayed_and_then_405() {
    let (hand, gateway, client) = by_hand("2025-11-25", &[]).await;
    let body = call(1);
    let (mut stream, answer) = futures::join!(client.streamed(&body), async {
        let answer = hand.take("tools/call").await;
        answer.say(&step(1)).await;
        answer
    });
    assert_eq!(steps(&[stream.message().await]), [1]);
    let position = stream.position.clone().unwrap();
    drop(stream);
    answer.say(&step(2)).await;
    answer.finish().await;
    crate::harness::wait_until("it is answered", || gateway.metric("holdfast_exchanges") == Some(0.0)).await;
    for _ in 0..2 {
        let mut resumed = Stream::new(client.get(Some(&position)).await);
        let rest = resumed.rest().await;
        assert_eq!((steps(&rest), rest[1]["id"].clone(), rest.len()), (vec![2], value!(1), 2));
        let at_the_end = client.get(resumed.position.as_deref()).await;
        assert_eq!(at_the_end.status(), 405, "nothing is left, and nothing will come");
    }
    assert_eq!(gateway.metric("holdfast_resumes_total{outcome=\"resumed\"}"), Some(2.0));
}
