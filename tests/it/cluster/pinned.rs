//! Servers of which each node has its own, behind a balancer that knows nothing of it: every request
//! reaches the one that opened its session, whichever node it comes through, until that node is gone.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Response;
use serde_json::{Value, json as value};
use tokio::time::{Instant, timeout};

use super::server::LedgerServer;
use super::{Scene, settings};
use crate::harness::{Asked, Client, Stream, Upstream, accepted, initialized, read, request, status, steps};
use crate::servers::{NODES, Setup};

const CLIENTS: usize = 30;

/// After a node's death. It is known after three seconds, and a frozen one is given up after as many.
const SOON: Duration = Duration::from_secs(15);

/// What comes with each result: more than travels at once.
const PADDING: usize = 200_000;

/// All sidecars, as their ledger has it.
#[derive(Default)]
struct Ledger {
    /// Which sidecar opened a session.
    sessions: HashMap<String, usize>,
    /// Requests for a session of another sidecar's.
    strayed: Vec<String>,
    tokens: HashSet<String>,
    repeated: Vec<String>,
}

type Shared = Arc<Mutex<Ledger>>;

async fn sidecar(number: usize, ledger: &Shared) -> Upstream {
    let ledger = ledger.clone();
    Upstream::bare(move |asked| answer(number, &mut ledger.lock().unwrap(), asked)).await
}

fn answer(number: usize, ledger: &mut Ledger, asked: &Asked) -> Response<Body> {
    match asked.rpc() {
        "initialize" => {
            let session = format!("up-{number}-{}", uuid::Uuid::new_v4().simple());
            ledger.sessions.insert(session.clone(), number);
            return initialized(asked, &session);
        }
        "server/discover" => return status(400),
        _ => {}
    }
    if ledger.sessions.get(asked.header("mcp-session-id")) != Some(&number) {
        ledger.strayed.push(format!("{} {} at {number}", asked.method, asked.rpc()));
        return status(404);
    }
    match asked.method.as_str() {
        "DELETE" => status(204),
        "GET" => status(405),
        _ if asked.rpc() != "tools/call" => accepted(),
        _ => {
            let token = asked.body["params"]["token"].as_str().unwrap().to_owned();
            if !ledger.tokens.insert(token.clone()) {
                ledger.repeated.push(token.clone());
            }
            called(number, &token, &asked.body["id"])
        }
    }
}

/// Three steps, then a large result.
fn called(number: usize, token: &str, id: &Value) -> Response<Body> {
    let progress = |step| {
        value!({ "jsonrpc": "2.0", "method": "notifications/progress",
            "params": { "progressToken": token, "progress": step } })
    };
    let result = value!({ "sidecar": number, "padding": "x".repeat(PADDING) });
    let result = value!({ "jsonrpc": "2.0", "id": id, "result": result });
    let frames = [progress(1), progress(2), progress(3), result];
    let frames = futures::StreamExt::then(futures::stream::iter(frames), async |message| {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok::<_, Infallible>(Bytes::from(format!("data: {message}\n\n")))
    });
    Response::builder()
        .header("content-type", "text/event-stream")
        .body(Body::from_stream(Box::pin(frames)))
        .unwrap()
}

fn call(token: &str) -> Value {
    request(1, "tools/call", &value!({ "name": "x", "token": token }))
}

/// What a call ended with: the sidecar that answered, or what was said instead.
async fn ended(client: &Client, token: &str) -> Result<usize, String> {
    let Ok(response) = client.try_post(&call(token)).await else { return Err("broken".to_owned()) };
    if response.headers()["content-type"] != "text/event-stream" {
        let reply = read(response).await;
        return Err(format!("{} {}", reply.status, reply.text));
    }
    let messages = Stream::new(response).rest().await;
    let Some(last) = messages.last() else { return Err("cut".to_owned()) };
    match last["result"]["sidecar"].as_u64() {
        Some(sidecar) => {
            assert_eq!(steps(&messages), [1, 2, 3], "each once, in order");
            assert_eq!(last["result"]["padding"].as_str().unwrap().len(), PADDING);
            Ok(sidecar as usize)
        }
        None => Err(last.to_string()),
    }
}

/// One call of each client, all at the same time.
async fn round(clients: &[Client], name: &str) -> Vec<Result<usize, String>> {
    let calls = clients.iter().enumerate().map(async |(index, client)| {
        let token = format!("{name}-{index}");
        let ended = timeout(Duration::from_secs(40), ended(client, &token)).await;
        ended.unwrap_or_else(|_| panic!("{token} hangs"))
    });
    futures::future::join_all(calls).await
}

/// Calls until everybody has a result again: how long that took, and what was said meanwhile.
async fn recovered(clients: &[Client], name: &str) -> (Duration, Vec<String>) {
    let (since, mut said) = (Instant::now(), Vec::new());
    for attempt in 0.. {
        let ended = round(clients, &format!("{name}-{attempt}")).await;
        let failed: Vec<_> = ended.into_iter().filter_map(Result::err).collect();
        if failed.is_empty() {
            break;
        }
        said.extend(failed);
        assert!(since.elapsed() < SOON * 2, "never: {said:?}");
    }
    (since.elapsed(), said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_p5_every_session_stays_at_its_nodes_own_server_until_that_node_is_gone() {
    let ledger = Shared::default();
    let mut own_upstreams = Vec::new();
    for number in 0..NODES {
        own_upstreams.push(sidecar(number, &ledger).await.url);
    }
    let settings = settings(&[("servers.default.pinned", "on"), ("requests.json_wait", "50ms")]);
    let setup = Setup { settings, own_upstreams, ..Setup::default() };
    let mut scene = Scene::start(LedgerServer::that(false).await, setup).await;
    let base = scene.cluster.url();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = Client::new(&base);
        client.initialize("2025-11-25").await;
        clients.push(client);
    }
    let homes: Vec<_> = round(&clients, "first").await.into_iter().map(Result::unwrap).collect();
    for number in 0..NODES {
        assert!(homes.contains(&number), "the balancer spreads them: {homes:?}");
    }
    for name in ["second", "third"] {
        let again: Vec<_> = round(&clients, name).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(again, homes, "whichever node they came through");
    }

    scene.cluster.kill_node(0);
    let (took, said) = recovered(&clients, "killed").await;
    println!("kill -9: everybody has results after {took:?}; {} failed meanwhile", said.len());
    assert!(took < SOON, "{took:?}: {said:?}");
    let now: Vec<_> = round(&clients, "after").await.into_iter().map(Result::unwrap).collect();
    assert!(!now.contains(&0), "its sidecar is not reached any more: {now:?}");
    for (before, now) in homes.iter().zip(&now).filter(|(before, _)| **before != 0) {
        assert_eq!(before, now, "the others' sessions stay");
    }

    scene.cluster.process(1).signal("-STOP");
    let (took, said) = recovered(&clients, "frozen").await;
    println!("SIGSTOP: everybody has results after {took:?}; {} failed meanwhile", said.len());
    assert!(took < SOON * 2, "{took:?}: {said:?}");
    scene.cluster.process(1).signal("-CONT");

    for client in &clients {
        assert_eq!(client.delete().await.status, 204);
    }
    let ledger = ledger.lock().unwrap();
    assert!(ledger.strayed.is_empty(), "{:?}", ledger.strayed);
    assert!(ledger.repeated.is_empty(), "run twice: {:?}", ledger.repeated);
}
