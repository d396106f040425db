//! Relays over every bus: what was sent arrives whole and in order at either end; who reads slowly is waited
//! for, and who lets go leaves nothing behind.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use holdfast::domain::NodeId;
use holdfast::hub::Relays;
use holdfast::lifecycle::Tasks;
use holdfast::ports::{Bus, Inbox, RelayAnswer, RelayAsk, RelayId, RelayStep};
use holdfast::telemetry::Metrics;
use holdfast::upstream::{BoxError, HttpClient, Received, Transport};
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use tokio::time::{Instant, sleep, timeout};

use super::bus::Joining;
use super::{node, server};

const MIB: usize = 1 << 20;

/// Time enough for everything that is not late on purpose.
pub(super) const SOON: Duration = Duration::from_secs(5);

pub(super) type Answered = Result<Response<Received>, BoxError>;

/// A node's own server. It counts what it was asked.
pub(super) struct Own {
    answer: Box<dyn Fn(Request<Bytes>) -> BoxFuture<'static, Answered> + Send + Sync>,
    runs: AtomicUsize,
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Own")
    }
}

impl Own {
    pub(super) fn answering<F>(answer: impl Fn(Request<Bytes>) -> F + Send + Sync + 'static) -> Arc<Self>
    where
        F: Future<Output = Answered> + Send + 'static,
    {
        let answer = Box::new(move |request| -> BoxFuture<'static, Answered> { Box::pin(answer(request)) });
        Arc::new(Self { answer, runs: AtomicUsize::new(0) })
    }

    pub(super) fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }
}

impl Transport for Own {
    fn send(&self, request: Request<Full<Bytes>>) -> BoxFuture<'_, Answered> {
        Box::pin(async move {
            self.runs.fetch_add(1, Ordering::SeqCst);
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            (self.answer)(Request::from_parts(head, body)).await
        })
    }
}

/// One node, as far as relays go.
pub(super) struct End {
    pub node: NodeId,
    /// To its own server, or through the node that a request names.
    pub client: HttpClient,
    pub bus: Arc<dyn Bus>,
    metrics: Metrics,
    pub tasks: Tasks,
}

impl End {
    pub(super) async fn start(bus: Arc<dyn Bus>, name: &str, own: Arc<Own>, lifetime: Duration) -> Self {
        let (node, tasks, metrics) = (node(name), Tasks::new(), Metrics::new());
        let relays = Relays::new(node.clone(), bus.clone(), tasks.clone(), metrics.clone());
        let uri = "http://sidecar/mcp".parse().unwrap();
        let client = relays.pin(server(), uri, HttpClient::within(own), lifetime);
        let Inbox { messages, relays: mut steps, .. } = bus.open_inbox(&node).await.unwrap();
        tasks.spawn_until_stopped(async move {
            while let Some(step) = steps.recv().await {
                relays.serve(step);
            }
            drop(messages);
        });
        Self { node, client, bus, metrics, tasks }
    }

    /// Sends a POST through the node `holder`.
    pub(super) async fn post(&self, holder: &NodeId, body: Bytes) -> Answered {
        let request = Request::post("http://sidecar/mcp").header("x-asked", "1");
        self.client.send(request.extension(holder.clone()).body(Full::new(body)).unwrap()).await
    }

    pub(super) fn open(&self) -> [f64; 2] {
        let text = self.metrics.render();
        ["asked", "served"].map(|side| {
            let line = format!("holdfast_relays{{side=\"{side}\"}} ");
            text.lines().find_map(|found| found.strip_prefix(&*line)).unwrap().parse().unwrap()
        })
    }

    pub(super) async fn until_nothing_is_open(&self, within: Duration) {
        let since = Instant::now();
        while self.open() != [0.0, 0.0] {
            assert!(since.elapsed() < within, "still open: {:?}", self.open());
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Asks a step by hand, as node `by`.
pub(super) async fn ask(bus: &dyn Bus, to: &NodeId, relay: u64, step: RelayStep) -> RelayAnswer {
    let relay = RelayId { from: node("by-hand"), number: relay };
    bus.relay(to, RelayAsk { relay, step }, SOON).await.unwrap()
}

pub(super) fn opening(head: &'static [u8], pieces: u64) -> RelayStep {
    RelayStep::Open { server: server(), lifetime: None, moves: false, pieces, head: Bytes::from_static(head) }
}

/// So many bytes that no piece is like another.
pub(super) fn bytes(length: usize) -> Bytes {
    (0..length / 8 + 1).flat_map(|index| (index as u64).to_be_bytes()).take(length).collect()
}

pub(super) fn whole(body: Bytes) -> Answered {
    Ok(Response::new(Received::within(Full::new(body).map_err(|never| match never {}))))
}

/// Sets its flag when it is dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Frames of 16 KiB without end, how many were read, and whether they were let go.
pub(super) fn endless() -> (Arc<Own>, Arc<AtomicUsize>, Arc<AtomicBool>) {
    let (read, dropped) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
    let (counted, told) = (read.clone(), dropped.clone());
    let own = Own::answering(move |_| {
        let (counted, guard) = (counted.clone(), Dropped(told.clone()));
        async move {
            let frames = futures::stream::repeat_with(move || {
                let _ = &guard;
                let index = counted.fetch_add(1, Ordering::SeqCst);
                Ok(Frame::data(Bytes::from(vec![index as u8; 16 * 1024])))
            });
            Ok(Response::new(Received::within(StreamBody::new(frames))))
        }
    });
    (own, read, dropped)
}

/// A server that never answers, and whether its request was let go.
pub(super) fn silent() -> (Arc<Own>, Arc<AtomicBool>) {
    let dropped = Arc::<AtomicBool>::default();
    let told = dropped.clone();
    let own = Own::answering(move |_| {
        let guard = Dropped(told.clone());
        async move {
            std::future::pending::<()>().await;
            drop(guard);
            whole(Bytes::new())
        }
    });
    (own, dropped)
}

pub(super) fn unasked() -> Arc<Own> {
    Own::answering(async |_| panic!("this node's own server is not meant"))
}

pub(super) async fn until(what: &str, within: Duration, reached: impl Fn() -> bool) {
    let since = Instant::now();
    while !reached() {
        assert!(since.elapsed() < within, "not within {within:?}: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

pub(super) async fn ends(buses: &impl Joining, own: Arc<Own>) -> (End, End) {
    let lifetime = Duration::from_secs(60);
    let near = End::start(buses.join("one").await, "near", unasked(), lifetime).await;
    (near, End::start(buses.join("one").await, "far", own, lifetime).await)
}

pub(crate) async fn five_mebibytes_travel_whole_in_both_directions(buses: &impl Joining) {
    let own = Own::answering(async |request: Request<Bytes>| {
        assert_eq!(request.headers()["x-asked"], "1");
        let response = Response::builder().status(203).header("x", "1").header("x", "\u{fc}");
        let frames = [request.into_body(), bytes(1), bytes(100_000)];
        let frames = frames.map(|frame| Ok::<_, BoxError>(Frame::data(frame)));
        let body = StreamBody::new(futures::stream::iter(frames));
        Ok(response.body(Received::within(body)).unwrap())
    });
    let (near, far) = ends(buses, own.clone()).await;
    let sent = bytes(5 * MIB + 17);
    let response = near.post(&far.node, sent.clone()).await.unwrap();
    assert_eq!(response.status(), 203);
    assert_eq!(response.headers().get_all("x").iter().count(), 2);
    let received = response.into_body().collect().await.unwrap().to_bytes();
    let expected = [sent, bytes(1), bytes(100_000)].concat();
    assert!(received == expected, "{} bytes for {}", received.len(), expected.len());
    assert_eq!(own.runs(), 1);
    near.until_nothing_is_open(SOON).await;
    far.until_nothing_is_open(SOON).await;
}

pub(crate) async fn a_request_without_body_and_an_answer_without_one(buses: &impl Joining) {
    let own = Own::answering(async |request: Request<Bytes>| {
        assert_eq!((request.method(), request.body().len()), (&Method::DELETE, 0));
        whole(Bytes::new())
    });
    let (near, far) = ends(buses, own).await;
    let request = Request::delete("http://sidecar/mcp").extension(far.node.clone());
    let response = near.client.send(request.body(Full::default()).unwrap()).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), 0);
    far.until_nothing_is_open(SOON).await;
}

pub(crate) async fn many_go_at_the_same_time(buses: &impl Joining) {
    let own = Own::answering(async |request: Request<Bytes>| {
        sleep(Duration::from_millis(u64::from(request.body()[7]))).await;
        whole(request.into_body())
    });
    let (near, far) = ends(buses, own).await;
    let calls = (1..40).map(async |index: usize| {
        let sent = bytes(index * 5_000);
        let response = near.post(&far.node, sent.clone()).await.unwrap();
        assert!(response.into_body().collect().await.unwrap().to_bytes() == sent);
    });
    futures::future::join_all(calls).await;
    far.until_nothing_is_open(SOON).await;
}

pub(crate) async fn a_slow_reader_holds_the_far_end_up_and_is_waited_for(buses: &impl Joining) {
    let (own, read, dropped) = endless();
    let (near, far) = ends(buses, own).await;
    let mut body = near.post(&far.node, Bytes::new()).await.unwrap().into_body();
    sleep(Duration::from_secs(12)).await;
    let ahead = read.load(Ordering::SeqCst);
    assert!(ahead <= 16, "{ahead} frames of 16 KiB were read, and nobody wanted them");
    assert!(!dropped.load(Ordering::SeqCst), "it is waited for longer than for somebody silent");
    let mut taken = 0;
    while taken < 3 * MIB {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        for byte in frame {
            assert_eq!(byte, (taken / (16 * 1024)) as u8, "at {taken}");
            taken += 1;
        }
    }
    let ahead = read.load(Ordering::SeqCst) - taken / (16 * 1024);
    assert!(ahead <= 16, "{ahead}");
}

pub(crate) async fn who_lets_go_of_a_response_ends_the_far_request(buses: &impl Joining) {
    let (own, _read, dropped) = endless();
    let (near, far) = ends(buses, own).await;
    let mut body = near.post(&far.node, Bytes::new()).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    assert_eq!((near.open(), far.open()), ([1.0, 0.0], [0.0, 1.0]));
    drop(body);
    until("it is let go", Duration::from_secs(1), || dropped.load(Ordering::SeqCst)).await;
    near.until_nothing_is_open(SOON).await;
    far.until_nothing_is_open(SOON).await;
}

pub(crate) async fn who_lets_go_before_there_is_an_answer_ends_the_far_request(buses: &impl Joining) {
    let (own, dropped) = silent();
    let (near, far) = ends(buses, own.clone()).await;
    let asked = timeout(Duration::from_millis(500), near.post(&far.node, bytes(10))).await;
    assert!(asked.is_err(), "there is no answer");
    assert_eq!(own.runs(), 1);
    until("it is let go", Duration::from_secs(1), || dropped.load(Ordering::SeqCst)).await;
    near.until_nothing_is_open(SOON).await;
}

pub(crate) async fn where_nobody_listens_the_session_is_forgotten(buses: &impl Joining) {
    let near = End::start(buses.join("one").await, "near", unasked(), SOON).await;
    let asked = Instant::now();
    let response = near.post(&node("gone"), bytes(100_000)).await.unwrap();
    assert_eq!(response.status(), 404, "as by a server that knows it no longer");
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    near.until_nothing_is_open(SOON).await;
}

macro_rules! relay_contract {
    (#[$test:meta] $buses:expr) => {
        $crate::contract::instantiate! { #[$test] $buses;
            relay: five_mebibytes_travel_whole_in_both_directions,
                a_request_without_body_and_an_answer_without_one, many_go_at_the_same_time,
                a_slow_reader_holds_the_far_end_up_and_is_waited_for,
                who_lets_go_of_a_response_ends_the_far_request,
                who_lets_go_before_there_is_an_answer_ends_the_far_request,
                where_nobody_listens_the_session_is_forgotten;
            relay_faults: a_far_end_that_dies_is_an_error_and_nothing_runs_twice,
                a_near_end_that_dies_is_not_waited_for,
                steps_that_are_missing_end_it_and_repeated_ones_do_no_harm,
                when_its_time_is_over_so_is_the_far_request, what_fails_at_the_far_server_fails_here,
                what_the_bus_loses_or_repeats_is_made_good,
                a_part_that_was_not_asked_for_ends_it_with_an_error;
        }
    };
}

pub(crate) use relay_contract;
