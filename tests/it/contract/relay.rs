//! Relays over every bus: what was sent arrives whole and in order at either end, or not at all; nobody is
//! held up or left behind by who does not read, does not answer or is gone.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use holdfast::domain::{NodeId, ServerName};
use holdfast::hub::Relays;
use holdfast::lifecycle::Tasks;
use holdfast::ports::{
    Bus, BusError, Inbox, Parcel, PortFuture, RelayAnswer, RelayAsk, RelayId, RelayRefusal, RelayStep,
};
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
const SOON: Duration = Duration::from_secs(5);

/// What is said of a request that nobody asks about any more.
const LET_GO: Duration = Duration::from_secs(13);

type Answered = Result<Response<Received>, BoxError>;

/// A node's own server. It counts what it was asked.
pub(super) struct Own {
    answer: Box<dyn Fn(Request<Bytes>) -> BoxFuture<'static, Answered> + Send + Sync>,
    pub runs: AtomicUsize,
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

    fn runs(&self) -> usize {
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
    node: NodeId,
    /// To its own server, or through the node that a request names.
    pub client: HttpClient,
    bus: Arc<dyn Bus>,
    metrics: Metrics,
    tasks: Tasks,
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

    fn open(&self) -> [f64; 2] {
        let text = self.metrics.render();
        ["asked", "served"].map(|side| {
            let line = format!("holdfast_relays{{side=\"{side}\"}} ");
            text.lines().find_map(|found| found.strip_prefix(&*line)).unwrap().parse().unwrap()
        })
    }

    async fn until_nothing_is_open(&self, within: Duration) {
        let since = Instant::now();
        while self.open() != [0.0, 0.0] {
            assert!(since.elapsed() < within, "still open: {:?}", self.open());
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Asks a step by hand, as node `by`.
async fn ask(bus: &dyn Bus, to: &NodeId, relay: u64, step: RelayStep) -> RelayAnswer {
    let relay = RelayId { from: node("by-hand"), number: relay };
    bus.relay(to, RelayAsk { relay, step }, SOON).await.unwrap()
}

fn opening(head: &'static [u8]) -> RelayStep {
    RelayStep::Open { server: server(), lifetime: None, head: Bytes::from_static(head) }
}

/// So many bytes that no piece is like another.
fn bytes(length: usize) -> Bytes {
    (0..length / 8 + 1).flat_map(|index| (index as u64).to_be_bytes()).take(length).collect()
}

fn whole(body: Bytes) -> Answered {
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
fn endless() -> (Arc<Own>, Arc<AtomicUsize>, Arc<AtomicBool>) {
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
fn silent() -> (Arc<Own>, Arc<AtomicBool>) {
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

fn unasked() -> Arc<Own> {
    Own::answering(async |_| panic!("this node's own server is not meant"))
}

async fn until(what: &str, within: Duration, reached: impl Fn() -> bool) {
    let since = Instant::now();
    while !reached() {
        assert!(since.elapsed() < within, "not within {within:?}: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn ends(buses: &impl Joining, own: Arc<Own>) -> (End, End) {
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

pub(crate) async fn a_far_end_that_dies_is_an_error_and_nothing_runs_twice(buses: &impl Joining) {
    for (answers, after_ms) in [(true, 100), (false, 100), (false, 3000)] {
        let own = if answers { endless().0 } else { silent().0 };
        let (near, far) = ends(buses, own.clone()).await;
        let killed = async {
            until("it runs", SOON, || own.runs() == 1).await;
            sleep(Duration::from_millis(after_ms)).await;
            far.tasks.finish(Duration::from_secs(1)).await;
            Instant::now()
        };
        let (answered, died) = futures::join!(near.post(&far.node, bytes(10)), killed);
        match answered {
            Ok(response) => {
                assert!(answers, "it may have run: {:?}", response.status());
                let mut body = response.into_body();
                let broke = async { while let Some(Ok(_)) = body.frame().await {} };
                timeout(Duration::from_secs(9), broke).await.expect("it ends");
            }
            Err(_) => assert!(!answers),
        }
        assert!(died.elapsed() < Duration::from_secs(9), "{:?}", died.elapsed());
        assert_eq!(own.runs(), 1);
        near.until_nothing_is_open(SOON).await;
    }
}

pub(crate) async fn a_near_end_that_dies_is_not_waited_for(buses: &impl Joining) {
    let (own, _, dropped) = endless();
    let (near, far) = ends(buses, own).await;
    let want = RelayStep::Want { number: 1, within: SOON };
    assert_eq!(ask(&*near.bus, &far.node, 1, opening(b"POST")).await, RelayAnswer::Taken);
    assert!(matches!(ask(&*near.bus, &far.node, 1, want).await, RelayAnswer::Part { number: 1, .. }));
    assert_eq!(
        ask(&*near.bus, &far.node, 2, opening(b"POST")).await,
        RelayAnswer::Taken,
        "and one that begins"
    );
    assert_eq!(far.open(), [0.0, 2.0]);
    until("it is let go", LET_GO, || dropped.load(Ordering::SeqCst)).await;
    far.until_nothing_is_open(SOON).await;
}

pub(crate) async fn steps_that_are_missing_end_it_and_repeated_ones_do_no_harm(buses: &impl Joining) {
    let own = Own::answering(async |request: Request<Bytes>| whole(request.into_body()));
    let (near, far) = ends(buses, own.clone()).await;
    let (bus, to) = (&*near.bus, &far.node);
    let piece = |number| RelayStep::Piece { number, bytes: bytes(10) };
    let want = |number| RelayStep::Want { number, within: SOON };
    let refused = RelayAnswer::Refused;
    assert_eq!(ask(bus, to, 1, want(1)).await, refused(RelayRefusal::Unknown));
    ask(bus, to, 1, opening(b"POST")).await;
    assert_eq!(ask(bus, to, 1, piece(2)).await, refused(RelayRefusal::OutOfOrder), "a lost piece");
    assert_eq!(ask(bus, to, 1, want(1)).await, refused(RelayRefusal::Unknown), "it is over");
    ask(bus, to, 2, opening(b"POST")).await;
    assert_eq!(ask(bus, to, 2, want(2)).await, refused(RelayRefusal::OutOfOrder));
    assert_eq!(own.runs(), 0, "nothing ran by half");
    for _ in 0..2 {
        assert_eq!(ask(bus, to, 3, opening(b"POST\nx-asked:1")).await, RelayAnswer::Taken);
        assert_eq!(ask(bus, to, 3, piece(1)).await, RelayAnswer::Taken);
    }
    let head = ask(bus, to, 3, want(1)).await;
    assert!(matches!(head, RelayAnswer::Part { number: 1, last: false, .. }), "{head:?}");
    assert_eq!(ask(bus, to, 3, want(1)).await, head, "an answer that was lost");
    let part = RelayAnswer::Part { number: 2, last: true, bytes: bytes(10) };
    assert_eq!(ask(bus, to, 3, want(2)).await, part);
    assert_eq!(ask(bus, to, 3, want(2)).await, part);
    assert_eq!(
        ask(bus, to, 3, want(1)).await,
        refused(RelayRefusal::OutOfOrder),
        "what was taken is forgotten"
    );
    assert_eq!(ask(bus, to, 3, RelayStep::Drop).await, RelayAnswer::Taken, "also of what is over");
    assert_eq!(own.runs(), 1);
    let other = ServerName::parse("other").unwrap();
    let open = RelayStep::Open { server: other, lifetime: None, head: Bytes::from_static(b"POST") };
    assert_eq!(ask(bus, to, 4, open).await, refused(RelayRefusal::NoServer));
    assert_eq!(ask(bus, to, 5, opening(b"\xff")).await, refused(RelayRefusal::Unreadable));
    assert_eq!(far.open(), [0.0, 0.0]);
}

pub(crate) async fn when_its_time_is_over_so_is_the_far_request(buses: &impl Joining) {
    let (own, dropped) = silent();
    let lifetime = Duration::from_millis(700);
    let near = End::start(buses.join("one").await, "near", unasked(), lifetime).await;
    let far = End::start(buses.join("one").await, "far", own, Duration::from_secs(60)).await;
    let asked = Instant::now();
    let error = near.post(&far.node, bytes(10)).await.unwrap_err();
    assert!(error.to_string().contains("time is over"), "{error}");
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    assert!(dropped.load(Ordering::SeqCst));
    let get = Request::get("http://sidecar/mcp").extension(far.node.clone()).body(Full::default()).unwrap();
    let open = timeout(Duration::from_secs(3), near.client.send(get)).await;
    assert!(open.is_err(), "a GET may wait for longer");
}

pub(crate) async fn what_fails_at_the_far_server_fails_here(buses: &impl Joining) {
    let own = Own::answering(async |request: Request<Bytes>| {
        if request.body().is_empty() {
            return Err("no such luck".into());
        }
        let frames = [Ok(Frame::data(bytes(10))), Err::<_, BoxError>("it broke".into())];
        let body = StreamBody::new(futures::stream::iter(frames).chain(futures::stream::pending()));
        Ok(Response::new(Received::within(body)))
    });
    let (near, far) = ends(buses, own).await;
    let error = near.post(&far.node, Bytes::new()).await.unwrap_err();
    assert!(error.to_string().contains("no such luck"), "{error}");
    let mut body = near.post(&far.node, bytes(1)).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), bytes(10), "what came before");
    let error = body.frame().await.unwrap().unwrap_err();
    assert!(error.to_string().contains("it broke"), "{error}");
    assert!(body.frame().await.is_none());
}

/// What happens to a step on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Arrives,
    Lost,
    AnswerLost,
    Twice,
    /// Another part is answered than was asked for.
    Mistaken,
}

#[derive(Debug)]
struct Faulty {
    bus: Arc<dyn Bus>,
    fates: &'static [Fate],
    steps: AtomicUsize,
}

impl Bus for Faulty {
    fn open_inbox<'a>(&'a self, node: &'a NodeId) -> PortFuture<'a, Result<Inbox, BusError>> {
        self.bus.open_inbox(node)
    }

    fn send<'a>(&'a self, to: &'a NodeId, parcel: Parcel) -> PortFuture<'a, Result<(), BusError>> {
        self.bus.send(to, parcel)
    }

    fn announce(&self, parcel: Parcel) -> PortFuture<'_, Result<(), BusError>> {
        self.bus.announce(parcel)
    }

    fn ping<'a>(&'a self, node: &'a NodeId, patience: Duration) -> PortFuture<'a, Result<(), BusError>> {
        self.bus.ping(node, patience)
    }

    fn relay<'a>(
        &'a self,
        to: &'a NodeId,
        ask: RelayAsk,
        patience: Duration,
    ) -> PortFuture<'a, Result<RelayAnswer, BusError>> {
        let step = self.steps.fetch_add(1, Ordering::SeqCst);
        let fate = self.fates[step % self.fates.len()];
        Box::pin(async move {
            if fate == Fate::Lost {
                return Err(BusError::Unavailable);
            }
            if fate == Fate::Twice {
                self.bus.relay(to, ask.clone(), patience).await?;
            }
            match (fate, self.bus.relay(to, ask, patience).await?) {
                (Fate::AnswerLost, _) => Err(BusError::Unavailable),
                (Fate::Mistaken, RelayAnswer::Part { number, last, bytes }) => {
                    Ok(RelayAnswer::Part { number: number + 1, last, bytes })
                }
                (_, answer) => Ok(answer),
            }
        })
    }
}

async fn faulty(buses: &impl Joining, own: Arc<Own>, fates: &'static [Fate]) -> (End, End) {
    let bus = Faulty { bus: buses.join("one").await, fates, steps: AtomicUsize::new(0) };
    let near = End::start(Arc::new(bus), "near", unasked(), Duration::from_secs(60)).await;
    (near, End::start(buses.join("one").await, "far", own, Duration::from_secs(60)).await)
}

pub(crate) async fn what_the_bus_loses_or_repeats_is_made_good(buses: &impl Joining) {
    const FATES: &[Fate] = &[Fate::Arrives, Fate::Lost, Fate::AnswerLost, Fate::Twice, Fate::Arrives];
    let own = Own::answering(async |request: Request<Bytes>| whole(request.into_body()));
    let (near, far) = faulty(buses, own.clone(), FATES).await;
    let sent = bytes(600_000);
    let response = near.post(&far.node, sent.clone()).await.unwrap();
    assert!(response.into_body().collect().await.unwrap().to_bytes() == sent);
    assert_eq!(own.runs(), 1, "and nothing runs twice");
}

pub(crate) async fn a_part_that_was_not_asked_for_ends_it_with_an_error(buses: &impl Joining) {
    let (own, _, dropped) = endless();
    const FATES: &[Fate] = &[Fate::Arrives, Fate::Arrives, Fate::Arrives, Fate::Mistaken];
    let (near, far) = faulty(buses, own, FATES).await;
    let mut body = near.post(&far.node, Bytes::new()).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    body.frame().await.unwrap().unwrap_err();
    until("it is let go", SOON, || dropped.load(Ordering::SeqCst)).await;
}

/// For paused time.
pub(crate) async fn silence_costs_little_and_what_comes_then_arrives_at_once(buses: &impl Joining) {
    let (say, heard) = tokio::sync::mpsc::channel::<Bytes>(4);
    let heard = std::sync::Mutex::new(Some(heard));
    let own = Own::answering(move |_| {
        let mut heard = heard.lock().unwrap().take().expect("it runs once");
        let said = futures::stream::poll_fn(move |context| heard.poll_recv(context));
        let body = Received::within(StreamBody::new(said.map(|said| Ok(Frame::data(said)))));
        async move { Ok(Response::new(body)) }
    });
    let bus = Arc::new(Faulty {
        bus: buses.join("one").await,
        fates: &[Fate::Arrives],
        steps: AtomicUsize::new(0),
    });
    let near = End::start(bus.clone(), "near", unasked(), SOON).await;
    let far = End::start(buses.join("one").await, "far", own, SOON).await;
    let get = Request::get("http://sidecar/mcp").extension(far.node.clone()).body(Full::default()).unwrap();
    let mut body = near.client.send(get).await.unwrap().into_body();
    for round in 0..3_u8 {
        let before = bus.steps.load(Ordering::SeqCst);
        sleep(Duration::from_secs(600)).await;
        let steps = bus.steps.load(Ordering::SeqCst) - before;
        assert!(steps <= 42, "{steps} questions in ten minutes");
        let said = Instant::now();
        say.send(Bytes::from(vec![round])).await.unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), vec![round]);
        assert!(said.elapsed() < Duration::from_millis(10), "{:?}", said.elapsed());
    }
}

macro_rules! relay_contract {
    (#[$test:meta] $buses:expr) => {
        $crate::contract::instantiate! { #[$test] $buses;
            relay: five_mebibytes_travel_whole_in_both_directions,
                a_request_without_body_and_an_answer_without_one, many_go_at_the_same_time,
                a_slow_reader_holds_the_far_end_up_and_is_waited_for,
                who_lets_go_of_a_response_ends_the_far_request,
                who_lets_go_before_there_is_an_answer_ends_the_far_request,
                where_nobody_listens_the_session_is_forgotten,
                a_far_end_that_dies_is_an_error_and_nothing_runs_twice,
                a_near_end_that_dies_is_not_waited_for,
                steps_that_are_missing_end_it_and_repeated_ones_do_no_harm,
                when_its_time_is_over_so_is_the_far_request, what_fails_at_the_far_server_fails_here,
                what_the_bus_loses_or_repeats_is_made_good,
                a_part_that_was_not_asked_for_ends_it_with_an_error;
        }
    };
}

pub(crate) use relay_contract;
