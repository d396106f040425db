//! Servers of which each node has its own: a session's requests reach the one that opened it, through
//! whichever node they come.

use std::time::Duration;

use holdfast::app::Shared;
use holdfast::config::Config;
use holdfast::lifecycle::Ending;
use serde_json::{Value, json as value};
use tokio::time::Instant;

use crate::harness::{
    Client, Faults, Gateway, Hand, Mortal, POST, Stream, call, configured, faulty, initialized, read,
    request, step, steps, wait_until,
};

/// What follows from a node's death takes no longer.
const SOON: Duration = Duration::from_secs(6);

const ASKED: &str = "holdfast_relays{side=\"asked\"}";
const SERVED: &str = "holdfast_relays{side=\"served\"}";

/// Each node's own server, and the settings that lead to it.
struct Sidecars {
    a: Hand,
    b: Hand,
    config_a: Config,
    config_b: Config,
}

impl Sidecars {
    async fn start(settings: &[(&'static str, &str)]) -> Self {
        let mut settings = settings.to_vec();
        settings.extend([("servers.default.pinned", "on"), ("requests.json_wait", "10s")]);
        let a = Hand::opening(|asked| initialized(asked, "up-a")).await;
        let b = Hand::opening(|asked| initialized(asked, "up-b")).await;
        let config_a = configured(&a.upstream.url, &settings);
        let config_b = configured(&b.upstream.url, &settings);
        Self { a, b, config_a, config_b }
    }

    /// What the first node's server was asked, and nothing reached the other one's.
    fn only_a(&self, rpc: &str) -> usize {
        assert_eq!(self.b.upstream.asked().len(), 0, "{:?}", self.b.upstream.asked());
        self.a.upstream.count(|asked| asked.rpc() == rpc)
    }
}

fn elsewhere(client: &Client, node: &Gateway) -> Client {
    let mut elsewhere = node.client();
    (elsewhere.session, elsewhere.version) = (client.session.clone(), client.version.clone());
    elsewhere
}

/// Two nodes, a session of the first one's server, and its client at the second.
struct Pair {
    servers: Sidecars,
    a: Gateway,
    b: Gateway,
    client: Client,
}

impl Pair {
    async fn start(settings: &[(&'static str, &str)]) -> Self {
        let servers = Sidecars::start(settings).await;
        let shared = Shared::memory(&servers.config_a);
        let a = Gateway::start_on(&servers.config_a, shared.clone()).await;
        let b = Gateway::start_on(&servers.config_b, shared).await;
        let mut client = a.client();
        client.initialize("2025-11-25").await;
        let client = elsewhere(&client, &b);
        Self { servers, a, b, client }
    }

    /// Nothing is left of any relay, at either end.
    async fn nothing_is_left(&self) {
        wait_until("no relay is left", || {
            self.a.metric(SERVED) == Some(0.0) && self.b.metric(ASKED) == Some(0.0)
        })
        .await;
    }
}

/// The first node can be killed.
struct Doomed {
    servers: Sidecars,
    doomed: Mortal,
    b: Gateway,
    client: Client,
}

impl Doomed {
    async fn start() -> Self {
        let servers = Sidecars::start(&[]).await;
        let shared = Shared::memory(&servers.config_a);
        let doomed = Mortal::start(&servers.config_a, shared.clone());
        let b = Gateway::start_on(&servers.config_b, shared).await;
        wait_until("both are alive", || b.metric("holdfast_nodes") == Some(2.0)).await;
        let mut client = doomed.client();
        client.initialize("2025-11-25").await;
        let client = elsewhere(&client, &b);
        Self { servers, doomed, b, client }
    }
}

#[tokio::test]
async fn p1_a_call_through_another_node_reaches_the_server_that_has_the_session() {
    let pair = Pair::start(&[]).await;
    let body = call(1).to_string();
    let mut headers = POST.to_vec();
    headers.push(("mcp-session-id", pair.client.session.as_deref().unwrap()));
    headers.push(("mcp-protocol-version", "2025-11-25"));
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    headers.push(("traceparent", trace));
    let (reply, ()) = futures::join!(pair.client.ask("POST", "/mcp", &headers, &body), async {
        let answer = pair.servers.a.take("tools/call").await;
        assert_eq!(answer.asked.header("mcp-session-id"), "up-a");
        assert_eq!(answer.asked.header("traceparent"), trace);
        assert_eq!(answer.asked.raw, body);
        answer.finish().await;
    });
    assert_eq!((reply.status, reply.json()["result"]["ok"].clone()), (200, value!(true)));
    assert_eq!(pair.servers.only_a("tools/call"), 1);
    pair.nothing_is_left().await;
    let ended = |how| pair.b.metric(&format!("holdfast_relays_ended_total{{outcome=\"{how}\"}}")).unwrap();
    // Of a stream nobody awaits the end once the answer is there.
    assert_eq!((ended("finished") + ended("dropped"), ended("failed")), (1.0, 0.0));
}

#[tokio::test]
async fn progress_questions_answers_and_cancels_go_both_ways() {
    let pair = Pair::start(&[]).await;
    let body = call(1);
    let (mut stream, answer) = futures::join!(pair.client.streamed(&body), async {
        let answer = pair.servers.a.take("tools/call").await;
        answer.say(&step(1)).await;
        answer
    });
    assert_eq!(stream.message().await["params"]["progress"], 1);
    answer.say(&step(2)).await;
    assert_eq!(stream.message().await["params"]["progress"], 2);
    let question = value!({ "jsonrpc": "2.0", "id": 77, "method": "elicitation/create", "params": {} });
    answer.say(&question).await;
    assert_eq!(stream.message().await["id"], 77);
    let reply = value!({ "jsonrpc": "2.0", "id": 77, "result": { "action": "decline" } });
    assert_eq!(pair.client.posted(&reply).await.status, 202);
    assert_eq!(pair.servers.a.upstream.count(|asked| asked.body == reply), 1, "acknowledged is arrived");
    let cancel =
        value!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } });
    assert_eq!(pair.client.posted(&cancel).await.status, 202);
    assert_eq!(pair.servers.only_a("notifications/cancelled"), 1);
    answer.finish().await;
    assert_eq!(stream.rest().await.last().unwrap()["result"]["ok"], true);
    pair.nothing_is_left().await;
}

#[tokio::test]
async fn what_the_server_says_unasked_arrives_through_another_node() {
    let pair = Pair::start(&[]).await;
    let mut stream = Stream::new(pair.client.get(None).await);
    let own = pair.servers.a.take("GET").await;
    for number in 1..=20 {
        own.say_as(&format!("e-{number}"), &step(number)).await;
    }
    for number in 1..=20 {
        assert_eq!(stream.message().await["params"]["progress"], number);
    }
    assert_eq!(pair.client.delete().await.status, 204);
    wait_until("the server is told", || pair.servers.a.upstream.count(|asked| asked.method == "DELETE") == 1)
        .await;
    assert!(stream.rest().await.is_empty());
    wait_until("its stream is closed", || own.is_closed()).await;
    assert_eq!(pair.servers.only_a("tools/call"), 0);
    pair.nothing_is_left().await;
}

#[tokio::test]
async fn who_no_longer_waits_leaves_nothing_running_elsewhere() {
    let pair = Pair::start(&[("requests.timeout", "300ms")]).await;
    let body = call(1);
    let (reply, answer) =
        futures::join!(pair.client.posted(&body), async { pair.servers.a.take("tools/call").await });
    assert_eq!(reply.status, 504);
    wait_until("the far request is let go", || answer.is_closed()).await;
    wait_until("the server is told", || pair.servers.only_a("notifications/cancelled") == 1).await;
    pair.nothing_is_left().await;
    assert_eq!(pair.b.metric("holdfast_relays_ended_total{outcome=\"dropped\"}"), Some(1.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dies_leaves_nothing_running_elsewhere() {
    let Doomed { servers, doomed, b, .. } = Doomed::start().await;
    let mut at_b = b.client();
    at_b.initialize("2025-11-25").await;
    let mut through_doomed = doomed.client();
    (through_doomed.session, through_doomed.version) = (at_b.session.clone(), at_b.version.clone());
    let body = call(1);
    let (stream, answer) = futures::join!(through_doomed.streamed(&body), async {
        let answer = servers.b.take("tools/call").await;
        answer.say(&step(1)).await;
        answer
    });
    assert_eq!(b.metric(SERVED), Some(1.0));
    doomed.kill();
    drop(stream);
    tokio::time::sleep(Duration::from_secs(5)).await;
    wait_until("silence ends it", || answer.is_closed() && b.metric(SERVED) == Some(0.0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_whose_node_died_is_opened_anew_at_another_nodes_server() {
    let Doomed { servers, doomed, b, client } = Doomed::start().await;
    let level =
        value!({ "jsonrpc": "2.0", "id": 1, "method": "logging/setLevel", "params": { "level": "debug" } });
    let (set, ()) = futures::join!(client.posted(&level), async {
        servers.a.take("logging/setLevel").await.finish().await;
    });
    assert_eq!(set.status, 200);
    doomed.kill();
    let died = Instant::now();
    let body = call(2);
    let (reply, ()) = futures::join!(client.posted(&body), async {
        servers.b.take("logging/setLevel").await.finish().await;
        let answer = servers.b.take("tools/call").await;
        assert_eq!(answer.asked.header("mcp-session-id"), "up-b");
        answer.finish().await;
    });
    assert_eq!((reply.status, reply.json()["result"]["ok"].clone()), (200, value!(true)));
    assert!(died.elapsed() < SOON, "{:?}", died.elapsed());
    let asked: Vec<_> = servers.b.upstream.asked().iter().map(|asked| asked.rpc().to_owned()).collect();
    let opened = ["initialize", "notifications/initialized", "logging/setLevel", "tools/call"];
    assert_eq!(asked, opened);
    assert_eq!(servers.a.upstream.count(|asked| asked.rpc() == "tools/call"), 0);
    assert_eq!(b.metric("holdfast_upstream_sessions_lost_total"), Some(1.0));
    assert_eq!(b.metric("holdfast_relays_ended_total{outcome=\"node_gone\"}"), Some(1.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_a_call_at_a_dead_nodes_server_ends_with_an_error_and_is_not_run_again() {
    for streams in [false, true] {
        let Doomed { servers, doomed, b, client } = Doomed::start().await;
        let body = call(1);
        let kill = async {
            let answer = servers.a.take("tools/call").await;
            if streams {
                answer.say(&step(1)).await;
                wait_until("it streams", || b.metric("holdfast_streams{kind=\"post\"}") == Some(1.0)).await;
            }
            doomed.kill();
            (answer, Instant::now())
        };
        let (response, (_answer, died)) = futures::join!(client.post(&body), kill);
        let error = if streams {
            let messages = Stream::new(response).rest().await;
            assert_eq!(steps(&messages), [1]);
            messages.last().unwrap().clone()
        } else {
            let reply = read(response).await;
            assert_eq!(reply.status, 502);
            reply.json()
        };
        assert_eq!((error["id"].clone(), error["error"]["code"].clone()), (value!(1), value!(-32000)));
        assert!(died.elapsed() < SOON, "{:?}", died.elapsed());
        assert_eq!(servers.b.upstream.count(|asked| asked.rpc() == "tools/call"), 0, "it may have run");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_a_dead_nodes_call_goes_on_at_the_server_that_has_the_session() {
    let servers = Sidecars::start(&[]).await;
    let shared = Shared::memory(&servers.config_a);
    let a = Gateway::start_on(&servers.config_a, shared.clone()).await;
    let doomed = Mortal::start(&servers.config_b, shared.clone());
    let c = Gateway::start_on(&servers.config_b, shared).await;
    wait_until("all are alive", || c.metric("holdfast_nodes") == Some(3.0)).await;
    let mut client = a.client();
    client.initialize("2025-11-25").await;
    let mut through_doomed = doomed.client();
    (through_doomed.session, through_doomed.version) = (client.session.clone(), client.version.clone());
    let body = call(1);
    let (mut stream, answer) = futures::join!(through_doomed.streamed(&body), async {
        let answer = servers.a.take("tools/call").await;
        answer.say_as("e-1", &step(1)).await;
        answer
    });
    assert_eq!(stream.message().await["params"]["progress"], 1);
    let position = stream.position.clone().unwrap();
    let died = Instant::now();
    doomed.kill();
    let mut resumed = Stream::new(elsewhere(&client, &c).get(Some(&position)).await);
    let again = servers.a.take("GET").await;
    assert_eq!(again.asked.header("last-event-id"), "e-1");
    let result = value!({ "jsonrpc": "2.0", "id": 1, "result": { "ok": true } });
    again.say_as("e-2", &step(2)).await;
    again.say_as("e-3", &result).await;
    let rest = resumed.rest().await;
    assert_eq!((steps(&rest), rest.last()), (vec![2], Some(&result)));
    assert!(died.elapsed() < SOON, "{:?}", died.elapsed());
    assert_eq!(servers.only_a("tools/call"), 1, "it is never run twice");
    wait_until("the dead node's relay is let go", || answer.is_closed()).await;
}

#[tokio::test]
async fn an_http_sse_session_has_its_server_where_it_was_initialized() {
    let Pair { servers, a, b, .. } = Pair::start(&[]).await;
    let client = a.client();
    let mut stream = Stream::new(client.sse().await);
    let endpoint = String::from_utf8(stream.event().await.unwrap().data.unwrap().to_vec()).unwrap();
    let params = value!({ "protocolVersion": "2024-11-05", "capabilities": {},
        "clientInfo": { "name": "old", "version": "1" } });
    let initialize = request(0, "initialize", &params).to_string();
    assert_eq!(b.client().ask("POST", &endpoint, &POST, &initialize).await.status, 202);
    assert_eq!(stream.message().await["id"], 0);
    let own = servers.b.take("GET").await;
    own.say(&step(7)).await;
    assert_eq!(stream.message().await["params"]["progress"], 7, "its own stream is read from there");
    assert_eq!(client.ask("POST", &endpoint, &POST, &call(1).to_string()).await.status, 202);
    servers.b.take("tools/call").await.finish().await;
    assert_eq!(stream.message().await["result"]["ok"], true);
    assert_eq!(servers.a.upstream.count(|asked| asked.rpc() == "tools/call"), 0);
}

#[tokio::test]
async fn p7_without_the_bus_only_what_needs_another_nodes_server_is_refused() {
    let servers = Sidecars::start(&[]).await;
    let (shared, faults) = faulty(Shared::memory(&servers.config_a));
    let a = Gateway::start_on(&servers.config_a, shared.clone()).await;
    let b = Gateway::start_on(&servers.config_b, shared).await;
    let mut client = a.client();
    client.initialize("2025-11-25").await;
    let through_b = elsewhere(&client, &b);
    Faults::set(&faults.cut, true);
    let asked = Instant::now();
    let refused = through_b.posted(&call(1)).await;
    assert_eq!((refused.status, refused.code()), (502, -32000));
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    let body = call(2);
    let (reply, ()) = futures::join!(client.posted(&body), async {
        servers.a.take("tools/call").await.finish().await;
    });
    assert_eq!(reply.status, 200, "{reply:?}");
    Faults::set(&faults.cut, false);
    let body = call(3);
    let (reply, ()) = futures::join!(through_b.posted(&body), async {
        servers.a.take("tools/call").await.finish().await;
    });
    assert_eq!(reply.status, 200, "the session was not given up: {reply:?}");
    assert_eq!(servers.only_a("tools/call"), 2);
    assert_eq!(b.metric("holdfast_upstream_sessions_lost_total"), Some(0.0));
}

#[tokio::test]
async fn p6_a_node_that_ends_finishes_what_others_asked_of_its_server() {
    let servers = Sidecars::start(&[("drain.notice", "100ms")]).await;
    let (shared, faults) = faulty(Shared::memory(&servers.config_a));
    Faults::set(&faults.lasting, true);
    let a = Gateway::start_on(&servers.config_a, shared.clone()).await;
    let b = Gateway::start_on(&servers.config_b, shared).await;
    let mut client = a.client();
    client.initialize("2025-11-25").await;
    let client = elsewhere(&client, &b);
    let (body, more, again) = (call(1), call(2), call(3));
    let (reply, ending) = futures::join!(client.posted(&body), async {
        let answer = servers.a.take("tools/call").await;
        let finish = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let (reply, ()) = futures::join!(client.posted(&more), async {
                servers.a.take("tools/call").await.finish().await;
            });
            assert_eq!(reply.status, 200, "while one runs there the session stays: {reply:?}");
            answer.finish().await;
            wait_until("nothing runs there", || b.metric(ASKED) == Some(0.0)).await;
            let (reply, ()) = futures::join!(client.posted(&again), async {
                servers.b.take("tools/call").await.finish().await;
            });
            assert_eq!(reply.status, 200, "then another node's server has it: {reply:?}");
        };
        futures::join!(a.stop(), finish).0
    });
    assert_eq!((reply.status, reply.json()["result"]["ok"].clone()), (200, value!(true)));
    assert_eq!(ending, Ending::Clean);
    assert_eq!(b.metric("holdfast_upstream_sessions_lost_total"), Some(1.0));
}

#[tokio::test]
async fn what_stands_alone_goes_to_the_nodes_own_server() {
    let servers = Sidecars::start(&[("servers.default.sessions", "stateless")]).await;
    let shared = Shared::memory(&servers.config_a);
    let _a = Gateway::start_on(&servers.config_a, shared.clone()).await;
    let b = Gateway::start_on(&servers.config_b, shared).await;
    let mut client = b.client();
    client.version = Some("2025-11-25".to_owned());
    let body = call(1);
    let (reply, ()) = futures::join!(client.posted(&body), async {
        servers.b.take("tools/call").await.finish().await;
    });
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(servers.a.upstream.asked().len(), 0);
    assert_eq!(b.metric(ASKED), Some(0.0));
    let _: Value = reply.json();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_a_stream_follows_its_session_to_another_nodes_server() {
    // Held by the node whose server is given up, and by the one that opens the new session.
    for at_the_old in [true, false] {
        let pair = Pair::start(&[]).await;
        let holder = if at_the_old { &pair.a } else { &pair.b };
        let mut unasked = Stream::new(elsewhere(&pair.client, holder).get(None).await);
        let old = pair.servers.a.take("GET").await;
        old.say_as("e-1", &step(1)).await;
        assert_eq!(unasked.message().await["params"]["progress"], 1);
        pair.a.hub().leave_relays();
        // What runs there for its own clients keeps the session, as its questions may be answered anywhere.
        let own = elsewhere(&pair.client, &pair.a);
        let (running, more, body) = (call(1), call(2), call(3));
        let (reply, ()) = futures::join!(own.posted(&running), async {
            let running = pair.servers.a.take("tools/call").await;
            let (reply, ()) = futures::join!(pair.client.posted(&more), async {
                pair.servers.a.take("tools/call").await.finish().await;
            });
            assert_eq!(reply.status, 200, "{reply:?}");
            running.finish().await;
        });
        assert_eq!(reply.status, 200, "{reply:?}");
        wait_until("the relay is over", || pair.b.metric(ASKED) == Some(f64::from(u8::from(!at_the_old))))
            .await;
        let (reply, ()) = futures::join!(pair.client.posted(&body), async {
            pair.servers.b.take("tools/call").await.finish().await;
        });
        assert_eq!(reply.status, 200, "{reply:?}");
        pair.servers.b.take("GET").await.say_as("e-1", &step(2)).await;
        assert_eq!(unasked.message().await["params"]["progress"], 2);
        wait_until("the old one is not read any more", || old.is_closed()).await;
    }
}

#[tokio::test]
async fn a_session_of_the_time_before_its_server_was_pinned_is_never_looked_for_at_a_nodes_own() {
    let pinned = Sidecars::start(&[]).await;
    let plain = configured(&pinned.a.upstream.url, &[("requests.json_wait", "10s")]);
    for (first, then) in [
        (&plain, &pinned.config_b),
        (&pinned.config_a, &configured(&pinned.b.upstream.url, &[("requests.json_wait", "10s")])),
    ] {
        let shared = Shared::memory(first);
        let old = Gateway::start_on(first, shared.clone()).await;
        let new = Gateway::start_on(then, shared).await;
        let mut client = old.client();
        client.initialize("2025-11-25").await;
        let client = elsewhere(&client, &new);
        let body = call(1);
        let (reply, ()) = futures::join!(client.posted(&body), async {
            let answer = pinned.b.take("tools/call").await;
            assert_eq!(answer.asked.header("mcp-session-id"), "up-b", "not the other server's");
            answer.finish().await;
        });
        assert_eq!(reply.status, 200, "{reply:?}");
    }
}
