//! Streamable HTTP with sessions: each request has an answer of its own, in JSON or on a stream.

use serde_json::json;

use super::{
    AWAY, CUT_AFTER, Outcome, accepted, call, initialize, json_answer, notification, position, progress,
    rest, said_exactly, slow_arguments, stream, taken, unmet,
};
use crate::demo::client::Client;
use crate::demo::teller::Teller;

const VERSION: &str = "2025-11-25";

pub(super) async fn tell(teller: &mut Teller, mut client: Client) {
    let opened = open(&mut client).await;
    if teller.step("opens a session", opened).is_none() {
        return;
    }
    teller.step("calls a quick tool", echo(&client).await);
    teller.step("is asked a question back, and answers", be_asked(&client).await);
    if let Some(position) = teller.step("loses its stream in the middle of a call", cut(&client).await) {
        tokio::time::sleep(AWAY).await;
        teller.step("comes back with Last-Event-ID", resume(&client, &position).await);
    }
    teller.step("ends the session", end(&client).await);
}

pub(super) async fn open(client: &mut Client) -> Outcome<((), String)> {
    let (headers, posted) = client.post("/mcp", &initialize(VERSION), &[]).await?;
    let answer = json_answer(posted)?;
    if answer["result"]["protocolVersion"] != VERSION {
        return unmet(format!("not opened: {answer}"));
    }
    let Some(session) = headers.get("mcp-session-id").and_then(|value| value.to_str().ok()) else {
        return unmet("no Mcp-Session-Id");
    };
    client.set("mcp-session-id", session)?;
    client.set("mcp-protocol-version", VERSION)?;
    taken(&client.post("/mcp", &notification("notifications/initialized"), &[]).await?.1)?;
    Ok(((), format!("session {session}")))
}

async fn echo(client: &Client) -> Outcome<((), String)> {
    let (_, posted) = client.post("/mcp", &call(2, "echo", &json!({ "text": "hello" })), &[]).await?;
    let text = said_exactly(&json_answer(posted)?, 2, "hello")?;
    Ok(((), format!("{text}, in plain JSON")))
}

async fn be_asked(client: &Client) -> Outcome<((), String)> {
    let mut events = stream(client.post("/mcp", &call(3, "elicit", &json!({})), &[]).await?.1)?;
    let question = events.message().await?;
    taken(&client.post("/mcp", &accepted(&question, "Ada")?, &[]).await?.1)?;
    let text = said_exactly(&events.message().await?, 3, "Hello, Ada!")?;
    Ok(((), format!("{} {text}", question["params"]["message"])))
}

async fn cut(client: &Client) -> Outcome<(String, String)> {
    let mut events = stream(client.post("/mcp", &call(4, "slow", &slow_arguments()), &[]).await?.1)?;
    let seen = progress(&mut events, 4, 0, CUT_AFTER).await?;
    let position = position(&events)?;
    drop(events);
    Ok((position, format!("{seen}, cut")))
}

async fn resume(client: &Client, position: &str) -> Outcome<((), String)> {
    let mut events = client.get("/mcp", Some(position)).await?;
    let seen = rest(&mut events, 4).await?;
    events.finished().await?;
    Ok(((), seen))
}

async fn end(client: &Client) -> Outcome<((), String)> {
    match client.delete("/mcp").await? {
        200..=299 => {}
        status => return unmet(format!("DELETE: {status}")),
    }
    match client.post("/mcp", &call(5, "echo", &json!({ "text": "still here?" })), &[]).await {
        Err(error) if error.to_string().starts_with("404") => {
            Ok(((), "whoever uses it now gets 404".to_owned()))
        }
        Err(error) => Err(error),
        Ok(_) => unmet("the session went on after its end"),
    }
}
