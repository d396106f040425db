//! Upstreams that forget, fail, refuse or speak another era.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use holdfast::app::Shared;
use serde_json::{Value, json as value};
use tokio::time::{Instant, sleep};

use crate::harness::{
    Gateway, POST, Socket, Upstream, accepted, configured, faulty, initialized, json, sse, status, wait_until,
};

fn call(id: u64, method: &str, params: &Value) -> Value {
    value!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

fn with_body(code: u16, kind: &str, body: &'static str) -> Response<Body> {
    Response::builder().status(code).header("content-type", kind).body(Body::from(body)).unwrap()
}

#[tokio::test]
async fn a_forgotten_session_is_opened_again_with_all_it_knew() {
    let opened = AtomicUsize::new(0);
    let upstream = Upstream::bare(move |asked| match (asked.method.as_str(), asked.rpc()) {
        ("GET", _) => status(405),
        (_, "initialize") => {
            initialized(asked, &format!("up-{}", opened.fetch_add(1, Ordering::Relaxed) + 1))
        }
        // The first session is forgotten as soon as a tool is called.
        (_, "tools/call") if asked.header("mcp-session-id") == "up-1" => status(404),
        _ if asked.body["id"].is_null() => accepted(),
        _ => json(asked, &value!({ "session": asked.header("mcp-session-id") })),
    })
    .await;
    let gateway = Gateway::start(&upstream.url, &[]).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    client.posted(&call(1, "logging/setLevel", &value!({ "level": "error" }))).await;
    client.posted(&call(2, "resources/subscribe", &value!({ "uri": "test://a" }))).await;
    client.posted(&call(3, "resources/subscribe", &value!({ "uri": "test://b" }))).await;
    client.posted(&call(4, "resources/unsubscribe", &value!({ "uri": "test://a" }))).await;
    let reply = client.posted(&call(5, "tools/call", &value!({ "name": "x" }))).await;
    assert_eq!(reply.json()["result"]["session"], "up-2", "{}", reply.text);
    let asked = upstream.asked();
    let initializes: Vec<_> = asked.iter().filter(|asked| asked.rpc() == "initialize").collect();
    assert_eq!(initializes.len(), 2);
    assert_eq!(initializes[0].raw, initializes[1].raw, "the client's own");
    let anew: Vec<_> = asked.iter().filter(|asked| asked.header("mcp-session-id") == "up-2").collect();
    let methods: Vec<_> = anew.iter().map(|asked| asked.rpc()).collect();
    assert_eq!(
        methods,
        ["notifications/initialized", "logging/setLevel", "resources/subscribe", "tools/call"]
    );
    assert_eq!(anew[2].body["params"]["uri"], "test://b");
    assert_eq!(gateway.metric("holdfast_upstream_sessions_lost_total"), Some(1.0));
    client.delete().await;
    wait_until("the upstream's session is ended", || {
        upstream.count(|asked| asked.method == "DELETE" && asked.header("mcp-session-id") == "up-2") == 1
    })
    .await;
}

#[tokio::test]
async fn what_an_upstream_does_wrong_is_a_502_that_names_it() {
    let upstream = Upstream::start(|asked| match asked.rpc() {
        "html" => with_body(200, "text/html", "<html>"),
        "broken" => with_body(200, "application/json", "{\"jsonrpc\""),
        "other" => with_body(200, "application/json", r#"{"jsonrpc":"2.0","id":99,"result":{}}"#),
        "login" => {
            with_body(401, "application/json", r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}"#)
        }
        "moved" => Response::builder()
            .status(307)
            .header("location", "http://127.0.0.1:9/")
            .body(Body::empty())
            .unwrap(),
        "cut" => with_body(200, "text/event-stream", "data: \n\n"),
        "busy" => with_body(500, "text/plain", "oops"),
        _ => with_body(
            422,
            "application/json",
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no"}}"#,
        ),
    })
    .await;
    let gateway = Gateway::start(&upstream.url, &[]).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    for method in ["html", "broken", "other", "login", "moved", "cut", "busy"] {
        let reply = client.posted(&call(1, method, &value!({}))).await;
        assert_eq!((reply.status, reply.code()), (502, -32000), "{method}: {}", reply.text);
        assert_eq!(reply.json()["id"], 1, "{method}");
        assert!(reply.text.contains("default at http://127.0.0.1"), "{method}: {}", reply.text);
    }
    let own = client.posted(&call(1, "refused", &value!({}))).await;
    assert_eq!((own.status, own.code()), (422, -32602), "its own refusal passes: {}", own.text);
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_a_502() {
    let gateway = Gateway::start("http://127.0.0.1:9/mcp", &[]).await;
    let params = value!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {} });
    let reply = gateway.client().posted(&call(1, "initialize", &params)).await;
    assert_eq!((reply.status, reply.code()), (502, -32000), "{}", reply.text);
}

#[tokio::test]
async fn the_upstreams_status_for_a_notification_is_passed_on() {
    let upstream = Upstream::bare(|asked| match asked.rpc() {
        "initialize" => initialized(asked, "up-1"),
        "notifications/initialized" => accepted(),
        _ => with_body(418, "text/plain", "teapot"),
    })
    .await;
    let gateway = Gateway::start(&upstream.url, &[]).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let reply = client.posted(&value!({ "jsonrpc": "2.0", "method": "notifications/x" })).await;
    assert_eq!((reply.status, &*reply.text), (418, "teapot"));
}

#[tokio::test]
async fn clients_of_the_other_era_are_told_the_versions() {
    let legacy = Upstream::start(|asked| json(asked, &value!({}))).await;
    let gateway = Gateway::start(&legacy.url, &[]).await;
    let meta = value!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let body = call(1, "tools/list", &value!({ "_meta": meta })).to_string();
    let headers = [("mcp-method", "tools/list"), ("mcp-protocol-version", "2026-07-28")];
    let headers: Vec<_> = crate::harness::POST.into_iter().chain(headers).collect();
    let reply = gateway.client().ask("POST", "/mcp", &headers, &body).await;
    assert_eq!((reply.status, reply.code()), (400, -32022), "{}", reply.text);
    assert!(reply.json()["error"]["data"]["supported"].as_array().unwrap().contains(&value!("2025-11-25")));

    let modern = Upstream::bare(|asked| match asked.rpc() {
        "server/discover" => {
            json(asked, &value!({ "resultType": "complete", "supportedVersions": ["2026-07-28"] }))
        }
        _ => with_body(
            404,
            "application/json",
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}"#,
        ),
    })
    .await;
    let gateway = Gateway::start(&modern.url, &[]).await;
    let params = value!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {} });
    let reply = gateway.client().posted(&call(1, "initialize", &params)).await;
    assert_eq!((reply.status, reply.code()), (400, -32022), "{}", reply.text);
    assert_eq!(reply.json()["error"]["data"]["supported"], value!(["2026-07-28"]));
}

#[tokio::test]
async fn without_sessions_each_request_stands_alone() {
    for settings in [[("state", "none")], [("servers.default.sessions", "stateless")]] {
        let upstream = Upstream::start(|asked| match asked.header("mcp-session-id") {
            "" => status(400),
            _ => json(asked, &value!({ "ok": true })),
        })
        .await;
        let gateway = Gateway::start(&upstream.url, &settings).await;
        let mut client = gateway.client();
        client.initialize("2025-11-25").await;
        assert_eq!(client.session, None, "none is minted");
        let reply = client.posted(&call(1, "tools/list", &value!({}))).await;
        assert_eq!(reply.json()["result"]["ok"], true, "{}", reply.text);
        let headers = [("accept", "text/event-stream")];
        assert_eq!(client.ask("GET", "/mcp", &headers, "").await.status, 405);
        assert_eq!(client.ask("GET", "/sse", &headers, "").await.status, 405);
        wait_until("each upstream session ended", || {
            upstream.count(|asked| asked.method == "DELETE")
                == upstream.count(|asked| asked.rpc() == "initialize")
        })
        .await;
    }
}

#[tokio::test]
async fn an_upstreams_refusal_of_initialize_passes_with_its_status() {
    let upstream = Upstream::bare(|_| {
        with_body(
            400,
            "application/json",
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"too old"}}"#,
        )
    })
    .await;
    let gateway = Gateway::start(&upstream.url, &[("servers.default.era", "legacy")]).await;
    let params = value!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {} });
    let reply = gateway.client().posted(&call(1, "initialize", &params)).await;
    assert_eq!((reply.status, reply.code()), (400, -32602), "{}", reply.text);
    assert_eq!(reply.header("mcp-session-id"), "");
}

#[tokio::test]
async fn what_a_client_opened_is_ended_if_it_goes_before_it_is_told() {
    let upstream = Upstream::start(|asked| json(asked, &value!({}))).await;
    let config = configured(&upstream.url, &[]);
    let shared = Shared::memory(&config);
    let (behind_faults, faults) = faulty(shared.clone());
    let gateway = Gateway::start_on(&config, behind_faults).await;
    faults.delay("open", Duration::from_millis(500), 1);
    let params = value!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {} });
    let body = call(1, "initialize", &params).to_string();
    let socket = Socket::request(&gateway.url, "POST", "/mcp", &POST, &body).await;
    wait_until("it is being opened", || faults.taken.lock().unwrap().contains_key("open")).await;
    drop(socket);
    wait_until("the upstream is told", || upstream.count(|asked| asked.method == "DELETE") == 1).await;
    let all = holdfast::ports::Query { limit: 10, ..Default::default() };
    assert!(shared.store.find(&all).await.unwrap().sessions.is_empty());
}

/// Answers as it should, but never a request that `hangs` says.
async fn hanging(hangs: fn(&str, &str) -> bool) -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let deleted: Arc<AtomicUsize> = Arc::default();
    let count = deleted.clone();
    let handler = move |method: axum::http::Method, raw: axum::body::Bytes| {
        let body: Value = serde_json::from_slice(&raw).unwrap_or_default();
        let count = count.clone();
        async move {
            let rpc = body["method"].as_str().unwrap_or_default();
            if hangs(method.as_str(), rpc) {
                std::future::pending::<()>().await;
            }
            count.fetch_add(usize::from(method == "DELETE"), Ordering::SeqCst);
            let result = value!({ "protocolVersion": "2025-11-25", "capabilities": {} });
            let answer = value!({ "jsonrpc": "2.0", "id": body["id"], "result": result }).to_string();
            let response = Response::builder().header("content-type", "application/json");
            match rpc {
                "initialize" => response.header("mcp-session-id", "up").body(Body::from(answer)),
                "tools/call" => response.body(Body::from(answer)),
                "" => response.status(405).body(Body::empty()),
                "server/discover" => response.status(400).body(Body::empty()),
                _ => response.status(202).body(Body::empty()),
            }
            .unwrap()
        }
    };
    #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(handler)).await });
    (url, deleted)
}

#[tokio::test]
async fn what_a_request_that_stands_alone_opened_is_ended_if_its_client_goes() {
    let (url, deleted) = hanging(|_, rpc| rpc == "tools/call").await;
    let gateway = Gateway::start(&url, &[("state", "none")]).await;
    gateway.client().initialize("2025-11-25").await;
    wait_until("that one is ended", || deleted.load(Ordering::SeqCst) == 1).await;
    let body = call(1, "tools/call", &value!({})).to_string();
    let socket = Socket::request(&gateway.url, "POST", "/mcp", &POST, &body).await;
    sleep(Duration::from_millis(300)).await;
    drop(socket);
    wait_until("its session is ended", || deleted.load(Ordering::SeqCst) == 2).await;
}

#[tokio::test]
async fn p6_an_upstream_that_hangs_on_delete_holds_up_neither_the_end_nor_the_other_upstreams() {
    let (stuck, _) = hanging(|method, _| method == "DELETE").await;
    let (well, deleted) = hanging(|_, _| false).await;
    let config = configured(&stuck, &[("servers.well.upstream", &well), ("upstream.close_timeout", "1s")]);
    let gateway = Gateway::start_on(&config, Shared::memory(&config)).await;
    let params = value!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {} });
    let initialize = call(1, "initialize", &params).to_string();
    let client = gateway.client();
    for number in 0..220 {
        let server = if number % 11 == 0 { "well" } else { "default" };
        let path = format!("/servers/{server}/mcp");
        assert_eq!(client.ask("POST", &path, &POST, &initialize).await.status, 200);
    }
    let began = Instant::now();
    assert_eq!(gateway.stop().await, holdfast::lifecycle::Ending::Clean);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(deleted.load(Ordering::SeqCst), 20);
}

#[tokio::test]
async fn p6_an_upstream_that_hangs_when_it_is_told_to_stop_is_not_waited_for() {
    let (stuck, _) = hanging(|_, rpc| matches!(rpc, "tools/call" | "notifications/cancelled")).await;
    let gateway = Gateway::start(&stuck, &[("drain.timeout", "1s"), ("requests.timeout", "30s")]).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let body = call(1, "tools/call", &value!({}));
    let (answer, ending) = futures::join!(client.streamed(&body), async {
        wait_until("it runs", || gateway.metric("holdfast_exchanges") == Some(1.0)).await;
        gateway.stop().await
    });
    drop(answer);
    assert_eq!(ending, holdfast::lifecycle::Ending::Forced { left: 0 }, "no task is left");
}

#[tokio::test]
async fn p8_messages_that_wait_for_a_lost_session_all_wait_no_longer_than_one() {
    static LOST: AtomicUsize = AtomicUsize::new(0);
    let upstream = Upstream::bare(|asked| match asked.rpc() {
        "initialize" if LOST.load(Ordering::SeqCst) == 0 => initialized(asked, "up-1"),
        // What opens another is never answered.
        "initialize" => {
            let (send, response) = sse();
            std::mem::forget(send);
            response
        }
        "notifications/initialized" => accepted(),
        _ => status(404),
    })
    .await;
    let gateway = Gateway::start(&upstream.url, &[("requests.timeout", "700ms")]).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    LOST.store(1, Ordering::SeqCst);
    let note = value!({ "jsonrpc": "2.0", "method": "notifications/x" });
    let began = Instant::now();
    let replies = futures::future::join_all((0..5).map(|_| client.posted(&note))).await;
    assert!(replies.iter().all(|reply| reply.status == 504), "{replies:?}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}
