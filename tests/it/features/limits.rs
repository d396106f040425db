//! Bounds: each has a name, a metric and a stated answer (P8); and input that tries to break them.

use std::time::Duration;

use serde_json::{Value, json as value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Client, Gateway, Reply, Stream, Upstream, json, read, sse, wait_until};

async fn plain(settings: &[(&'static str, &str)]) -> (Upstream, Gateway) {
    let upstream = Upstream::start(|asked| json(asked, &value!({}))).await;
    let gateway = Gateway::start(&upstream.url, settings).await;
    (upstream, gateway)
}

fn call(id: u64) -> Value {
    value!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": "x" } })
}

fn check_full(reply: &Reply, gateway: &Gateway, key: &str) {
    assert_eq!((reply.status, reply.code()), (503, -32000), "{key}: {}", reply.text);
    assert!(reply.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds >= 1), "{reply:?}");
    assert!(reply.text.contains(key), "{}", reply.text);
    let hits = gateway.metric(&format!("holdfast_limit_hits_total{{limit=\"{key}\"}}"));
    assert!(hits.is_some_and(|hits| hits >= 1.0), "{key}: {hits:?}");
}

async fn opening(client: &Client) -> Reply {
    let params = value!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {} });
    client.posted(&value!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params })).await
}

#[tokio::test]
async fn sessions_are_bounded_and_a_refused_one_leaves_nothing_upstream() {
    let (upstream, gateway) = plain(&[("limits.sessions_max", "1")]).await;
    let mut first = gateway.client();
    first.initialize("2025-11-25").await;
    check_full(&opening(&gateway.client()).await, &gateway, "limits.sessions_max");
    wait_until("the refused session's upstream session is ended", || {
        upstream.count(|asked| asked.method == "DELETE") == 1
    })
    .await;
    first.delete().await;
    assert_eq!(opening(&gateway.client()).await.status, 200);
}

#[tokio::test]
async fn streams_are_bounded_per_session_and_per_node() {
    let settings = [("limits.streams_per_session_max", "2"), ("limits.streams_max", "3")];
    let (_upstream, gateway) = plain(&settings).await;
    let (mut one, mut two) = (gateway.client(), gateway.client());
    one.initialize("2025-11-25").await;
    two.initialize("2025-11-25").await;
    let _open = (Stream::new(one.get(None).await), Stream::new(one.get(None).await));
    let third = read(one.get(None).await).await;
    check_full(&third, &gateway, "limits.streams_per_session_max");
    let _other = Stream::new(two.get(None).await);
    let full = read(two.get(None).await).await;
    check_full(&full, &gateway, "limits.streams_max");
}

#[tokio::test]
async fn a_stream_that_comes_back_takes_the_place_of_its_older_self() {
    let settings = [("limits.streams_per_session_max", "1")];
    let (_upstream, gateway) = plain(&settings).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let mut older = Stream::new(client.get(None).await);
    older.primed().await;
    // Its connection is dead, and nobody but the client knows.
    let position = older.position.clone();
    let _newer = Stream::new(client.get(position.as_deref()).await);
    assert!(older.rest().await.is_empty(), "it is closed");
}

#[tokio::test]
async fn running_requests_are_bounded() {
    let upstream = Upstream::start(|asked| {
        if asked.body["params"]["name"] == "x" {
            let (send, response) = sse();
            std::mem::forget(send);
            return response;
        }
        json(asked, &value!({}))
    })
    .await;
    let settings = [("limits.requests_per_session_max", "1"), ("requests.json_wait", "50ms")];
    let gateway = Gateway::start(&upstream.url, &settings).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let _running = client.streamed(&call(1)).await;
    check_full(&client.posted(&call(2)).await, &gateway, "limits.requests_per_session_max");
    let same = client.posted(&call(1)).await;
    assert_eq!(same.status, 503, "the limit comes first");
}

#[tokio::test]
async fn an_idle_stream_ends_with_a_retry_and_comments_keep_the_others() {
    let settings = [("streams.idle_timeout", "1s"), ("streams.keep_alive_interval", "1s")];
    let (_upstream, gateway) = plain(&settings).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let mut stream = Stream::new(client.get(None).await);
    assert!(stream.rest().await.is_empty());
    assert!(stream.retries >= 2, "one with the priming event, one at the end");
}

#[tokio::test]
async fn a_session_that_is_idle_ends_here_and_upstream() {
    let (upstream, gateway) = plain(&[("sessions.idle_timeout", "1s"), ("sessions.sse_grace", "1s")]).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    wait_until("the upstream's session is ended", || upstream.count(|asked| asked.method == "DELETE") == 1)
        .await;
    assert_eq!(client.posted(&call(1)).await.status, 404);
}

#[tokio::test]
async fn s5_an_http_sse_session_outlives_its_stream_by_a_grace() {
    let (upstream, gateway) = plain(&[("sessions.sse_grace", "1s")]).await;
    let client = gateway.client();
    let mut stream = Stream::new(client.send("GET", "/sse", &[], "").await);
    let endpoint = String::from_utf8(stream.event().await.unwrap().data.unwrap().to_vec()).unwrap();
    let params = value!({ "protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {} });
    let initialize =
        value!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params }).to_string();
    let posted = client.ask("POST", &endpoint, &crate::harness::POST, &initialize).await;
    assert_eq!(posted.status, 202);
    assert_eq!(stream.message().await["id"], 0);
    drop(stream);
    wait_until("the upstream's session is ended", || upstream.count(|asked| asked.method == "DELETE") == 1)
        .await;
    let late = client.ask("POST", &endpoint, &crate::harness::POST, &call(1).to_string()).await;
    assert_eq!(late.status, 404);
}

#[tokio::test]
async fn bytes_that_are_no_http_and_slow_ones_are_cut_off() {
    let settings = [("http.header_timeout", "500ms"), ("http.body_timeout", "500ms")];
    let (_upstream, gateway) = plain(&settings).await;
    let address = gateway.url.trim_start_matches("http://").to_owned();
    let cut_off = |sent: Vec<u8>| {
        let address = address.clone();
        async move {
            let mut socket = TcpStream::connect(address).await.unwrap();
            let _ = socket.write_all(&sent).await;
            let mut answer = Vec::new();
            let read = socket.read_to_end(&mut answer);
            let _ = tokio::time::timeout(Duration::from_secs(10), read).await.expect("closed in time");
            String::from_utf8_lossy(&answer).into_owned()
        }
    };
    cut_off(b"\x00\xff\x16\x03 not http\r\n\r\n".to_vec()).await;
    cut_off(b"GET /mcp HTTP/1.1\r\nHost: localhost\r\nX-Slow: ".to_vec()).await;
    let bomb = format!("GET /mcp HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(300_000));
    // The connection is closed with unread bytes, which may overtake the answer.
    let answer = cut_off(bomb.into_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let start = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nAccept: */*\r\n";
    let slow = format!("{start}Content-Length: 100\r\n\r\n{{");
    assert!(cut_off(slow.into_bytes()).await.starts_with("HTTP/1.1 408"));
    let huge = format!("{start}Content-Length: 1073741824\r\n\r\n");
    assert!(cut_off(huge.into_bytes()).await.starts_with("HTTP/1.1 413"));
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    assert_eq!(client.posted(&call(1)).await.status, 200, "others are served");
}

#[tokio::test]
async fn connections_that_say_nothing_or_half_a_preface_are_closed() {
    let (_upstream, gateway) = plain(&[("http.header_timeout", "300ms")]).await;
    let address = gateway.url.trim_start_matches("http://").to_owned();
    let mut open = Vec::new();
    for said in ["", "P", "PRI * HTTP/2.0\r\n"] {
        let mut socket = TcpStream::connect(&address).await.unwrap();
        socket.write_all(said.as_bytes()).await.unwrap();
        open.push(socket);
    }
    wait_until("all are accepted", || gateway.metric("holdfast_connections") == Some(3.0)).await;
    wait_until("none is kept", || gateway.metric("holdfast_connections") == Some(0.0)).await;

    let mut slow = TcpStream::connect(&address).await.unwrap();
    slow.write_all(b"P").await.unwrap();
    tokio::time::sleep(Duration::from_millis(30)).await;
    slow.write_all(b"UT /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
}

#[tokio::test]
async fn a_connection_that_says_nothing_does_not_hold_up_the_end() {
    let (_upstream, gateway) = plain(&[]).await;
    let _silent = TcpStream::connect(gateway.url.trim_start_matches("http://")).await.unwrap();
    wait_until("it is accepted", || gateway.metric("holdfast_connections") == Some(1.0)).await;
    let began = tokio::time::Instant::now();
    assert_eq!(gateway.stop().await, holdfast::lifecycle::Ending::Clean);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_reader_that_takes_nothing_loses_its_stream_and_no_message() {
    let (send, receive) = tokio::sync::mpsc::channel::<String>(2000);
    let receive = std::sync::Mutex::new(Some(receive));
    let upstream = Upstream::start(move |_| {
        let mut receive = receive.lock().unwrap().take().unwrap();
        let frames = futures::stream::poll_fn(move |context| receive.poll_recv(context));
        let frames = futures::StreamExt::map(frames, Ok::<_, std::convert::Infallible>);
        axum::http::Response::builder()
            .header("content-type", "text/event-stream")
            .body(axum::body::Body::from_stream(frames))
            .unwrap()
    })
    .await;
    let settings = [
        ("streams.buffer_events_max", "16"),
        ("log.events_max", "4000"),
        ("log.stream_bytes_max", "256MiB"),
        ("log.session_bytes_max", "256MiB"),
    ];
    let gateway = Gateway::start(&upstream.url, &settings).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let line = |text: &Value| format!("data: {text}\n\n");
    let padding = "x".repeat(50_000);
    for step in 0..400 {
        let params = value!({ "step": step, "padding": padding });
        send.try_send(line(&value!({ "jsonrpc": "2.0", "method": "notifications/x", "params": params })))
            .unwrap();
    }
    send.try_send(line(&value!({ "jsonrpc": "2.0", "id": 1, "result": {} }))).unwrap();
    drop(send);
    let mut stream = client.streamed(&call(1)).await;
    wait_until("the slow reader's stream ended", || {
        gateway.metric("holdfast_streams_ended_total{reason=\"lagged\"}") == Some(1.0)
            || gateway.metric("holdfast_exchanges") == Some(0.0)
    })
    .await;
    let mut steps: Vec<u64> = Vec::new();
    let mut answered = false;
    for _ in 0..50 {
        for message in stream.rest().await {
            steps.extend(message["params"]["step"].as_u64());
            answered |= message["id"] == 1;
        }
        if answered {
            break;
        }
        stream = Stream::new(client.get(stream.position.as_deref()).await);
    }
    assert_eq!(steps, (0..400).collect::<Vec<u64>>());
    assert!(answered);
}

#[tokio::test]
async fn an_endless_line_from_an_upstream_is_cut() {
    let upstream = Upstream::start(|_| {
        let chunk = bytes::Bytes::from(vec![b'x'; 64 * 1024]);
        let endless = futures::stream::repeat_with(move || Ok::<_, std::convert::Infallible>(chunk.clone()));
        axum::http::Response::builder()
            .header("content-type", "text/event-stream")
            .body(axum::body::Body::from_stream(endless))
            .unwrap()
    })
    .await;
    let settings = [("upstream.message_bytes_max", "1MiB"), ("requests.json_wait", "10s")];
    let gateway = Gateway::start(&upstream.url, &settings).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let reply = client.posted(&call(1)).await;
    assert_eq!((reply.status, reply.code()), (502, -32000), "{}", reply.text);
}
