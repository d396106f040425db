//! A client that is cut off anywhere and comes back gets each event once, in order; or is told.

use proptest::prelude::*;
use serde_json::{Value, json as value};

use crate::harness::{Gateway, Stream, Upstream, sse, wait_until};

const EVENTS: u64 = 12;

fn line(message: &Value) -> String {
    format!("data: {message}\n\n")
}

fn step(step: u64) -> Value {
    value!({ "jsonrpc": "2.0", "method": "notifications/x", "params": { "step": step, "text": "line\none" } })
}

fn call(id: u64) -> Value {
    value!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": "x" } })
}

/// An upstream whose calls answer with events and a result; its own stream, if it has one, says the
/// same.
async fn talkative(unasked: bool) -> Upstream {
    Upstream::bare(move |asked| match (asked.method.as_str(), asked.rpc()) {
        ("GET", _) if !unasked => crate::harness::status(405),
        ("DELETE", _) => crate::harness::status(204),
        (_, "initialize") => crate::harness::initialized(asked, "up-1"),
        ("POST", _) if asked.body["id"].is_null() => crate::harness::accepted(),
        _ => {
            let (send, response) = sse();
            for number in 0..EVENTS {
                send.try_send(line(&step(number))).unwrap();
            }
            if asked.method == "POST" {
                send.try_send(line(&value!({ "jsonrpc": "2.0", "id": asked.body["id"], "result": {} })))
                    .unwrap();
            } else {
                // The server's own stream stays open.
                std::mem::forget(send);
            }
            response
        }
    })
    .await
}

fn steps(messages: &[Value]) -> Vec<u64> {
    messages.iter().filter_map(|message| message["params"]["step"].as_u64()).collect()
}

/// Reads raw bytes up to a cut, and says what events were complete by then.
async fn read_bytes(
    response: http::Response<hyper::body::Incoming>,
    bytes: usize,
) -> (Vec<Value>, Option<String>) {
    use http_body_util::BodyExt as _;
    let mut body = response.into_body();
    let mut raw = Vec::new();
    while raw.len() < bytes {
        let frame = tokio::time::timeout(std::time::Duration::from_millis(300), body.frame()).await;
        match frame {
            Ok(Some(Ok(frame))) => raw.extend_from_slice(frame.data_ref().unwrap()),
            _ => break,
        }
    }
    raw.truncate(bytes);
    let mut decoder = holdfast::protocol::sse::Decoder::new(1 << 20);
    decoder.push(&raw);
    let (mut messages, mut position) = (Vec::new(), None);
    while let Some(event) = decoder.next().unwrap() {
        position = event.id.or(position);
        if let Some(data) = event.data.filter(|data| !data.is_empty())
            && let Ok(message) = serde_json::from_slice(&data)
        {
            messages.push(message);
        }
    }
    (messages, position)
}

/// Cuts a stream at each of `cuts` bytes, resumes, and reads what is left.
async fn cut_and_resume(kind: &str, cuts: &[usize]) {
    let upstream = talkative(kind == "get").await;
    let gateway = Gateway::start(&upstream.url, &[]).await;
    let mut client = gateway.client();
    let mut all = Vec::new();
    let mut position: Option<String> = None;
    if kind != "http_sse" {
        client.initialize("2025-11-25").await;
    }
    for (round, cut) in cuts.iter().enumerate() {
        let response = match (kind, round) {
            ("post", 0) => client.post(&call(1)).await,
            ("http_sse", 0) => {
                let response = client.send("GET", "/sse", &[], "").await;
                // The session is named in the first event; what it asks for fills the stream.
                let (endpoint, response) = endpoint(response).await;
                let params =
                    value!({ "protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {} });
                let initialize =
                    value!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params });
                for message in [initialize, call(1)] {
                    let reply =
                        client.ask("POST", &endpoint, &crate::harness::POST, &message.to_string()).await;
                    assert_eq!(reply.status, 202);
                    let text = if message["id"] == 0 { "holdfast_exchanges" } else { "" };
                    if !text.is_empty() {
                        wait_until("initialized", || gateway.metric(text) == Some(0.0)).await;
                    }
                }
                position = Some(response.position.clone().unwrap());
                drop(response);
                continue;
            }
            ("http_sse", _) => resumed_sse(&client, position.as_deref()).await,
            _ => client.get(position.as_deref()).await,
        };
        if response.status() == 405 {
            break;
        }
        assert_eq!(response.status(), 200);
        let (messages, seen) = read_bytes(response, *cut).await;
        all.extend(messages);
        position = seen.or(position);
        if position.is_none() {
            // Cut before the first id: there is nothing to resume by (done-when 4 starts after it).
            return;
        }
    }
    let wanted: Vec<u64> = (0..EVENTS).collect();
    for _ in 0..20 {
        if steps(&all) == wanted && (kind == "get" || all.iter().any(|message| message["id"] == 1)) {
            break;
        }
        let response = match kind {
            "http_sse" => resumed_sse(&client, position.as_deref()).await,
            _ => client.get(position.as_deref()).await,
        };
        if response.status() == 405 {
            break;
        }
        let (messages, seen) = read_bytes(response, usize::MAX).await;
        all.extend(messages);
        position = seen.or(position);
    }
    assert_eq!(steps(&all), wanted, "{kind} cut at {cuts:?}");
    if kind != "get" {
        assert_eq!(all.iter().filter(|message| message["id"] == 1).count(), 1, "{kind} cut at {cuts:?}");
    }
}

async fn resumed_sse(
    client: &crate::harness::Client,
    position: Option<&str>,
) -> http::Response<hyper::body::Incoming> {
    let headers: Vec<_> = position.map(|position| ("last-event-id", position)).into_iter().collect();
    client.send("GET", "/sse", &headers, "").await
}

async fn endpoint(response: http::Response<hyper::body::Incoming>) -> (String, Stream) {
    let mut stream = Stream::new(response);
    let event = stream.event().await.unwrap();
    assert_eq!(event.event.as_deref(), Some("endpoint"));
    (String::from_utf8(event.data.unwrap().to_vec()).unwrap(), stream)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 20, ..ProptestConfig::default() })]
    #[test]
    fn cut_at_any_byte_each_event_comes_once_and_in_order(
        kind in prop::sample::select(vec!["post", "get", "http_sse"]),
        cuts in prop::collection::vec(1usize..1500, 1..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(cut_and_resume(kind, &cuts));
    }
}

#[tokio::test]
async fn a_position_that_the_log_forgot_is_told_in_a_way_that_clients_survive() {
    let upstream = talkative(false).await;
    let gateway = Gateway::start(&upstream.url, &[("log.events_max", "4")]).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let mut stream = client.streamed(&call(1)).await;
    stream.message().await;
    let first = stream.position.clone().unwrap();
    stream.rest().await;
    let last = stream.position.clone().unwrap();
    // A POST's stream: an error for its request, then the end.
    let mut lost = Stream::new(client.get(Some(&first)).await);
    let told = lost.rest().await;
    assert_eq!((told.len(), told[0]["id"].clone()), (1, value!(1)));
    assert_eq!(told[0]["error"]["code"], -32000);
    // Ended, and nothing left: 405.
    assert_eq!(client.get(Some(&last)).await.status(), 405);
    // A stream that nobody knows any more still names its request.
    let forgotten = first.replace(&first[1..5], "AAAA");
    let mut lost = Stream::new(client.get(Some(&forgotten)).await);
    assert_eq!(lost.rest().await[0]["id"], 1);
    // The GET stream: a new one, which says so first.
    let mut lost = Stream::new(client.get(Some("g.1-0")).await);
    assert_eq!(lost.message().await["method"], "notifications/message");
    assert_eq!(lost.message().await["method"], "notifications/tools/list_changed");
}

#[tokio::test]
async fn l19_a_second_get_stream_takes_the_messages_until_it_ends() {
    let (send, receive) = tokio::sync::mpsc::channel::<String>(16);
    let receive = std::sync::Mutex::new(Some(receive));
    let upstream = Upstream::bare(move |asked| match (asked.method.as_str(), asked.rpc()) {
        ("GET", _) => {
            let Some(mut receive) = receive.lock().unwrap().take() else {
                return crate::harness::status(405);
            };
            let frames = futures::stream::poll_fn(move |context| receive.poll_recv(context));
            let frames = futures::StreamExt::map(frames, Ok::<_, std::convert::Infallible>);
            axum::http::Response::builder()
                .header("content-type", "text/event-stream")
                .body(axum::body::Body::from_stream(frames))
                .unwrap()
        }
        (_, "initialize") => crate::harness::initialized(asked, "up-1"),
        _ => crate::harness::accepted(),
    })
    .await;
    let gateway = Gateway::start(&upstream.url, &[]).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let mut older = Stream::new(client.get(None).await);
    let mut newer = Stream::new(client.get(None).await);
    send.send(line(&step(1))).await.unwrap();
    assert_eq!(steps(&[newer.message().await]), [1]);
    drop(newer);
    wait_until("the newer one is released", || gateway.metric("holdfast_streams{kind=\"get\"}") == Some(1.0))
        .await;
    send.send(line(&step(2))).await.unwrap();
    assert_eq!(steps(&[older.message().await]), [2], "the older one hears again, and only what is new");
}
