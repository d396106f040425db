//! How streams are kept open, and how those of slow and stuck readers end, on bare sockets.

use std::time::Duration;

use holdfast::protocol::sse::Decoder;
use serde_json::{Value, json as value};
use tokio::time::Instant;

use crate::harness::{Client, Gateway, Hand, Heard, POST, Socket, Stream, call, step, steps, wait_until};

async fn by_hand(version: &str, settings: &[(&'static str, &str)]) -> (Hand, Gateway, Client) {
    let hand = Hand::start().await;
    let gateway = Gateway::start(&hand.upstream.url, settings).await;
    let mut client = gateway.client();
    client.initialize(version).await;
    (hand, gateway, client)
}

async fn get(gateway: &Gateway, client: &Client, position: Option<&str>) -> Socket {
    let session = client.session.clone().unwrap();
    let mut headers = vec![("Accept", "text/event-stream"), ("Mcp-Session-Id", &*session)];
    headers.extend(position.map(|position| ("Last-Event-ID", position)));
    Socket::request(&gateway.url, "GET", "/mcp", &headers, "").await
}

/// A GET stream over a socket that takes little before it is read.
async fn narrow(gateway: &Gateway, client: &Client) -> Socket {
    let head = format!(
        "GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nMcp-Session-Id: {}\r\n\r\n",
        client.session.clone().unwrap()
    );
    Socket::narrow(&gateway.url, head.as_bytes()).await
}

/// The messages of a body, and the position after them.
fn events(body: &[u8]) -> (Vec<Value>, Option<String>) {
    let mut decoder = Decoder::new(1 << 20);
    decoder.push(body);
    let (mut messages, mut position) = (Vec::new(), None);
    while let Some(event) = decoder.next().unwrap() {
        position = event.id.or(position);
        messages.extend(event.data.and_then(|data| serde_json::from_slice::<Value>(&data).ok()));
    }
    (messages, position)
}

fn text(heard: &Heard) -> String {
    String::from_utf8_lossy(&heard.body).into_owned()
}

#[tokio::test]
async fn m6_a_comment_comes_at_once_and_at_each_interval() {
    let (_hand, gateway, client) = by_hand("2025-06-18", &[("streams.keep_alive_interval", "500ms")]).await;
    let comments = |heard: &Heard| text(heard).matches(":\n").count();
    let mut socket = get(&gateway, &client, None).await;
    assert_eq!(comments(&socket.hear(|heard| comments(heard) == 1).await), 1);
    let heard = socket.hear(|heard| comments(heard) >= 3).await;
    // Not even a blank line: after an id some clients make an empty event of it.
    assert!(text(&heard).split(":\n").all(str::is_empty), "and nothing else: {:?}", text(&heard));
}

#[tokio::test]
async fn l14_every_client_is_told_when_to_come_back_and_older_ones_without_an_empty_event() {
    for (version, farewell) in [("2025-06-18", "\n"), ("2025-11-25", "\n\n")] {
        let (hand, gateway, client) = by_hand(version, &[("streams.keep_alive", "off")]).await;
        let mut socket = get(&gateway, &client, None).await;
        hand.take("GET").await.say(&step(1)).await;
        let before =
            socket.hear(|heard| text(heard).contains("progress") && text(heard).ends_with("\n\n")).await;
        let before = text(&before).len();
        let (_, heard) = futures::join!(gateway.stop(), socket.hear_all());
        let heard = text(&heard)[before..].to_owned();
        let milliseconds = heard.strip_prefix("retry: ").and_then(|rest| rest.strip_suffix(farewell));
        assert!(milliseconds.is_some_and(|text| text.parse::<u64>().is_ok()), "{version}: {heard:?}");
    }
}

#[tokio::test]
async fn m6_comments_can_be_switched_off() {
    let (hand, gateway, client) = by_hand("2025-06-18", &[("streams.keep_alive", "off")]).await;
    let mut socket = get(&gateway, &client, None).await;
    hand.take("GET").await.say(&step(1)).await;
    let heard = socket.hear(|heard| text(heard).contains("progress")).await;
    assert!(text(&heard).starts_with("id: "), "{}", text(&heard));
}

#[tokio::test]
async fn l12_only_clients_that_know_it_get_a_priming_event_and_first_on_every_connection() {
    for (version, primed) in [("2025-11-25", true), ("2025-06-18", false), ("2025-03-26", false)] {
        let (hand, gateway, client) =
            by_hand(version, &[("streams.keep_alive", "off"), ("requests.json_wait", "0s")]).await;
        let session = client.session.clone().unwrap();
        let headers: Vec<_> = POST.into_iter().chain([("Mcp-Session-Id", &*session)]).collect();
        let mut socket = Socket::request(&gateway.url, "POST", "/mcp", &headers, &call(1).to_string()).await;
        let answer = hand.take("tools/call").await;
        answer.say(&step(1)).await;
        let heard =
            socket.hear(|heard| text(heard).contains("progress") && text(heard).ends_with("\n\n")).await;
        let first = text(&heard).split("\n\n").next().unwrap().to_owned();
        assert_eq!(first.ends_with("data: "), primed, "{version}: {first:?}");
        assert!(first.starts_with("id: ") && first.contains("retry: "), "{version}: {first:?}");
        let last = text(&heard).rsplit("id: ").next().unwrap().lines().next().unwrap().to_owned();
        drop(socket);
        let mut resumed = get(&gateway, &client, Some(&last)).await;
        answer.say(&step(2)).await;
        let heard = resumed
            .hear(|heard| text(heard).contains("\"progress\":2") && text(heard).ends_with("\n\n"))
            .await;
        let first = text(&heard).split("\n\n").next().unwrap().to_owned();
        assert_eq!(first.ends_with("data: "), primed, "{version}: {first:?}");
        assert_eq!(first.contains(&format!("id: {last}\n")), primed, "it repeats the position: {first:?}");
    }
}

#[tokio::test]
async fn a_post_stream_without_events_ends_by_idle_life_and_goes_on_when_resumed() {
    let settings = [("streams.idle_timeout", "1s"), ("requests.json_wait", "0s")];
    let (hand, _gateway, client) = by_hand("2025-11-25", &settings).await;
    let mut stream = client.streamed(&call(1)).await;
    let answer = hand.take("tools/call").await;
    assert!(stream.rest().await.is_empty());
    assert!(stream.retries >= 2);
    assert!(!answer.is_closed(), "the call goes on");
    answer.say(&step(1)).await;
    answer.finish().await;
    let mut resumed = Stream::new(client.get(stream.position.as_deref()).await);
    let rest = resumed.rest().await;
    assert_eq!((steps(&rest), rest.len()), (vec![1], 2));
}

#[tokio::test]
async fn a_post_stream_whose_client_would_not_come_back_waits_for_its_answer() {
    let settings = [("streams.idle_timeout", "500ms"), ("requests.json_wait", "0s")];
    let (hand, _gateway, client) = by_hand("2025-06-18", &settings).await;
    let mut stream = client.streamed(&call(1)).await;
    let answer = hand.take("tools/call").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    answer.finish().await;
    assert_eq!(stream.rest().await.len(), 1);
}

#[tokio::test]
async fn a_modern_request_is_not_idle_while_its_answer_is_awaited() {
    let hand = Hand::start().await;
    let settings =
        [("streams.idle_timeout", "500ms"), ("requests.json_wait", "0s"), ("servers.default.era", "modern")];
    let gateway = Gateway::start(&hand.upstream.url, &settings).await;
    let meta = value!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let params = value!({ "name": "x", "_meta": meta });
    let body = value!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }).to_string();
    let mut headers = POST.to_vec();
    headers.extend([("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "x")]);
    let mut stream = Stream::new(gateway.client().send("POST", "/mcp", &headers, &body).await);
    let answer = hand.take("tools/call").await;
    for number in 0..8 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        answer.say(&step(number)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    answer.finish().await;
    assert_eq!(stream.rest().await.len(), 9);
}

fn fat(number: u64) -> Value {
    let mut fat = step(number);
    fat["params"]["padding"] = value!("x".repeat(100_000));
    fat
}

#[tokio::test]
async fn p8_a_socket_that_takes_nothing_is_closed_after_the_write_timeout() {
    let settings = [
        ("http.write_timeout", "500ms"),
        ("streams.buffer_events_max", "65536"),
        ("streams.buffer_bytes_max", "256MiB"),
        ("log.stream_bytes_max", "64MiB"),
        ("log.session_bytes_max", "64MiB"),
    ];
    let (hand, gateway, client) = by_hand("2025-11-25", &settings).await;
    let _stuck = narrow(&gateway, &client).await;
    let server = hand.take("GET").await;
    let started = Instant::now();
    for number in 0..150 {
        server.say(&fat(number)).await;
    }
    wait_until("the stuck one is closed", || gateway.metric("holdfast_streams{kind=\"get\"}") == Some(0.0))
        .await;
    assert!(started.elapsed() < Duration::from_secs(8));
    assert!(gateway.metric("holdfast_limit_hits_total{limit=\"http.write_timeout\"}") >= Some(1.0));
}

#[tokio::test]
async fn p8_a_reader_that_is_too_slow_loses_its_stream_is_counted_and_resumes_without_loss() {
    let settings = [
        ("streams.buffer_events_max", "8"),
        ("log.events_max", "1000"),
        ("log.stream_bytes_max", "64MiB"),
        ("log.session_bytes_max", "64MiB"),
    ];
    let (hand, gateway, client) = by_hand("2025-11-25", &settings).await;
    let mut slow = narrow(&gateway, &client).await;
    let server = hand.take("GET").await;
    for number in 0..200 {
        server.say(&fat(number)).await;
    }
    wait_until("all is logged", || gateway.metric("holdfast_events_appended_total") == Some(200.0)).await;
    let heard = slow.hear_all().await;
    let (mut all, mut position) = events(&heard.body);
    assert!(steps(&all).len() < 200, "what was queued is dropped");
    while steps(&all).len() < 200 {
        let mut stream = Stream::new(client.get(position.as_deref()).await);
        while steps(&all).len() < 200
            && let Some(event) = stream.event().await
        {
            all.push(serde_json::from_slice(&event.data.unwrap()).unwrap());
        }
        position = stream.position.clone();
    }
    assert_eq!(steps(&all), (0..200).collect::<Vec<u64>>());
    assert!(gateway.metric("holdfast_limit_hits_total{limit=\"streams.buffer_events_max\"}") >= Some(1.0));
}

#[tokio::test]
async fn p8_what_the_log_forgot_by_bytes_is_told() {
    let settings = [("log.stream_bytes_max", "256KiB"), ("log.session_bytes_max", "512KiB")];
    let (hand, gateway, client) = by_hand("2025-11-25", &settings).await;
    let mut stream = Stream::new(client.get(None).await);
    let server = hand.take("GET").await;
    server.say(&step(0)).await;
    assert_eq!(steps(&[stream.message().await]), [0]);
    let position = stream.position.clone();
    drop(stream);
    for number in 1..10 {
        server.say(&fat(number)).await;
    }
    wait_until("all is logged", || gateway.metric("holdfast_events_appended_total") == Some(10.0)).await;
    let mut lost = Stream::new(client.get(position.as_deref()).await);
    let told = lost.message().await;
    assert_eq!(
        (told["method"].clone(), told["params"]["level"].clone()),
        (value!("notifications/message"), value!("warning"))
    );
    assert_eq!(lost.message().await["method"], "notifications/tools/list_changed");
    server.say(&step(77)).await;
    loop {
        let next = lost.message().await;
        if steps(&[next]) == [77] {
            break;
        }
    }
    assert_eq!(gateway.metric("holdfast_resumes_total{outcome=\"lost\"}"), Some(1.0));
}
