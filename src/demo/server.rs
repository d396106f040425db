//! The demo's MCP server, of both eras at one address. It is small, but real: any client can use it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use futures::StreamExt as _;
use futures::stream::unfold;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::tools::{self, Tool};
use crate::lifecycle::Tasks;
use crate::protocol::jsonrpc::{self, Id, Kind, Message, codes};
use crate::protocol::sse::Frame;
use crate::protocol::version::{LegacyVersion, MODERN};

const SESSION: &str = "mcp-session-id";

/// How long it waits for a person.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
struct Server {
    tasks: Tasks,
    sessions: Arc<Mutex<HashMap<String, Questions>>>,
    cancelled: Arc<AtomicU64>,
}

/// Questions that wait for the client's answer, by their id.
type Questions = HashMap<String, oneshot::Sender<Value>>;

/// Serves until it is dropped.
pub async fn serve_upstream(listener: TcpListener, tasks: Tasks) {
    let server = Server { tasks, sessions: Arc::default(), cancelled: Arc::default() };
    let mcp = post(handle_post).get(handle_get).delete(handle_delete);
    let routes = axum::Router::new().route("/mcp", mcp).with_state(server);
    if let Err(error) = axum::serve(listener, routes).await {
        tracing::warn!(%error, "the demo's server ended");
    }
}

async fn handle_post(State(server): State<Server>, headers: HeaderMap, body: Bytes) -> Response {
    let Ok(message) = Message::parse(body) else { return StatusCode::BAD_REQUEST.into_response() };
    let params = message.params().and_then(|params| serde_json::from_str(params).ok()).unwrap_or(Value::Null);
    if headers.get("mcp-protocol-version").is_some_and(|version| version == MODERN) {
        return server.modern(&message, &params);
    }
    if message.method() == Some("initialize") {
        return server.initialize(&message, &params);
    }
    let session = headers.get(SESSION).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    if !server.sessions().contains_key(&session) {
        return StatusCode::NOT_FOUND.into_response();
    }
    match message.kind() {
        Kind::Request { id, method } => server.legacy(session, id.clone(), method, &params),
        Kind::Notification { .. } => StatusCode::ACCEPTED.into_response(),
        Kind::Response { id, .. } => {
            let waiting =
                id.as_ref().and_then(|id| server.sessions().get_mut(&session)?.remove(id.as_json()));
            let answer = message.result().and_then(|result| serde_json::from_str(result).ok());
            if let (Some(waiting), Some(answer)) = (waiting, answer) {
                let _ = waiting.send(answer);
            }
            StatusCode::ACCEPTED.into_response()
        }
    }
}

async fn handle_get(State(server): State<Server>, headers: HeaderMap) -> Response {
    let known = headers.get(SESSION).and_then(|value| value.to_str().ok());
    if known.is_some_and(|session| server.sessions().contains_key(session)) {
        // It has nothing to say unasked, but keeps the stream open as servers do.
        let stopped = server.tasks.stopped();
        let silence = futures::stream::once(async move { stopped.cancelled().await })
            .map(|()| Ok::<_, std::convert::Infallible>(Bytes::new()));
        return events(Body::from_stream(silence));
    }
    StatusCode::NOT_FOUND.into_response()
}

async fn handle_delete(State(server): State<Server>, headers: HeaderMap) -> StatusCode {
    let named = headers.get(SESSION).and_then(|value| value.to_str().ok());
    match named.and_then(|session| server.sessions().remove(session)) {
        Some(_) => StatusCode::NO_CONTENT,
        None => StatusCode::NOT_FOUND,
    }
}

impl Server {
    fn sessions(&self) -> std::sync::MutexGuard<'_, HashMap<String, Questions>> {
        self.sessions.lock().expect("no panic while holding it")
    }

    fn initialize(&self, message: &Message, params: &Value) -> Response {
        let session = uuid::Uuid::new_v4().simple().to_string();
        self.sessions().insert(session.clone(), Questions::new());
        let asked = params["protocolVersion"].as_str().and_then(LegacyVersion::parse);
        let result = json!({
            "protocolVersion": asked.unwrap_or(LegacyVersion::LATEST).as_str(),
            "capabilities": { "tools": {} },
            "serverInfo": { "name": "holdfast-demo", "version": env!("CARGO_PKG_VERSION") },
        });
        let mut response = answer(message, &result);
        if let Ok(value) = session.parse() {
            response.headers_mut().insert(SESSION, value);
        }
        response
    }

    fn legacy(&self, session: String, id: Id, method: &str, params: &Value) -> Response {
        let result = match method {
            "ping" => json!({}),
            "tools/list" => json!({ "tools": tools::list() }),
            "tools/call" => match Tool::parse(params) {
                Some(Tool::Echo { text }) => tools::text(&text),
                Some(Tool::Cancelled) => self.count(),
                Some(Tool::Slow { steps, interval }) => {
                    return self.slow(id, params, steps, interval, false);
                }
                Some(Tool::Elicit) => return self.elicit(session, id),
                None => return refuse(&id, codes::INVALID_PARAMS, "no such tool", StatusCode::OK),
            },
            _ => return refuse(&id, codes::METHOD_NOT_FOUND, "no such method", StatusCode::OK),
        };
        json_body(StatusCode::OK, jsonrpc::result(&id, &result.to_string()))
    }

    fn modern(&self, message: &Message, params: &Value) -> Response {
        let Kind::Request { id, method } = message.kind() else {
            return StatusCode::ACCEPTED.into_response();
        };
        let mut result = match &**method {
            "server/discover" => json!({
                "supportedVersions": [MODERN],
                "capabilities": { "tools": {} },
                "ttlMs": 60_000,
                "cacheScope": "public",
            }),
            "tools/list" => json!({ "tools": tools::list(), "ttlMs": 60_000, "cacheScope": "public" }),
            "tools/call" => match Tool::parse(params) {
                Some(Tool::Echo { text }) => tools::text(&text),
                Some(Tool::Cancelled) => self.count(),
                Some(Tool::Slow { steps, interval }) => {
                    return self.slow(id.clone(), params, steps, interval, true);
                }
                Some(Tool::Elicit) => match &params["inputResponses"]["name"] {
                    Value::Null => json!({
                        "resultType": "input_required",
                        "inputRequests": { "name": { "method": "elicitation/create", "params": tools::question() } },
                    }),
                    given => tools::greeting(given),
                },
                None => return refuse(id, codes::INVALID_PARAMS, "no such tool", StatusCode::BAD_REQUEST),
            },
            _ => return refuse(id, codes::METHOD_NOT_FOUND, "no such method", StatusCode::NOT_FOUND),
        };
        if result["resultType"].is_null() {
            result["resultType"] = json!("complete");
        }
        json_body(StatusCode::OK, jsonrpc::result(id, &result.to_string()))
    }

    fn count(&self) -> Value {
        tools::text(&self.cancelled.load(Ordering::Relaxed).to_string())
    }

    /// Progress on the answer's stream, then the result. A stream that is closed before is a cancel,
    /// and counted.
    fn slow(&self, id: Id, params: &Value, steps: u64, interval: Duration, modern: bool) -> Response {
        let token = params["_meta"]["progressToken"].clone();
        let unfinished = Unfinished { count: self.cancelled.clone(), finished: false };
        let frames = unfold((0, unfinished), move |(step, mut unfinished)| {
            let (id, token) = (id.clone(), token.clone());
            async move {
                if step > steps {
                    return None;
                }
                tokio::time::sleep(interval).await;
                let payload = if step < steps {
                    let progress = json!({ "progressToken": token, "progress": step + 1, "total": steps });
                    jsonrpc::notification("notifications/progress", Some(&progress.to_string()))
                } else {
                    unfinished.finished = true;
                    let mut result = tools::text(&format!("done in {steps} steps"));
                    if modern {
                        result["resultType"] = json!("complete");
                    }
                    jsonrpc::result(&id, &result.to_string())
                };
                Some((Ok::<_, std::convert::Infallible>(frame(&payload)), (step + 1, unfinished)))
            }
        });
        events(Body::from_stream(frames))
    }

    /// A question on the answer's stream; the client posts its answer.
    fn elicit(&self, session: String, id: Id) -> Response {
        let (frames, read) = mpsc::channel::<Bytes>(2);
        let server = self.clone();
        self.tasks.spawn_until_stopped(async move {
            let question = Id::string(&uuid::Uuid::new_v4().simple().to_string());
            let (send, answer) = oneshot::channel();
            if let Some(questions) = server.sessions().get_mut(&session) {
                questions.insert(question.as_json().to_owned(), send);
            }
            let asked =
                jsonrpc::request(&question, "elicitation/create", Some(&tools::question().to_string()));
            let _ = frames.send(frame(&asked)).await;
            let payload = match tokio::time::timeout(PATIENCE, answer).await {
                Ok(Ok(answer)) => jsonrpc::result(&id, &tools::greeting(&answer).to_string()),
                Ok(Err(_)) | Err(_) => jsonrpc::error(Some(&id), codes::SERVER, "nobody answered", None),
            };
            let _ = frames.send(frame(&payload)).await;
        });
        let frames = unfold(read, |mut read| async move {
            let frame = read.recv().await?;
            Some((Ok::<_, std::convert::Infallible>(frame), read))
        });
        events(Body::from_stream(frames))
    }
}

/// Counts a call whose stream was dropped before its result.
struct Unfinished {
    count: Arc<AtomicU64>,
    finished: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.finished {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn frame(payload: &[u8]) -> Bytes {
    Frame { event: Some("message"), data: Some(payload), ..Frame::default() }.encode()
}

fn answer(message: &Message, result: &Value) -> Response {
    match message.id() {
        Some(id) => json_body(StatusCode::OK, jsonrpc::result(id, &result.to_string())),
        None => StatusCode::BAD_REQUEST.into_response(),
    }
}

fn refuse(id: &Id, code: i64, message: &str, status: StatusCode) -> Response {
    json_body(status, jsonrpc::error(Some(id), code, message, None))
}

fn json_body(status: StatusCode, body: Bytes) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn events(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}
