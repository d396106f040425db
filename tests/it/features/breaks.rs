//! Upstreams whose streams break, whose sessions vanish, and of which nobody knows the era.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use axum::http::Response;
use serde_json::{Value, json as value};

use crate::harness::{
    Asked, Client, Gateway, Hand, POST, Stream, Upstream, accepted, call, initialized, json, status, step,
    steps, wait_until,
};

const SOON: [(&str, &str); 1] = [("upstream.reconnect_delay", "100ms")];

async fn by_hand(settings: &[(&'static str, &str)]) -> (Hand, Gateway, Client) {
    let hand = Hand::start().await;
    let gateway = Gateway::start(&hand.upstream.url, settings).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    (hand, gateway, client)
}

#[tokio::test]
async fn l13_an_upstream_that_hangs_up_after_an_event_id_is_asked_for_the_rest() {
    let (hand, gateway, client) = by_hand(&SOON).await;
    let body = call(1);
    let (mut stream, ()) = futures::join!(client.streamed(&body), async {
        let answer = hand.take("tools/call").await;
        answer.raw("id: e-0\nretry: 10\ndata:\n\n").await;
        answer.say_as("e-1", &step(1)).await;
    });
    let again = hand.take("GET").await;
    assert_eq!(again.asked.header("last-event-id"), "e-1");
    // It repeats the event of the position, as some do.
    again.say_as("e-1", &step(1)).await;
    again.say_as("e-2", &step(2)).await;
    drop(again);
    let last = hand.take("GET").await;
    assert_eq!(last.asked.header("last-event-id"), "e-2");
    last.say_as("e-3", &value!({ "jsonrpc": "2.0", "id": 1, "result": {} })).await;
    let rest = stream.rest().await;
    assert_eq!((steps(&rest), rest.len()), (vec![1, 2], 3));
    assert_eq!(hand.upstream.count(|asked| asked.rpc() == "tools/call"), 1, "it is never sent again");
    assert_eq!(gateway.metric("holdfast_exchanges"), Some(0.0));
}

#[tokio::test]
async fn an_upstream_that_hangs_up_without_an_event_id_is_an_error_on_the_stream() {
    let (hand, _gateway, client) = by_hand(&SOON).await;
    let body = call(1);
    let (mut stream, ()) = futures::join!(client.streamed(&body), async {
        hand.take("tools/call").await.say(&step(1)).await;
    });
    let rest = stream.rest().await;
    assert_eq!((steps(&rest), rest[1]["error"]["code"].clone()), (vec![1], value!(-32000)), "{rest:?}");
    assert!(rest[1]["error"]["message"].as_str().unwrap().contains("default at"), "{rest:?}");
}

#[tokio::test]
async fn the_servers_own_stream_is_opened_again_and_nothing_of_it_is_doubled() {
    let (hand, _gateway, client) = by_hand(&SOON).await;
    let mut stream = Stream::new(client.get(None).await);
    let server = hand.take("GET").await;
    assert_eq!(server.asked.header("last-event-id"), "");
    server.say_as("u-1", &step(1)).await;
    assert_eq!(steps(&[stream.message().await]), [1]);
    drop(server);
    let server = hand.take("GET").await;
    assert_eq!(server.asked.header("last-event-id"), "u-1");
    server.say_as("u-2", &step(2)).await;
    assert_eq!(steps(&[stream.message().await]), [2]);
}

/// An upstream that forgets each of its first `sessions` when `forgets` says so.
async fn forgetful(sessions: usize, forgets: impl Fn(&Asked) -> bool + Send + Sync + 'static) -> Upstream {
    let opened = AtomicUsize::new(0);
    Upstream::bare(move |asked| {
        let number: usize = asked.header("mcp-session-id").trim_start_matches("up-").parse().unwrap_or(0);
        match (asked.method.as_str(), asked.rpc()) {
            (_, "initialize") => {
                initialized(asked, &format!("up-{}", opened.fetch_add(1, Ordering::SeqCst) + 1))
            }
            ("DELETE", _) => status(204),
            _ if number <= sessions && forgets(asked) => status(404),
            ("GET", _) => status(405),
            _ if asked.body["id"].is_null() || asked.body["method"].is_null() => accepted(),
            _ => json(asked, &value!({ "number": number })),
        }
    })
    .await
}

#[tokio::test]
async fn many_requests_that_meet_a_lost_session_open_one_new_one() {
    let upstream = forgetful(1, |asked| asked.rpc() == "tools/call").await;
    let gateway = Gateway::start(&upstream.url, &[]).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let bodies: Vec<_> = (1..9).map(call).collect();
    let replies = futures::future::join_all(bodies.iter().map(|body| client.posted(body))).await;
    assert!(replies.iter().all(|reply| reply.json()["result"]["number"] == 2), "{replies:?}");
    assert_eq!(upstream.count(|asked| asked.rpc() == "initialize"), 2);
    assert_eq!(gateway.metric("holdfast_upstream_sessions_lost_total"), Some(1.0));
}

#[tokio::test]
async fn a_session_lost_twice_in_a_row_is_a_502_and_no_loop() {
    let upstream = forgetful(99, |asked| asked.rpc() == "tools/call").await;
    let gateway = Gateway::start(&upstream.url, &[]).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let reply = client.posted(&call(1)).await;
    assert_eq!((reply.status, reply.code()), (502, -32000), "{}", reply.text);
    assert_eq!(upstream.count(|asked| asked.rpc() == "tools/call"), 2);
    assert_eq!(
        client.posted(&value!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" })).await.status,
        200
    );
}

#[tokio::test]
async fn notifications_answers_and_the_servers_stream_find_a_lost_session_too() {
    for what in ["notification", "answer", "stream"] {
        let upstream = forgetful(1, move |asked| match what {
            "notification" => asked.rpc() == "notifications/x",
            "answer" => asked.body["result"].is_object(),
            _ => asked.method == "GET",
        })
        .await;
        let gateway = Gateway::start(&upstream.url, &SOON).await;
        let mut client = gateway.client();
        client.initialize("2025-11-25").await;
        let said = match what {
            "notification" => {
                client.posted(&value!({ "jsonrpc": "2.0", "method": "notifications/x" })).await.status
            }
            "answer" => client.posted(&value!({ "jsonrpc": "2.0", "id": 5, "result": {} })).await.status,
            _ => client.get(None).await.status().as_u16(),
        };
        assert!(matches!((what, said), ("stream", 200) | (_, 202)), "{what}: {said}");
        wait_until(what, || upstream.count(|asked| asked.rpc() == "initialize") == 2).await;
        wait_until("the metric", || gateway.metric("holdfast_upstream_sessions_lost_total") == Some(1.0))
            .await;
        let reply = client.posted(&call(1)).await;
        assert_eq!(reply.json()["result"]["number"], 2, "{what}: {}", reply.text);
    }
}

#[tokio::test]
async fn a_session_that_cant_be_opened_again_is_a_502_until_it_can() {
    let down = std::sync::Arc::new(AtomicUsize::new(0));
    let state = down.clone();
    let upstream = Upstream::bare(move |asked| match (state.load(Ordering::SeqCst), asked.rpc()) {
        (1, "initialize") => status(503),
        (_, "initialize") => initialized(asked, &format!("up-{}", state.load(Ordering::SeqCst))),
        _ if asked.method == "DELETE" => status(204),
        _ if asked.body["id"].is_null() => accepted(),
        (1, _) => status(404),
        (2, _) if asked.header("mcp-session-id") == "up-0" => status(404),
        _ => json(asked, &value!({})),
    })
    .await;
    let gateway = Gateway::start(&upstream.url, &[]).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    down.store(1, Ordering::SeqCst);
    assert_eq!(client.posted(&call(1)).await.status, 502);
    down.store(2, Ordering::SeqCst);
    assert_eq!(client.posted(&call(2)).await.status, 200);
}

fn answer(code: u16, kind: &str, body: &str) -> Response<Body> {
    Response::builder().status(code).header("content-type", kind).body(Body::from(body.to_owned())).unwrap()
}

/// What a modern client is told about an upstream that treats `server/discover` like this.
async fn modern_call(upstream: &Upstream, settings: &[(&'static str, &str)]) -> (u16, Value) {
    let gateway = Gateway::start(&upstream.url, settings).await;
    let meta = value!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let body = value!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": { "_meta": meta } });
    let headers: Vec<_> = POST
        .into_iter()
        .chain([("mcp-method", "tools/list"), ("mcp-protocol-version", "2026-07-28")])
        .collect();
    let mut last = (0, Value::Null);
    for _ in 0..3 {
        let reply = gateway.client().ask("POST", "/mcp", &headers, &body.to_string()).await;
        last = (reply.status, reply.json());
    }
    last
}

#[tokio::test]
async fn which_era_a_server_speaks_is_found_out_once_whatever_it_says() {
    let legacy_only = [
        (404, "text/html", "<p>"),
        (405, "text/plain", ""),
        (400, "application/json", "{"),
        (500, "text/plain", "no"),
        (200, "text/html", "<p>"),
        (
            200,
            "application/json",
            r#"{"jsonrpc":"2.0","id":"holdfast-discover","error":{"code":-32601,"message":"no"}}"#,
        ),
        (
            400,
            "application/json",
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"no session"}}"#,
        ),
        (200, "application/json", r#"{"jsonrpc":"2.0","id":"holdfast-discover","result":{}}"#),
    ];
    for (code, kind, body) in legacy_only {
        let upstream = Upstream::bare(move |asked| match asked.rpc() {
            "server/discover" => answer(code, kind, body),
            "initialize" => initialized(asked, "probe"),
            _ if asked.method == "DELETE" => status(204),
            _ => accepted(),
        })
        .await;
        let (status, told) = modern_call(&upstream, &[]).await;
        assert_eq!((status, told["error"]["code"].clone()), (400, value!(-32022)), "{code} {body}: {told}");
        assert!(
            told["error"]["data"]["supported"].as_array().unwrap().contains(&value!("2025-06-18")),
            "{told}"
        );
        assert_eq!(upstream.count(|asked| asked.rpc() == "server/discover"), 1, "{code} {body}");
        assert_eq!(upstream.count(|asked| asked.method == "DELETE"), 1, "the probe's own session is ended");
    }
}

#[tokio::test]
async fn a_server_of_neither_era_or_none_at_all_is_a_502_and_asked_again() {
    let upstream = Upstream::bare(|_| answer(404, "text/html", "<p>")).await;
    let (status, told) = modern_call(&upstream, &[]).await;
    assert_eq!((status, told["error"]["code"].clone()), (502, value!(-32000)), "{told}");
    assert_eq!(upstream.count(|asked| asked.rpc() == "server/discover"), 3, "a failure is not remembered");
}

#[tokio::test]
async fn an_era_that_is_configured_is_not_asked_for() {
    for (era, expected) in [("modern", 200), ("both", 200), ("legacy", 400)] {
        let upstream = Upstream::bare(|asked| json(asked, &value!({ "resultType": "complete" }))).await;
        let (status, told) = modern_call(&upstream, &[("servers.default.era", era)]).await;
        assert_eq!(status, expected, "{era}: {told}");
        assert_eq!(
            upstream.count(|asked| matches!(asked.rpc(), "server/discover" | "initialize")),
            0,
            "{era}"
        );
    }
}
