//! Shared state that is away, that answers too late, and a bus that loses messages: nothing is lost,
//! nothing is doubled, and nobody is told that a session is gone because nobody could look.

use std::sync::Arc;

use holdfast::app::Shared;
use serde_json::{Value, json as value};

use crate::harness::{
    Client, Faults, Gateway, Hand, POST, Stream, call, configured, faulty, read, step, steps, wait_until,
};

struct Scene {
    hand: Hand,
    a: Gateway,
    b: Gateway,
    faults: Arc<Faults>,
    client: Client,
    /// The same session, at the other node.
    elsewhere: Client,
}

async fn scene(settings: &[(&'static str, &str)]) -> Scene {
    let hand = Hand::start().await;
    let config = configured(&hand.upstream.url, settings);
    let (shared, faults) = faulty(Shared::memory(&config));
    let a = Gateway::start_on(&config, shared.clone()).await;
    let b = Gateway::start_on(&config, shared).await;
    let mut client = a.client();
    client.initialize("2025-11-25").await;
    let mut elsewhere = b.client();
    (elsewhere.session, elsewhere.version) = (client.session.clone(), client.version.clone());
    Scene { hand, a, b, faults, client, elsewhere }
}

impl Scene {
    /// A call whose stream is open and has said one thing.
    async fn calling(&self) -> (Stream, crate::harness::Written) {
        let body = call(1);
        let (mut stream, answer) = futures::join!(self.client.streamed(&body), async {
            let answer = self.hand.take("tools/call").await;
            answer.say(&step(0)).await;
            answer
        });
        assert_eq!(steps(&[stream.message().await]), [0]);
        (stream, answer)
    }
}

#[tokio::test]
async fn p7_while_the_store_is_away_sessions_are_unknown_and_not_gone() {
    let scene = scene(&[("sessions.cache_ttl", "0s")]).await;
    Faults::set(&scene.faults.away, true);
    let params = value!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {} });
    let initialize = value!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params });
    let opening = scene.a.client().posted(&initialize).await;
    for reply in [
        scene.client.posted(&call(1)).await,
        read(scene.client.get(None).await).await,
        scene.client.delete().await,
        opening,
        read(scene.client.send("GET", "/sse", &[], "").await).await,
    ] {
        assert_eq!((reply.status, reply.code()), (503, -32000), "{}", reply.text);
        assert!(reply.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds >= 1), "{reply:?}");
    }
    Faults::set(&scene.faults.away, false);
    let (reply, ()) = futures::join!(scene.client.posted(&initialize), async {});
    assert_eq!(reply.status, 200);
    let body = call(1);
    let (reply, ()) = futures::join!(scene.client.posted(&body), async {
        scene.hand.take("tools/call").await.finish().await;
    });
    assert_eq!(reply.status, 200, "{}", reply.text);
    // What was opened upstream for the refused session is ended there.
    wait_until("it is ended", || scene.hand.upstream.count(|asked| asked.method == "DELETE") >= 1).await;
}

#[tokio::test]
async fn p7_a_resume_while_the_store_is_away_is_told_to_come_again_with_its_own_position() {
    let scene = scene(&[]).await;
    let (stream, answer) = scene.calling().await;
    let position = stream.position.clone().unwrap();
    drop(stream);
    Faults::set(&scene.faults.away, true);
    let mut told = Stream::new(scene.client.get(Some(&position)).await);
    assert!(told.rest().await.is_empty());
    assert_eq!((told.position.as_ref(), told.retries), (Some(&position), 1));
    answer.say(&step(1)).await;
    Faults::set(&scene.faults.away, false);
    answer.finish().await;
    let mut resumed = Stream::new(scene.client.get(told.position.as_deref()).await);
    let rest = resumed.rest().await;
    assert_eq!((steps(&rest), rest[1]["id"].clone(), rest.len()), (vec![1], value!(1), 2));
    assert_eq!(scene.a.metric("holdfast_resumes_total{outcome=\"postponed\"}"), Some(1.0));
}

#[tokio::test]
async fn p5_an_answer_that_came_while_the_store_was_away_for_long_arrives_when_it_is_back() {
    let scene = scene(&[("requests.timeout", "500ms"), ("streams.retry", "100ms")]).await;
    let (mut stream, answer) = scene.calling().await;
    Faults::set(&scene.faults.away, true);
    answer.say(&step(1)).await;
    answer.finish().await;
    // Longer than a request may be silent.
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    Faults::set(&scene.faults.away, false);
    let mut seen = stream.rest().await;
    if seen.is_empty() {
        seen = Stream::new(scene.client.get(stream.position.as_deref()).await).rest().await;
    }
    assert_eq!(steps(&seen), [1]);
    assert_eq!(seen.last().unwrap()["result"]["ok"], true, "{seen:?}");
}

#[tokio::test]
async fn p4_an_append_whose_answer_was_lost_is_not_said_twice() {
    let scene = scene(&[]).await;
    Faults::set(&scene.faults.forgetful, true);
    let (mut stream, answer) = scene.calling().await;
    for number in 1..6 {
        answer.say(&step(number)).await;
    }
    answer.finish().await;
    let rest = stream.rest().await;
    assert_eq!((steps(&rest), rest.len()), (vec![1, 2, 3, 4, 5], 6));
}

#[tokio::test]
async fn p6_events_that_the_bus_lost_are_read_from_the_log() {
    let scene = scene(&[]).await;
    let (stream, answer) = scene.calling().await;
    let position = stream.position.clone().unwrap();
    drop(stream);
    let mut moved = Stream::new(scene.elsewhere.get(Some(&position)).await);
    answer.say(&step(1)).await;
    assert_eq!(steps(&[moved.message().await]), [1]);
    Faults::set(&scene.faults.deaf, true);
    for number in 2..5 {
        answer.say(&step(number)).await;
    }
    wait_until("they are logged", || scene.a.metric("holdfast_events_appended_total") == Some(5.0)).await;
    Faults::set(&scene.faults.deaf, false);
    answer.say(&step(5)).await;
    let mut heard = Vec::new();
    for _ in 0..4 {
        heard.push(moved.message().await);
    }
    assert_eq!(steps(&heard), [2, 3, 4, 5]);
    answer.finish().await;
    assert_eq!(moved.rest().await.len(), 1);
    assert!(scene.b.metric("holdfast_stream_gaps_total") >= Some(1.0));
}

#[tokio::test]
async fn l19_a_newer_get_stream_on_another_node_takes_the_messages_until_it_ends() {
    let scene = scene(&[]).await;
    let mut older = Stream::new(scene.client.get(None).await);
    let server = scene.hand.take("GET").await;
    server.say(&step(1)).await;
    assert_eq!(steps(&[older.message().await]), [1]);
    let mut newer = Stream::new(scene.elsewhere.get(None).await);
    // The server's own stream is read where the client's is.
    wait_until("the first node lets go", || server.is_closed()).await;
    let server = scene.hand.take("GET").await;
    server.say(&step(2)).await;
    assert_eq!(steps(&[newer.message().await]), [2]);
    drop(newer);
    wait_until("the newer one is released", || scene.b.metric("holdfast_streams{kind=\"get\"}") == Some(0.0))
        .await;
    wait_until("the second node lets go", || server.is_closed()).await;
    let server = scene.hand.take("GET").await;
    server.say(&step(3)).await;
    assert_eq!(steps(&[older.message().await]), [3], "the older one hears again, and only what is new");
}

#[tokio::test]
async fn l16_a_cancel_that_arrives_at_another_node_ends_the_call() {
    let scene = scene(&[("requests.cancel_grace", "100ms")]).await;
    let (mut stream, answer) = scene.calling().await;
    let cancel: Value =
        value!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } });
    assert_eq!(scene.elsewhere.posted(&cancel).await.status, 202);
    assert_eq!(scene.hand.upstream.count(|asked| asked.rpc() == "notifications/cancelled"), 1);
    // A server that was cancelled need not answer; it closes the stream, or says nothing.
    drop(answer);
    let rest = stream.rest().await;
    assert!(rest.iter().all(|message| message["id"] == 1), "{rest:?}");
    wait_until("nothing runs", || scene.a.metric("holdfast_exchanges") == Some(0.0)).await;
}

#[tokio::test]
async fn p1_a_question_asked_on_one_node_is_answered_on_another() {
    let scene = scene(&[]).await;
    let (mut stream, answer) = scene.calling().await;
    answer.say(&value!({ "jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": {} })).await;
    assert_eq!(stream.message().await["id"], "q");
    let reply = value!({ "jsonrpc": "2.0", "id": "q", "result": { "action": "accept" } });
    assert_eq!(scene.elsewhere.posted(&reply).await.status, 202);
    assert_eq!(
        scene.hand.upstream.count(|asked| asked.body == reply && asked.header("mcp-session-id") == "up-1"),
        1
    );
    answer.finish().await;
    assert_eq!(stream.rest().await.len(), 1);
}

#[tokio::test]
async fn p1_an_http_sse_post_works_at_any_node() {
    let scene = scene(&[]).await;
    let mut stream = Stream::new(scene.client.send("GET", "/sse", &[], "").await);
    let endpoint = String::from_utf8(stream.event().await.unwrap().data.unwrap().to_vec()).unwrap();
    let params = value!({ "protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {} });
    let initialize = value!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params });
    for message in [initialize, call(1)] {
        let posted = scene.elsewhere.ask("POST", &endpoint, &POST, &message.to_string()).await;
        assert_eq!(posted.status, 202, "{posted:?}");
        if message["id"] == 1 {
            scene.hand.take("tools/call").await.finish().await;
        }
        assert_eq!(stream.message().await["id"], message["id"]);
    }
}

#[tokio::test]
async fn p7_an_answer_outlasts_a_store_that_is_away_for_longer_than_a_request_may_be_silent() {
    let scene = scene(&[("requests.timeout", "300ms")]).await;
    let (mut stream, answer) = scene.calling().await;
    Faults::set(&scene.faults.away, true);
    answer.say(&step(1)).await;
    answer.finish().await;
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    Faults::set(&scene.faults.away, false);
    let rest = stream.rest().await;
    assert_eq!((steps(&rest), rest.len()), (vec![1], 2), "{rest:?}");
    assert_eq!(rest[1]["result"]["ok"], true);
}

#[tokio::test]
async fn p4_a_202_for_initialize_outlasts_the_store_as_well() {
    // The store goes away once the request is recorded and on its way up.
    let broken: Arc<std::sync::OnceLock<Arc<Faults>>> = Arc::default();
    let breaks = broken.clone();
    let hand = Hand::opening(move |asked| {
        Faults::set(&breaks.get().unwrap().away, true);
        crate::harness::initialized(asked, "up-1")
    })
    .await;
    let config = configured(&hand.upstream.url, &[("requests.timeout", "300ms")]);
    let (shared, faults) = faulty(Shared::memory(&config));
    broken.set(faults.clone()).unwrap();
    let gateway = Gateway::start_on(&config, shared).await;
    let client = gateway.client();
    let mut stream = Stream::new(client.sse().await);
    let endpoint = String::from_utf8(stream.event().await.unwrap().data.unwrap().to_vec()).unwrap();
    let initialize = value!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } } });
    assert_eq!(client.ask("POST", &endpoint, &POST, &initialize.to_string()).await.status, 202);
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    Faults::set(&faults.away, false);
    assert_eq!(stream.message().await["id"], 0, "a result or an error");
}

#[tokio::test]
async fn p5_a_stream_that_nobody_answers_any_more_says_so() {
    // The log reaches back further than the request's own time.
    let settings =
        [("requests.timeout", "300ms"), ("requests.timeout_max", "600ms"), ("requests.cancel_grace", "0s")];
    let scene = scene(&settings).await;
    let (stream, answer) = scene.calling().await;
    let position = stream.position.clone().unwrap();
    drop(stream);
    Faults::set(&scene.faults.away, true);
    answer.finish().await;
    tokio::time::sleep(std::time::Duration::from_millis(2000)).await;
    Faults::set(&scene.faults.away, false);
    wait_until("nothing runs", || scene.a.metric("holdfast_exchanges") == Some(0.0)).await;
    let mut resumed = Stream::new(scene.elsewhere.get(Some(&position)).await);
    let rest = resumed.rest().await;
    assert_eq!((rest.len(), rest[0]["id"].clone()), (1, value!(1)), "{rest:?}");
    assert_eq!(rest[0]["error"]["code"], -32000);
}
