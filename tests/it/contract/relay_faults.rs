//! Relays where something fails: an end dies, the bus loses, repeats or mistakes, the server breaks. What
//! arrives is whole or an error, nothing runs twice, and nothing is left behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use holdfast::domain::{NodeId, ServerName};
use holdfast::ports::{
    Bus, BusError, Inbox, Parcel, PortFuture, RelayAnswer, RelayAsk, RelayRefusal, RelayStep,
};
use holdfast::upstream::{BoxError, Received};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use tokio::time::{Instant, sleep, timeout};

use super::bus::Joining;
use super::relay::{End, Own, SOON, ask, bytes, endless, ends, opening, silent, unasked, until, whole};

/// Who asks nothing is gone after ten seconds.
const LET_GO: Duration = Duration::from_secs(13);

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
    assert_eq!(ask(&*near.bus, &far.node, 1, opening(b"POST", 0)).await, RelayAnswer::Taken);
    assert!(matches!(ask(&*near.bus, &far.node, 1, want).await, RelayAnswer::Part { number: 1, .. }));
    assert_eq!(
        ask(&*near.bus, &far.node, 2, opening(b"POST", 0)).await,
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
    ask(bus, to, 1, opening(b"POST", 2)).await;
    assert_eq!(ask(bus, to, 1, piece(2)).await, refused(RelayRefusal::OutOfOrder), "a lost piece");
    assert_eq!(ask(bus, to, 1, want(1)).await, refused(RelayRefusal::Unknown), "it is over");
    ask(bus, to, 2, opening(b"POST", 0)).await;
    assert_eq!(ask(bus, to, 2, want(2)).await, refused(RelayRefusal::OutOfOrder));
    ask(bus, to, 6, opening(b"POST", 2)).await;
    assert_eq!(ask(bus, to, 6, piece(1)).await, RelayAnswer::Taken);
    assert_eq!(ask(bus, to, 6, want(1)).await, refused(RelayRefusal::OutOfOrder), "the last one is missing");
    assert_eq!(own.runs(), 0, "nothing ran by half");
    for _ in 0..2 {
        assert_eq!(ask(bus, to, 3, opening(b"POST\nx-asked:1", 1)).await, RelayAnswer::Taken);
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
    assert_eq!(ask(bus, to, 3, want(2)).await, part, "and a question that came late ends nothing");
    assert_eq!(ask(bus, to, 3, RelayStep::Drop).await, RelayAnswer::Taken, "also of what is over");
    assert_eq!(own.runs(), 1);
    let other = ServerName::parse("other").unwrap();
    let open = RelayStep::Open {
        server: other,
        lifetime: None,
        moves: false,
        pieces: 0,
        head: Bytes::from_static(b"POST"),
    };
    assert_eq!(ask(bus, to, 4, open).await, refused(RelayRefusal::NoServer));
    assert_eq!(ask(bus, to, 5, opening(b"\xff", 0)).await, refused(RelayRefusal::Unreadable));
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
