//! The story: one client for each transport. Each calls a tool, answers a question, loses its stream
//! in the middle of a slow call, and comes back for the rest.

use serde_json::{Value, json};

use super::client::{Client, DemoError, Events, Outcome, Posted, unmet};
use super::teller::{Summary, Teller};

const STEPS: u64 = 8;

/// After so many progress notifications the stream is cut.
const CUT_AFTER: u64 = 3;

/// Tells the story against a gateway; what fails is told as well, and counted.
///
/// # Errors
/// If no client can be built.
pub async fn run(gateway_url: &str) -> Result<Summary, DemoError> {
    let mut teller = Teller::begin("Holdfast: three clients, three transports, and streams that break");
    teller.chapter("Streamable HTTP, 2025-11-25");
    streamable(&mut teller, Client::new(gateway_url)?).await;
    teller.chapter("HTTP+SSE, 2024-11-05");
    http_sse(&mut teller, Client::new(gateway_url)?).await;
    teller.chapter("Streamable HTTP, 2026-07-28 (no sessions)");
    modern(&mut teller, Client::new(gateway_url)?).await;
    Ok(teller.end())
}

fn request(id: u64, method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

fn call(id: u64, tool: &str, arguments: &Value) -> Value {
    request(
        id,
        "tools/call",
        &json!({ "name": tool, "arguments": arguments, "_meta": { "progressToken": id } }),
    )
}

fn initialize(version: &str) -> Value {
    let client = json!({ "name": "holdfast-demo", "version": env!("CARGO_PKG_VERSION") });
    let params =
        json!({ "protocolVersion": version, "capabilities": { "elicitation": {} }, "clientInfo": client });
    request(1, "initialize", &params)
}

fn slow(id: u64) -> Value {
    call(id, "slow", &json!({ "steps": STEPS, "interval_ms": 120 }))
}

fn said(message: &Value) -> Outcome<String> {
    match message["result"]["content"][0]["text"].as_str() {
        Some(text) => Ok(text.to_owned()),
        None => unmet(format!("not the answer: {message}")),
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

/// Reads progress until it reaches `until`, each once and in order.
async fn progress(events: &mut Events, seen: &mut Vec<u64>, until: u64) -> Outcome<()> {
    while (seen.len() as u64) < until {
        let message = events.message().await?;
        match message["params"]["progress"].as_u64() {
            Some(step) if step == seen.len() as u64 + 1 => seen.push(step),
            _ => return unmet(format!("after {seen:?} came {message}")),
        }
    }
    Ok(())
}

/// The rest of a slow call on a stream that was resumed.
async fn rest(events: &mut Events, seen: &mut Vec<u64>) -> Outcome<String> {
    progress(events, seen, STEPS).await?;
    said(&events.message().await?)
}

async fn streamable(teller: &mut Teller, mut client: Client) {
    let opened = async {
        let (headers, posted) = client.post("/mcp", &initialize("2025-11-25"), &[]).await?;
        json_answer(posted)?;
        let session = headers.get("mcp-session-id").and_then(|value| value.to_str().ok()).unwrap_or_default();
        client.set("mcp-session-id", session)?;
        client.set("mcp-protocol-version", "2025-11-25")?;
        client.post("/mcp", &json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }), &[]).await?;
        Ok(((), format!("session {session}")))
    };
    if teller.step("opens a session", opened.await).is_none() {
        return;
    }
    let echoed = async {
        let (_, posted) = client.post("/mcp", &call(2, "echo", &json!({ "text": "hello" })), &[]).await?;
        Ok(((), format!("{:?}, in plain JSON", said(&json_answer(posted)?)?)))
    };
    teller.step("calls a quick tool", echoed.await);
    let asked = async {
        let mut events = stream(client.post("/mcp", &call(3, "elicit", &json!({})), &[]).await?.1)?;
        let question = events.message().await?;
        client.post("/mcp", &accepted(&question, "Ada"), &[]).await?;
        Ok(((), format!("{:?}", said(&events.message().await?)?)))
    };
    teller.step("is asked a question back, and answers", asked.await);
    let mut seen = Vec::new();
    let cut = async {
        let mut events = stream(client.post("/mcp", &slow(4), &[]).await?.1)?;
        progress(&mut events, &mut seen, CUT_AFTER).await?;
        let position = events.last_event_id.clone().unwrap_or_default();
        Ok((position.clone(), format!("progress {seen:?}, then cut after event {position}")))
    };
    if let Some(position) = teller.step("loses its stream in the middle of a call", cut.await) {
        let resumed = async {
            let mut events = client.get("/mcp", Some(&position)).await?;
            let text = rest(&mut events, &mut seen).await?;
            Ok(((), format!("progress {seen:?}, then {text:?}")))
        };
        teller.step("comes back with Last-Event-ID", resumed.await);
    }
    let ended = async {
        match client.delete("/mcp").await? {
            200..=299 => Ok(((), "its server's session has ended too".to_owned())),
            status => unmet(format!("DELETE: {status}")),
        }
    };
    teller.step("ends the session", ended.await);
}

fn accepted(question: &Value, name: &str) -> Value {
    let result = json!({ "action": "accept", "content": { "name": name } });
    json!({ "jsonrpc": "2.0", "id": question["id"], "result": result })
}

async fn http_sse(teller: &mut Teller, client: Client) {
    let opened = async {
        let mut events = client.get("/sse", None).await?;
        let endpoint = endpoint(&mut events).await?;
        client.post(&endpoint, &initialize("2024-11-05"), &[]).await?;
        events.message().await?;
        client
            .post(&endpoint, &json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }), &[])
            .await?;
        Ok(((events, endpoint.clone()), format!("posts to {endpoint}")))
    };
    let Some((mut events, path)) = teller.step("opens its one stream", opened.await) else { return };
    let echoed = async {
        client.post(&path, &call(2, "echo", &json!({ "text": "hello" })), &[]).await?;
        Ok(((), format!("{:?}, on the stream", said(&events.message().await?)?)))
    };
    teller.step("calls a quick tool", echoed.await);
    let mut seen = Vec::new();
    let cut = async {
        client.post(&path, &slow(3), &[]).await?;
        progress(&mut events, &mut seen, CUT_AFTER).await?;
        let position = events.last_event_id.clone().unwrap_or_default();
        drop(events);
        Ok((position, format!("progress {seen:?}, then cut")))
    };
    if let Some(position) = teller.step("loses its stream in the middle of a call", cut.await) {
        let resumed = async {
            let mut events = client.get("/sse", Some(&position)).await?;
            if endpoint(&mut events).await? != path {
                return unmet("another session than before");
            }
            let text = rest(&mut events, &mut seen).await?;
            Ok(((), format!("the same session; progress {seen:?}, then {text:?}")))
        };
        teller.step("comes back with Last-Event-ID", resumed.await);
    }
}

async fn endpoint(events: &mut Events) -> Outcome<String> {
    let (name, data) = events.next().await?;
    match (name.as_deref(), std::str::from_utf8(&data)) {
        (Some("endpoint"), Ok(path)) => Ok(path.to_owned()),
        _ => unmet("the first event was not the endpoint"),
    }
}

async fn modern(teller: &mut Teller, mut client: Client) {
    let version = client.set("mcp-protocol-version", "2026-07-28");
    let discovered = async {
        version?;
        let posted = modern_post(&client, "server/discover", None, json!({})).await?;
        let versions = json_answer(posted)?["result"]["supportedVersions"].to_string();
        Ok(((), format!("supports {versions}")))
    };
    if teller.step("discovers the server", discovered.await).is_none() {
        return;
    }
    let echoed = async {
        let posted = modern_call(&client, "echo", json!({ "arguments": { "text": "hello" } })).await?;
        Ok(((), format!("{:?}", said(&json_answer(posted)?)?)))
    };
    teller.step("calls a quick tool", echoed.await);
    let asked = async {
        let first = json_answer(modern_call(&client, "elicit", json!({})).await?)?;
        if first["result"]["resultType"] != "input_required" {
            return unmet(format!("not asked: {first}"));
        }
        let answer = json!({ "name": { "action": "accept", "content": { "name": "Grace" } } });
        let second = modern_call(&client, "elicit", json!({ "inputResponses": answer })).await?;
        Ok(((), format!("input_required, then {:?}", said(&json_answer(second)?)?)))
    };
    teller.step("is asked a question back, and answers", asked.await);
    let arguments = json!({ "arguments": { "steps": STEPS, "interval_ms": 120 } });
    let cancelled = async {
        let mut events = stream(modern_call(&client, "slow", arguments).await?)?;
        progress(&mut events, &mut Vec::new(), CUT_AFTER).await?;
        drop(events);
        heard_of_the_cancel(&client).await
    };
    teller.step("closes a stream, which cancels the call", cancelled.await);
}

/// The server counts the calls that were cancelled.
async fn heard_of_the_cancel(client: &Client) -> Outcome<((), String)> {
    for _ in 0..50 {
        let counted = json_answer(modern_call(client, "cancelled", json!({})).await?)?;
        if said(&counted)? != "0" {
            return Ok(((), "the server has heard of it".to_owned()));
        }
        tokio::time::sleep(std::time::Duration::from_millis(40)).await;
    }
    unmet("the server was not told")
}

async fn modern_call(client: &Client, tool: &str, mut params: Value) -> Outcome<Posted> {
    params["name"] = json!(tool);
    modern_post(client, "tools/call", Some(tool), params).await
}

async fn modern_post(
    client: &Client,
    method: &str,
    name: Option<&str>,
    mut params: Value,
) -> Outcome<Posted> {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "holdfast-demo", "version": env!("CARGO_PKG_VERSION") },
        "io.modelcontextprotocol/clientCapabilities": { "elicitation": {} },
        "progressToken": 1,
    });
    let mut named = vec![("mcp-method", method)];
    named.extend(name.map(|name| ("mcp-name", name)));
    Ok(client.post("/mcp", &request(1, method, &params), &named).await?.1)
}
