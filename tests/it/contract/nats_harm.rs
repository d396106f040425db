//! What somebody without a key can do to the NATS itself, its clients and its words: it costs time, and as little as
//! can be, and nothing is believed that would harm a session.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdfast::adapters::nats::{Config, Keys, NatsBus};
use holdfast::hub::Relays;
use holdfast::lifecycle::Tasks;
use holdfast::ports::{Bus, BusError, Inbox, Refusal, RelayAnswer};
use holdfast::telemetry::Metrics;
use holdfast::upstream::HttpClient;
use tokio::time::{Instant, sleep, timeout};

use super::bus::{from, next};
use super::nats_signed::{Outsider, SOON, hold, keys, signing, with};
use super::relay::{End, Own, unasked, whole};
use super::{node, server};
use crate::harness::wait_until;
use crate::servers::{DROPS_CONNECTIONS, KILLS_CLIENTS, NOBODY_LISTENS, Nats};

/// After the last attack everything is as before within this.
const BACK: Duration = Duration::from_secs(4);

/// Of a request: no test waits for its end.
const LIFETIME: Duration = Duration::from_secs(60);

fn strict() -> Option<Keys> {
    keys(&["a"], "a")
}

/// Waits until everything that `a` and `b` say and ask reaches the other.
async fn until_they_hear_each_other(a: &NatsBus, b: &NatsBus, inbox: &mut Inbox) -> Duration {
    let since = Instant::now();
    let name = node("b");
    while a.ping(&name, SOON / 5).await.is_err() || b.ping(&name, SOON / 5).await.is_err() {
        sleep(Duration::from_millis(10)).await;
        assert!(since.elapsed() < BACK, "they don't hear each other");
    }
    let back = since.elapsed();
    while inbox.messages.try_recv().is_ok() {}
    for to_b in [a, b] {
        let fresh = from("a");
        to_b.send(&name, fresh.clone()).await.unwrap();
        assert_eq!(next(inbox).await, fresh);
    }
    let answered = async {
        while let Some(step) = inbox.relays.recv().await {
            let _ = step.answer.send(RelayAnswer::Taken);
        }
    };
    tokio::select! {
        relayed = a.relay(&name, hold(), SOON) => assert_eq!(relayed, Ok(RelayAnswer::Taken)),
        () = answered => panic!("the inbox is open"),
    }
    back
}

#[tokio::test]
async fn a_header_that_no_client_can_read_costs_a_moment_whomever_it_reaches() {
    for (keys, header) in [(strict(), KILLS_CLIENTS), (None, KILLS_CLIENTS), (strict(), DROPS_CONNECTIONS)] {
        let nats = Nats::start();
        let (a, b) = (with(&nats, keys.clone()).await, with(&nats, keys).await);
        let inbox = b.open_inbox(&node("b")).await.unwrap();
        let mut outsider = Outsider::at(&nats).await;
        a.ping(&node("b"), SOON).await.unwrap();
        let mut answers = outsider.record("holdfast.v1.ping.b").await.reply.unwrap().to_string();
        answers.truncate(answers.rfind('.').unwrap());
        // Its own client would give up as well.
        drop((outsider, inbox));
        let replaced = || [&a, &b].map(|bus| bus.refusals().replaced_clients());
        let mut expected = [0, 0];
        let subjects = ["node.b", "all", "relay.b", "ping.b"].map(|subject| format!("holdfast.v1.{subject}"));
        for (subject, hears) in subjects.into_iter().map(|all| (all, 1)).chain([(format!("{answers}.1"), 0)])
        {
            // A new one has its logs read at once.
            let mut inbox = b.open_inbox(&node("b")).await.unwrap();
            nats.raw().say(header, &[&subject]);
            if header == KILLS_CLIENTS {
                expected[hears] += 1;
                wait_until("it is noticed", || replaced() == expected).await;
            }
            if hears == 1 {
                let told = timeout(BACK, inbox.missed.changed()).await;
                told.expect("something may have been missed").unwrap();
            } else {
                sleep(SOON / 5).await;
            }
            let back = until_they_hear_each_other(&a, &b, &mut inbox).await;
            println!("{header:?} to {subject}: back {back:?} after it was noticed");
        }
        assert_eq!(replaced(), expected, "and once each");
    }
}

#[tokio::test]
async fn whoever_repeats_it_makes_no_storm() {
    for header in [KILLS_CLIENTS, DROPS_CONNECTIONS] {
        let nats = Nats::start();
        let (a, b) = (signing(&nats).await, signing(&nats).await);
        let mut inbox = b.open_inbox(&node("b")).await.unwrap();
        sleep(Duration::from_millis(100)).await;
        inbox.missed.mark_unchanged();
        let (began, before) = (Instant::now(), *inbox.missed.borrow());
        let mut raw = nats.raw();
        while began.elapsed() < Duration::from_secs(8) {
            raw.say(header, &["holdfast.v1.node.b"]);
            sleep(Duration::from_millis(5)).await;
        }
        let (replaced, read) = (b.refusals().replaced_clients(), *inbox.missed.borrow() - before);
        assert!((1..=5).contains(&read), "logs were to be read {read} times");
        let clients = if header == KILLS_CLIENTS { 3..=14 } else { 0..=0 };
        assert!(clients.contains(&replaced), "{replaced} clients");
        assert_eq!(a.refusals().replaced_clients(), 0);
        let back = until_they_hear_each_other(&a, &b, &mut inbox).await;
        println!("{header:?}: {replaced} clients, logs read {read} times, back after {back:?}");
    }
}

/// The receiver's whole runtime stands still again and again, as if it could not keep up.
#[test]
fn a_flood_has_logs_read_ever_more_seldom() {
    let nats = Nats::start();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (sender, receiver) = (runtime(), runtime());
    let config = Config { inbox_max: 64, keys: strict(), ..nats.config() };
    let flooded = receiver.block_on(NatsBus::connect(&config)).unwrap();
    let mut inbox = receiver.block_on(flooded.open_inbox(&node("b"))).unwrap();
    receiver.block_on(async { sleep(Duration::from_millis(100)).await });
    inbox.missed.mark_unchanged();
    let outsider = sender.block_on(async_nats::connect(nats.url())).unwrap();
    let (began, before) = (Instant::now(), *inbox.missed.borrow());
    let mut rounds = 0;
    while began.elapsed() < Duration::from_secs(5) {
        sender.block_on(async {
            for _ in 0..1000 {
                outsider.publish("holdfast.v1.node.b", "flood".into()).await.unwrap();
            }
            outsider.flush().await.unwrap();
        });
        receiver.block_on(async { sleep(Duration::from_millis(50)).await });
        rounds += 1;
    }
    let read = *inbox.missed.borrow() - before;
    // The first that was refused, and what was lost after 0, 1 and 3 s.
    assert!((1..=4).contains(&read), "logs were to be read {read} times in {rounds} rounds");
    assert!(rounds > 10);
}

#[tokio::test]
async fn what_too_many_overtook_is_refused_and_counts_as_missed() {
    let nats = Nats::start();
    let (a, b, name) = (signing(&nats).await, signing(&nats).await, node("b"));
    let mut outsider = Outsider::at(&nats).await;
    a.send(&name, from("a")).await.unwrap();
    let first = outsider.record("holdfast.v1.node.b").await;
    for _ in 0..9000 {
        a.send(&node("nobody"), from("a")).await.unwrap();
    }
    let mut inbox = b.open_inbox(&name).await.unwrap();
    a.send(&name, from("a")).await.unwrap();
    next(&mut inbox).await;
    inbox.missed.mark_unchanged();
    outsider.say("holdfast.v1.node.b", first.headers, first.payload).await;
    timeout(SOON, inbox.missed.changed()).await.expect("it may not have been here").unwrap();
    assert!(inbox.messages.try_recv().is_err());
    assert_eq!([Refusal::Overtaken, Refusal::Replayed].map(|reason| b.refusals().of(reason)), [1, 0]);
}

/// The node that is asked stands still until somebody else has said that it is not there.
#[tokio::test]
async fn that_nobody_hears_a_ping_is_not_believed_of_anybody() {
    for (keys, expected) in [(strict(), Ok(())), (None, Err(BusError::NoResponders))] {
        let nats = Nats::start();
        let (a, name) = (with(&nats, keys.clone()).await, node("b"));
        let (config, (opened, is_open)) = (Config { keys, ..nats.config() }, tokio::sync::oneshot::channel());
        let (answer, may_answer) = std::sync::mpsc::channel::<()>();
        let at_b = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let bus = NatsBus::connect(&config).await.unwrap();
                let _inbox = bus.open_inbox(&node("b")).await.unwrap();
                opened.send(()).unwrap();
                may_answer.recv().unwrap();
                sleep(SOON).await;
            });
        });
        is_open.await.unwrap();
        let mut outsider = Outsider::at(&nats).await;
        let (pinged, ()) = futures::join!(a.ping(&name, SOON * 4), async {
            let reply = outsider.record("holdfast.v1.ping.b").await.reply.unwrap();
            let mut raw = nats.raw();
            raw.say(NOBODY_LISTENS, &[reply]);
            raw.settled();
            sleep(SOON / 10).await;
            answer.send(()).unwrap();
        });
        assert_eq!(pinged, expected);
        // While it listens to everything somebody always does.
        drop(outsider);
        sleep(SOON / 5).await;
        let asked = Instant::now();
        assert_eq!(a.ping(&node("gone"), SOON * 4).await, Err(BusError::NoResponders));
        assert!(asked.elapsed() < SOON, "of who is gone it is believed soon: {:?}", asked.elapsed());
        at_b.join().unwrap();
    }
}

/// The far end is away just when it is asked to run the request, and somebody hands it over later.
#[tokio::test]
async fn a_request_that_somebody_hands_over_late_is_not_run_elsewhere_as_well() {
    let nats = Nats::start();
    let own = Own::answering(async |request: http::Request<Bytes>| whole(request.into_body()));
    let far: Arc<dyn Bus> = Arc::new(signing(&nats).await);
    let near = End::start(Arc::new(signing(&nats).await), "near", unasked(), LIFETIME).await;
    let mut outsider = Outsider::at(&nats).await;
    let relays = Relays::new(node("far"), far.clone(), Tasks::new(), Metrics::new());
    let uri = "http://sidecar/mcp".parse().unwrap();
    let _client = relays.pin(server(), uri, HttpClient::within(own.clone()), LIFETIME);
    let mut inbox = far.open_inbox(&node("far")).await.unwrap();
    let holder = node("far");
    let asked = async {
        for _ in 0..2 {
            relays.serve(inbox.relays.recv().await.unwrap());
        }
        let unheard = inbox.relays.recv().await.unwrap();
        drop(inbox);
        loop {
            let mut step = outsider.record("holdfast.v1.relay.far").await;
            if String::from_utf8_lossy(&step.payload).contains("\"want\"") {
                let mut raw = nats.raw();
                raw.say(NOBODY_LISTENS, &[step.reply.take().unwrap()]);
                raw.settled();
                return (step, unheard);
            }
        }
    };
    let (answered, (want, _unheard)) = futures::join!(near.post(&holder, Bytes::from_static(b"run")), asked);
    near.until_nothing_is_open(BACK).await;
    let back = signing(&nats).await;
    let mut inbox = back.open_inbox(&node("far")).await.unwrap();
    let (subject, reply, headers) = ("holdfast.v1.relay.far", "_INBOX.outsider", want.headers.unwrap());
    let handed = outsider.nats.publish_with_reply_and_headers(subject, reply, headers, want.payload);
    handed.await.unwrap();
    let served = async {
        while let Some(step) = inbox.relays.recv().await {
            relays.serve(step);
        }
    };
    tokio::select! {
        () = wait_until("it runs all the same", || own.runs() == 1) => {}
        () = served => panic!("the inbox is open"),
    }
    let answered = answered.map(|response| response.status());
    assert!(answered.is_err(), "it would be sent to another node: {answered:?}");
}
