//! Limits of what goes on at the same time: of running requests, streams and sessions.

use std::time::Duration;

use axum::http::Response;
use hyper::body::Incoming;
use serde_json::{Value, json as value};

use super::fairness::{Callers, answering};
use crate::harness::{Client, POST, Stream, Upstream, call, initialize, json, read, sse, wait_until};

/// `tools/call` of `hang` is answered with a stream that says nothing; others in JSON.
async fn hanging() -> Upstream {
    Upstream::start(|asked| match asked.body["params"]["name"].as_str() {
        Some("hang") => {
            let (send, response) = sse();
            std::mem::forget(send);
            response
        }
        _ => json(asked, &value!({ "ok": true })),
    })
    .await
}

fn hang(id: u64) -> Value {
    value!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": "hang" } })
}

#[tokio::test]
async fn running_requests_are_limited_and_can_be_cancelled() {
    let upstream = hanging().await;
    let settings = [
        ("limits.principal.requests_running_max", "2"),
        ("requests.json_wait", "50ms"),
        ("requests.cancel_grace", "50ms"),
    ];
    let callers = Callers::start(1, &upstream, &settings).await;
    let (mut alice, mut bob) = (callers.alice(), callers.bob());
    alice.initialize("2025-11-25").await;
    let mut second = callers.alice();
    second.initialize("2025-11-25").await;
    let first = alice.streamed(&hang(1)).await;
    let _running = second.streamed(&hang(1)).await;
    let key = "limits.principal.requests_running_max";
    // In whichever session, and whoever has left.
    drop(first);
    for client in [&alice, &second] {
        callers.check(&client.posted(&call(7)).await, key, &value!(7));
    }
    callers.check(&alice.posted(&initialize("2025-11-25")).await, key, &value!(0));
    bob.initialize("2025-11-25").await;
    assert_eq!(bob.posted(&call(1)).await.status, 200);
    let note = value!({ "jsonrpc": "2.0", "method": "notifications/x" });
    assert_eq!(alice.posted(&note).await.status, 202);
    let cancel =
        value!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } });
    assert_eq!(alice.posted(&cancel).await.status, 202);
    let gateway = &callers.nodes[0];
    wait_until("one is over", || gateway.metric("holdfast_exchanges") == Some(1.0)).await;
    assert_eq!(alice.posted(&call(8)).await.status, 200);
}

#[tokio::test]
async fn running_requests_are_limited_in_total() {
    let upstream = hanging().await;
    let settings = [("limits.requests_running_max", "1"), ("requests.json_wait", "50ms")];
    let callers = Callers::start(1, &upstream, &settings).await;
    let (mut alice, mut bob) = (callers.alice(), callers.bob());
    alice.initialize("2025-11-25").await;
    bob.initialize("2025-11-25").await;
    let _running = alice.streamed(&hang(1)).await;
    callers.check(&bob.posted(&call(2)).await, "limits.requests_running_max", &value!(2));
}

#[tokio::test]
async fn streams_are_limited_and_who_comes_back_takes_its_own_place() {
    let upstream = hanging().await;
    let settings = [("limits.principal.streams_max", "1"), ("requests.json_wait", "50ms")];
    let callers = Callers::start(1, &upstream, &settings).await;
    let (mut alice, mut bob) = (callers.alice(), callers.bob());
    alice.initialize("2025-11-25").await;
    let mut older = Stream::new(alice.get(None).await);
    older.primed().await;
    let key = "limits.principal.streams_max";
    callers.check(&read(alice.get(None).await).await, key, &Value::Null);
    callers.check(&read(alice.sse().await).await, key, &Value::Null);
    bob.initialize("2025-11-25").await;
    let _bobs = Stream::new(bob.get(None).await);
    // Its connection is dead, and nobody but the client knows.
    let newer = Stream::new(alice.get(older.position.as_deref()).await);
    assert!(older.rest().await.is_empty(), "it is closed");
    drop((older, newer));
    let gateway = &callers.nodes[0];
    wait_until("the place is free", || gateway.metric("holdfast_streams{kind=\"get\"}") == Some(1.0)).await;
    let _again = Stream::new(alice.get(None).await);
}

#[tokio::test]
async fn a_modern_request_without_a_place_for_its_stream_is_answered_in_json() {
    let upstream = Upstream::bare(|asked| match asked.rpc() {
        "tools/call" => {
            let (send, response) = sse();
            let line = |text: &Value| format!("data: {text}\n\n");
            let step = value!({ "jsonrpc": "2.0", "method": "notifications/x" });
            send.try_send(line(&step)).unwrap();
            let done = value!({ "jsonrpc": "2.0", "id": asked.body["id"], "result": { "ok": true } });
            send.try_send(line(&done)).unwrap();
            response
        }
        _ => {
            let (send, response) = sse();
            std::mem::forget(send);
            response
        }
    })
    .await;
    let settings = [
        ("limits.principal.streams_max", "1"),
        ("requests.json_wait", "50ms"),
        ("servers.default.era", "modern"),
    ];
    let callers = Callers::start(1, &upstream, &settings).await;
    let alice = callers.alice();
    let send = async |id, method| modern(&alice, id, method).await;
    let _listening = Stream::new(send(1, "subscriptions/listen").await);
    let called = read(send(2, "tools/call").await).await;
    assert_eq!((called.status, called.header("content-type")), (200, "application/json"), "{called:?}");
    assert_eq!(called.json()["result"]["ok"], true);
    let refused = read(send(3, "subscriptions/listen").await).await;
    callers.check(&refused, "limits.principal.streams_max", &value!(3));
    let asked = upstream.count(|asked| asked.rpc() == "subscriptions/listen");
    assert_eq!(asked, 1, "it is refused before its server is asked");
}

#[tokio::test]
async fn what_listens_counts_as_a_stream_whatever_its_answer_looks_like() {
    let upstream = Upstream::bare(|_| {
        let (send, response) = sse();
        std::mem::forget(send);
        response
    })
    .await;
    let settings = [
        ("limits.principal.streams_max", "1"),
        ("servers.default.era", "modern"),
        ("servers.default.answers", "json"),
    ];
    let callers = Callers::start(1, &upstream, &settings).await;
    let alice = callers.alice();
    let listened = || upstream.count(|asked| asked.rpc() == "subscriptions/listen");
    let first = modern(&alice, 1, "subscriptions/listen");
    let second = async {
        wait_until("the first is under way", || listened() == 1).await;
        read(modern(&alice, 2, "subscriptions/listen").await).await
    };
    let refused = tokio::select! {
        response = first => panic!("{response:?}"),
        refused = second => refused,
    };
    callers.check(&refused, "limits.principal.streams_max", &value!(2));
    assert_eq!(listened(), 1);
    let gateway = &callers.nodes[0];
    wait_until("its client left", || gateway.metric("holdfast_streams{kind=\"post\"}") == Some(0.0)).await;
    let third = modern(&alice, 3, "subscriptions/listen");
    tokio::select! {
        response = third => panic!("{response:?}"),
        () = wait_until("the place is free", || listened() == 2) => {}
    }
}

/// A request of the stateless era.
async fn modern(client: &Client, id: u64, method: &str) -> Response<Incoming> {
    let meta = value!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let params = value!({ "name": "t", "_meta": meta });
    let message = value!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
    let mut headers = POST.to_vec();
    headers.extend([("mcp-protocol-version", "2026-07-28"), ("mcp-method", method)]);
    headers.extend((method == "tools/call").then_some(("mcp-name", "t")));
    client.send("POST", "/mcp", &headers, &message.to_string()).await
}

#[tokio::test]
async fn nothing_of_a_batch_that_is_refused_goes_further() {
    let upstream = hanging().await;
    let settings = [("limits.principal.requests_running_max", "1"), ("requests.json_wait", "50ms")];
    let callers = Callers::start(1, &upstream, &settings).await;
    let mut alice = callers.alice();
    alice.initialize("2025-03-26").await;
    let _running = alice.streamed(&hang(1)).await;
    let before = upstream.asked().len();
    let answer = value!({ "jsonrpc": "2.0", "id": "q", "result": { "action": "accept" } });
    let cancel =
        value!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } });
    for first in [answer, cancel] {
        let refused = alice.posted(&value!([first, call(7)])).await;
        callers.check(&refused, "limits.principal.requests_running_max", &Value::Null);
    }
    assert_eq!(upstream.asked().len(), before);
    assert_eq!(callers.nodes[0].metric("holdfast_exchanges"), Some(1.0), "nor is anything cancelled");
}

#[tokio::test]
async fn a_session_that_nobody_got_leaves_its_place() {
    let upstream = answering().await;
    let callers = Callers::start(1, &upstream, &[("limits.principal.sessions_max", "1")]).await;
    callers.faults.forget("load");
    assert_eq!(read(callers.alice().sse().await).await.status, 503);
    assert_eq!(callers.alice().sse().await.status(), 200);
}

#[tokio::test]
async fn sessions_are_limited_where_they_are_opened_until_they_end_anywhere() {
    let upstream = answering().await;
    let settings = [("limits.principal.sessions_max", "1")];
    let callers = Callers::start(2, &upstream, &settings).await;
    let mut alice = callers.alice();
    alice.initialize("2025-11-25").await;
    let opened = || upstream.count(|asked| asked.rpc() == "initialize");
    assert_eq!(opened(), 1);
    let key = "limits.principal.sessions_max";
    callers.check(&callers.alice().posted(&initialize("2025-11-25")).await, key, &value!(0));
    callers.check(&read(callers.alice().sse().await).await, key, &Value::Null);
    assert_eq!(opened(), 1, "the server is not asked for nothing");
    callers.bob().initialize("2025-11-25").await;
    // Another node has places of its own.
    callers.client(1, &callers.alice).initialize("2025-11-25").await;
    let mut elsewhere = callers.client(1, &callers.alice);
    (elsewhere.session, elsewhere.version) = (alice.session.clone(), alice.version.clone());
    assert_eq!(elsewhere.delete().await.status, 204);
    let mut again = callers.alice();
    for _ in 0..500 {
        if again.try_initialize("2025-11-25").await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the node that opened it did not hear of its end");
}
