//! What one node does while an answer of the store, or another node, is on its way.

use std::sync::Arc;
use std::time::Duration;

use holdfast::app::Shared;
use holdfast::domain::{EventId, Fence, NodeId, RequestId, SessionId, StreamId, StreamKey};
use holdfast::hub::Audience;
use holdfast::ports::{Attach, Attached, Begin, Begun, Envelope, Lane, Lease, Parcel, Takeover};
use holdfast::protocol::jsonrpc::Message;
use serde_json::{Value, json as value};
use tokio::time::{Instant, sleep, timeout};

use crate::harness::{
    Client, Faults, Gateway, Hand, Socket, Stream, call, configured, faulty, step, steps, wait_until,
};

/// Time enough for everything that is not late on purpose.
const SOON: Duration = Duration::from_secs(5);

/// Two nodes, each behind faults of its own, on one state.
struct Pair {
    hand: Hand,
    a: Gateway,
    b: Gateway,
    faults_a: Arc<Faults>,
    faults_b: Arc<Faults>,
    shared: Shared,
    client: Client,
    elsewhere: Client,
}

impl Pair {
    async fn start(settings: &[(&'static str, &str)]) -> Self {
        let hand = Hand::start().await;
        let config = configured(&hand.upstream.url, settings);
        let shared = Shared::memory(&config);
        let (shared_a, faults_a) = faulty(shared.clone());
        let (shared_b, faults_b) = faulty(shared.clone());
        let a = Gateway::start_on(&config, shared_a).await;
        let b = Gateway::start_on(&config, shared_b).await;
        let mut client = a.client();
        client.initialize("2025-11-25").await;
        let mut elsewhere = b.client();
        (elsewhere.session, elsewhere.version) = (client.session.clone(), client.version.clone());
        Self { hand, a, b, faults_a, faults_b, shared, client, elsewhere }
    }

    fn session(&self) -> SessionId {
        SessionId::parse(self.client.session.as_deref().unwrap()).unwrap()
    }

    /// A message for the session's GET stream, from one of the nodes.
    async fn publish(&self, from: &Gateway, number: u64) {
        let message = Message::parse(step(number).to_string().into_bytes().into()).unwrap();
        from.hub().publish(&Audience::Session(self.session()), &message).await.unwrap();
    }

    async fn holder(&self, stream: &StreamId) -> Option<NodeId> {
        let seen = self.shared.store.inspect(&self.session()).await.unwrap().unwrap();
        let stream = seen.streams.into_iter().find(|seen| seen.stream == *stream)?;
        stream.binding.map(|binding| binding.node)
    }

    async fn until_held_by(&self, stream: &StreamId, node: Option<&NodeId>) {
        for _ in 0..1000 {
            if self.holder(stream).await.as_ref() == node {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("{stream} is held by {:?}, not by {node:?}", self.holder(stream).await);
    }
}

async fn heard(stream: &mut Stream) -> Value {
    timeout(SOON, stream.message()).await.expect("it hears")
}

#[tokio::test]
async fn a_client_that_goes_while_its_stream_is_bound_leaves_no_binding_behind() {
    let pair = Pair::start(&[]).await;
    pair.faults_a.delay("attach", Duration::from_millis(500), 1);
    pair.faults_a.count();
    let session = pair.client.session.clone().unwrap();
    let headers = [("Accept", "text/event-stream"), ("Mcp-Session-Id", &*session)];
    let socket = Socket::request(&pair.a.url, "GET", "/mcp", &headers, "").await;
    pair.until_held_by(&StreamId::get(), Some(pair.a.hub().node())).await;
    drop(socket);
    pair.until_held_by(&StreamId::get(), None).await;
    // So what is said meanwhile waits for whoever comes next.
    pair.publish(&pair.b, 1).await;
    let mut stream = Stream::new(pair.elsewhere.get(None).await);
    assert_eq!(steps(&[heard(&mut stream).await]), [1]);
}

#[tokio::test]
async fn a_binding_is_given_back_even_if_the_store_is_away_when_its_client_goes() {
    let pair = Pair::start(&[]).await;
    let stream = Stream::new(pair.client.get(None).await);
    Faults::set(&pair.faults_a.away, true);
    drop(stream);
    wait_until("it is closed", || pair.a.metric("holdfast_streams{kind=\"get\"}") == Some(0.0)).await;
    Faults::set(&pair.faults_a.away, false);
    pair.until_held_by(&StreamId::get(), None).await;
}

#[tokio::test]
async fn a_large_event_that_is_appended_while_its_stream_is_bound_is_not_left_in_the_log() {
    let pair = Pair::start(&[]).await;
    let body = call(1);
    let (mut stream, answer) = futures::join!(pair.client.streamed(&body), async {
        let answer = pair.hand.take("tools/call").await;
        answer.say(&step(0)).await;
        answer
    });
    stream.message().await;
    let position = stream.position.clone().unwrap();
    drop(stream);
    pair.faults_b.delay("attach", Duration::from_millis(500), 1);
    pair.faults_b.count();
    let (mut moved, ()) =
        futures::join!(async { Stream::new(pair.elsewhere.get(Some(&position)).await) }, async {
            wait_until("it is bound", || pair.faults_b.taken.lock().unwrap().contains_key("attach")).await;
            let mut large = step(1);
            large["params"]["padding"] = value!("x".repeat(100_000));
            answer.say(&large).await;
        });
    assert_eq!(steps(&[heard(&mut moved).await]), [1]);
}

#[tokio::test]
async fn l19_what_is_said_while_the_older_stream_is_bound_again_reaches_it() {
    let pair = Pair::start(&[]).await;
    let mut older = Stream::new(pair.client.get(None).await);
    let newer = Stream::new(pair.client.get(None).await);
    pair.faults_a.delay("attach", Duration::from_millis(500), 1);
    pair.faults_a.count();
    drop(newer);
    wait_until("it is bound", || pair.faults_a.taken.lock().unwrap().contains_key("attach")).await;
    pair.publish(&pair.b, 1).await;
    assert_eq!(steps(&[heard(&mut older).await]), [1]);
}

#[tokio::test]
async fn l19_a_stream_that_learns_late_that_it_was_bound_hears_again_when_the_newer_one_ends() {
    let pair = Pair::start(&[]).await;
    pair.faults_a.delay("attach", Duration::from_millis(500), 1);
    let (older, newer) = futures::join!(pair.client.get(None), async {
        pair.until_held_by(&StreamId::get(), Some(pair.a.hub().node())).await;
        Stream::new(pair.elsewhere.get(None).await)
    });
    let mut older = Stream::new(older);
    drop(newer);
    pair.until_held_by(&StreamId::get(), Some(pair.a.hub().node())).await;
    pair.publish(&pair.b, 1).await;
    assert_eq!(steps(&[heard(&mut older).await]), [1]);
}

#[tokio::test]
async fn a_word_of_an_older_binding_that_comes_late_stops_nothing() {
    let pair = Pair::start(&[]).await;
    let mut stream = Stream::new(pair.client.get(None).await);
    let server = pair.hand.take("GET").await;
    let key = StreamKey { session: pair.session(), stream: StreamId::get() };
    let late = Envelope::Rebound { stream: key, fence: Fence(1), takeover: Takeover::Resumed };
    let (from, lane) = (pair.b.hub().node().clone(), Lane::Direct);
    let parcel = Parcel { from, lane, number: 1, envelope: late, trace: None };
    pair.shared.bus.send(pair.a.hub().node(), parcel).await.unwrap();
    sleep(Duration::from_millis(200)).await;
    assert!(!server.is_closed(), "it is still the one who reads");
    server.say(&step(1)).await;
    assert_eq!(steps(&[heard(&mut stream).await]), [1]);
}

#[tokio::test]
async fn a_resume_that_is_lost_and_then_meets_a_store_that_is_away_is_told_to_come_again() {
    let pair = Pair::start(&[]).await;
    let mut stream = Stream::new(pair.client.get(None).await);
    pair.publish(&pair.b, 1).await;
    stream.message().await;
    let position = stream.position.clone().unwrap();
    drop(stream);
    // A position that was never given out.
    let (name, _) = position.rsplit_once('-').unwrap();
    let unknown = format!("{name}-99");
    pair.faults_a.leave_after("attach", 1);
    let mut told = Stream::new(pair.client.get(Some(&unknown)).await);
    assert!(told.rest().await.is_empty());
    assert_eq!(told.retries, 1);
}

#[tokio::test]
async fn p8_a_gap_while_the_store_is_away_is_looked_into_once_at_a_time() {
    let pair = Pair::start(&[]).await;
    let body = call(1);
    let (mut stream, answer) = futures::join!(pair.client.streamed(&body), async {
        let answer = pair.hand.take("tools/call").await;
        answer.say(&step(0)).await;
        answer
    });
    stream.message().await;
    let mut moved = Stream::new(pair.elsewhere.get(stream.position.as_deref()).await);
    Faults::set(&pair.faults_a.deaf, true);
    answer.say(&step(1)).await;
    wait_until("it is lost", || pair.a.metric("holdfast_events_appended_total") == Some(2.0)).await;
    Faults::set(&pair.faults_a.deaf, false);
    Faults::set(&pair.faults_b.away, true);
    for number in 2..60 {
        answer.say(&step(number)).await;
    }
    sleep(Duration::from_millis(500)).await;
    pair.faults_b.count();
    sleep(Duration::from_secs(1)).await;
    let looked = pair.faults_b.count().get("attach").copied().unwrap_or_default();
    Faults::set(&pair.faults_b.away, false);
    assert!(looked <= 20, "{looked} looks in a second");
    let mut all = Vec::new();
    while all.len() < 59 {
        all.push(heard(&mut moved).await);
    }
    assert_eq!(steps(&all), (1..60).collect::<Vec<_>>());
}

#[tokio::test]
async fn p8_places_of_ended_streams_are_free_soon_however_slow_the_store_is() {
    let pair = Pair::start(&[]).await;
    let mut streams = Vec::new();
    for _ in 0..12 {
        streams.push(Stream::new(pair.client.get(None).await));
    }
    pair.faults_a.delay("release", Duration::from_millis(500), usize::MAX);
    let ended = Instant::now();
    drop(streams);
    wait_until("all are free", || pair.a.metric("holdfast_streams{kind=\"get\"}") == Some(0.0)).await;
    assert!(ended.elapsed() < Duration::from_secs(3), "{:?}", ended.elapsed());
}

#[tokio::test]
async fn p5_many_frozen_nodes_do_not_cost_a_healthy_one_its_lease() {
    let hand = Hand::start().await;
    let config = configured(&hand.upstream.url, &[("cluster.lease", "800ms")]);
    let shared = Shared::memory(&config);
    let (faulty_shared, faults) = faulty(shared.clone());
    Faults::set(&faults.frozen, true);
    let gateway = Gateway::start_on(&config, faulty_shared).await;
    for _ in 0..10 {
        let lifetime = Duration::from_millis(800);
        let lease = Lease { node: NodeId::incarnate("frozen"), lifetime, facts: String::new() };
        shared.store.beat(&lease).await.unwrap();
    }
    wait_until("they are known", || gateway.metric("holdfast_nodes") == Some(11.0)).await;
    let until = Instant::now() + Duration::from_secs(6);
    while Instant::now() < until {
        let alive = shared.store.nodes().await.unwrap();
        assert!(alive.iter().any(|seen| seen.node == *gateway.hub().node()), "its lease ran out");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn m6_a_store_that_is_slow_to_end_sessions_does_not_silence_the_others() {
    let hand = Hand::start().await;
    let settings = [("sessions.sse_grace", "0s"), ("streams.keep_alive_interval", "500ms")];
    let config = configured(&hand.upstream.url, &settings);
    let (shared, faults) = faulty(Shared::memory(&config));
    let gateway = Gateway::start_on(&config, shared).await;
    let mut client = gateway.client();
    client.initialize("2025-06-18").await;
    let session = client.session.clone().unwrap();
    let headers = [("Accept", "text/event-stream"), ("Mcp-Session-Id", &*session)];
    let mut socket = Socket::request(&gateway.url, "GET", "/mcp", &headers, "").await;
    faults.delay("close", Duration::from_secs(2), usize::MAX);
    for _ in 0..10 {
        drop(Stream::new(client.sse().await));
    }
    let comments = |body: &[u8]| body.iter().filter(|byte| **byte == b':').count();
    sleep(Duration::from_secs(2)).await;
    let before = comments(&socket.hear(|_| true).await.body);
    let more =
        timeout(Duration::from_secs(5), socket.hear(|heard| comments(&heard.body) >= before + 3)).await;
    assert!(more.is_ok(), "it falls silent");
}

#[tokio::test]
async fn a_hint_that_the_bus_lost_is_given_after_all() {
    let pair = Pair::start(&[]).await;
    let mut stream = Stream::new(pair.elsewhere.get(None).await);
    let changed = value!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" });
    let hint = Message::parse(changed.to_string().into_bytes().into()).unwrap();
    Faults::set(&pair.faults_a.deaf, true);
    pair.a.hub().publish(&Audience::All, &hint).await.unwrap();
    Faults::set(&pair.faults_a.deaf, false);
    assert_eq!(heard(&mut stream).await["method"], "notifications/tools/list_changed");
}

#[tokio::test]
async fn an_inbox_that_closes_is_opened_again() {
    let pair = Pair::start(&[]).await;
    let mut stream = Stream::new(pair.client.get(None).await);
    // Another one takes its place, and goes.
    drop(pair.shared.bus.open_inbox(pair.a.hub().node()).await.unwrap());
    for number in 1..4 {
        pair.publish(&pair.b, number).await;
    }
    let heard = [heard(&mut stream).await, heard(&mut stream).await, heard(&mut stream).await];
    assert_eq!(steps(&heard), [1, 2, 3]);
}

#[tokio::test]
async fn l19_an_older_stream_hears_again_even_if_it_was_not_told_that_the_newer_one_ended() {
    let pair = Pair::start(&[]).await;
    let mut older = Stream::new(pair.client.get(None).await);
    let newer = Stream::new(pair.elsewhere.get(None).await);
    Faults::set(&pair.faults_b.deaf, true);
    drop(newer);
    pair.until_held_by(&StreamId::get(), None).await;
    wait_until("it is lost", || {
        pair.faults_b.taken.lock().unwrap().get("announce").is_some_and(|count| *count >= 1)
    })
    .await;
    Faults::set(&pair.faults_b.deaf, false);
    pair.publish(&pair.b, 1).await;
    assert_eq!(steps(&[heard(&mut older).await]), [1]);
}

#[tokio::test]
async fn p5_a_client_that_waits_for_what_nobody_runs_is_told_when_its_time_is_over() {
    let pair = Pair::start(&[]).await;
    // As if the node that recorded it had lost it: it is alive, and nothing runs.
    let request = RequestId::from_json("7");
    let stream = StreamKey {
        session: pair.session(),
        stream: StreamId::post(std::slice::from_ref(&request), fastrand::u128(..)),
    };
    let begin = Begin {
        stream: stream.clone(),
        requests: vec![request],
        runner: pair.a.hub().node().clone(),
        lifetime: Duration::from_secs(1),
        bind: false,
        upstream_event: None,
    };
    let Begun::Recorded { top, .. } = pair.shared.store.begin(&begin).await.unwrap() else { panic!() };
    let position = EventId { session: None, stream: stream.stream, number: top }.to_string();
    let mut waiting = Stream::new(pair.elsewhere.get(Some(&position)).await);
    let told = heard(&mut waiting).await;
    assert_eq!((told["id"].clone(), told["error"]["code"].clone()), (value!(7), value!(-32000)));
    assert!(waiting.rest().await.is_empty());
}

#[tokio::test]
async fn p7_an_answer_in_json_does_not_wait_for_each_message_that_can_not_be_logged() {
    let pair = Pair::start(&[("servers.default.answers", "json")]).await;
    Faults::set(&pair.faults_a.away, true);
    let body = call(1);
    let began = Instant::now();
    let (reply, ()) = futures::join!(pair.client.posted(&body), async {
        let answer = pair.hand.take("tools/call").await;
        for number in 0..5 {
            answer.say(&step(number)).await;
        }
        answer.finish().await;
    });
    assert_eq!(reply.json()["result"]["ok"], true);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_binding_that_nobody_was_told_of_is_given_back() {
    let pair = Pair::start(&[]).await;
    pair.faults_a.forget("attach");
    assert_eq!(pair.client.get(None).await.status(), 503);
    assert_eq!(pair.holder(&StreamId::get()).await.as_ref(), Some(pair.a.hub().node()));
    pair.until_held_by(&StreamId::get(), None).await;
}

/// Two attempts of one client to bind its stream: the second was answered, and then the first one runs.
#[tokio::test]
async fn p3_a_stream_whose_node_was_bound_again_by_a_late_attempt_misses_nothing() {
    for padding in [0, 100_000] {
        let pair = Pair::start(&[]).await;
        let mut stream = Stream::new(pair.client.get(None).await);
        let late = Attach {
            stream: StreamKey { session: pair.session(), stream: StreamId::get() },
            node: pair.a.hub().node().clone(),
            position: None,
            reassert: None,
            not_after_ms: None,
        };
        let Attached::Bound { .. } = pair.shared.store.attach(&late).await.unwrap() else {
            panic!("not bound")
        };
        let mut said = step(1);
        said["params"]["padding"] = value!("x".repeat(padding));
        let message = Message::parse(said.to_string().into_bytes().into()).unwrap();
        pair.b.hub().publish(&Audience::Session(pair.session()), &message).await.unwrap();
        let rest = timeout(SOON, stream.rest()).await.expect("it is sent to come again");
        assert!(rest.is_empty(), "{rest:?}");
        let mut resumed = Stream::new(pair.client.get(stream.position.as_deref()).await);
        assert_eq!(steps(&[heard(&mut resumed).await]), [1]);
    }
}

#[tokio::test]
async fn p8_lost_positions_open_no_more_streams() {
    let pair = Pair::start(&[("limits.streams_per_session_max", "2")]).await;
    let mut stream = Stream::new(pair.client.get(None).await);
    stream.primed().await;
    let position = stream.position.clone().unwrap();
    let (name, _) = position.rsplit_once('-').unwrap();
    let unknown = format!("{name}-99");
    for _ in 0..4 {
        // Whoever resumes, wherever it says it was, has let go of what it had.
        let next = Stream::new(pair.client.get(Some(&unknown)).await);
        let _told = stream.rest().await;
        stream = next;
        let open = || pair.a.metric("holdfast_streams{kind=\"get\"}") == Some(1.0);
        wait_until("one is left", open).await;
    }
}
