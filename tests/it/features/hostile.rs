//! Input that tries to break the process, from clients and from upstreams: it stays up, answers
//! others, and its memory stays bounded (P8). Against the binary, whose memory can be read.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Response;
use futures::StreamExt as _;
use futures::future::join_all;
use proptest::prelude::*;
use serde_json::{Value, json as value};

use crate::harness::{Client, Gateway, POST, Socket, Upstream, accepted, call, initialized, json, status};
use crate::peers::process::{Process, holdfast};

pub(super) const MIB: u64 = 1 << 20;

async fn session(base: &str) -> Client {
    let mut client = Client::new(base);
    client.initialize("2025-11-25").await;
    client
}

/// Others are served, as if nothing were.
async fn serves(client: &Client) {
    let reply = client.posted(&value!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" })).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
}

/// What an attack costs at its peak, in bytes.
pub(super) async fn costs(process: &Process, attack: impl Future<Output = ()>) -> u64 {
    let before = process.memory();
    let mut peak = before;
    tokio::pin!(attack);
    loop {
        tokio::select! {
            () = &mut attack => break,
            () = tokio::time::sleep(Duration::from_millis(20)) => peak = peak.max(process.memory()),
        }
    }
    peak.max(process.memory()) - before
}

async fn attacked() -> (Upstream, Process, Client) {
    let upstream = Upstream::start(|asked| json(asked, &value!({}))).await;
    let process = holdfast(&["--upstream", &upstream.url]);
    let client = session(&process.url()).await;
    (upstream, process, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p8_many_large_deep_and_declared_bodies_cost_what_the_bounds_say() {
    let (_upstream, process, client) = attacked().await;
    let base = process.url();
    let session = client.session.clone().unwrap();
    let head = |length: usize| {
        format!(
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nAccept: */*\r\nMcp-Session-Id: {session}\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let deep = |open: &str| open.repeat(1_000_000 / open.len());
    let mut attacks: Vec<(Vec<u8>, &str)> = vec![
        (head(1 << 30).into_bytes(), " 413 "),
        (format!("{}{}", head(1_000_000), deep("[")).into_bytes(), " 400 "),
        (format!("{}{}", head(1_000_000), deep("{\"a\":")).into_bytes(), " 400 "),
        (format!("{}{}", head(1_000_000), deep("[{}, ")).into_bytes(), " 400 "),
    ];
    let fields: String = (0..60_000).map(|number| format!("\"k{number}\":0,")).collect();
    let wide = format!(r#"{{"jsonrpc":"2.0","method":"notifications/x","params":{{{}"z":1}}}}"#, fields);
    attacks.push((format!("{}{wide}", head(wide.len())).into_bytes(), " 202 "));
    let many = format!("[{}1]", "1,".repeat(400_000));
    attacks.push((format!("{}{many}", head(many.len())).into_bytes(), " 400 "));
    let chunks = format!("{:x}\r\n{}\r\n", 1 << 20, "x".repeat(1 << 20)).repeat(6);
    let chunked = head(0).replace("Content-Length: 0", "Transfer-Encoding: chunked");
    attacks.push((format!("{chunked}{chunks}0\r\n\r\n").into_bytes(), " 413 "));
    let cost = costs(&process, async {
        for (attack, expected) in &attacks {
            let answers =
                join_all((0..12).map(|_| async { Socket::send(&base, attack).await.read_to_end().await }));
            for answer in answers.await {
                // A connection closed with unread bytes in it may lose the answer.
                assert!(answer.is_empty() || answer.contains(expected), "{expected}: {answer:.200}");
            }
        }
        serves(&client).await;
    })
    .await;
    println!("bodies cost {} MiB at their peak", cost / MIB);
    assert!(cost < 192 * MIB, "{} MiB", cost / MIB);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p8_heads_that_are_too_many_too_long_or_too_slow_are_refused() {
    let upstream = Upstream::start(|asked| json(asked, &value!({}))).await;
    let settings =
        [("http.header_timeout", "400ms"), ("http.body_timeout", "400ms"), ("http.connections_max", "200")];
    let gateway = Gateway::start(&upstream.url, &settings).await;
    let client = session(&gateway.url).await;
    let many: String = (0..1000).map(|number| format!("X-{number}: 1\r\n")).collect();
    for attack in [
        format!("GET /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{many}\r\n"),
        format!(
            "GET /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX: {}\r\n\r\n",
            "x".repeat(100_000)
        ),
        format!("GET /{} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "x".repeat(100_000)),
    ] {
        let answer = Socket::send(&gateway.url, attack.as_bytes()).await.read_to_end().await;
        assert!(answer.is_empty() || answer.contains(" 431 ") || answer.contains(" 414 "), "{answer:.100}");
    }
    // A hundred that never finish their head hold nobody else up, and are gone soon.
    let slow =
        join_all((0..100).map(|_| Socket::send(&gateway.url, b"POST /mcp HTTP/1.1\r\nHost: loc"))).await;
    serves(&client).await;
    for mut socket in slow {
        socket.read_to_end().await;
    }
    let dripping = async {
        let head = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nAccept: */*\r\nContent-Length: 1000\r\n\r\n";
        let mut socket = Socket::send(&gateway.url, head.as_bytes()).await;
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if socket.write(b" ").await.is_err() {
                break;
            }
        }
        socket.read_to_end().await
    };
    let answer = dripping.await;
    assert!(
        answer.is_empty() || answer.contains(" 408 "),
        "a body that drips is not waited for: {answer:.100}"
    );
    // One connection more than there may be: a clear no, at once.
    let mut held = Vec::new();
    for _ in 0..200 {
        held.push(Socket::send(&gateway.url, b"").await);
    }
    let mut refused = Socket::send(&gateway.url, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let answer = refused.read_to_end().await;
    assert!(answer.is_empty() || answer.contains(" 503 "), "{answer}");
    assert!(gateway.metric("holdfast_limit_hits_total{limit=\"http.connections_max\"}") >= Some(1.0));
    drop(held);
    crate::harness::wait_until("there is room again", || {
        gateway.metric("holdfast_connections").is_some_and(|open| open < 50.0)
    })
    .await;
    serves(&client).await;
}

/// An upstream whose every call is answered in the way that the tool's name says, without end.
async fn endless() -> Upstream {
    Upstream::bare(|asked| match (asked.method.as_str(), asked.rpc()) {
        ("DELETE", _) => status(204),
        ("GET", _) => status(405),
        (_, "initialize") => initialized(asked, "up-1"),
        _ if asked.body["id"].is_null() => accepted(),
        (_, "tools/list") => json(asked, &value!({})),
        (_, kind) => {
            let piece = match kind {
                "line" => "x".repeat(64 << 10),
                "data" => format!("data: {}\n", "x".repeat(64 << 10)),
                "comments" => ":\n\n".repeat(20_000),
                "ids" => "id: 1\n\n".repeat(8_000),
                "messages" => "data: {\"jsonrpc\":\"2.0\",\"method\":\"n\"}\n\n".repeat(100),
                "batches" => format!(
                    "data: [{}{{\"jsonrpc\":\"2.0\",\"method\":\"n\"}}]\n\n",
                    "{\"jsonrpc\":\"2.0\",\"method\":\"n\"},".repeat(500)
                ),
                "fat" => format!(
                    "data: {}\n\n",
                    value!({ "jsonrpc": "2.0", "method": "n", "params": { "x": "x".repeat(500_000) } })
                ),
                _ => " ".repeat(64 << 10),
            };
            let kind = if kind == "json" { "application/json" } else { "text/event-stream" };
            let piece = Bytes::from(piece);
            let body = futures::stream::repeat_with(move || Ok::<_, std::convert::Infallible>(piece.clone()));
            // The test shares two cores with what it tests.
            let body = body.then(|piece| async {
                tokio::time::sleep(Duration::from_millis(1)).await;
                piece
            });
            Response::builder().header("content-type", kind).body(Body::from_stream(body)).unwrap()
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p8_upstreams_that_never_stop_talking_end_with_their_request() {
    let upstream = endless().await;
    let folder = std::env::temp_dir().join(format!("holdfast-{}", uuid::Uuid::new_v4()));
    let text = format!(
        "servers: {{ default: {{ upstream: '{}' }} }}\nrequests: {{ timeout: 1s, timeout_max: 2s }}\nupstream: {{ message_bytes_max: 1MiB }}\n",
        upstream.url
    );
    std::fs::write(&folder, text).unwrap();
    let process = holdfast(&["--config", folder.to_str().unwrap()]);
    let client = session(&process.url()).await;
    let cost = costs(&process, async {
        let calls = ["line", "data", "comments", "ids", "messages", "batches", "fat", "json"].map(|kind| {
            let client = client.clone();
            async move {
                let mut body = call(1);
                (body["id"], body["method"]) = (value!(kind), value!(kind));
                let reply = client.posted(&body).await;
                let text = reply
                    .text
                    .lines()
                    .rev()
                    .find(|line| line.contains("\"error\""))
                    .unwrap_or_default()
                    .to_owned();
                (kind, reply.status, text)
            }
        });
        let others = async {
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                serves(&client).await;
            }
        };
        let (ended, ()) = futures::join!(join_all(calls), others);
        for (kind, status, text) in ended {
            assert!(matches!(status, 200 | 502 | 504), "{kind}: {status}");
            assert!(status != 200 || text.contains("-3200") || text.is_empty(), "{kind}: {text:.200}");
        }
    })
    .await;
    let _ = std::fs::remove_file(&folder);
    println!("endless upstreams cost {} MiB at their peak", cost / MIB);
    assert!(cost < 160 * MIB, "{} MiB", cost / MIB);
    serves(&client).await;
}

/// Text that is nearly JSON-RPC, or nearly HTTP.
fn nearly(pieces: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(pieces).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..12),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

const JSON: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"jsonrpc\":\"2.0\"",
    "\"id\":1",
    "\"id\":null",
    "\"method\":\"x\"",
    "\"method\":\"initialize\"",
    "\"params\":{}",
    "\"result\":{}",
    "\"error\":{}",
    "\"_meta\":",
    "\"",
    "\\ud800",
    "\\u0000",
    "1e999",
    "-0",
    "null",
    " ",
    "\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\"",
    "\"notifications/cancelled\"",
    "\"requestId\":",
];
const HTTP: &[&str] = &[
    "GET ",
    "POST ",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "/mcp",
    "/sse",
    "/message?sessionId=",
    "%00",
    " HTTP/1.1\r\n",
    "Host: localhost\r\n",
    "Host: \r\n",
    "Content-Length: 5\r\n",
    "Content-Length: -1\r\n",
    "Transfer-Encoding: chunked\r\n",
    "\r\n",
    "\r\n\r\n",
    "ffffffffffffffff\r\n",
    "0\r\n\r\n",
    "Mcp-Session-Id: x\r\n",
    "Last-Event-ID: g.1-0\r\n",
    "Accept: text/event-stream\r\n",
    "Content-Type: application/json\r\n",
    "Expect: 100-continue\r\n",
    "\0",
    "{}",
];

/// Sends each input, and then serves an honest client.
async fn survives(inputs: &[Vec<u8>], raw: bool) {
    let upstream = Upstream::start(|asked| json(asked, &value!({}))).await;
    let settings = [("http.header_timeout", "100ms"), ("http.body_timeout", "100ms")];
    let gateway = Gateway::start(&upstream.url, &settings).await;
    let client = session(&gateway.url).await;
    let id = client.session.clone().unwrap();
    join_all(inputs.iter().map(|input| async {
        let bytes = if raw {
            input.clone()
        } else {
            let headers = POST.map(|(name, value)| format!("{name}: {value}\r\n")).concat();
            let head = format!("POST /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nMcp-Session-Id: {id}\r\n{headers}Content-Length: {}\r\n\r\n", input.len());
            [head.into_bytes(), input.clone()].concat()
        };
        let mut socket = Socket::send(&gateway.url, &bytes).await;
        if raw {
            // It may have opened a stream, which stays open: a moment is enough.
            let _ = tokio::time::timeout(Duration::from_millis(150), socket.read_to_end()).await;
            return;
        }
        let answer = socket.read_to_end().await;
        let status: u16 = answer.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
        assert!(matches!(status, 200 | 202 | 400 | 404), "{:?}: {answer:.300}", String::from_utf8_lossy(input));
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        assert!(status == 202 || serde_json::from_str::<Value>(body).is_ok(), "{answer:.300}");
    }))
    .await;
    serves(&session(&gateway.url).await).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 40, ..ProptestConfig::default() })]
    #[test]
    fn no_body_hangs_or_breaks_the_gateway(inputs in prop::collection::vec(nearly(JSON), 20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(survives(&inputs, false));
    }

    #[test]
    fn no_bytes_hang_or_break_the_gateway(inputs in prop::collection::vec(nearly(HTTP), 20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(survives(&inputs, true));
    }
}
