//! Limits of principals, and of all together: each is met exactly, named, counted and over in time; and a
//! flood by one is nothing to the others.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Response;
use holdfast::app::Shared;
use holdfast::auth::mint;
use hyper::body::Incoming;
use serde_json::{Value, json as value};
use tokio::time::Instant;

use crate::harness::{
    Client, Faults, Gateway, POST, Reply, Socket, Stream, Upstream, call, configured, faulty, initialize,
    json, read, sse, wait_until,
};

/// Nodes on one state, and two who may call.
struct Callers {
    nodes: Vec<Gateway>,
    faults: Arc<Faults>,
    alice: String,
    bob: String,
}

impl Callers {
    async fn start(nodes: usize, upstream: &Upstream, settings: &[(&'static str, &str)]) -> Self {
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

    fn client(&self, node: usize, token: &str) -> Client {
        let mut client = self.nodes[node].client();
        client.token = Some(token.to_owned());
        client
    }

    fn alice(&self) -> Client {
        self.client(0, &self.alice)
    }

    fn bob(&self) -> Client {
        self.client(0, &self.bob)
    }

    fn check(&self, reply: &Reply, key: &str, id: &Value) {
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

async fn answering() -> Upstream {
    Upstream::start(|asked| json(asked, &value!({ "ok": true }))).await
}

/// `tools/call` of `hang` is answered with a stream that says nothing; others in JSON.
async fn hanging() -> Upstream {
    Upstream::start(|asked| match asked.body["params"]["name"].as_str() {
        Some("hang") => {
            let (send, response) = sse();
            std::mem::forget(send);
            response
        }
        _ => json(asked, &value!({ "ok": true })),
    })
    .await
}

fn hang(id: u64) -> Value {
    value!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": "hang" } })
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
async fn running_requests_are_limited_and_can_be_cancelled() {
    let upstream = hanging().await;
    let settings = [
        ("limits.principal.requests_running_max", "2"),
        ("requests.json_wait", "50ms"),
        ("requests.cancel_grace", "50ms"),
    ];
    let callers = Callers::start(1, &upstream, &settings).await;
    let (mut alice, mut bob) = (callers.alice(), callers.bob());
    alice.initialize("2025-11-25").await;
    let mut second = callers.alice();
    second.initialize("2025-11-25").await;
    let first = alice.streamed(&hang(1)).await;
    let _running = second.streamed(&hang(1)).await;
    let key = "limits.principal.requests_running_max";
    // In whichever session, and whoever has left.
    drop(first);
    for client in [&alice, &second] {
        callers.check(&client.posted(&call(7)).await, key, &value!(7));
    }
    callers.check(&alice.posted(&initialize("2025-11-25")).await, key, &value!(0));
    bob.initialize("2025-11-25").await;
    assert_eq!(bob.posted(&call(1)).await.status, 200);
    let note = value!({ "jsonrpc": "2.0", "method": "notifications/x" });
    assert_eq!(alice.posted(&note).await.status, 202);
    let cancel =
        value!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } });
    assert_eq!(alice.posted(&cancel).await.status, 202);
    let gateway = &callers.nodes[0];
    wait_until("one is over", || gateway.metric("holdfast_exchanges") == Some(1.0)).await;
    assert_eq!(alice.posted(&call(8)).await.status, 200);
}

#[tokio::test]
async fn running_requests_are_limited_in_total() {
    let upstream = hanging().await;
    let settings = [("limits.requests_running_max", "1"), ("requests.json_wait", "50ms")];
    let callers = Callers::start(1, &upstream, &settings).await;
    let (mut alice, mut bob) = (callers.alice(), callers.bob());
    alice.initialize("2025-11-25").await;
    bob.initialize("2025-11-25").await;
    let _running = alice.streamed(&hang(1)).await;
    callers.check(&bob.posted(&call(2)).await, "limits.requests_running_max", &value!(2));
}

#[tokio::test]
async fn streams_are_limited_and_who_comes_back_takes_its_own_place() {
    let upstream = hanging().await;
    let settings = [("limits.principal.streams_max", "1"), ("requests.json_wait", "50ms")];
    let callers = Callers::start(1, &upstream, &settings).await;
    let (mut alice, mut bob) = (callers.alice(), callers.bob());
    alice.initialize("2025-11-25").await;
    let mut older = Stream::new(alice.get(None).await);
    older.primed().await;
    let key = "limits.principal.streams_max";
    callers.check(&read(alice.get(None).await).await, key, &Value::Null);
    callers.check(&read(alice.sse().await).await, key, &Value::Null);
    bob.initialize("2025-11-25").await;
    let _bobs = Stream::new(bob.get(None).await);
    // Its connection is dead, and nobody but the client knows.
    let newer = Stream::new(alice.get(older.position.as_deref()).await);
    assert!(older.rest().await.is_empty(), "it is closed");
    drop((older, newer));
    let gateway = &callers.nodes[0];
    wait_until("the place is free", || gateway.metric("holdfast_streams{kind=\"get\"}") == Some(1.0)).await;
    let _again = Stream::new(alice.get(None).await);
}

#[tokio::test]
async fn a_modern_request_without_a_place_for_its_stream_is_answered_in_json() {
    let upstream = Upstream::bare(|asked| match asked.rpc() {
        "tools/call" => {
            let (send, response) = sse();
            let line = |text: &Value| format!("data: {text}\n\n");
            let step = value!({ "jsonrpc": "2.0", "method": "notifications/x" });
            send.try_send(line(&step)).unwrap();
            let done = value!({ "jsonrpc": "2.0", "id": asked.body["id"], "result": { "ok": true } });
            send.try_send(line(&done)).unwrap();
            response
        }
        _ => {
            let (send, response) = sse();
            std::mem::forget(send);
            response
        }
    })
    .await;
    let settings = [
        ("limits.principal.streams_max", "1"),
        ("requests.json_wait", "50ms"),
        ("servers.default.era", "modern"),
    ];
    let callers = Callers::start(1, &upstream, &settings).await;
    let alice = callers.alice();
    let send = async |id, method| modern(&alice, id, method).await;
    let _listening = Stream::new(send(1, "subscriptions/listen").await);
    let called = read(send(2, "tools/call").await).await;
    assert_eq!((called.status, called.header("content-type")), (200, "application/json"), "{called:?}");
    assert_eq!(called.json()["result"]["ok"], true);
    let refused = read(send(3, "subscriptions/listen").await).await;
    callers.check(&refused, "limits.principal.streams_max", &value!(3));
    let asked = upstream.count(|asked| asked.rpc() == "subscriptions/listen");
    assert_eq!(asked, 1, "it is refused before its server is asked");
}

#[tokio::test]
async fn what_listens_counts_as_a_stream_whatever_its_answer_looks_like() {
    let upstream = Upstream::bare(|_| {
        let (send, response) = sse();
        std::mem::forget(send);
        response
    })
    .await;
    let settings = [
        ("limits.principal.streams_max", "1"),
        ("servers.default.era", "modern"),
        ("servers.default.answers", "json"),
    ];
    let callers = Callers::start(1, &upstream, &settings).await;
    let alice = callers.alice();
    let listened = || upstream.count(|asked| asked.rpc() == "subscriptions/listen");
    let first = modern(&alice, 1, "subscriptions/listen");
    let second = async {
        wait_until("the first is under way", || listened() == 1).await;
        read(modern(&alice, 2, "subscriptions/listen").await).await
    };
    let refused = tokio::select! {
        response = first => panic!("{response:?}"),
        refused = second => refused,
    };
    callers.check(&refused, "limits.principal.streams_max", &value!(2));
    assert_eq!(listened(), 1);
    let gateway = &callers.nodes[0];
    wait_until("its client left", || gateway.metric("holdfast_streams{kind=\"post\"}") == Some(0.0)).await;
    let third = modern(&alice, 3, "subscriptions/listen");
    tokio::select! {
        response = third => panic!("{response:?}"),
        () = wait_until("the place is free", || listened() == 2) => {}
    }
}

/// A request of the stateless era.
async fn modern(client: &Client, id: u64, method: &str) -> Response<Incoming> {
    let meta = value!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let params = value!({ "name": "t", "_meta": meta });
    let message = value!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
    let mut headers = POST.to_vec();
    headers.extend([("mcp-protocol-version", "2026-07-28"), ("mcp-method", method)]);
    headers.extend((method == "tools/call").then_some(("mcp-name", "t")));
    client.send("POST", "/mcp", &headers, &message.to_string()).await
}

#[tokio::test]
async fn nothing_of_a_batch_that_is_refused_goes_further() {
    let upstream = hanging().await;
    let settings = [("limits.principal.requests_running_max", "1"), ("requests.json_wait", "50ms")];
    let callers = Callers::start(1, &upstream, &settings).await;
    let mut alice = callers.alice();
    alice.initialize("2025-03-26").await;
    let _running = alice.streamed(&hang(1)).await;
    let before = upstream.asked().len();
    let answer = value!({ "jsonrpc": "2.0", "id": "q", "result": { "action": "accept" } });
    let cancel =
        value!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } });
    for first in [answer, cancel] {
        let refused = alice.posted(&value!([first, call(7)])).await;
        callers.check(&refused, "limits.principal.requests_running_max", &Value::Null);
    }
    assert_eq!(upstream.asked().len(), before);
    assert_eq!(callers.nodes[0].metric("holdfast_exchanges"), Some(1.0), "nor is anything cancelled");
}

#[tokio::test]
async fn a_session_that_nobody_got_leaves_its_place() {
    let upstream = answering().await;
    let callers = Callers::start(1, &upstream, &[("limits.principal.sessions_max", "1")]).await;
    callers.faults.forget("load");
    assert_eq!(read(callers.alice().sse().await).await.status, 503);
    assert_eq!(callers.alice().sse().await.status(), 200);
}

#[tokio::test]
async fn sessions_are_limited_where_they_are_opened_until_they_end_anywhere() {
    let upstream = answering().await;
    let settings = [("limits.principal.sessions_max", "1")];
    let callers = Callers::start(2, &upstream, &settings).await;
    let mut alice = callers.alice();
    alice.initialize("2025-11-25").await;
    let opened = || upstream.count(|asked| asked.rpc() == "initialize");
    assert_eq!(opened(), 1);
    let key = "limits.principal.sessions_max";
    callers.check(&callers.alice().posted(&initialize("2025-11-25")).await, key, &value!(0));
    callers.check(&read(callers.alice().sse().await).await, key, &Value::Null);
    assert_eq!(opened(), 1, "the server is not asked for nothing");
    callers.bob().initialize("2025-11-25").await;
    // Another node has places of its own.
    callers.client(1, &callers.alice).initialize("2025-11-25").await;
    let mut elsewhere = callers.client(1, &callers.alice);
    (elsewhere.session, elsewhere.version) = (alice.session.clone(), alice.version.clone());
    assert_eq!(elsewhere.delete().await.status, 204);
    let mut again = callers.alice();
    for _ in 0..500 {
        if again.try_initialize("2025-11-25").await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the node that opened it did not hear of its end");
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
