//! Upstreams that forget, fail, refuse or speak another era.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use axum::http::Response;
use serde_json::{Value, json as value};

use crate::harness::{Gateway, Upstream, accepted, initialized, json, status, wait_until};

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
