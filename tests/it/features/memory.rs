//! What is kept costs what is counted, and large messages pass without many copies. Against the
//! binary, whose memory can be read.

use axum::body::Body;
use axum::http::Response;
use serde_json::{Value, json as value};

use super::hostile::{MIB, costs};
use crate::harness::{Asked, Client, Upstream, call, json};
use crate::peers::process::{Process, holdfast};

async fn before(answer: impl Fn(&Asked) -> Response<Body> + Send + Sync + 'static) -> (Upstream, Process) {
    let upstream = Upstream::start(answer).await;
    let process = holdfast(&["--upstream", &upstream.url]);
    (upstream, process)
}

async fn session(process: &Process) -> Client {
    let mut client = Client::new(&process.url());
    client.initialize("2025-11-25").await;
    client
}

fn streamed(events: impl Iterator<Item = String> + Send + 'static) -> Response<Body> {
    let events = futures::stream::iter(
        events.map(|event| Ok::<_, std::convert::Infallible>(format!("data: {event}\n\n"))),
    );
    Response::builder().header("content-type", "text/event-stream").body(Body::from_stream(events)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p8_small_messages_in_large_wrappings_cost_the_log_what_they_are() {
    let (_upstream, process) = before(|asked| {
        let said = r#"{"jsonrpc":"2.0","method":"notifications/message"}"#;
        let space = " ".repeat(1 << 20);
        let wrapped = match asked.body["params"]["name"].as_str() {
            Some("batch") => format!("[{said}{space},{said}]"),
            _ => format!("{said}{space}"),
        };
        let last = value!({ "jsonrpc": "2.0", "id": asked.body["id"], "result": {} }).to_string();
        streamed(std::iter::repeat_n(wrapped, 250).chain([last]))
    })
    .await;
    let client = session(&process).await;
    for name in ["space", "batch"] {
        let mut body = call(1);
        body["params"]["name"] = value!(name);
        let cost = costs(&process, async {
            let messages = client.streamed(&body).await.rest().await;
            assert!(messages.last().unwrap()["result"].is_object());
        })
        .await;
        println!("{name} costs {} MiB", cost / MIB);
        assert!(cost < 100 * MIB, "{name}: {} MiB", cost / MIB);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p8_what_sessions_are_remembered_by_is_bounded() {
    let (upstream, process) = before(|asked| json(asked, &value!({}))).await;
    let large = "x".repeat(1 << 20);
    let client = session(&process).await;
    let cost = costs(&process, async {
        for number in 0..40 {
            let params = value!({ "protocolVersion": "2025-11-25", "capabilities": { "experimental": &large }, "clientInfo": {} });
            let opening = value!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params });
            let reply = Client::new(&process.url()).posted(&opening).await;
            assert_eq!((reply.status, reply.code()), (413, -32000), "{}", reply.text);
            assert!(reply.text.contains("limits.session_bytes_max"), "{}", reply.text);
            let params = value!({ "uri": format!("x:{number}/{large}") });
            let subscribing = value!({ "jsonrpc": "2.0", "id": 1, "method": "resources/subscribe", "params": params });
            assert_eq!(client.posted(&subscribing).await.status, 200, "the server's limits are its own");
        }
    })
    .await;
    println!("remembering costs {} MiB", cost / MIB);
    assert!(cost < 100 * MIB, "{} MiB", cost / MIB);
    assert_eq!(
        upstream.count(|asked| asked.rpc() == "initialize"),
        1,
        "what is too large is not opened there"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p8_large_messages_pass_with_few_copies() {
    let (_upstream, process) = before(|asked| {
        let result = value!({ "echo": asked.body["params"]["text"] });
        match asked.rpc() {
            "json" => json(asked, &result),
            _ => {
                let hint = r#"{"jsonrpc":"2.0","method":"notifications/message"}"#.to_owned();
                let last = value!({ "jsonrpc": "2.0", "id": asked.body["id"], "result": result }).to_string();
                streamed([hint, last].into_iter())
            }
        }
    })
    .await;
    let client = session(&process).await;
    let text = "größer ".repeat(400_000);
    for method in ["json", "stream"] {
        let asking = value!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": { "text": &text } });
        let cost = costs(&process, async {
            for _ in 0..3 {
                let reply = client.posted(&asking).await.text;
                let last = reply.lines().rev().find_map(|line| line.strip_prefix("data: "));
                let answer: Value = serde_json::from_str(last.unwrap_or(&reply)).unwrap();
                let echo = answer["result"]["echo"].as_str().unwrap_or_default();
                let same = echo.bytes().zip(text.bytes()).take_while(|(one, other)| one == other).count();
                assert!(echo == text, "{} of {} bytes, the same up to {same}", echo.len(), text.len());
            }
        })
        .await;
        println!("{} MiB by {method} cost {} MiB", text.len() as u64 / MIB, cost / MIB);
        // The log keeps 4 MiB of a stream, 16 of a session.
        assert!(cost < 64 * MIB, "{method}: {} MiB", cost / MIB);
    }
}
