//! Three nodes behind a balancer that knows nothing of MCP: the client's requests wander, and then the node
//! that holds its stream dies in the middle of a call.

use std::collections::BTreeSet;
use tokio::time::Instant;

use serde_json::json;

use super::{
    CUT_AFTER, Outcome, call, json_answer, position, progress, rest, said_exactly, slow_arguments, stream,
    streamable, unmet,
};
use crate::demo::Kill;
use crate::demo::balancer::NODE;
use crate::demo::client::{Client, Events};
use crate::demo::teller::Teller;

pub(super) async fn tell(teller: &mut Teller, mut client: Client, kill: &mut Kill<'_>) {
    let opened = streamable::open(&mut client).await;
    if teller.step("opens a session", opened).is_none() {
        return;
    }
    teller.step("calls wander over the nodes", wander(&client).await);
    let Some((node, mut events)) = teller.step("begins a slow call", begin(&client).await) else { return };
    kill(node);
    let died = Instant::now();
    teller.step("its node is killed, and the stream breaks", broken(&mut events, node).await);
    let resumed = resume(&client, &events, died).await;
    teller.step("comes back with Last-Event-ID", resumed);
}

async fn wander(client: &Client) -> Outcome<((), String)> {
    let mut seen = BTreeSet::new();
    for id in 10..16 {
        let (headers, posted) =
            client.post("/mcp", &call(id, "echo", &json!({ "text": "hello" })), &[]).await?;
        said_exactly(&json_answer(posted)?, id, "hello")?;
        seen.extend(headers.get(NODE).and_then(|value| value.to_str().ok()).map(str::to_owned));
    }
    if seen.len() < 2 {
        return unmet(format!("all at node {seen:?}"));
    }
    Ok(((), format!("6 answers, from nodes {}", seen.into_iter().collect::<Vec<_>>().join(", "))))
}

async fn begin(client: &Client) -> Outcome<((usize, Box<Events>), String)> {
    let (headers, posted) = client.post("/mcp", &call(4, "slow", &slow_arguments()), &[]).await?;
    let mut events = stream(posted)?;
    let node = headers.get(NODE).and_then(|value| value.to_str().ok()).and_then(|node| node.parse().ok());
    let Some(node) = node else { return unmet("nobody knows which node answers") };
    let seen = progress(&mut events, 4, 0, CUT_AFTER).await?;
    Ok(((node, events), format!("{seen}, from node {node}")))
}

/// What was on its way may still come.
async fn broken(events: &mut Events, node: usize) -> Outcome<((), String)> {
    loop {
        if events.next().await.is_err() {
            return Ok(((), format!("node {node} is gone")));
        }
    }
}

async fn resume(client: &Client, events: &Events, died: Instant) -> Outcome<((), String)> {
    let position = position(events)?;
    let mut resumed = client.get("/mcp", Some(&position)).await?;
    let seen = rest(&mut resumed, 4).await?;
    resumed.finished().await?;
    Ok(((), format!("{seen}, {:.1} s later, through another node", died.elapsed().as_secs_f64())))
}
