//! HTTP+SSE: one stream for everything the client is told, and an address to post to.

use serde_json::json;

use super::{
    AWAY, CUT_AFTER, Outcome, accepted, call, initialize, notification, position, progress, rest,
    said_exactly, slow_arguments, taken, unmet,
};
use crate::demo::client::{Client, Events};
use crate::demo::teller::Teller;

/// The first revision with elicitation. Only the transport is that of 2024-11-05.
const VERSION: &str = "2025-06-18";

pub(super) async fn tell(teller: &mut Teller, client: Client) {
    let Some((mut events, path)) = teller.step("opens its one stream", open(&client).await) else { return };
    teller.step("calls a quick tool", echo(&client, &path, &mut events).await);
    teller.step("is asked a question back, and answers", be_asked(&client, &path, &mut events).await);
    if let Some(position) =
        teller.step("loses its stream in the middle of a call", cut(&client, &path, events).await)
    {
        tokio::time::sleep(AWAY).await;
        teller.step("comes back with Last-Event-ID", resume(&client, &path, &position).await);
    }
}

async fn open(client: &Client) -> Outcome<((Events, String), String)> {
    let mut events = client.get("/sse", None).await?;
    let path = endpoint(&mut events).await?;
    taken(&client.post(&path, &initialize(VERSION), &[]).await?.1)?;
    let answer = events.message().await?;
    if answer["result"]["protocolVersion"] != VERSION {
        return unmet(format!("not opened: {answer}"));
    }
    taken(&client.post(&path, &notification("notifications/initialized"), &[]).await?.1)?;
    let told = format!("posts to {path}");
    Ok(((events, path), told))
}

async fn endpoint(events: &mut Events) -> Outcome<String> {
    let (name, data) = events.next().await?;
    match (name.as_deref(), std::str::from_utf8(&data)) {
        (Some("endpoint"), Ok(path)) => Ok(path.to_owned()),
        _ => unmet("the first event was not the endpoint"),
    }
}

async fn echo(client: &Client, path: &str, events: &mut Events) -> Outcome<((), String)> {
    taken(&client.post(path, &call(2, "echo", &json!({ "text": "hello" })), &[]).await?.1)?;
    let text = said_exactly(&events.message().await?, 2, "hello")?;
    Ok(((), format!("{text}, on the stream")))
}

async fn be_asked(client: &Client, path: &str, events: &mut Events) -> Outcome<((), String)> {
    taken(&client.post(path, &call(3, "elicit", &json!({})), &[]).await?.1)?;
    let question = events.message().await?;
    taken(&client.post(path, &accepted(&question, "Jean")?, &[]).await?.1)?;
    let text = said_exactly(&events.message().await?, 3, "Hello, Jean!")?;
    Ok(((), format!("{} {text}", question["params"]["message"])))
}

/// Takes the stream, and drops it.
async fn cut(client: &Client, path: &str, mut events: Events) -> Outcome<(String, String)> {
    taken(&client.post(path, &call(4, "slow", &slow_arguments()), &[]).await?.1)?;
    let seen = progress(&mut events, 4, 0, CUT_AFTER).await?;
    Ok((position(&events)?, format!("{seen}, cut")))
}

async fn resume(client: &Client, path: &str, position: &str) -> Outcome<((), String)> {
    let mut events = client.get("/sse", Some(position)).await?;
    if endpoint(&mut events).await? != path {
        return unmet("another session than before");
    }
    let seen = rest(&mut events, 4).await?;
    // The stream goes on. What it says next shows that nothing of the call comes twice.
    taken(&client.post(path, &call(5, "echo", &json!({ "text": "hello again" })), &[]).await?.1)?;
    said_exactly(&events.message().await?, 5, "hello again")?;
    Ok(((), format!("the same session: {seen}")))
}
