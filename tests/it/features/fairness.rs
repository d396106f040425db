//! Limits of principals, and of all together: each is met exactly, named, counted and over in time; and a
//! flood by one is nothing to the others.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use holdfast::app::Shared;
use holdfast::auth::mint;
use serde_json::{Value, json as value};
use tokio::time::Instant;

use crate::harness::{
    Client, Faults, Gateway, Reply, Socket, Stream, Upstream, call, configured, faulty, json, read,
};

/// Nodes on one state, and two who may call.
pub(super) struct Callers {
    pub nodes: Vec<Gateway>,
    pub faults: Arc<Faults>,
    pub alice: String,
    pub bob: String,
}

impl Callers {
    pub(super) async fn start(nodes: usize, upstream: &Upstream, settings: &[(&'static str, &str)]) -> Self {
        let ((alice, alices), (bob, bobs)) = (mint(), mint());
        let mut all = vec![
            ("auth.mode", "tokens"),
            ("auth.tokens.alice.sha256", &*alices),
            ("auth.tokens.bob.sha256", &*bobs),
        ];
        all.extend(settings);
        let config = configured(&upstream.url, &all);
        let (shared, faults) = faulty(Shared::memory(&config));
        let mut started = Vec::new();
        for _ in 0..nodes {
            started.push(Gateway::start_on(&config, shared.clone()).await);
        }
        Self { nodes: started, faults, alice, bob }
    }

    pub(super) fn client(&self, node: usize, token: &str) -> Client {
        let mut client = self.nodes[node].client();
        client.token = Some(token.to_owned());
        client
    }

    pub(super) fn alice(&self) -> Client {
        self.client(0, &self.alice)
    }

    pub(super) fn bob(&self) -> Client {
        self.client(0, &self.bob)
    }

    pub(super) fn check(&self, reply: &Reply, key: &str, id: &Value) {
        check_limited(reply, &self.nodes[0], key, id);
    }
}

/// Refused for now, by the limit `key`.
fn check_limited(reply: &Reply, gateway: &Gateway, key: &str, id: &Value) {
    assert_eq!((reply.status, reply.code()), (429, -32000), "{key}: {}", reply.text);
    assert!(retry_after(reply) >= 1, "{reply:?}");
    assert!(reply.text.contains(key), "{}", reply.text);
    assert_eq!(reply.json()["id"], *id, "{key}: {}", reply.text);
    let hits = gateway.metric(&format!("holdfast_limit_hits_total{{limit=\"{key}\"}}"));
    assert!(hits.is_some_and(|hits| hits >= 1.0), "{key}: {hits:?}");
    assert!(
        gateway.metric("holdfast_requests_refused_total{status=\"429\"}").is_some_and(|count| count >= 1.0)
    );
}

fn retry_after(reply: &Reply) -> u64 {
    reply.header("retry-after").parse().unwrap_or_default()
}

pub(super) async fn answering() -> Upstream {
    Upstream::start(|asked| json(asked, &value!({ "ok": true }))).await
}

#[tokio::test]
async fn requests_are_limited_for_each_principal_whatever_they_ask_for() {
    let upstream = answering().await;
    let settings = [("limits.principal.requests_per_second", "1"), ("limits.principal.requests_burst", "20")];
    let callers = Callers::start(1, &upstream, &settings).await;
    let (mut alice, mut bob) = (callers.alice(), callers.bob());
    let began = Instant::now();
    alice.initialize("2025-11-25").await;
    let mut let_in = 2;
    let refused = loop {
        let reply = alice.posted(&call(let_in)).await;
        if reply.status != 200 {
            break reply;
        }
        let_in += 1;
    };
    let earned = began.elapsed().as_secs();
    assert!((20..=20 + earned).contains(&let_in), "{let_in} in {:?}", began.elapsed());
    callers.check(&refused, "limits.principal.requests_per_second", &Value::Null);
    assert!((1..=2).contains(&retry_after(&refused)), "a second, jittered: {refused:?}");
    let reached = upstream.count(|asked| asked.rpc() == "tools/call") as u64;
    assert_eq!(reached, let_in - 2, "it is refused before anybody hears of it");
    // Whatever else it asks for.
    for reply in [read(alice.get(None).await).await, alice.delete().await] {
        callers.check(&reply, "limits.principal.requests_per_second", &Value::Null);
    }
    let mut waits = BTreeSet::new();
    for id in 0..30 {
        waits.insert(retry_after(&alice.posted(&call(id)).await));
    }
    waits.remove(&0);
    assert!(waits.len() > 1, "not all at the same time: {waits:?}");
    bob.initialize("2025-11-25").await;
    assert_eq!(bob.posted(&call(1)).await.status, 200);
    tokio::time::sleep(Duration::from_secs(retry_after(&refused))).await;
    assert_eq!(alice.posted(&call(99)).await.status, 200, "after as long as it was told to wait");
}

#[tokio::test]
async fn a_batch_counts_its_messages() {
    let upstream = answering().await;
    let settings = [("limits.principal.requests_per_second", "1"), ("limits.principal.requests_burst", "60")];
    let callers = Callers::start(1, &upstream, &settings).await;
    let mut alice = callers.alice();
    alice.initialize("2025-03-26").await;
    let batch = |from: u64, to: u64| Value::Array((from..to).map(call).collect());
    assert_eq!(alice.posted(&batch(1, 51)).await.status, 200);
    let reply = alice.posted(&batch(51, 111)).await;
    callers.check(&reply, "limits.principal.requests_per_second", &value!(51));
    assert!(retry_after(&reply) > 40, "{reply:?}");
    assert_eq!(alice.posted(&call(1)).await.status, 200, "there is room for less");
}

#[tokio::test]
async fn who_has_no_credential_uses_up_nobodys_requests() {
    let upstream = answering().await;
    let settings = [
        ("limits.requests_per_second", "1"),
        ("limits.requests_burst", "20"),
        ("limits.principal.requests_per_second", "1"),
        ("limits.principal.requests_burst", "15"),
    ];
    let callers = Callers::start(1, &upstream, &settings).await;
    let nobody = callers.client(0, "hf_nobodys");
    for _ in 0..50 {
        assert_eq!(nobody.posted(&call(1)).await.status, 401);
    }
    let (mut alice, mut bob) = (callers.alice(), callers.bob());
    alice.initialize("2025-11-25").await;
    for id in 0..13 {
        assert_eq!(alice.posted(&call(id)).await.status, 200);
    }
    // All together have had 15 of 20.
    bob.initialize("2025-11-25").await;
    let refused = loop {
        let reply = bob.posted(&call(1)).await;
        if reply.status != 200 {
            break reply;
        }
    };
    callers.check(&refused, "limits.requests_per_second", &Value::Null);
}

#[tokio::test]
async fn bytes_are_limited_whether_they_are_announced_or_not() {
    let upstream = answering().await;
    let settings = [("http.body_bytes_max", "60KiB"), ("limits.principal.bytes_per_minute", "64KiB")];
    let callers = Callers::start(1, &upstream, &settings).await;
    let (mut alice, mut bob) = (callers.alice(), callers.bob());
    alice.initialize("2025-11-25").await;
    bob.initialize("2025-11-25").await;
    let large = |id: u64, bytes: usize| {
        let text = "x".repeat(bytes);
        value!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": "y", "text": text } })
    };
    assert_eq!(alice.posted(&large(1, 40 << 10)).await.status, 200);
    let key = "limits.principal.bytes_per_minute";
    let refused = alice.posted(&large(2, 40 << 10)).await;
    callers.check(&refused, key, &Value::Null);
    assert!((10..=30).contains(&retry_after(&refused)), "16 KiB and some are missing: {refused:?}");
    assert_eq!(alice.posted(&large(3, 10 << 10)).await.status, 200, "there is room for less");
    // Of chunks, nobody knows how many follow.
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nMcp-Session-Id: {}\r\n\
         Content-Type: application/json\r\nAccept: */*\r\nTransfer-Encoding: chunked\r\n\r\n",
        callers.alice,
        alice.session.as_deref().unwrap()
    );
    let mut chunked = Socket::send(&callers.nodes[0].url, head.as_bytes()).await;
    let mut sent = 0;
    while sent < 40 && chunked.write(format!("400\r\n{}\r\n", " ".repeat(1024)).as_bytes()).await.is_ok() {
        sent += 1;
    }
    let answer = chunked.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 429") && answer.contains(key), "{answer}");
    assert_eq!(bob.posted(&large(1, 40 << 10)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flood_by_one_is_nothing_to_the_others() {
    let upstream = answering().await;
    let settings = [
        ("limits.principal.requests_per_second", "20"),
        ("limits.principal.requests_burst", "20"),
        ("limits.requests_per_second", "200"),
    ];
    let callers = Callers::start(1, &upstream, &settings).await;
    let (mut alice, mut bob) = (callers.alice(), callers.bob());
    alice.initialize("2025-11-25").await;
    bob.initialize("2025-11-25").await;
    let (alice, began) = (Arc::new(alice), Instant::now());
    // As fast as it gets answers.
    let flood = async {
        let one = |turn: u64| {
            let alice = alice.clone();
            async move {
                let mut statuses = Vec::new();
                while began.elapsed() < Duration::from_secs(3) {
                    let id = turn * 1_000_000 + statuses.len() as u64;
                    statuses.push(alice.posted(&call(id)).await.status);
                }
                statuses
            }
        };
        futures::future::join_all((0..8).map(one)).await.concat()
    };
    let calm = async {
        let mut statuses = Vec::new();
        while began.elapsed() < Duration::from_secs(3) {
            statuses.push(bob.posted(&call(statuses.len() as u64)).await.status);
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
        statuses
    };
    let (flooded, calm) = futures::join!(flood, calm);
    assert!(calm.len() > 10 && calm.iter().all(|status| *status == 200), "{calm:?}");
    assert!(flooded.iter().all(|status| matches!(status, 200 | 429)));
    let let_in = flooded.iter().filter(|status| **status == 200).count();
    let earned = 20 + 20 * (began.elapsed().as_secs() as usize + 1);
    assert!((20..=earned).contains(&let_in), "{let_in} of {}", flooded.len());
    println!("{let_in} of {} were let in", flooded.len());
}

/// One who asks two nodes in turn, and how often it is let in before it has been refused so often.
async fn in_turn(clients: &[Client; 2], refusals: usize) -> usize {
    let (mut let_in, mut refused) = (0, 0);
    for turn in 0.. {
        match clients[turn % 2].posted(&call(turn as u64)).await.status {
            200 => let_in += 1,
            429 => refused += 1,
            other => panic!("{other}"),
        }
        if refused == refusals {
            break;
        }
    }
    let_in
}

const SHARED: [(&str, &str); 3] = [
    ("limits.shared", "on"),
    ("limits.principal.requests_per_second", "1"),
    ("limits.principal.requests_burst", "30"),
];

async fn at_both(callers: &Callers) -> [Client; 2] {
    let mut alice = callers.alice();
    alice.initialize("2025-11-25").await;
    let mut other = callers.client(1, &callers.alice);
    (other.session, other.version) = (alice.session.clone(), alice.version.clone());
    assert_eq!(other.posted(&call(0)).await.status, 200);
    [alice, other]
}

#[tokio::test]
async fn a_rate_that_nodes_share_is_one() {
    let upstream = answering().await;
    let callers = Callers::start(2, &upstream, &SHARED).await;
    let began = Instant::now();
    let clients = at_both(&callers).await;
    let let_in = 3 + in_turn(&clients, 100).await;
    let earned = usize::try_from(began.elapsed().as_secs()).unwrap() + 1;
    assert!((30..=30 + earned).contains(&let_in), "{let_in} in {:?}", began.elapsed());
    let asked = callers.faults.count()["take"];
    assert!(
        asked <= let_in + 2 * (earned + 1),
        "{asked}: who was refused is not asked for again before its time"
    );
    let refused = clients[1].posted(&call(1)).await;
    check_limited(&refused, &callers.nodes[1], "limits.principal.requests_per_second", &Value::Null);
    tokio::time::sleep(Duration::from_secs(retry_after(&refused))).await;
    assert_eq!(clients[1].posted(&call(1)).await.status, 200);
    assert!(callers.nodes[0].metric("holdfast_shared_rates_total{outcome=\"taken\"}") > Some(2.0));
}

#[tokio::test]
async fn while_there_is_no_answer_each_node_goes_by_its_own() {
    let upstream = answering().await;
    let callers = Callers::start(2, &upstream, &SHARED).await;
    let clients = at_both(&callers).await;
    Faults::set(&callers.faults.away, true);
    let (began, let_in) = (Instant::now(), in_turn(&clients, 4).await);
    let earned = 2 * (usize::try_from(began.elapsed().as_secs()).unwrap() + 2);
    assert!((57..=57 + earned).contains(&let_in), "{let_in} in {:?}: of each, what is left", began.elapsed());
    assert!(callers.nodes[1].metric("holdfast_shared_rates_total{outcome=\"alone\"}") > Some(0.0));
    Faults::set(&callers.faults.away, false);
    let node = &callers.nodes[0];
    let before = node.metric("holdfast_shared_rates_total{outcome=\"taken\"}");
    for _ in 0..100 {
        clients[0].posted(&call(1)).await;
        if node.metric("holdfast_shared_rates_total{outcome=\"taken\"}") > before {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it is not asked again");
}

#[tokio::test]
async fn nobody_waits_long_for_a_rate() {
    let upstream = answering().await;
    let callers = Callers::start(2, &upstream, &SHARED).await;
    let [alice, _] = at_both(&callers).await;
    callers.faults.slow("take", Duration::from_secs(60));
    let began = Instant::now();
    for id in 0..10 {
        assert_eq!(alice.posted(&call(id)).await.status, 200);
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_batch_that_is_larger_than_the_burst_is_let_in_after_a_pause() {
    let upstream = answering().await;
    let settings = [("limits.principal.requests_per_second", "10"), ("limits.principal.requests_burst", "5")];
    let callers = Callers::start(1, &upstream, &settings).await;
    let mut alice = callers.alice();
    alice.initialize("2025-03-26").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let batch: Vec<_> = (1..=9).map(call).collect();
    assert_eq!(alice.posted(&value!(batch)).await.status, 200, "larger than the burst");
    let refused = alice.posted(&call(20)).await;
    callers.check(&refused, "limits.principal.requests_per_second", &Value::Null);
}

#[tokio::test]
async fn whoever_comes_back_is_told_to_wait_and_is_not_refused() {
    let upstream = answering().await;
    let settings = [("limits.principal.streams_max", "1"), ("limits.principal.requests_per_second", "5")];
    let callers = Callers::start(1, &upstream, &settings).await;
    let mut alice = callers.alice();
    alice.initialize("2025-11-25").await;
    let mut open = Stream::new(alice.get(None).await);
    open.primed().await;
    // A position that is lost, beside a stream that nobody knows to be dead.
    let mut told = Stream::new(alice.get(Some("rubbish")).await);
    while told.any().await.is_some() {}
    assert_eq!(told.retries, 1, "it is told when to come again");
    // More often than it may: it waits.
    let position = open.position.take();
    for _ in 0..8 {
        let again = alice.get(position.as_deref()).await;
        assert_eq!(again.status(), 200);
        open = Stream::new(again);
    }
    drop(open);
}
