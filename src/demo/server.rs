//! The demo's MCP server, of both eras at one address. It is small, but real: any client can use it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::asking::Questions;
use super::slow::{Calls, Cancelled, Pace};
use super::tools::{self, Tool};
use crate::lifecycle::Tasks;
use crate::protocol::jsonrpc::{self, Id, Kind, Message, codes};
use crate::protocol::sse::Frame;
use crate::protocol::version::{LegacyVersion, MODERN};

const SESSION: &str = "mcp-session-id";

/// Which rules an answer is written by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Era {
    Legacy,
    Modern,
}

impl Era {
    /// A result that says of itself that it is one, where that is asked for.
    pub(super) fn complete(self, mut result: Value) -> Value {
        if self == Self::Modern && result["resultType"].is_null() {
            result["resultType"] = json!("complete");
        }
        result
    }
}

#[derive(Debug, Clone)]
struct Server {
    tasks: Tasks,
    sessions: Arc<Mutex<HashMap<String, Session>>>,
    questions: Questions,
    cancelled: Cancelled,
    calls: Calls,
}

#[derive(Debug, Clone, Copy)]
struct Session {
    can_be_asked: bool,
}

/// Serves until it is dropped.
pub async fn serve_upstream(listener: TcpListener, tasks: Tasks) {
    let server = Server {
        tasks,
        sessions: Arc::default(),
        questions: Questions::default(),
        cancelled: Cancelled::default(),
        calls: Calls::default(),
    };
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
    let Some(known) = server.sessions().get(&session).copied() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    match message.kind() {
        Kind::Request { id, method } => server.legacy(session, known, id, method, &params),
        Kind::Notification { .. } => StatusCode::ACCEPTED.into_response(),
        Kind::Response { id, .. } => {
            if let Some(id) = id {
                let answer = message.result().and_then(|result| serde_json::from_str(result).ok());
                server.questions.answer(&session, id, answer);
            }
            StatusCode::ACCEPTED.into_response()
        }
    }
}

async fn handle_get(State(server): State<Server>, headers: HeaderMap) -> Response {
    let known = headers.get(SESSION).and_then(|value| value.to_str().ok());
    if known.is_some_and(|session| server.sessions().contains_key(session)) {
        let position = headers.get("last-event-id").and_then(|value| value.to_str().ok());
        if let Some(rest) = position.and_then(|position| server.calls.resume(position)) {
            return rest;
        }
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
    fn sessions(&self) -> std::sync::MutexGuard<'_, HashMap<String, Session>> {
        self.sessions.lock().expect("no panic while holding it")
    }

    fn initialize(&self, message: &Message, params: &Value) -> Response {
        let session = uuid::Uuid::new_v4().simple().to_string();
        let can_be_asked = params["capabilities"]["elicitation"].is_object();
        self.sessions().insert(session.clone(), Session { can_be_asked });
        let asked = params["protocolVersion"].as_str().and_then(LegacyVersion::parse);
        let result = json!({
            "protocolVersion": asked.unwrap_or(LegacyVersion::LATEST).as_str(),
            "capabilities": { "tools": {} },
            "serverInfo": info(),
        });
        let mut response = answer(message, &result);
        if let Ok(value) = session.parse() {
            response.headers_mut().insert(SESSION, value);
        }
        response
    }

    fn legacy(&self, session: String, known: Session, id: &Id, method: &str, params: &Value) -> Response {
        let result = match method {
            "ping" => json!({}),
            "tools/list" => json!({ "tools": tools::list() }),
            "tools/call" => match Tool::parse(params) {
                Some(Tool::Elicit) if known.can_be_asked => {
                    return self.questions.ask(session, id.clone(), &self.tasks);
                }
                Some(Tool::Elicit) => {
                    tools::failed("This client can't be asked: it declared no elicitation.")
                }
                Some(tool) => return self.call(tool, id, params, Era::Legacy),
                None => return refuse(id, codes::INVALID_PARAMS, "no such tool", StatusCode::OK),
            },
            _ => return refuse(id, codes::METHOD_NOT_FOUND, "no such method", StatusCode::OK),
        };
        json_body(StatusCode::OK, jsonrpc::result(id, &result.to_string()))
    }

    fn modern(&self, message: &Message, params: &Value) -> Response {
        let Kind::Request { id, method } = message.kind() else {
            return StatusCode::ACCEPTED.into_response();
        };
        let result = match &**method {
            "server/discover" => json!({
                "supportedVersions": [MODERN],
                "capabilities": { "tools": {} },
                "ttlMs": 60_000,
                "cacheScope": "public",
                "_meta": { "io.modelcontextprotocol/serverInfo": info() },
            }),
            "tools/list" => json!({ "tools": tools::list(), "ttlMs": 60_000, "cacheScope": "public" }),
            "tools/call" => match Tool::parse(params) {
                Some(Tool::Elicit) => {
                    let declared = &params["_meta"]["io.modelcontextprotocol/clientCapabilities"];
                    if !declared["elicitation"].is_object() {
                        return not_declared(id);
                    }
                    self.questions.ask_or_greet(params)
                }
                Some(tool) => return self.call(tool, id, params, Era::Modern),
                None => return refuse(id, codes::INVALID_PARAMS, "no such tool", StatusCode::BAD_REQUEST),
            },
            _ => return refuse(id, codes::METHOD_NOT_FOUND, "no such method", StatusCode::NOT_FOUND),
        };
        json_body(StatusCode::OK, jsonrpc::result(id, &Era::Modern.complete(result).to_string()))
    }

    /// A call of a tool that needs nothing of the client.
    fn call(&self, tool: Tool, id: &Id, params: &Value, era: Era) -> Response {
        let result = match tool {
            Tool::Echo { text } => tools::text(&text),
            Tool::Cancelled => tools::text(&self.cancelled.count().to_string()),
            Tool::Slow { steps, interval } => {
                let progress_token = params["_meta"]["progressToken"].clone();
                let pace = Pace { steps, interval, progress_token };
                return self.calls.begin(id.clone(), pace, era, self.cancelled.clone());
            }
            Tool::Elicit => tools::failed("Nobody to ask."),
        };
        json_body(StatusCode::OK, jsonrpc::result(id, &era.complete(result).to_string()))
    }
}

fn info() -> Value {
    json!({ "name": "holdfast-demo", "version": env!("CARGO_PKG_VERSION") })
}

/// The question needs a capability that the client did not declare.
fn not_declared(id: &Id) -> Response {
    let data = json!({ "requiredCapabilities": { "elicitation": {} } });
    let text = "this tool asks back; the client declared no elicitation";
    let error = jsonrpc::error(Some(id), codes::MISSING_CAPABILITY, text, Some(&data));
    json_body(StatusCode::BAD_REQUEST, error)
}

pub(super) fn frame(payload: &[u8]) -> Bytes {
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

pub(super) fn events(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}
