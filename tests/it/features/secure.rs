//! Upstreams behind TLS, over HTTP/1.1 and HTTP/2. Against the binary: where it finds its trusted
//! roots is the environment's matter.

use std::process::Command;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Response, Version};
use serde_json::json as value;
use tokio::net::TcpListener;

use crate::harness::{
    Asked, Certificates, Client, Gateway, Secure, accepted, call, initialize, initialized, json, read, sse,
    status, wait_until,
};
use crate::peers::process::{Process, holdfast_under, roomy};

fn trusting(root: &std::path::Path, arguments: &[&str]) -> Process {
    let mut command: Command = roomy(env!("CARGO_BIN_EXE_holdfast"));
    command.env("SSL_CERT_FILE", root).env_remove("SSL_CERT_DIR");
    holdfast_under(command, arguments)
}

/// A server with a stream of its own for every session, which stays open.
fn listening(
    streams: &std::sync::Mutex<Vec<tokio::sync::mpsc::Sender<String>>>,
    asked: &Asked,
) -> Response<Body> {
    match (asked.method.as_str(), asked.rpc()) {
        ("GET", _) => {
            let (send, response) = sse();
            streams.lock().unwrap().push(send);
            response
        }
        ("DELETE", _) => status(204),
        (_, "initialize") => initialized(asked, &uuid::Uuid::new_v4().to_string()),
        (_, "server/discover") => status(400),
        _ if asked.body["id"].is_null() => accepted(),
        _ => json(asked, &value!({ "ok": true })),
    }
}

async fn secure(protocols: &[&str], streams_max: u32) -> Secure {
    let streams = std::sync::Mutex::default();
    Secure::start(protocols, streams_max, move |asked| listening(&streams, asked)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn https_upstreams_are_spoken_to_in_the_newest_http_that_they_offer() {
    for (protocols, version) in [
        (["h2", "http/1.1"].as_slice(), Version::HTTP_2),
        (&["http/1.1"], Version::HTTP_11),
        (&[], Version::HTTP_11),
    ] {
        let secure = secure(protocols, 100).await;
        let holdfast = trusting(&secure.root, &["--upstream", &secure.upstream.url]);
        let mut client = Client::new(&holdfast.url());
        client.initialize("2025-11-25").await;
        let reply = client.posted(&call(1)).await;
        assert_eq!((reply.status, &reply.json()["result"]["ok"]), (200, &value!(true)), "{}", reply.text);
        let _stream = client.get(None).await;
        wait_until("its own stream is read", || secure.upstream.count(|asked| asked.method == "GET") == 1)
            .await;
        assert_eq!(client.delete().await.status, 204);
        wait_until("the session ended there too", || {
            secure.upstream.count(|asked| asked.method == "DELETE") == 1
        })
        .await;
        assert_eq!(secure.upstream.count(|asked| asked.version != version), 0, "{protocols:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p8_long_answers_that_nobody_reads_hold_up_no_other_over_http2() {
    let secure = Secure::start(&["h2"], 100, |asked| match asked.rpc() {
        "tools/call" => {
            let head = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"text":""#, asked.body["id"]);
            let text = std::iter::repeat_n("x".repeat(64 * 1024), 128);
            let pieces = std::iter::once(head).chain(text).chain([r#""}}"#.to_owned()]);
            let pieces = futures::stream::iter(pieces.map(Ok::<_, std::convert::Infallible>));
            Response::builder()
                .header("content-type", "application/json")
                .body(Body::from_stream(pieces))
                .unwrap()
        }
        _ => listening(&std::sync::Mutex::default(), asked),
    })
    .await;
    let holdfast = trusting(&secure.root, &["--upstream", &secure.upstream.url]);
    let mut client = Client::new(&holdfast.url());
    client.initialize("2025-11-25").await;
    let mut unread = Vec::new();
    for id in 1..=12 {
        unread.push(client.post(&call(id)).await);
    }
    let listing = value!({ "jsonrpc": "2.0", "id": 99, "method": "tools/list" });
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let reply = tokio::time::timeout(Duration::from_secs(5), client.posted(&listing)).await;
        assert_eq!(reply.expect("it waits for nobody").status, 200);
    }
    for response in unread {
        assert!(read(response).await.text.len() > 8 << 20);
    }
    assert_eq!(secure.upstream.count(|asked| asked.version != Version::HTTP_2), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_nobody_trusts_is_a_502() {
    let (one, other) = (secure(&["h2"], 100).await, secure(&["h2"], 100).await);
    let holdfast = trusting(&other.root, &["--upstream", &one.upstream.url]);
    let reply = Client::new(&holdfast.url()).posted(&opening()).await;
    assert_eq!((reply.status, reply.code()), (502, -32000), "{}", reply.text);
    assert_eq!(one.upstream.asked().len(), 0);
}

fn opening() -> serde_json::Value {
    let params = value!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {} });
    value!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_streams_over_http2_leave_room_for_calls() {
    let secure = secure(&["h2"], 4).await;
    let holdfast = trusting(&secure.root, &["--upstream", &secure.upstream.url]);
    let mut clients = Vec::new();
    for number in 1..=12 {
        let mut client = Client::new(&holdfast.url());
        client.initialize("2025-11-25").await;
        let stream = client.get(None).await;
        wait_until("its own stream is read", || {
            secure.upstream.count(|asked| asked.method == "GET") == number
        })
        .await;
        let reply = client.posted(&call(1)).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        clients.push((client, stream));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_never_ends_is_a_502_within_the_connect_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/mcp", listener.local_addr().unwrap());
    let mut command: Command = roomy(env!("CARGO_BIN_EXE_holdfast"));
    command.env("HOLDFAST_UPSTREAM_CONNECT_TIMEOUT", "300ms");
    let holdfast = holdfast_under(command, &["--upstream", &url]);
    let client = Client::new(&holdfast.url());
    let asking = opening();
    let reply = tokio::time::timeout(Duration::from_secs(5), client.posted(&asking));
    let reply = reply.await.expect("no longer than a connection may take");
    assert_eq!((reply.status, reply.code()), (502, -32000), "{}", reply.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_trusted_roots_plain_upstreams_work_and_https_is_a_502() {
    let plain = crate::harness::Upstream::start(|asked| json(asked, &value!({}))).await;
    let secure = secure(&["h2"], 100).await;
    let nowhere = std::path::Path::new("/nonexistent/roots.pem");
    let holdfast = trusting(nowhere, &["--upstream", &plain.url]);
    assert_eq!(Client::new(&holdfast.url()).posted(&opening()).await.status, 200);
    let holdfast = trusting(nowhere, &["--upstream", &secure.upstream.url]);
    assert_eq!(Client::new(&holdfast.url()).posted(&opening()).await.status, 502);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a8_a_server_that_asks_for_a_certificate_is_shown_the_configured_one_and_its_renewal() {
    let own = Certificates::new();
    let secure = Secure::knowing(&own, |asked| match asked.method.as_str() {
        "GET" => status(405),
        "DELETE" => status(204),
        _ if asked.rpc() == "initialize" => initialized(asked, "up-1"),
        _ if asked.rpc() == "server/discover" => status(400),
        _ if asked.body["id"].is_null() => accepted(),
        _ => json(asked, &value!({ "ok": true })),
    })
    .await;
    let root = secure.root.display().to_string();
    let trusted = ("servers.default.tls.ca_file", &*root);
    let without = Gateway::start(&secure.upstream.url, &[trusted]).await;
    let refused = without.client().posted(&initialize("2025-11-25")).await;
    assert_eq!(refused.status, 502, "{refused:?}");
    assert!(secure.upstream.asked().is_empty());
    let files = ["certificate.pem", "key.pem"].map(|name| own.path(name));
    let shown = [
        ("servers.default.tls.certificate_file", &*files[0]),
        ("servers.default.tls.key_file", &*files[1]),
        // So that each request makes a connection of its own.
        ("upstream.idle_connection_timeout", "100ms"),
    ];
    let untrusting = Gateway::start(&secure.upstream.url, &shown).await;
    assert_eq!(untrusting.client().posted(&initialize("2025-11-25")).await.status, 502);
    let gateway = Gateway::start(&secure.upstream.url, &[&[trusted], &shown[..]].concat()).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let first = secure.shown.lock().unwrap().last().cloned().unwrap();
    own.renew();
    let renewed = async {
        while secure.shown.lock().unwrap().last() == Some(&first) {
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert_eq!(client.posted(&call(1)).await.status, 200);
        }
    };
    tokio::time::timeout(Duration::from_secs(20), renewed).await.expect("the renewed one is shown");
}
