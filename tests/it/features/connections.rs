//! Connections of clients: idle, slow, pipelined, half closed, flooded, and their hosts and origins.

use std::time::Duration;

use serde_json::json as value;
use tokio::time::{Instant, sleep};

use crate::harness::{Gateway, Hand, Socket, Upstream, call, json, wait_until};

pub(super) const HEALTH: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";

async fn plain(settings: &[(&'static str, &str)]) -> (Upstream, Gateway) {
    let upstream = Upstream::start(|asked| json(asked, &value!({ "ok": true }))).await;
    let gateway = Gateway::start(&upstream.url, settings).await;
    (upstream, gateway)
}

fn answers(read: &[u8]) -> usize {
    String::from_utf8_lossy(read).matches("HTTP/1.1 200").count()
}

#[tokio::test]
async fn a_kept_connection_may_be_idle_for_longer_than_a_head_may_take() {
    let settings = [("http.header_timeout", "300ms"), ("http.idle_timeout", "2s")];
    let (_upstream, gateway) = plain(&settings).await;
    let mut socket = Socket::send(&gateway.url, HEALTH).await;
    for count in 1..=2 {
        assert_eq!(answers(socket.read_until(|read| answers(read) == count).await), count);
        sleep(Duration::from_millis(700)).await;
        socket.write(HEALTH).await.expect("it is still open");
    }
    assert_eq!(answers(socket.read_until(|read| answers(read) == 3).await), 3);
    let mut idle = Socket::send(&gateway.url, HEALTH).await;
    idle.read_until(|read| answers(read) == 1).await;
    let began = Instant::now();
    socket.write(b"GET /hea").await.unwrap();
    socket.read_to_end().await;
    assert!(began.elapsed() < Duration::from_millis(1200), "a head that began: {:?}", began.elapsed());
    idle.read_to_end().await;
    let took = began.elapsed();
    assert!(took > Duration::from_millis(1500) && took < Duration::from_secs(4), "idle: {took:?}");
}

/// The stream's head could not say yet that its connection ends with it: who asks for the rest at once, on the same
/// connection, is not cut off.
#[tokio::test]
async fn p6_a_connection_outlives_the_stream_that_a_leaving_node_ends() {
    let (_upstream, gateway) = plain(&[]).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let (session, version) = (client.session.unwrap(), client.version.unwrap());
    let headers =
        [("accept", "text/event-stream"), ("mcp-session-id", &*session), ("mcp-protocol-version", &*version)];
    let mut socket = Socket::request(&gateway.url, "GET", "/mcp", &headers, "").await;
    socket.read_until(|read| read.ends_with(b"\n\n\r\n")).await;
    let again = async {
        socket.hear_all().await;
        sleep(Duration::from_millis(30)).await;
        socket.write(HEALTH).await.expect("it is still open");
        socket.read_to_end().await
    };
    let (_, text) = futures::join!(gateway.stop(), again);
    let (_, answer) = text.split_once("\r\n0\r\n\r\n").unwrap();
    assert!(answer.contains("connection: close") && answer.contains(r#""status":"draining""#), "{text}");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let (_upstream, gateway) = plain(&[]).await;
    let three = [
        b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n".as_slice(),
        HEALTH,
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ];
    let text = Socket::send(&gateway.url, &three.concat()).await.read_to_end().await;
    assert!(text.starts_with("HTTP/1.1 404"), "{text}");
    assert_eq!(answers(text.as_bytes()), 2, "{text}");
}

#[tokio::test]
async fn who_waits_for_100_continue_is_told_or_refused_at_once() {
    let (_upstream, gateway) = plain(&[]).await;
    let body = value!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": { "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {} } }).to_string();
    let head = |kind: &str, length: usize| {
        format!(
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nExpect: 100-continue\r\nAccept: */*\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let mut socket = Socket::send(&gateway.url, head("application/json", body.len()).as_bytes()).await;
    socket.read_until(|read| read.starts_with(b"HTTP/1.1 100 Continue\r\n\r\n")).await;
    socket.write(body.as_bytes()).await.unwrap();
    assert_eq!(answers(socket.read_to_end().await.as_bytes()), 1);
    for (kind, length, expected) in [("text/plain", 10, "415"), ("application/json", 1 << 30, "413")] {
        let text = Socket::send(&gateway.url, head(kind, length).as_bytes()).await.read_to_end().await;
        assert!(text.starts_with(&format!("HTTP/1.1 {expected}")), "{text}");
    }
}

/// What browsers can't do, other programs can: nothing that is read in two ways is served.
#[tokio::test]
async fn hosts_and_origins_that_are_doubtful_are_refused() {
    let (_upstream, gateway) = plain(&[]).await;
    for (head, expected) in [
        ("", "400"),
        ("Host: localhost\r\nHost: evil.example.com\r\n", "400"),
        ("Host: localhost\r\nHost: localhost\r\n", "400"),
        ("Host: evil\u{e9}.example.com\r\n", "403"),
        ("Host: \r\n", "403"),
        ("Host: localhost:4444:5555\r\n", "403"),
        ("Host: localhost@evil.example.com\r\n", "403"),
        ("Host: localhost\r\nOrigin: http://localhost\r\nOrigin: http://evil.example.com\r\n", "403"),
        ("Host: localhost\r\nOrigin: http://evil\u{e9}.example.com\r\n", "403"),
        ("Host: localhost\r\nOrigin: http://localhost@evil.example.com\r\n", "403"),
        ("Host: LOCALHOST:1\r\nOrigin: HTTP://LOCALHOST:3000\r\n", "200"),
    ] {
        let request = format!("GET /health HTTP/1.1\r\nConnection: close\r\n{head}\r\n");
        let text = Socket::send(&gateway.url, request.as_bytes()).await.read_to_end().await;
        assert!(text.starts_with(&format!("HTTP/1.1 {expected}")), "{head:?}: {text}");
    }
    // HTTP/1.0 knows no Host.
    let text = Socket::send(&gateway.url, b"GET /health HTTP/1.0\r\n\r\n").await.read_to_end().await;
    assert!(text.starts_with("HTTP/1.0 200"), "{text}");
}

#[tokio::test]
async fn head_opens_nothing() {
    let hand = Hand::start().await;
    let gateway = Gateway::start(&hand.upstream.url, &[]).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let session = client.session.clone().unwrap();
    let headers = [("accept", "text/event-stream"), ("mcp-session-id", &*session)];
    for path in ["/mcp", "/mcp/", "/sse", "/sse/"] {
        let reply = client.ask("HEAD", path, &headers, "").await;
        assert_eq!((reply.status, reply.header("allow").contains("GET")), (405, true), "{path}");
    }
    assert_eq!(client.ask("HEAD", "/health", &[], "").await.status, 200);
    assert_eq!(hand.upstream.count(|asked| asked.method == "GET"), 0);
    assert_eq!(gateway.metric("holdfast_sessions"), Some(1.0));
}

#[tokio::test]
async fn l27_a_version_that_is_no_text_or_comes_twice_is_bad() {
    let (_upstream, gateway) = plain(&[]).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let body = call(1).to_string();
    for versions in [
        "MCP-Protocol-Version: 2025-\u{e9}\r\n",
        "MCP-Protocol-Version: 2025-11-25\r\nMCP-Protocol-Version: 2025-03-26\r\n",
    ] {
        for (method, body) in [("POST", &*body), ("GET", ""), ("DELETE", "")] {
            let request = format!(
                "{method} /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept: application/json, text/event-stream\r\nContent-Type: application/json\r\nMcp-Session-Id: {}\r\n{versions}Content-Length: {}\r\n\r\n{body}",
                client.session.as_deref().unwrap(),
                body.len()
            );
            let text = Socket::send(&gateway.url, request.as_bytes()).await;
            let text = { text }.read_to_end().await;
            assert!(text.starts_with("HTTP/1.1 400"), "{method} {versions:?}: {text}");
        }
    }
    assert_eq!(client.posted(&call(2)).await.status, 200, "the session is still there");
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// HPACK without its tables: a name and its value.
pub(super) fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}

pub(super) fn http2_head(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let own = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "localhost")];
    own.iter().chain(more).flat_map(|(name, value)| field(name, value)).collect()
}

pub(super) fn http2_start() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[])].concat()
}

/// Each with its name: what a client may send to exhaust a server.
pub(super) fn floods(session: &str) -> Vec<(&'static str, Vec<u8>)> {
    let get = http2_head("GET", "/health", &[]);
    let post = http2_head(
        "POST",
        "/mcp",
        &[("accept", "*/*"), ("content-type", "application/json"), ("mcp-session-id", session)],
    );
    let body = call(7).to_string();
    let many = |flood: &dyn Fn(u32) -> Vec<u8>, count: u32| -> Vec<u8> {
        (0..count).flat_map(|number| flood(number * 2 + 1)).collect()
    };
    let cancel = |stream| frame(3, 0, stream, &8_u32.to_be_bytes());
    let mut trailing = get.clone();
    trailing.extend(field("x", "y"));
    vec![
        ("resets", many(&|stream| [frame(1, 5, stream, &get), cancel(stream)].concat(), 20_000)),
        (
            "posts that are reset",
            many(
                &|stream| {
                    [frame(1, 4, stream, &post), frame(0, 1, stream, body.as_bytes()), cancel(stream)]
                        .concat()
                },
                5_000,
            ),
        ),
        ("pings", many(&|_| frame(6, 0, 0, &[0; 8]), 50_000)),
        ("settings", many(&|_| frame(4, 0, 0, &[]), 50_000)),
        ("empty data", [frame(1, 4, 1, &post), many(&|_| frame(0, 0, 1, &[]), 50_000)].concat()),
        (
            "a head without end",
            [frame(1, 0, 1, &get), many(&|_| frame(9, 0, 1, &field("x", &"y".repeat(100))), 50_000)].concat(),
        ),
        ("requests", many(&|stream| frame(1, 5, stream, &get), 5_000)),
        ("streams that never end", many(&|stream| frame(1, 4, stream, &post), 5_000)),
        ("windows", many(&|_| frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff]), 10)),
        ("no sense", many(&|stream| frame(0x50, 0xff, stream, b"?"), 50_000)),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p8_floods_over_http2_end_their_connection_and_nobody_elses() {
    let (upstream, gateway) = plain(&[]).await;
    let mut honest = gateway.client();
    honest.initialize("2025-11-25").await;
    let asked = upstream.asked().len();
    for (name, flood) in floods(honest.session.as_deref().unwrap()) {
        let mut socket = Socket::send(&gateway.url, &[http2_start(), flood].concat()).await;
        let _ = tokio::time::timeout(Duration::from_millis(300), socket.read_to_end()).await;
        let reply = tokio::time::timeout(Duration::from_secs(5), honest.posted(&call(1))).await;
        assert_eq!(reply.expect(name).status, 200, "{name}");
    }
    // What was reset before it was looked at never ran.
    let ran = upstream.asked().len() - asked;
    assert!(ran < 2_000, "{ran}");
    wait_until("their connections are gone", || gateway.metric("holdfast_connections") <= Some(3.0)).await;
    wait_until("nothing runs", || gateway.metric("holdfast_exchanges").unwrap_or(0.0) == 0.0).await;
}
