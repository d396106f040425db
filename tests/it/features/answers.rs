//! How requests are answered: JSON or a stream, batches, questions, cancels, and everything unchanged.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use serde_json::{Value, json as value};
use tokio::sync::mpsc::Sender;

use crate::harness::{Gateway, Upstream, json, sse, wait_until};

fn message(text: &str) -> String {
    format!("event: message\ndata: {text}\n\n")
}

fn result(id: &Value) -> String {
    message(&value!({ "jsonrpc": "2.0", "id": id, "result": { "ok": true } }).to_string())
}

fn progress(step: u64) -> String {
    let params = value!({ "progressToken": 1, "progress": step });
    message(&value!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": params }).to_string())
}

fn call(id: u64) -> Value {
    value!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": "x" } })
}

/// The answers that are open, with the request's id, in the order of asking.
type Open = Mutex<Vec<(Value, Sender<String>)>>;

/// An upstream whose answers are streams that the test writes, in the order they were asked for.
async fn by_hand() -> (Upstream, Arc<Open>) {
    let open: Arc<Open> = Arc::default();
    let keep = open.clone();
    let upstream = Upstream::start(move |asked| {
        let (send, response): (_, Response<Body>) = sse();
        keep.lock().unwrap().push((asked.body["id"].clone(), send));
        response
    })
    .await;
    (upstream, open)
}

async fn opened(open: &Open, count: usize) {
    wait_until("the upstream was asked", || open.lock().unwrap().len() >= count).await;
}

fn sender(open: &Open, index: usize) -> (Value, Sender<String>) {
    open.lock().unwrap()[index].clone()
}

#[tokio::test]
async fn an_instant_result_on_a_stream_becomes_json() {
    let upstream = Upstream::start(|asked| {
        let (send, response) = sse();
        send.try_send(result(&asked.body["id"])).unwrap();
        response
    })
    .await;
    let gateway = Gateway::start(&upstream.url, &[]).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let reply = client.posted(&call(7)).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, "application/json"));
    assert_eq!(reply.json()["id"], 7);
}

#[tokio::test]
async fn l12_another_message_first_opens_a_primed_stream() {
    let (_upstream, open) = by_hand().await;
    let gateway = Gateway::start(&_upstream.url, &[]).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let asking = {
        let client = client.clone();
        async move { client.streamed(&call(1)).await }
    };
    let feeding = async {
        opened(&open, 1).await;
        let (id, send) = sender(&open, 0);
        send.send(progress(1)).await.unwrap();
        send.send(result(&id)).await.unwrap();
        open.lock().unwrap().clear();
    };
    let (mut stream, ()) = futures::join!(asking, feeding);
    assert_eq!(stream.headers["x-accel-buffering"], "no");
    assert_eq!(stream.message().await["method"], "notifications/progress");
    let rest = stream.rest().await;
    assert_eq!(rest.len(), 1);
    assert_eq!((stream.retries, rest[0]["id"].clone()), (1, value!(1)));
    assert!(stream.position.is_some());
}

#[tokio::test]
async fn a_long_wait_opens_a_stream_and_a_switch_forbids_it() {
    for (answers, streamed) in [("auto", true), ("json", false)] {
        let (upstream, open) = by_hand().await;
        let gateway = Gateway::start(&upstream.url, &[("servers.default.answers", answers)]).await;
        let mut client = gateway.client();
        client.initialize("2025-06-18").await;
        let feeding = async {
            opened(&open, 1).await;
            tokio::time::sleep(Duration::from_millis(400)).await;
            let (id, send) = sender(&open, 0);
            send.send(result(&id)).await.unwrap();
            open.lock().unwrap().clear();
        };
        let call = call(1);
        let (response, ()) = futures::join!(client.post(&call), feeding);
        let kind = response.headers()["content-type"].to_str().unwrap() == "text/event-stream";
        assert_eq!(kind, streamed, "{answers}");
        if streamed {
            // Clients before 2025-11-25 choke on events without data (L12).
            let mut stream = crate::harness::Stream::new(response);
            let event = stream.event().await.unwrap();
            assert!(event.id.is_some() && event.retry.is_some());
        }
    }
}

#[tokio::test]
async fn l6_a_batch_of_2025_03_26_is_answered_together() {
    let upstream = Upstream::start(|asked| json(asked, &value!({ "echo": asked.body["method"] }))).await;
    let gateway = Gateway::start(&upstream.url, &[]).await;
    let mut client = gateway.client();
    client.initialize("2025-03-26").await;
    let note = value!({ "jsonrpc": "2.0", "method": "notifications/x" });
    let reply = client.posted(&value!([call(1), note, call(2)])).await;
    let answers = reply.json();
    let mut ids: Vec<_> =
        answers.as_array().unwrap().iter().map(|answer| answer["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2]);
    assert_eq!(client.posted(&value!([note])).await.status, 202);
    assert_eq!(upstream.count(|asked| asked.rpc() == "notifications/x"), 2);
}

#[tokio::test]
async fn p9_what_nobody_knows_passes_byte_for_byte() {
    let answer = r#"{"jsonrpc":"2.0", "id":1, "result":{"z":1.0e400,"a":12345678901234567890123,"é":"\u00e9\/","x":null}, "extra": [1, 2]}"#;
    let upstream = Upstream::start(move |_| {
        Response::builder()
            .header("content-type", "application/json; charset=utf-8")
            .body(Body::from(answer))
            .unwrap()
    })
    .await;
    let gateway = Gateway::start(&upstream.url, &[]).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let raw = r#"{"method":"x/unknown","id":1,"jsonrpc":"2.0","params":{"b":1.0,"a":12345678901234567890123,"s":"\u00e9"},"more":true}"#;
    let session = client.session.clone().unwrap();
    let mut headers = crate::harness::POST.to_vec();
    headers.extend([
        ("mcp-session-id", &*session),
        ("traceparent", "00-1-2-01"),
        ("authorization", "Bearer secret"),
    ]);
    let reply = client.ask("POST", "/mcp", &headers, raw).await;
    assert_eq!(reply.text, answer);
    let asked = upstream.asked().pop().unwrap();
    assert_eq!(asked.raw, raw);
    assert_eq!(asked.header("traceparent"), "00-1-2-01");
    assert_eq!(asked.header("authorization"), "", "the client's token stays here (A8)");
    assert_eq!(asked.header("mcp-session-id"), "up-1");
}

#[tokio::test]
async fn a_question_reaches_the_client_and_its_answer_the_server() {
    let (upstream, open) = by_hand().await;
    let gateway = Gateway::start(&upstream.url, &[]).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let feeding = async {
        opened(&open, 1).await;
        let ask = value!({ "jsonrpc": "2.0", "id": "q1", "method": "elicitation/create", "params": {} });
        sender(&open, 0).1.send(message(&ask.to_string())).await.unwrap();
    };
    let call = call(1);
    let (mut stream, ()) = futures::join!(client.streamed(&call), feeding);
    assert_eq!(stream.message().await["id"], "q1");
    let answer = value!({ "jsonrpc": "2.0", "id": "q1", "result": { "action": "decline" } });
    assert_eq!(client.posted(&answer).await.status, 202);
    assert_eq!(upstream.count(|asked| asked.body == answer), 1);
    let (id, send) = sender(&open, 0);
    send.send(result(&id)).await.unwrap();
    open.lock().unwrap().clear();
    drop(send);
    assert_eq!(stream.rest().await.len(), 1);
}

#[tokio::test]
async fn l16_cancelled_ends_a_call_and_a_disconnect_does_not() {
    let (upstream, open) = by_hand().await;
    let gateway = Gateway::start(&upstream.url, &[("requests.cancel_grace", "100ms")]).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let feeding = async {
        opened(&open, 1).await;
        sender(&open, 0).1.send(progress(1)).await.unwrap();
    };
    let first = call(1);
    let (mut stream, ()) = futures::join!(client.streamed(&first), feeding);
    stream.message().await;
    drop(stream);
    wait_until("the stream is released", || gateway.metric("holdfast_streams{kind=\"post\"}") == Some(0.0))
        .await;
    assert_eq!(gateway.metric("holdfast_exchanges"), Some(1.0), "the call goes on");
    let cancel =
        value!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } });
    assert_eq!(client.posted(&cancel).await.status, 202);
    assert_eq!(upstream.count(|asked| asked.rpc() == "notifications/cancelled"), 1);
    wait_until("the call ended", || gateway.metric("holdfast_exchanges") == Some(0.0)).await;
}

#[tokio::test]
async fn p5_a_silent_server_becomes_a_timeout_that_names_it() {
    let (upstream, open) = by_hand().await;
    let settings = [("requests.timeout", "300ms"), ("requests.json_wait", "5s")];
    let gateway = Gateway::start(&upstream.url, &settings).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let reply = client.posted(&call(1)).await;
    assert_eq!((reply.status, reply.code()), (504, -32001));
    assert!(reply.text.contains("default at http://127.0.0.1"), "{}", reply.text);
    wait_until("the server is told", || {
        upstream.count(|asked| asked.rpc() == "notifications/cancelled") == 1
    })
    .await;
    assert_eq!(gateway.metric("holdfast_limit_hits_total{limit=\"requests.timeout\"}"), Some(1.0));
    // Progress is a sign of life; the hard limit ends it all the same.
    open.lock().unwrap().clear();
    let feeding = async {
        opened(&open, 1).await;
        let (id, send) = sender(&open, 0);
        for step in 0..4 {
            send.send(progress(step)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        send.send(result(&id)).await.unwrap();
        open.lock().unwrap().clear();
    };
    let second = call(2);
    let (mut stream, ()) = futures::join!(client.streamed(&second), feeding);
    let rest = stream.rest().await;
    assert_eq!((rest.len(), rest[4]["result"]["ok"].clone()), (5, value!(true)));
}

#[tokio::test]
async fn m8_a_modern_stream_that_is_closed_cancels() {
    let (upstream, open) = by_hand().await;
    let gateway = Gateway::start(&upstream.url, &[("servers.default.era", "modern")]).await;
    let mut client = gateway.client();
    client.version = Some("2026-07-28".to_owned());
    let meta = value!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let body = value!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": { "_meta": meta } });
    let headers = [("mcp-method", "tools/list"), ("mcp-protocol-version", "2026-07-28")];
    let headers: Vec<_> = crate::harness::POST.into_iter().chain(headers).collect();
    let feeding = async {
        opened(&open, 1).await;
        sender(&open, 0).1.send(progress(1)).await.unwrap();
    };
    let text = body.to_string();
    let (response, ()) = futures::join!(client.send("POST", "/mcp", &headers, &text), feeding);
    let mut stream = crate::harness::Stream::new(response);
    stream.message().await;
    assert_eq!((stream.position.clone(), stream.retries), (None, 0), "M7: no ids");
    drop(stream);
    wait_until("the upstream's stream is closed", || sender(&open, 0).1.is_closed()).await;
    assert_eq!(upstream.count(|asked| asked.header("mcp-method") == "tools/list"), 1);
}
