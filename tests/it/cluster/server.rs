//! An MCP server with a ledger: what it says is a function of time, every event has an id, and each of
//! its streams can be resumed, unless it is one that can't.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Response;
use serde_json::{Value, json as value};
use tokio::time::Instant;

use crate::harness::{Asked, Upstream, accepted, initialized, status};

/// Between two messages that a session's own stream carries.
const UNASKED: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(crate) struct LedgerServer {
    pub url: String,
    ledger: Arc<Mutex<Ledger>>,
}

#[derive(Default)]
struct Ledger {
    resumes: bool,
    sessions: HashMap<String, Instant>,
    /// Sessions to which nothing is said unasked: those of the oldest version, so that a lost message
    /// between nodes is not shown by the next one, and all of a server that can't resume.
    quiet: HashSet<String>,
    calls: HashMap<String, Running>,
    /// Calls that were run more than once.
    repeated: Vec<String>,
}

/// One call: a step after each pause, then the result.
#[derive(Clone)]
struct Running {
    id: Value,
    started: Instant,
    steps: u64,
    pause: Duration,
}

impl LedgerServer {
    /// One that can resume its streams, or can't.
    pub(crate) async fn that(resumes: bool) -> Self {
        let ledger = Arc::new(Mutex::new(Ledger { resumes, ..Ledger::default() }));
        let own = ledger.clone();
        let upstream = Upstream::bare(move |asked| answer(&own, asked)).await;
        Self { url: upstream.url.clone(), ledger }
    }

    pub(crate) fn calls(&self) -> usize {
        self.ledger.lock().unwrap().calls.len()
    }

    pub(crate) fn repeated(&self) -> Vec<String> {
        self.ledger.lock().unwrap().repeated.clone()
    }
}

fn answer(ledger: &Mutex<Ledger>, asked: &Asked) -> Response<Body> {
    let mut ledger = ledger.lock().unwrap();
    match (asked.method.as_str(), asked.rpc()) {
        ("DELETE", _) => status(204),
        ("GET", _) => match asked.header("last-event-id") {
            "" => session_stream(&ledger, asked, None),
            position => {
                let (of, number) = position.rsplit_once('.').unwrap();
                match ledger.calls.get(of) {
                    Some(call) => call_stream(of.to_owned(), call.clone(), number.parse().unwrap(), true),
                    None => session_stream(&ledger, asked, number.parse().ok()),
                }
            }
        },
        (_, "initialize") => {
            let session = format!("up-{}", uuid::Uuid::new_v4().simple());
            ledger.sessions.insert(session.clone(), Instant::now());
            if asked.body["params"]["protocolVersion"] == "2024-11-05" || !ledger.resumes {
                ledger.quiet.insert(session.clone());
            }
            initialized(asked, &session)
        }
        (_, "server/discover") => status(400),
        _ if asked.body["id"].is_null() => accepted(),
        _ => {
            let arguments = &asked.body["params"]["arguments"];
            let token = arguments["token"].as_str().unwrap().to_owned();
            let call = Running {
                id: asked.body["id"].clone(),
                started: Instant::now(),
                steps: arguments["steps"].as_u64().unwrap(),
                pause: Duration::from_millis(arguments["pause_ms"].as_u64().unwrap()),
            };
            if ledger.calls.insert(token.clone(), call.clone()).is_some() {
                ledger.repeated.push(token.clone());
            }
            call_stream(token, call, 0, ledger.resumes)
        }
    }
}

fn events(
    first: Option<String>,
    from: u64,
    next: impl Fn(u64) -> Option<(Instant, String)> + Send + Sync + 'static,
) -> Response<Body> {
    let next = Arc::new(next);
    let stream = futures::stream::unfold((first, from), move |(first, number)| {
        let next = next.clone();
        async move {
            if let Some(first) = first {
                return Some((Ok::<_, Infallible>(Bytes::from(first)), (None, number)));
            }
            let (at, event) = next(number)?;
            tokio::time::sleep_until(at).await;
            Some((Ok(Bytes::from(event)), (None, number + 1)))
        }
    });
    Response::builder().header("content-type", "text/event-stream").body(Body::from_stream(stream)).unwrap()
}

/// An event, with an id only where the server can resume.
fn frame(resumes: bool, stream: &str, number: u64, message: &Value) -> String {
    let id = if resumes { format!("id: {stream}.{number}\n") } else { String::new() };
    format!("{id}data: {message}\n\n")
}

fn call_stream(token: String, call: Running, after: u64, resumes: bool) -> Response<Body> {
    let first = (after == 0 && resumes).then(|| format!("id: {token}.0\nretry: 50\ndata:\n\n"));
    events(first, after + 1, move |number| {
        let at = call.started + call.pause * u32::try_from(number).unwrap();
        let message = match number {
            step if step <= call.steps => value!({
                "jsonrpc": "2.0", "method": "notifications/progress",
                "params": { "progressToken": token, "progress": step },
            }),
            last if last == call.steps + 1 => {
                value!({ "jsonrpc": "2.0", "id": call.id, "result": { "token": token, "content": [] } })
            }
            _ => return None,
        };
        Some((at, frame(resumes, &token, number, &message)))
    })
}

/// Numbers, one each second since the session began; without a position those still to come.
fn session_stream(ledger: &Ledger, asked: &Asked, after: Option<u64>) -> Response<Body> {
    let session = asked.header("mcp-session-id").to_owned();
    let Some(began) = ledger.sessions.get(&session).copied() else { return status(404) };
    let resumes = ledger.resumes;
    let after = after.unwrap_or_else(|| began.elapsed().as_secs());
    let pause = if ledger.quiet.contains(&session) { Duration::from_secs(3600) } else { UNASKED };
    events(None, after + 1, move |number| {
        let at = began + pause * u32::try_from(number).unwrap();
        let message = value!({
            "jsonrpc": "2.0", "method": "notifications/message",
            "params": { "level": "info", "data": { "unasked": number } },
        });
        Some((at, frame(resumes, &session, number, &message)))
    })
}
