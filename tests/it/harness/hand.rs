//! An upstream whose streams the test writes, event by event.

use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::Response;
use serde_json::{Value, json as value};
use tokio::sync::mpsc::Sender;

use super::upstream::{Asked, Upstream, accepted, initialized, sse, status};
use super::wait_until;

/// Answers `initialize`, notifications and DELETE by itself; every other request, and GET, gets a
/// stream that stays open until the test takes it.
#[derive(Clone)]
pub(crate) struct Hand {
    pub upstream: Upstream,
    open: Arc<Mutex<Vec<Written>>>,
}

/// A stream of the upstream's. It ends when dropped.
pub(crate) struct Written {
    pub asked: Asked,
    send: Sender<String>,
}

impl Hand {
    pub(crate) async fn start() -> Self {
        Self::opening(|asked| initialized(asked, "up-1")).await
    }

    /// With an answer of one's own to `initialize`.
    pub(crate) async fn opening(
        initialize: impl Fn(&Asked) -> Response<Body> + Send + Sync + 'static,
    ) -> Self {
        let open: Arc<Mutex<Vec<Written>>> = Arc::default();
        let keep = open.clone();
        let upstream = Upstream::bare(move |asked| match (asked.method.as_str(), asked.rpc()) {
            ("DELETE", _) => status(204),
            (_, "initialize") => initialize(asked),
            (_, "server/discover") => status(400),
            ("POST", _) if asked.body["id"].is_null() || asked.body["method"].is_null() => accepted(),
            _ => {
                let (send, response) = sse();
                keep.lock().unwrap().push(Written { asked: asked.clone(), send });
                response
            }
        })
        .await;
        Self { upstream, open }
    }

    /// Waits for a request, or for `GET`, and takes its stream.
    pub(crate) async fn take(&self, method: &str) -> Written {
        let is = |written: &Written| match method {
            "GET" => written.asked.method == "GET",
            _ => written.asked.rpc() == method,
        };
        wait_until(method, || self.open.lock().unwrap().iter().any(is)).await;
        let mut open = self.open.lock().unwrap();
        let index = open.iter().position(is).unwrap();
        open.remove(index)
    }
}

impl Written {
    pub(crate) async fn raw(&self, text: &str) {
        self.send.send(text.to_owned()).await.expect("the stream is open");
    }

    pub(crate) async fn say(&self, message: &Value) {
        self.raw(&format!("data: {message}\n\n")).await;
    }

    /// With an event id of the upstream's.
    pub(crate) async fn say_as(&self, id: &str, message: &Value) {
        self.raw(&format!("id: {id}\ndata: {message}\n\n")).await;
    }

    /// The result of what was asked, and the end.
    pub(crate) async fn finish(self) {
        let result = value!({ "jsonrpc": "2.0", "id": self.asked.body["id"], "result": { "ok": true } });
        self.say(&result).await;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.send.is_closed()
    }
}

/// A notification with a number.
pub(crate) fn step(number: u64) -> Value {
    value!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": { "progressToken": 1, "progress": number } })
}

/// The numbers of such notifications, in the order they came.
pub(crate) fn steps(messages: &[Value]) -> Vec<u64> {
    messages.iter().filter_map(|message| message["params"]["progress"].as_u64()).collect()
}

/// A tool's call.
pub(crate) fn call(id: u64) -> Value {
    value!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": "x" } })
}
