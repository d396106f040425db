//! The modern era: no session, every request says all about itself, and closing a stream cancels its call.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    CUT_AFTER, Outcome, STEPS, json_answer, progress, request, said, said_exactly, slow_arguments, stream,
    unmet,
};
use crate::demo::client::{Client, DemoError, Posted};
use crate::demo::teller::Teller;
use crate::protocol::version::MODERN;

/// Requests are told apart by their connections; one id does for all of them.
const ID: u64 = 1;

pub(super) async fn tell(teller: &mut Teller, mut client: Client) {
    let discovered = discover(&mut client).await;
    if teller.step("discovers the server", discovered).is_none() {
        return;
    }
    teller.step("calls a quick tool", echo(&client).await);
    teller.step("is asked a question back, and answers", be_asked(&client).await);
    teller.step("follows a slow call to its end", follow(&client).await);
    teller.step("closes a stream, which cancels the call", cancel(&client).await);
}

async fn discover(client: &mut Client) -> Outcome<((), String)> {
    client.set("mcp-protocol-version", MODERN)?;
    let answer = json_answer(post(client, "server/discover", None, json!({})).await?)?;
    let versions = &answer["result"]["supportedVersions"];
    match versions.as_array() {
        Some(supported) if supported.iter().any(|version| version == MODERN) => {
            Ok(((), format!("supports {versions}")))
        }
        _ => unmet(format!("not discovered: {answer}")),
    }
}

async fn echo(client: &Client) -> Outcome<((), String)> {
    let posted = call(client, "echo", json!({ "arguments": { "text": "hello" } })).await?;
    Ok(((), said_exactly(&json_answer(posted)?, ID, "hello")?))
}

/// The question is the result of the first call; the second brings the answer, and the state that came with it.
async fn be_asked(client: &Client) -> Outcome<((), String)> {
    let first = json_answer(call(client, "elicit", json!({})).await?)?;
    let asked = &first["result"];
    let question = &asked["inputRequests"]["name"];
    if asked["resultType"] != "input_required" || question["method"] != "elicitation/create" {
        return unmet(format!("not asked: {first}"));
    }
    let answers = json!({ "name": { "action": "accept", "content": { "name": "Grace" } } });
    let again = json!({ "inputResponses": answers, "requestState": asked["requestState"] });
    let text = said_exactly(&json_answer(call(client, "elicit", again).await?)?, ID, "Hello, Grace!")?;
    Ok(((), format!("input_required: {} {text}", question["params"]["message"])))
}

async fn follow(client: &Client) -> Outcome<((), String)> {
    let mut events = stream(call(client, "slow", json!({ "arguments": slow_arguments() })).await?)?;
    let seen = progress(&mut events, ID, 0, STEPS).await?;
    let text = said_exactly(&events.message().await?, ID, "done in 8 steps")?;
    events.finished().await?;
    Ok(((), format!("{seen}, then {text}")))
}

/// The server counts what was cancelled. That nothing was cancelled against a client's will, the resumed calls
/// have shown: they got their results.
async fn cancel(client: &Client) -> Outcome<((), String)> {
    let before = cancelled(client).await?;
    let mut events = stream(call(client, "slow", json!({ "arguments": slow_arguments() })).await?)?;
    let seen = progress(&mut events, ID, 0, CUT_AFTER).await?;
    drop(events);
    // For longer than the call would have taken.
    for _ in 0..50 {
        if cancelled(client).await? == before + 1 {
            return Ok(((), format!("{seen}, closed; the server has stopped")));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    unmet("the server was not told")
}

async fn cancelled(client: &Client) -> Outcome<u64> {
    let text = said(&json_answer(call(client, "cancelled", json!({})).await?)?, ID)?;
    text.parse().map_err(|_| DemoError(format!("{text:?} is no count")))
}

async fn call(client: &Client, tool: &str, mut params: Value) -> Outcome<Posted> {
    params["name"] = json!(tool);
    post(client, "tools/call", Some(tool), params).await
}

async fn post(client: &Client, method: &str, name: Option<&str>, mut params: Value) -> Outcome<Posted> {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientInfo": { "name": "holdfast-demo", "version": env!("CARGO_PKG_VERSION") },
        "io.modelcontextprotocol/clientCapabilities": { "elicitation": {} },
        "progressToken": ID,
    });
    let mut named = vec![("mcp-method", method)];
    named.extend(name.map(|name| ("mcp-name", name)));
    Ok(client.post("/mcp", &request(ID, method, &params), &named).await?.1)
}
