//! What is refused, and with which status (MCP-RULES: L, S, M and the table of statuses).

use crate::harness::{Client, Gateway, Upstream, json};
use serde_json::json as value;

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

async fn gateway() -> (Upstream, Gateway) {
    let upstream = Upstream::start(|asked| json(asked, &value!({}))).await;
    let gateway = Gateway::start(&upstream.url, &[]).await;
    (upstream, gateway)
}

const KIND: (&str, &str) = ("content-type", "application/json");
const ACCEPT: (&str, &str) = ("accept", "application/json, text/event-stream");

async fn check(
    client: &Client,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
    expected: (u16, i64),
) {
    let mut headers = headers.to_vec();
    let session = client.session.clone().unwrap_or_default();
    if !session.is_empty() {
        headers.push(("mcp-session-id", &session));
    }
    let reply = client.ask(method, path, &headers, body).await;
    let code = if expected.1 == 0 { 0 } else { reply.code() };
    assert_eq!((reply.status, code), expected, "{method} {path} {headers:?} {body:.80}: {}", reply.text);
}

#[tokio::test]
async fn a_malformed_post_is_told_what_is_wrong() {
    let (_upstream, gateway) = gateway().await;
    let mut client = gateway.client();
    client.initialize("2025-06-18").await;
    let bad = |headers: &'static [(&'static str, &'static str)], body: &'static str, expected| {
        let client = client.clone();
        async move { check(&client, "POST", "/mcp", headers, body, expected).await }
    };
    bad(&[ACCEPT], PING, (415, -32000)).await;
    bad(&[("content-type", "text/plain"), ACCEPT], PING, (415, -32000)).await;
    bad(&[KIND], PING, (406, -32000)).await;
    bad(&[KIND, ("accept", "application/json")], PING, (406, -32000)).await;
    bad(&[KIND, ("accept", "text/event-stream")], PING, (406, -32000)).await;
    bad(&[KIND, ("accept", "*/*")], PING, (200, 0)).await;
    bad(&[KIND, ACCEPT], "{", (400, -32700)).await;
    bad(&[KIND, ACCEPT], "", (400, -32700)).await;
    bad(&[KIND, ACCEPT], "[]", (400, -32600)).await;
    bad(&[KIND, ACCEPT], "{}", (400, -32600)).await;
    bad(&[KIND, ACCEPT], r#"{"jsonrpc":"1.0","id":1,"method":"x"}"#, (400, -32600)).await;
    bad(&[KIND, ACCEPT], r#"{"jsonrpc":"2.0","id":{},"method":"x"}"#, (400, -32600)).await;
    // L6, L7: batches are gone since 2025-06-18.
    bad(&[KIND, ACCEPT], r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, (400, -32600)).await;
    bad(&[KIND, ACCEPT], r#"[{"jsonrpc":"2.0","id":1,"method":"initialize"}]"#, (400, -32600)).await;
    // L27.
    bad(&[KIND, ACCEPT, ("mcp-protocol-version", "1999-01-01")], PING, (400, -32602)).await;
    let deep = "[".repeat(100_000);
    check(&client, "POST", "/mcp", &[KIND, ACCEPT], &deep, (400, -32700)).await;
    let large =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{{"x":"{}"}}}}"#, "x".repeat(5 << 20));
    check(&client, "POST", "/mcp", &[KIND, ACCEPT], &large, (413, -32000)).await;
}

#[tokio::test]
async fn l24_l25_sessions_are_named_or_not_found() {
    let (_upstream, gateway) = gateway().await;
    let mut client = gateway.client();
    check(&client, "POST", "/mcp", &[KIND, ACCEPT], PING, (400, -32000)).await;
    check(&client, "GET", "/mcp", &[("accept", "text/event-stream")], "", (400, -32000)).await;
    check(&client, "DELETE", "/mcp", &[], "", (400, -32000)).await;
    for unknown in ["unknown", "not.an.id", &"x".repeat(129)] {
        client.session = Some(unknown.to_owned());
        check(&client, "POST", "/mcp", &[KIND, ACCEPT], PING, (404, -32000)).await;
        check(&client, "GET", "/mcp", &[("accept", "text/event-stream")], "", (404, -32000)).await;
        check(&client, "DELETE", "/mcp", &[], "", (404, -32000)).await;
    }
    client.initialize("2025-11-25").await;
    check(&client, "GET", "/mcp", &[("accept", "application/json")], "", (406, -32000)).await;
    assert_eq!(client.delete().await.status, 204);
    check(&client, "POST", "/mcp", &[KIND, ACCEPT], PING, (404, -32000)).await;
}

#[tokio::test]
async fn s3_s4_http_sse_statuses() {
    let (_upstream, gateway) = gateway().await;
    let client = gateway.client();
    check(&client, "POST", "/sse", &[KIND, ACCEPT], PING, (405, -32000)).await;
    check(&client, "POST", "/message", &[KIND], PING, (400, -32000)).await;
    check(&client, "POST", "/message?sessionId=a.b", &[KIND], PING, (400, -32000)).await;
    check(&client, "POST", "/message?sessionId=unknown", &[KIND], PING, (404, -32000)).await;
    check(&client, "GET", "/servers/unknown/mcp", &[], "", (404, -32000)).await;
    check(&client, "GET", "/nowhere", &[], "", (404, -32000)).await;
    let reply = client.ask("PUT", "/mcp", &[], "").await;
    assert_eq!(reply.status, 405);
    assert!(reply.header("allow").contains("POST"), "{reply:?}");
}

#[tokio::test]
async fn m1_modern_headers_have_no_get_and_no_delete() {
    let (_upstream, gateway) = gateway().await;
    let client = gateway.client();
    let modern = ("mcp-protocol-version", "2026-07-28");
    check(&client, "GET", "/mcp", &[modern, ("accept", "text/event-stream")], "", (405, -32000)).await;
    check(&client, "DELETE", "/mcp", &[modern], "", (405, -32000)).await;
}

#[tokio::test]
async fn a_foreign_origin_or_host_is_refused_and_cors_serves_the_others() {
    let (_upstream, gateway) = gateway().await;
    let client = gateway.client();
    let evil = [KIND, ACCEPT, ("origin", "http://evil.example.com")];
    check(&client, "POST", "/mcp", &evil, PING, (403, -32000)).await;
    check(&client, "POST", "/mcp", &[KIND, ACCEPT, ("host", "evil.example.com")], PING, (403, -32000)).await;
    let page = ("origin", "http://localhost:3000");
    let asks = ("access-control-request-method", "POST");
    let wants = ("access-control-request-headers", "mcp-session-id,mcp-param-region");
    let preflight = client.ask("OPTIONS", "/mcp", &[page, asks, wants], "").await;
    assert_eq!(preflight.header("access-control-allow-origin"), "http://localhost:3000");
    assert!(preflight.header("access-control-allow-headers").contains("mcp-param-region"), "{preflight:?}");
    let reply = client.ask("POST", "/mcp", &[KIND, ACCEPT, page], PING).await;
    assert!(reply.header("access-control-expose-headers").contains("mcp-session-id"), "{reply:?}");
}

#[tokio::test]
async fn a_path_prefix_and_a_slash_at_the_end_change_nothing() {
    let upstream = Upstream::start(|asked| json(asked, &value!({}))).await;
    let gateway = Gateway::start(&upstream.url, &[("public_url", "https://mcp.example.com/tools")]).await;
    let client = gateway.client();
    for path in
        ["/mcp", "/mcp/", "/tools/mcp", "/tools/mcp/", "/servers/default/mcp", "/tools/servers/default/mcp/"]
    {
        check(&client, "POST", path, &[KIND, ACCEPT], PING, (400, -32000)).await;
    }
    let mut stream = crate::harness::Stream::new(client.send("GET", "/tools/sse", &[], "").await);
    let event = stream.event().await.unwrap();
    assert_eq!(event.event.as_deref(), Some("endpoint"));
    let endpoint = String::from_utf8(event.data.unwrap().to_vec()).unwrap();
    assert!(endpoint.starts_with("/tools/message?sessionId="), "{endpoint}");
}

#[tokio::test]
async fn m13_a_header_that_comes_twice_is_refused() {
    let (upstream, gateway) = gateway().await;
    let client = gateway.client();
    let meta = value!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let body = value!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": { "_meta": meta } })
        .to_string();
    let twice = [
        KIND,
        ACCEPT,
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/list"),
        ("mcp-method", "tools/call"),
    ];
    check(&client, "POST", "/mcp", &twice, &body, (400, -32020)).await;
    assert!(upstream.asked().is_empty());
}
