//! An MCP server that answers as a closure says, and remembers what it was asked.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, Method, Response, Uri, Version};
use axum::serve::ListenerExt as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// One request that arrived.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub method: Method,
    pub path: String,
    pub version: Version,
    pub headers: HeaderMap,
    pub raw: Bytes,
    pub body: Value,
}

impl Asked {
    pub(crate) fn rpc(&self) -> &str {
        self.body["method"].as_str().unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

#[derive(Clone)]
pub(crate) struct Upstream {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Upstream {
    /// Answers `initialize`, notifications, GET (405) and DELETE by itself; the rest as `answer` says.
    pub(crate) async fn start(answer: impl Fn(&Asked) -> Response<Body> + Send + Sync + 'static) -> Self {
        Self::bare(move |asked| match (asked.method.as_str(), asked.rpc()) {
            ("GET", _) => status(405),
            ("DELETE", _) => status(204),
            (_, "initialize") => initialized(asked, "up-1"),
            (_, "server/discover") => status(400),
            _ if asked.body["id"].is_null() => accepted(),
            _ => answer(asked),
        })
        .await
    }

    /// Answers everything as `answer` says.
    pub(crate) async fn bare(answer: impl Fn(&Asked) -> Response<Body> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let listener = listener.tap_io(|socket| {
            let _ = socket.set_nodelay(true);
        });
        let (upstream, routes) = Self::answering(url, answer);
        #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
        tokio::spawn(async move { axum::serve(listener, routes).await });
        upstream
    }

    /// For whoever serves the routes.
    pub(super) fn answering(
        url: String,
        answer: impl Fn(&Asked) -> Response<Body> + Send + Sync + 'static,
    ) -> (Self, Router) {
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (record, answer) = (asked.clone(), Arc::new(answer));
        let handler = move |method: Method, uri: Uri, version: Version, headers: HeaderMap, raw: Bytes| {
            let body = serde_json::from_slice(&raw).unwrap_or(Value::Null);
            let path = uri.path().to_owned();
            let asked = Asked { method, path, version, headers, raw, body };
            record.lock().unwrap().push(asked.clone());
            let response = answer(&asked);
            async move { response }
        };
        (Self { url, asked }, Router::new().fallback(handler).layer(DefaultBodyLimit::disable()))
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, matching: impl Fn(&Asked) -> bool) -> usize {
        self.asked().iter().filter(|asked| matching(asked)).count()
    }
}

pub(crate) fn status(status: u16) -> Response<Body> {
    Response::builder().status(status).body(Body::empty()).unwrap()
}

pub(crate) fn accepted() -> Response<Body> {
    status(202)
}

/// A result in plain JSON.
pub(crate) fn json(asked: &Asked, result: &Value) -> Response<Body> {
    let body = json!({ "jsonrpc": "2.0", "id": asked.body["id"], "result": result }).to_string();
    Response::builder().header("content-type", "application/json").body(Body::from(body)).unwrap()
}

/// The answer to `initialize`, with the version that was asked for.
pub(crate) fn initialized(asked: &Asked, session: &str) -> Response<Body> {
    let result = json!({
        "protocolVersion": asked.body["params"]["protocolVersion"],
        "capabilities": { "tools": { "listChanged": true }, "logging": {}, "resources": { "subscribe": true } },
        "serverInfo": { "name": "scripted", "version": "1" },
    });
    let mut response = json(asked, &result);
    response.headers_mut().insert("mcp-session-id", session.parse().unwrap());
    response
}

/// A stream that says what is sent to it, and ends when the sender is dropped.
pub(crate) fn sse() -> (tokio::sync::mpsc::Sender<String>, Response<Body>) {
    let (send, mut receive) = tokio::sync::mpsc::channel::<String>(64);
    let frames = futures::stream::poll_fn(move |context| receive.poll_recv(context));
    let frames = futures::StreamExt::map(frames, Ok::<_, std::convert::Infallible>);
    let response = Response::builder()
        .header("content-type", "text/event-stream")
        .body(Body::from_stream(frames))
        .unwrap();
    (send, response)
}
