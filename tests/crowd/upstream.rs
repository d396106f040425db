//! An MCP server that keeps sessions and costs little: `echo`, and for sessions of clients called
//! "sample" a GET stream on which it says something after each call.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;

const SESSION: &str = "mcp-session-id";

type Upstream = Arc<Mutex<Known>>;

#[derive(Default)]
struct Known {
    opened: usize,
    deleted: usize,
    /// Only those of the sample; absent ones are silent or gone.
    samples: HashMap<String, Sample>,
}

struct Sample {
    say: mpsc::Sender<String>,
    said: Option<mpsc::Receiver<String>>,
}

pub(crate) async fn serve() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("listening on http://{}/mcp", listener.local_addr().unwrap());
    let mcp = post(answer).get(stream).delete(end);
    let routes = axum::Router::new().route("/mcp", mcp).route("/counts", get(counts));
    axum::serve(listener, routes.with_state(Upstream::default())).await.unwrap();
}

async fn answer(State(upstream): State<Upstream>, headers: HeaderMap, body: Bytes) -> Response {
    let asked: Value = serde_json::from_slice(&body).unwrap();
    match asked["method"].as_str() {
        Some("initialize") => initialize(&upstream, &asked),
        Some("tools/call") => {
            let result =
                json!({ "content": [{ "type": "text", "text": asked["params"]["arguments"]["text"] }] });
            let news = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"called"}}"#;
            if let Some(sample) = upstream.lock().unwrap().samples.get(session(&headers)) {
                sample.say.try_send(format!("data: {news}\n\n")).unwrap();
            }
            result_of(&asked, &result)
        }
        Some(_) if asked["id"].is_null() => StatusCode::ACCEPTED.into_response(),
        _ => StatusCode::BAD_REQUEST.into_response(),
    }
}

fn initialize(upstream: &Upstream, asked: &Value) -> Response {
    let mut known = upstream.lock().unwrap();
    known.opened += 1;
    let session = format!("up-{}", known.opened);
    if asked["params"]["clientInfo"]["name"] == "sample" {
        let (say, said) = mpsc::channel(4);
        known.samples.insert(session.clone(), Sample { say, said: Some(said) });
    }
    let result = json!({
        "protocolVersion": asked["params"]["protocolVersion"],
        "capabilities": { "tools": {}, "logging": {} },
        "serverInfo": { "name": "crowd", "version": "1" },
    });
    let mut response = result_of(asked, &result);
    response.headers_mut().insert(SESSION, session.parse().unwrap());
    response
}

fn result_of(asked: &Value, result: &Value) -> Response {
    axum::Json(json!({ "jsonrpc": "2.0", "id": asked["id"], "result": result })).into_response()
}

async fn stream(State(upstream): State<Upstream>, headers: HeaderMap) -> Response {
    let said =
        upstream.lock().unwrap().samples.get_mut(session(&headers)).and_then(|sample| sample.said.take());
    let Some(mut said) = said else { return StatusCode::METHOD_NOT_ALLOWED.into_response() };
    let frames = futures::stream::poll_fn(move |context| said.poll_recv(context)).map(Ok::<_, Infallible>);
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(frames)).into_response()
}

async fn end(State(upstream): State<Upstream>, headers: HeaderMap) -> StatusCode {
    let mut known = upstream.lock().unwrap();
    known.deleted += 1;
    known.samples.remove(session(&headers));
    StatusCode::OK
}

async fn counts(State(upstream): State<Upstream>) -> String {
    let known = upstream.lock().unwrap();
    format!("opened {} deleted {}\n", known.opened, known.deleted)
}

fn session(headers: &HeaderMap) -> &str {
    headers.get(SESSION).and_then(|value| value.to_str().ok()).unwrap_or_default()
}
