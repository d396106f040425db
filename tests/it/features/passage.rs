//! What a server says unasked, and what it says in odd ways, reaches the client as it was.

use axum::body::Body;
use axum::http::Response;
use serde_json::{Value, json as value};

use crate::harness::{Client, Gateway, Hand, POST, Stream, Upstream, call, json, wait_until};

async fn raw_event(stream: &mut Stream) -> String {
    let event = stream.event().await.expect("an event before the end");
    String::from_utf8(event.data.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn p9_the_servers_own_messages_pass_byte_for_byte() {
    let hand = Hand::start().await;
    let gateway = Gateway::start(&hand.upstream.url, &[]).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let mut stream = Stream::new(client.get(None).await);
    let server = hand.take("GET").await;
    assert_eq!(server.asked.header("mcp-session-id"), "up-1");
    assert_eq!(server.asked.header("mcp-protocol-version"), "2025-11-25");
    let odd = r#"{"params":{"z":1,"a":1e400,"b":-0.0,"n":123456789012345678901234567890,"s":"\u00e9\/\ud83e\udd80","dup":1,"dup":2},"method":"x/unknown","jsonrpc":"2.0", "more":[ ]}"#;
    server.raw(&format!("event: message\ndata: {odd}\n\n")).await;
    assert_eq!(raw_event(&mut stream).await, odd);
    // Comments, other events and empty ones mean nothing; lines are joined as SSE says.
    server.raw(": hello\n\nevent: other\ndata: {}\n\ndata:\n\ndata: {\"jsonrpc\":\"2.0\",\r\ndata: \"method\":\"n\"}\r\n\r\n").await;
    assert_eq!(raw_event(&mut stream).await, "{\"jsonrpc\":\"2.0\",\n\"method\":\"n\"}");
    // In two pieces, in the middle of a character.
    let crab = value!({ "jsonrpc": "2.0", "method": "n", "params": { "text": "\u{1F980}".repeat(100_000) } })
        .to_string();
    server.raw(&format!("data: {crab}\n\n")).await;
    assert_eq!(raw_event(&mut stream).await, crab);
    let question = r#"{"jsonrpc":"2.0","id":"7","method":"sampling/createMessage","params":{ }}"#;
    server.raw(&format!("data: {question}\n\n")).await;
    assert_eq!(raw_event(&mut stream).await, question);
    let answer = r#"{"id":"7", "jsonrpc":"2.0","error":{"code":-1,"message":"no","data":[1.10]}}"#;
    let session = client.session.clone().unwrap();
    let mut headers = POST.to_vec();
    headers.push(("mcp-session-id", &session));
    assert_eq!(client.ask("POST", "/mcp", &headers, answer).await.status, 202);
    assert_eq!(hand.upstream.asked().pop().unwrap().raw, answer, "the string \"7\" stays a string");
}

#[tokio::test]
async fn ids_of_every_kind_come_back_as_they_were() {
    let upstream = Upstream::start(|asked| json(asked, &value!({}))).await;
    let gateway = Gateway::start(&upstream.url, &[]).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    for id in [
        value!(0),
        value!(-7),
        value!(u64::MAX),
        value!("1"),
        value!(""),
        value!("a\nb\u{1F980}"),
        value!("x".repeat(2000)),
    ] {
        let reply = client.posted(&value!({ "jsonrpc": "2.0", "id": id, "method": "x" })).await;
        assert_eq!((reply.status, &reply.json()["id"]), (200, &id), "{}", reply.text);
    }
}

/// Opens an HTTP+SSE stream and its session.
async fn opened(client: &Client, version: &str) -> (Stream, String) {
    let mut stream = Stream::new(client.send("GET", "/sse", &[], "").await);
    let endpoint = raw_event(&mut stream).await;
    let params = value!({ "protocolVersion": version, "capabilities": {}, "clientInfo": {} });
    said(client, &endpoint, &value!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params }))
        .await;
    assert_eq!(stream.message().await["result"]["protocolVersion"], version);
    said(client, &endpoint, &value!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
    (stream, endpoint)
}

async fn said(client: &Client, endpoint: &str, message: &Value) {
    let reply = client.ask("POST", endpoint, &POST, &message.to_string()).await;
    assert_eq!((reply.status, &*reply.text), (202, "Accepted"), "{reply:?}");
}

#[tokio::test]
async fn s2_s6_http_sse_carries_everything_on_one_stream_in_any_revision() {
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let hand = Hand::start().await;
        let gateway = Gateway::start(&hand.upstream.url, &[]).await;
        let client = gateway.client();
        let (mut stream, endpoint) = opened(&client, version).await;
        assert!(endpoint.starts_with("/message?sessionId="), "{endpoint}");
        said(&client, &endpoint, &call(1)).await;
        let answer = hand.take("tools/call").await;
        let server = hand.take("GET").await;
        answer.say(&value!({ "jsonrpc": "2.0", "id": "q", "method": "roots/list" })).await;
        assert_eq!(stream.message().await["id"], "q");
        said(&client, &endpoint, &value!({ "jsonrpc": "2.0", "id": "q", "result": {} })).await;
        server.say(&value!({ "jsonrpc": "2.0", "method": "notifications/unasked" })).await;
        assert_eq!(stream.message().await["method"], "notifications/unasked");
        answer.finish().await;
        assert_eq!(stream.message().await["id"], 1);
        // Batches are gone since 2025-06-18 (L7).
        let batch = client.ask("POST", &endpoint, &POST, &value!([call(5)]).to_string()).await;
        assert_eq!(batch.status, if version < "2025-06-18" { 202 } else { 400 }, "{version}: {}", batch.text);
        assert_eq!(hand.upstream.count(|asked| asked.body["id"] == "q"), 1);
    }
}

#[tokio::test]
async fn s1_eventsource_that_comes_back_finds_its_session_and_what_it_missed() {
    let hand = Hand::start().await;
    let gateway = Gateway::start(&hand.upstream.url, &[]).await;
    let client = gateway.client();
    let (mut stream, endpoint) = opened(&client, "2024-11-05").await;
    said(&client, &endpoint, &call(1)).await;
    let answer = hand.take("tools/call").await;
    answer.say(&value!({ "jsonrpc": "2.0", "method": "notifications/one" })).await;
    assert_eq!(stream.message().await["method"], "notifications/one");
    let position = stream.position.clone().unwrap();
    drop(stream);
    wait_until("it is released", || gateway.metric("holdfast_streams{kind=\"http_sse\"}") == Some(0.0)).await;
    answer.finish().await;
    wait_until("it is answered", || gateway.metric("holdfast_exchanges") == Some(0.0)).await;
    let headers = [("last-event-id", &*position)];
    let mut stream = Stream::new(client.send("GET", "/sse", &headers, "").await);
    assert_eq!(raw_event(&mut stream).await, endpoint, "the same session");
    assert_eq!(stream.message().await["id"], 1);
    // A position of nobody's opens a new session; one of a session that is gone is 404.
    let headers = [("last-event-id", "nonsense")];
    let mut fresh = Stream::new(client.send("GET", "/sse", &headers, "").await);
    assert_ne!(raw_event(&mut fresh).await, endpoint);
    let (session, rest) = position.split_once('.').unwrap();
    let gone = position.replace(session, &"0".repeat(session.len()));
    assert!(!rest.is_empty());
    assert_eq!(client.send("GET", "/sse", &[("last-event-id", &gone)], "").await.status(), 404);
}

#[tokio::test]
async fn what_comes_before_the_answer_to_initialize_waits_on_the_sessions_stream() {
    let hand = Hand::opening(|asked| {
        let result = value!({ "jsonrpc": "2.0", "id": asked.body["id"], "result": {
            "protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": { "name": "x", "version": "1" } } });
        let text = format!("data: {}\n\ndata: {result}\n\n", value!({ "jsonrpc": "2.0", "method": "notifications/early" }));
        let headers = [("content-type", "text/event-stream"), ("mcp-session-id", "up-1")];
        let response = headers.into_iter().fold(Response::builder(), |response, (name, value)| response.header(name, value));
        response.body(Body::from(text)).unwrap()
    })
    .await;
    let gateway = Gateway::start(&hand.upstream.url, &[]).await;
    let mut client = gateway.client();
    let reply = client.initialize("2025-11-25").await;
    assert_eq!(reply.header("content-type"), "application/json");
    let mut stream = Stream::new(client.get(None).await);
    assert_eq!(stream.message().await["method"], "notifications/early");
}
