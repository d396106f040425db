//! The story: one client for each transport. Each calls a tool, answers a question, loses or closes its stream in
//! the middle of a slow call; where the protocol lets it, it comes back for the rest.

mod http_sse;
mod modern;
mod nodes;
mod streamable;

use std::time::Duration;

use serde_json::{Value, json};

use super::Kill;
use super::client::{Client, DemoError, Events, Outcome, Posted, unmet};
use super::teller::{Summary, Teller};

const STEPS: u64 = 8;

/// Between two steps of the slow call.
const INTERVAL: Duration = Duration::from_millis(120);

/// After so many progress notifications the stream is cut.
const CUT_AFTER: u64 = 3;

/// How long the client stays away: the server goes on meanwhile, and nobody listens.
const AWAY: Duration = Duration::from_millis(400);

/// Tells the story against a gateway; what fails is told as well, and counted.
///
/// # Errors
/// If no client can be built.
pub async fn run(gateway_url: &str, kill: &mut Kill<'_>) -> Result<Summary, DemoError> {
    let mut teller = Teller::begin("Holdfast: three nodes, three transports, and streams that break");
    teller.chapter("Streamable HTTP, 2025-11-25");
    streamable::tell(&mut teller, Client::new(gateway_url)?).await;
    teller.chapter("HTTP+SSE, the transport of 2024-11-05");
    http_sse::tell(&mut teller, Client::new(gateway_url)?).await;
    teller.chapter("Streamable HTTP, 2026-07-28 (no sessions)");
    modern::tell(&mut teller, Client::new(gateway_url)?).await;
    teller.chapter("A node dies in the middle of a call");
    nodes::tell(&mut teller, Client::new(gateway_url)?, kill).await;
    Ok(teller.end())
}

fn request(id: u64, method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

fn notification(method: &str) -> Value {
    json!({ "jsonrpc": "2.0", "method": method })
}

fn call(id: u64, tool: &str, arguments: &Value) -> Value {
    let meta = json!({ "progressToken": id });
    request(id, "tools/call", &json!({ "name": tool, "arguments": arguments, "_meta": meta }))
}

fn initialize(version: &str) -> Value {
    let client = json!({ "name": "holdfast-demo", "version": env!("CARGO_PKG_VERSION") });
    let params =
        json!({ "protocolVersion": version, "capabilities": { "elicitation": {} }, "clientInfo": client });
    request(1, "initialize", &params)
}

fn slow_arguments() -> Value {
    json!({ "steps": STEPS, "interval_ms": u64::try_from(INTERVAL.as_millis()).unwrap_or(u64::MAX) })
}

/// The client's answer to an elicitation.
fn accepted(question: &Value, name: &str) -> Outcome<Value> {
    if question["method"] != "elicitation/create" {
        return unmet(format!("not a question: {question}"));
    }
    let result = json!({ "action": "accept", "content": { "name": name } });
    Ok(json!({ "jsonrpc": "2.0", "id": question["id"], "result": result }))
}

/// The text in the result of the request `id`.
fn said(message: &Value, id: u64) -> Outcome<String> {
    match message["result"]["content"][0]["text"].as_str() {
        Some(text) if message["id"] == id && message["result"]["isError"] != true => Ok(text.to_owned()),
        _ => unmet(format!("not the answer: {message}")),
    }
}

/// As [`said`], where only one text is right.
fn said_exactly(message: &Value, id: u64, expected: &str) -> Outcome<String> {
    match said(message, id)? {
        text if text == expected => Ok(format!("{text:?}")),
        text => unmet(format!("{text:?} instead of {expected:?}")),
    }
}

fn json_answer(posted: Posted) -> Outcome<Value> {
    match posted {
        Posted::Json(value) => Ok(value),
        Posted::Accepted | Posted::Stream(_) => unmet("not answered in JSON"),
    }
}

fn stream(posted: Posted) -> Outcome<Box<Events>> {
    match posted {
        Posted::Stream(events) => Ok(events),
        Posted::Accepted | Posted::Json(_) => unmet("not answered with a stream"),
    }
}

fn taken(posted: &Posted) -> Outcome<()> {
    match posted {
        Posted::Accepted => Ok(()),
        Posted::Json(_) | Posted::Stream(_) => unmet("not answered with 202"),
    }
}

/// Reads the progress of the slow call `token`: the step after `from`, and so on until `until`. A step that is
/// missing, or comes twice, is not what was promised.
async fn progress(events: &mut Events, token: u64, from: u64, until: u64) -> Outcome<String> {
    let mut seen = "progress".to_owned();
    for step in from + 1..=until {
        let message = events.message().await?;
        let params = &message["params"];
        if params["progressToken"] != token || params["progress"] != step {
            return unmet(format!("{seen}; instead of {step} came {message}"));
        }
        seen.push_str(&format!(" {step}"));
    }
    Ok(seen)
}

/// The rest of the slow call `id`, from the cut to its result.
async fn rest(events: &mut Events, id: u64) -> Outcome<String> {
    let seen = progress(events, id, CUT_AFTER, STEPS).await?;
    let text = said_exactly(&events.message().await?, id, "done in 8 steps")?;
    Ok(format!("{seen}, then {text}"))
}

/// Where a stream was cut. Without an id on its events nobody could come back.
fn position(events: &Events) -> Outcome<String> {
    match &events.last_event_id {
        Some(id) => Ok(id.clone()),
        None => unmet("the events carry no ids"),
    }
}
