//! Everyday clients: they open a session, listen, call tools, lose a stream now and then and come back, and leave.
//! Their server is as slow as a test wants it to be. Nothing is checked here; other tests do that.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Response;
use serde_json::{Value, json as value};
use tokio::task::JoinSet;

use crate::harness::{
    Asked, Client, POST, Socket, Stream, Upstream, accepted, initialized, json, request, status,
};

const VERSION: &str = "2025-11-25";
const CALLS: u64 = 6;

/// A server that waits a while before its first word.
pub(super) struct Slow {
    pub url: String,
    wait_ms: Arc<AtomicU64>,
}

impl Slow {
    pub(super) async fn start() -> Self {
        let wait_ms = Arc::new(AtomicU64::new(20));
        let now = wait_ms.clone();
        let upstream = Upstream::bare(move |asked| answer(asked, now.load(Ordering::Relaxed))).await;
        Self { url: upstream.url, wait_ms }
    }

    pub(super) fn waits(&self, before: Duration) {
        self.wait_ms.store(u64::try_from(before.as_millis()).unwrap(), Ordering::Relaxed);
    }
}

fn answer(asked: &Asked, wait_ms: u64) -> Response<Body> {
    match (asked.method.as_str(), asked.rpc()) {
        ("GET", _) => status(405),
        ("DELETE", _) => status(204),
        (_, "initialize") => initialized(asked, &format!("up-{}", uuid::Uuid::new_v4())),
        (_, "server/discover") => status(400),
        (_, "tools/list") => json(asked, &value!({ "tools": [] })),
        _ if asked.body["id"].is_null() => accepted(),
        _ => counting(&asked.body, wait_ms),
    }
}

/// So many steps, each with so many bytes, and a result.
fn counting(call: &Value, wait_ms: u64) -> Response<Body> {
    let (id, params) = (call["id"].clone(), call["params"].clone());
    let steps = params["arguments"]["steps"].as_u64().unwrap_or_default();
    let pause_ms = params["arguments"]["pause_ms"].as_u64().unwrap_or_default();
    let padding = "x".repeat(params["arguments"]["padding"].as_u64().unwrap_or_default() as usize);
    let events = futures::stream::unfold(0, move |step| {
        let progress = value!({ "progressToken": params["_meta"]["progressToken"], "progress": step, "message": padding });
        let message = (step <= steps).then(|| match step {
            last if last == steps => value!({ "jsonrpc": "2.0", "id": id, "result": { "content": [] } }),
            _ => value!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": progress }),
        });
        let pause = Duration::from_millis(if step == 0 { wait_ms } else { pause_ms });
        async move {
            let message = message?;
            tokio::time::sleep(pause).await;
            Some((Ok::<_, Infallible>(Bytes::from(format!("data: {message}\n\n"))), step + 1))
        }
    });
    Response::builder().header("content-type", "text/event-stream").body(Body::from_stream(events)).unwrap()
}

fn call(id: u64, steps: u64, pause_ms: u64, padding: usize) -> Value {
    let arguments = value!({ "steps": steps, "pause_ms": pause_ms, "padding": padding });
    let params = value!({ "name": "count", "arguments": arguments, "_meta": { "progressToken": id } });
    request(id, "tools/call", &params)
}

/// Clients until they are dropped.
pub(super) struct Clients(#[expect(dead_code, reason = "dropping it ends them")] JoinSet<()>);

impl Clients {
    /// As many come, and go, and come again.
    pub(super) fn everyday(count: usize, base: &str) -> Self {
        Self::each(count, base, |base| async move {
            let mut client = Client::new(&base);
            if client.try_initialize(VERSION).await {
                live(&client).await;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        })
    }

    /// They open sessions and do nothing else, some 40 a second.
    pub(super) fn flood(base: &str) -> Self {
        Self::each(4, base, |base| async move {
            Client::new(&base).try_initialize(VERSION).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        })
    }

    /// They ask for much, straight at a node, and read nothing of it.
    pub(super) fn that_do_not_read(count: usize, node: &str) -> Self {
        Self::each(count, node, |node| async move {
            let mut client = Client::new(&node);
            if client.try_initialize(VERSION).await {
                let session = client.session.clone().unwrap();
                let own = [("mcp-session-id", &*session), ("mcp-protocol-version", VERSION)];
                let headers = [&POST[..], &own].concat();
                let asked = call(1, 200, 2, 50_000).to_string();
                let head: String =
                    headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
                let head = format!(
                    "POST /mcp HTTP/1.1\r\nHost: localhost\r\n{head}Content-Length: {}\r\n\r\n",
                    asked.len()
                );
                let _unread = Socket::narrow(&node, format!("{head}{asked}").as_bytes()).await;
                tokio::time::sleep(Duration::from_secs(10)).await;
            }
        })
    }

    fn each<F>(count: usize, base: &str, again: impl Fn(String) -> F + Clone + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut clients = JoinSet::new();
        for _ in 0..count {
            let (base, again) = (base.to_owned(), again.clone());
            clients.spawn(async move {
                loop {
                    again(base.clone()).await;
                }
            });
        }
        Self(clients)
    }
}

/// One session, as far as it gets.
async fn live(client: &Client) -> Option<()> {
    let _own = client.try_get(None).await.ok()?;
    client.try_post(&request(100, "tools/list", &value!({}))).await.ok()?;
    for id in 1..=CALLS {
        make(client, id).await?;
    }
    let session = client.session.as_deref()?;
    client.try_send("DELETE", "/mcp", &[("mcp-session-id", session)], "").await.ok().map(|_| ())
}

/// A call; of every third one the stream is dropped once, and resumed.
async fn make(client: &Client, id: u64) -> Option<()> {
    let mut response = client.try_post(&call(id, 4, 50, 0)).await.ok()?;
    let mut drop_at = id.is_multiple_of(3).then_some(2);
    loop {
        let kind = response.headers().get("content-type")?.to_str().ok()?.to_owned();
        if response.status() != 200 || kind != "text/event-stream" {
            return (response.status() == 200).then_some(());
        }
        let (mut stream, mut messages) = (Stream::new(response), 0);
        while drop_at.is_none_or(|at| messages < at) {
            let Some(event) = stream.any().await else { break };
            let Some(data) = event.data.filter(|data| !data.is_empty()) else { continue };
            let message: Value = serde_json::from_slice(&data).ok()?;
            if message["id"] == id {
                return Some(());
            }
            messages += 1;
        }
        drop_at = None;
        let position = stream.position.clone()?;
        drop(stream);
        response = client.try_get(Some(&position)).await.ok()?;
    }
}
