//! The rest of the table of statuses: batches by version, sessions on the wrong transport, `Allow`,
//! CORS, and what a modern request has to say.

use serde_json::{Value, json as value};

use crate::harness::{Client, Gateway, POST, Stream, Upstream, call, json};

async fn gateway(settings: &[(&'static str, &str)]) -> (Upstream, Gateway) {
    let upstream = Upstream::start(|asked| json(asked, &value!({}))).await;
    let gateway = Gateway::start(&upstream.url, settings).await;
    (upstream, gateway)
}

fn batch(count: u64) -> Value {
    Value::Array((0..count).map(call).collect())
}

#[tokio::test]
async fn l6_l7_batches_depend_on_the_version() {
    let (_upstream, gateway) =
        gateway(&[("limits.requests_per_session_max", "200"), ("requests.json_wait", "30s")]).await;
    for (version, expected) in
        [("2025-03-26", (200, 0)), ("2025-06-18", (400, -32600)), ("2025-11-25", (400, -32600))]
    {
        let mut client = gateway.client();
        client.initialize(version).await;
        let check = |body: Value, expected: (u16, i64)| {
            let client = client.clone();
            async move {
                let reply = client.posted(&body).await;
                let code = if expected.1 == 0 { 0 } else { reply.code() };
                assert_eq!((reply.status, code), expected, "{version}: {}", reply.text);
            }
        };
        check(batch(2), expected).await;
        // Never in a batch, and never more than 128 at once.
        let params = value!({ "protocolVersion": version, "capabilities": {}, "clientInfo": {} });
        let initialize = value!({ "jsonrpc": "2.0", "id": 9, "method": "initialize", "params": params });
        check(value!([initialize]), (400, -32600)).await;
        check(value!([call(1), initialize]), (400, -32600)).await;
        check(batch(129), (400, -32600)).await;
        check(value!([]), (400, -32600)).await;
        check(value!([1, "x"]), (400, -32600)).await;
    }
    // The session's version counts where the header is absent (L27), and the same id twice is one too many.
    let mut client = gateway.client();
    client.initialize("2025-03-26").await;
    client.version = None;
    assert_eq!(client.posted(&batch(128)).await.json().as_array().unwrap().len(), 128);
    let twice = client.posted(&value!([call(1), call(1)])).await;
    assert_eq!((twice.status, twice.code()), (400, -32600), "{}", twice.text);
}

#[tokio::test]
async fn p2_a_session_is_known_on_its_own_transport_and_server_only() {
    let upstream = Upstream::start(|asked| json(asked, &value!({}))).await;
    let other = Upstream::start(|asked| json(asked, &value!({}))).await;
    // The name of a second server comes from the environment: overrides know one only.
    let variables = [
        ("HOLDFAST_SERVERS_OTHER_UPSTREAM", &*other.url),
        ("HOLDFAST_SERVERS_DEFAULT_UPSTREAM", &*upstream.url),
    ];
    let variables = variables.map(|(name, value)| (name.into(), value.into()));
    let config = holdfast::config::load(None, variables.into_iter(), holdfast::config::Overrides::default());
    let config = config.unwrap_or_else(|faults| panic!("{faults}"));
    let gateway = Gateway::start_on(&config, holdfast::app::Shared::memory(&config)).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let session = client.session.clone().unwrap();
    let body = call(1).to_string();
    let mut headers = POST.to_vec();
    headers.push(("mcp-session-id", &session));
    for (path, expected) in [
        ("/mcp".to_owned(), 200),
        ("/servers/default/mcp".to_owned(), 200),
        ("/servers/other/mcp".to_owned(), 404),
        (format!("/message?sessionId={session}"), 404),
    ] {
        assert_eq!(client.ask("POST", &path, &headers, &body).await.status, expected, "{path}");
    }
    let mut stream = Stream::new(client.send("GET", "/sse", &[], "").await);
    let endpoint = String::from_utf8(stream.event().await.unwrap().data.unwrap().to_vec()).unwrap();
    let id = endpoint.split_once('=').unwrap().1.to_owned();
    for method in ["POST", "GET", "DELETE"] {
        let headers = [POST[0], ("accept", "application/json, text/event-stream"), ("mcp-session-id", &*id)];
        let body = if method == "POST" { &*body } else { "" };
        assert_eq!(client.ask(method, "/mcp", &headers, body).await.status, 404, "{method}");
    }
    let foreign = endpoint.replace("/message", "/servers/other/message");
    assert_eq!(client.ask("POST", &foreign, &POST, &body).await.status, 404);
    assert_eq!(other.asked().len(), 0, "the other server never hears of it");
}

#[tokio::test]
async fn other_methods_are_405_and_name_those_that_work() {
    let (_upstream, gateway) = gateway(&[]).await;
    let client = gateway.client();
    for (method, path, allowed) in [
        ("PUT", "/mcp", ["GET", "POST", "DELETE"].as_slice()),
        ("PATCH", "/mcp/", &["GET", "POST", "DELETE"]),
        ("POST", "/sse", &["GET"]),
        ("DELETE", "/sse/", &["GET"]),
        ("GET", "/message", &["POST"]),
        ("PUT", "/servers/default/message", &["POST"]),
    ] {
        let reply = client.ask(method, path, &[], "").await;
        assert_eq!((reply.status, reply.code()), (405, -32000), "{method} {path}");
        let allow = reply.header("allow");
        assert!(allowed.iter().all(|method| allow.contains(method)), "{method} {path}: {allow:?}");
    }
}

#[tokio::test]
async fn l2_only_pages_that_are_allowed_get_cors_headers() {
    let settings =
        [("http.allowed_origins", "https://app.example.com"), ("public_url", "https://mcp.example.com")];
    let (_upstream, gateway) = gateway(&settings).await;
    let client = gateway.client();
    for (origin, allowed) in [
        ("https://app.example.com", true),
        ("https://mcp.example.com", true),
        ("http://app.example.com", false),
        ("https://app.example.com.evil.example", false),
        ("http://localhost:3000", false),
        ("null", false),
        ("", false),
    ] {
        let asks = [("origin", origin), ("access-control-request-method", "DELETE")];
        let preflight = client.ask("OPTIONS", "/mcp", &asks, "").await;
        assert_eq!(
            preflight.header("access-control-allow-origin") == origin && !origin.is_empty(),
            allowed,
            "{origin}"
        );
        let headers: Vec<_> = POST.into_iter().chain([("origin", origin)]).collect();
        let reply = client.ask("POST", "/mcp", &headers, &call(1).to_string()).await;
        assert_eq!(reply.status, if allowed { 400 } else { 403 }, "{origin}: {}", reply.text);
        let exposed = reply.header("access-control-expose-headers").to_ascii_lowercase();
        let wanted = ["mcp-session-id", "www-authenticate", "retry-after"];
        assert!(!allowed || wanted.iter().all(|name| exposed.contains(name)), "{exposed:?}");
    }
    for (host, expected) in
        [("mcp.example.com", 400), ("MCP.example.com:443", 400), ("evil.example.com", 403)]
    {
        let headers: Vec<_> = POST.into_iter().chain([("host", host)]).collect();
        assert_eq!(
            client.ask("POST", "/mcp", &headers, &call(1).to_string()).await.status,
            expected,
            "{host}"
        );
    }
}

/// A request as the modern era wants it, but for what `change` does to it.
async fn modern(
    client: &Client,
    change: impl Fn(&mut Value, &mut Vec<(&'static str, &'static str)>),
) -> (u16, i64) {
    let meta = value!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let params = value!({ "name": "x", "_meta": meta });
    let mut body = value!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
    let mut headers = POST.to_vec();
    headers.extend([("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "x")]);
    change(&mut body, &mut headers);
    let reply = client.ask("POST", "/mcp", &headers, &body.to_string()).await;
    let code = if reply.status == 200 { 0 } else { reply.code() };
    if reply.status != 200 {
        assert_eq!(reply.json()["id"], 1, "{}", reply.text);
    }
    (reply.status, code)
}

fn without(headers: &mut Vec<(&'static str, &'static str)>, name: &str) {
    headers.retain(|(known, _)| *known != name);
}

#[tokio::test]
async fn m9_to_m16_the_modern_ladder() {
    let (_upstream, gateway) = gateway(&[("servers.default.era", "both")]).await;
    let client = gateway.client();
    const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
    assert_eq!(modern(&client, |_, _| {}).await, (200, 0));
    let incomplete = modern(&client, |body, _| {
        body["params"]["_meta"].as_object_mut().unwrap().remove("io.modelcontextprotocol/clientCapabilities");
    });
    assert_eq!(incomplete.await, (400, -32602));
    let bare = modern(&client, |body, _| {
        body["params"].as_object_mut().unwrap().remove("_meta");
    });
    assert_eq!(bare.await, (400, -32602));
    assert_eq!(modern(&client, |_, headers| without(headers, "mcp-protocol-version")).await, (400, -32020));
    assert_eq!(modern(&client, |_, headers| without(headers, "mcp-method")).await, (400, -32020));
    assert_eq!(modern(&client, |_, headers| without(headers, "mcp-name")).await, (400, -32020));
    assert_eq!(modern(&client, |body, _| body["params"]["name"] = value!("y")).await, (400, -32020));
    assert_eq!(
        modern(&client, |body, _| body["params"]["_meta"][VERSION] = value!("2031-01-01")).await,
        (400, -32020)
    );
    let future = modern(&client, |body, headers| {
        body["params"]["_meta"][VERSION] = value!("2031-01-01");
        without(headers, "mcp-protocol-version");
        headers.push(("mcp-protocol-version", "2031-01-01"));
    });
    assert_eq!(future.await, (400, -32022));
    let removed = modern(&client, |body, headers| {
        body["method"] = value!("initialize");
        without(headers, "mcp-method");
        headers.push(("mcp-method", "initialize"));
    });
    assert_eq!(removed.await, (404, -32601));
    // The order: what is incomplete is told before what differs.
    let both = modern(&client, |body, headers| {
        body["params"]["_meta"].as_object_mut().unwrap().remove("io.modelcontextprotocol/clientCapabilities");
        without(headers, "mcp-protocol-version");
    });
    assert_eq!(both.await, (400, -32602));
    let encoded = modern(&client, |_, headers| {
        without(headers, "mcp-name");
        headers.push(("mcp-name", "=?base64?eA==?="));
    });
    assert_eq!(encoded.await, (200, 0));
}
