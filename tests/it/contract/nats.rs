//! The NATS adapter keeps the bus's promises, on a real server, and behaves when the server does not.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdfast::adapters::nats::{Config, NatsBus};
use holdfast::ports::{Bus, BusError, Parcel};
use holdfast::upstream::Received;
use http_body_util::{BodyExt as _, Full, StreamBody};
use tokio::time::Instant;

use super::bus::{INBOX_MAX, Joining, bus_contract, from, large, next};
use super::node;
use super::relay::{End, Own, relay_contract};
use crate::servers::Nats;

impl Joining for Nats {
    async fn join(&self, cluster: &str) -> Arc<dyn Bus> {
        let config = Config { prefix: cluster.to_owned(), inbox_max: INBOX_MAX, ..self.config() };
        Arc::new(NatsBus::connect(&config).await.unwrap())
    }
}

bus_contract! { #[tokio::test] Nats::start() }

relay_contract! { #[tokio::test] Nats::start() }

/// Until a message goes from one end to the other.
async fn until_back(bus: &NatsBus, to: &str) -> Duration {
    let since = Instant::now();
    while bus.ping(&node(to), Duration::from_millis(200)).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(since.elapsed() < Duration::from_secs(30), "never back");
    }
    since.elapsed()
}

#[tokio::test]
async fn while_it_is_away_nothing_is_taken_and_after_it_nothing_stale_arrives() {
    let mut nats = Nats::start();
    let (a, b) = (nats.bus().await, nats.bus().await);
    let mut inbox = b.open_inbox(&node("b")).await.unwrap();
    inbox.missed.mark_unchanged();
    nats.kill();
    let away = Instant::now();
    while a.send(&node("b"), from("unnoticed")).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(away.elapsed() < Duration::from_secs(2), "that it is away is noticed");
    }
    let noticed = away.elapsed();
    let asked = Instant::now();
    for _ in 0..100 {
        assert_eq!(a.send(&node("b"), from("stale")).await, Err(BusError::Unavailable));
    }
    assert_eq!(a.ping(&node("b"), Duration::from_secs(2)).await, Err(BusError::Unavailable));
    assert_eq!(a.announce(from("stale")).await, Err(BusError::Unavailable));
    assert!(asked.elapsed() < Duration::from_millis(100), "and said at once");
    assert_eq!(b.open_inbox(&node("c")).await.unwrap_err(), BusError::Unavailable);
    nats.restart();
    let back = until_back(&a, "b").await;
    assert!(back < Duration::from_secs(3), "{back:?}");
    let told = tokio::time::timeout(Duration::from_secs(2), inbox.missed.changed()).await;
    told.expect("the receiver knows that it may have missed something").unwrap();
    let fresh = from("fresh");
    a.send(&node("b"), fresh.clone()).await.unwrap();
    let mut unnoticed = 0;
    loop {
        let heard = next(&mut inbox).await;
        if heard == fresh {
            break;
        }
        assert_eq!(heard.from, node("unnoticed"), "what was refused must not arrive");
        unnoticed += 1;
    }
    println!(
        "noticed after {noticed:?}, back after {back:?}, {unnoticed} sent before it was noticed arrived"
    );
}

#[tokio::test]
async fn a_frozen_server_is_no_answer_and_nobody_waits_for_it() {
    let nats = Nats::start();
    let timeout = Duration::from_millis(400);
    let a = NatsBus::connect(&Config { timeout, ..nats.config() }).await.unwrap();
    let mut inbox = a.open_inbox(&node("a")).await.unwrap();
    nats.freeze();
    let asked = Instant::now();
    assert_eq!(a.ping(&node("a"), Duration::from_millis(300)).await, Err(BusError::Unavailable));
    assert_eq!(a.open_inbox(&node("b")).await.unwrap_err(), BusError::Unavailable);
    // 0.7 s where nothing else holds them up.
    assert!(asked.elapsed() < Duration::from_secs(3));
    // What is sent fills the client's buffers first.
    let mut taken = 0;
    let refused = loop {
        let asked = Instant::now();
        match a.send(&node("nobody"), large("a", 1, 32 * 1024)).await {
            Ok(()) => taken += 1,
            Err(error) => break (error, asked.elapsed()),
        }
        assert!(taken < 20_000, "what waits is bounded");
    };
    assert_eq!(refused.0, BusError::Unavailable);
    assert!(refused.1 < timeout * 5, "{refused:?}");
    nats.thaw();
    let back = until_back(&a, "a").await;
    let fresh = from("fresh");
    a.send(&node("a"), fresh.clone()).await.unwrap();
    assert_eq!(next(&mut inbox).await, fresh);
    println!("{taken} of 32 KiB were taken, then refused after {:?}; back after {back:?}", refused.1);
}

/// The receiver's whole runtime stands still, as on a machine without time for it.
#[test]
fn who_reads_too_slowly_is_told_and_hears_again() {
    const SENT: u64 = 20_000;
    let nats = Nats::start();
    let config = Config { inbox_max: INBOX_MAX, ..nats.config() };
    let (sender, receiver) = (runtime(), runtime());
    let slow = receiver.block_on(NatsBus::connect(&config)).unwrap();
    let mut inbox = receiver.block_on(slow.open_inbox(&node("slow"))).unwrap();
    receiver.block_on(async { tokio::time::sleep(Duration::from_millis(50)).await });
    inbox.missed.mark_unchanged();
    let bus = sender.block_on(NatsBus::connect(&nats.config())).unwrap();
    // The sender's runtime only runs while it is waited for.
    let left = async || {
        assert_eq!(bus.ping(&node("nobody"), Duration::from_secs(5)).await, Err(BusError::NoResponders))
    };
    sender.block_on(async {
        for number in 1..=SENT {
            bus.send(&node("slow"), Parcel { number, ..from("sender") }).await.unwrap();
        }
        left().await;
    });
    let heard = receiver.block_on(async {
        inbox.missed.changed().await.unwrap();
        let mut heard = 0;
        while tokio::time::timeout(Duration::from_millis(500), inbox.messages.recv()).await.is_ok() {
            heard += 1;
        }
        heard
    });
    assert!(heard < SENT, "{heard}");
    let fresh = from("fresh");
    sender.block_on(async {
        bus.send(&node("slow"), fresh.clone()).await.unwrap();
        left().await;
    });
    assert_eq!(receiver.block_on(next(&mut inbox)), fresh);
    println!("{heard} of {SENT} were heard");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[tokio::test]
async fn what_is_late_or_cannot_be_read_is_dropped_and_counts_as_missed() {
    let nats = Nats::start();
    let bus = nats.bus().await;
    let mut inbox = bus.open_inbox(&node("b")).await.unwrap();
    let other = async_nats::connect(nats.url()).await.unwrap();
    let subject = "holdfast.v1.node.b";
    let mut overheard = other.subscribe(subject).await.unwrap();
    other.flush().await.unwrap();
    let sent = large("a", 1, 10);
    // Heard by both only once the other's subscription stands.
    let head = loop {
        bus.send(&node("b"), sent.clone()).await.unwrap();
        assert_eq!(next(&mut inbox).await, sent);
        let next = futures::StreamExt::next(&mut overheard);
        if let Ok(message) = tokio::time::timeout(Duration::from_millis(100), next).await {
            let payload = message.unwrap().payload.to_vec();
            let end = payload.iter().position(|&byte| byte == b'\n').unwrap();
            break serde_json::from_slice::<serde_json::Value>(&payload[..end]).unwrap();
        }
    };
    let with = |key: &str, value: serde_json::Value| {
        let mut head = head.clone();
        head[key] = value;
        format!("{head}\nxxxxxxxxxx").into_bytes()
    };
    let at = head["at"].as_u64().unwrap();
    let strange = [
        with("at", (at - 60_000).into()),
        with("format", 2.into()),
        with("kind", "something".into()),
        with("from", "a b".into()),
        with("number", (-1).into()),
        head.to_string().into_bytes(),
        vec![0xff; 1000],
        Vec::new(),
    ];
    for bytes in strange {
        // Whoever just began is told at once, as of what is lost for the first time.
        drop(inbox);
        inbox = bus.open_inbox(&node("b")).await.unwrap();
        other.publish(subject, bytes.into()).await.unwrap();
        let missed = tokio::time::timeout(Duration::from_secs(2), inbox.missed.changed()).await;
        missed.expect("it counts as missed").unwrap();
    }
    // A sender whose clock is ahead is heard.
    other.publish(subject, with("at", (at + 3_600_000).into()).into()).await.unwrap();
    assert_eq!(next(&mut inbox).await, sent);
    assert!(inbox.messages.try_recv().is_err());
}

#[tokio::test]
async fn what_is_larger_than_the_server_takes_is_refused() {
    let nats = Nats::configured("max_payload: 65536");
    let bus = nats.bus().await;
    let mut inbox = bus.open_inbox(&node("a")).await.unwrap();
    assert_eq!(bus.send(&node("a"), large("b", 1, 65_536)).await, Err(BusError::TooLarge));
    let fits = large("b", 2, 32 * 1024);
    bus.send(&node("a"), fits.clone()).await.unwrap();
    assert!(next(&mut inbox).await == fits, "the connection stands");
}

#[tokio::test]
async fn a_relay_fits_the_least_that_a_server_may_take() {
    let nats = Nats::configured("max_payload: 65536");
    let own = Own::answering(async |request: http::Request<Bytes>| {
        let body = Full::new(request.into_body());
        let body = body.map_err(|never| match never {});
        Ok(http::Response::new(Received::within(body)))
    });
    let [near, far] = ["near", "far"].map(|name| {
        let (own, config) = (own.clone(), nats.config());
        async move {
            let bus = Arc::new(NatsBus::connect(&config).await.unwrap());
            End::start(bus, name, own, Duration::from_secs(60)).await
        }
    });
    let (near, _far) = futures::join!(near, far);
    let sent = Bytes::from(vec![b'x'; 1 << 20]);
    let response = near.post(&node("far"), sent.clone()).await.unwrap();
    let received = response.into_body().collect().await.unwrap().to_bytes();
    assert!(received == sent);
}

#[tokio::test]
async fn a_relay_outlives_a_server_that_is_away_for_a_moment() {
    let mut nats = Nats::start();
    let (say, heard) = tokio::sync::mpsc::channel::<Bytes>(4);
    let heard = std::sync::Mutex::new(Some(heard));
    let own = Own::answering(move |_| {
        let mut heard = heard.lock().unwrap().take().expect("it runs once");
        let frames = futures::stream::poll_fn(move |context| heard.poll_recv(context));
        let frames = futures::StreamExt::map(frames, |said| Ok(http_body::Frame::data(said)));
        let body = Received::within(StreamBody::new(frames));
        async move { Ok(http::Response::new(body)) }
    });
    let near = End::start(Arc::new(nats.bus().await), "near", own.clone(), Duration::from_secs(60)).await;
    let _far = End::start(Arc::new(nats.bus().await), "far", own, Duration::from_secs(60)).await;
    let mut body = near.post(&node("far"), Bytes::new()).await.unwrap().into_body();
    for round in 0..3 {
        nats.kill();
        say.send(Bytes::from(format!("{round}"))).await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        nats.restart();
        let next = tokio::time::timeout(Duration::from_secs(5), body.frame());
        let said = next.await.expect("in time").unwrap().unwrap().into_data().unwrap();
        assert_eq!(said, round.to_string());
    }
    drop(say);
    assert!(body.frame().await.is_none_or(|end| end.unwrap().is_data()));
}

#[tokio::test]
async fn a_step_of_another_version_is_answered_as_unreadable() {
    let nats = Nats::start();
    let own = Own::answering(async |_| panic!("it is not asked"));
    let _far = End::start(Arc::new(nats.bus().await), "far", own, Duration::from_secs(60)).await;
    let other = async_nats::connect(nats.url()).await.unwrap();
    let step = r#"{"format":2,"from":"a","relay":1,"step":"hold"}"#;
    for strange in [format!("{step}\n"), step.replace('2', "1"), "x\n".to_owned(), String::new()] {
        let answer = other.request("holdfast.v1.relay.far", strange.into()).await.unwrap();
        let text = String::from_utf8_lossy(&answer.payload).into_owned();
        assert_eq!(text, "{\"format\":1,\"answer\":\"refused\",\"why\":\"unreadable\"}\n");
    }
}
