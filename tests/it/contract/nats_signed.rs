//! With keys: the bus keeps all its promises, hears its own nodes through every step of an exchange of keys,
//! and nobody else, whatever they send, record and send again over the same NATS.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message, Subscriber};
use bytes::Bytes;
use futures::StreamExt as _;
use holdfast::adapters::nats::{Config, ConnectError, Keys, NatsBus};
use holdfast::ports::{Bus, BusError, Inbox, Refusal, RelayAnswer, RelayAsk, RelayId, RelayStep};
use http_body_util::BodyExt as _;

use super::bus::{INBOX_MAX, Joining, bus_contract, from, large, next, to_all};
use super::node;
use super::relay::{End, Own, relay_contract, whole};
use crate::harness::wait_until;
use crate::servers::{NOBODY_LISTENS, Nats};

/// Enough for everything that arrives at all.
pub(super) const SOON: Duration = Duration::from_millis(500);

const HEADER: &str = "Holdfast-Signature";

/// Each name has a secret of its own.
pub(super) fn keys(known: &[&str], signing: &str) -> Option<Keys> {
    let known = known.iter().map(|name| ((*name).to_owned(), name.repeat(32).into_bytes())).collect();
    Some(Keys { known, signing: signing.to_owned(), accept_unsigned: false })
}

pub(super) async fn with(nats: &Nats, keys: Option<Keys>) -> NatsBus {
    NatsBus::connect(&Config { keys, ..nats.config() }).await.unwrap()
}

pub(super) async fn signing(nats: &Nats) -> NatsBus {
    with(nats, keys(&["a"], "a")).await
}

struct Signed(Nats);

impl Joining for Signed {
    async fn join(&self, cluster: &str) -> Arc<dyn Bus> {
        let config = self.0.config();
        let keys = keys(&["a"], "a");
        let config = Config { prefix: cluster.to_owned(), inbox_max: INBOX_MAX, keys, ..config };
        Arc::new(NatsBus::connect(&config).await.unwrap())
    }
}

bus_contract! { #[tokio::test] Signed(Nats::start()) }

relay_contract! { #[tokio::test] Signed(Nats::start()) }

pub(super) fn hold() -> RelayAsk {
    RelayAsk { relay: RelayId { from: node("a"), number: 1 }, step: RelayStep::Hold }
}

/// Answers every step, until it is dropped.
async fn answers(inbox: &mut Inbox) {
    while let Some(step) = inbox.relays.recv().await {
        let _ = step.answer.send(RelayAnswer::Taken);
    }
}

/// Whether what one sends, announces and asks reaches the other, and its answers come back: all or nothing.
async fn is_heard(one: &NatsBus, other: &NatsBus) -> bool {
    let name = node(&format!("n{}", fastrand::u64(..)));
    let mut inbox = other.open_inbox(&name).await.unwrap();
    one.send(&name, from("a")).await.unwrap();
    one.announce(to_all("a")).await.unwrap();
    let mut heard = 0;
    while let Ok(Some(_)) = tokio::time::timeout(SOON, inbox.messages.recv()).await {
        heard += 1;
        if heard == 2 {
            break;
        }
    }
    let pinged = one.ping(&name, SOON).await;
    let relayed = tokio::select! {
        relayed = one.relay(&name, hold(), SOON) => relayed,
        () = answers(&mut inbox) => panic!("the inbox is open"),
    };
    let all = (heard, &pinged, &relayed);
    match heard {
        2 => assert_eq!(all, (2, &Ok(()), &Ok(RelayAnswer::Taken))),
        _ => assert_eq!(all, (0, &Err(BusError::Unavailable), &Err(BusError::Unavailable))),
    }
    heard == 2
}

#[tokio::test]
async fn keys_are_brought_in_exchanged_and_taken_out_while_nodes_hear_each_other() {
    let nats = Nats::start();
    let both = |keys: Option<Keys>| keys.map(|keys| Keys { accept_unsigned: true, ..keys });
    let steps = [
        None,
        both(keys(&["a"], "a")),
        keys(&["a"], "a"),
        keys(&["a", "b"], "a"),
        keys(&["a", "b"], "b"),
        keys(&["b"], "b"),
        both(keys(&["b"], "b")),
        None,
    ];
    let mut nodes = Vec::new();
    for keys in steps {
        nodes.push(with(&nats, keys).await);
    }
    for pair in nodes.windows(2) {
        assert!(is_heard(&pair[0], &pair[1]).await && is_heard(&pair[1], &pair[0]).await, "{pair:?}");
    }
    let taken = |step: usize| nodes[step].refusals().taken_unsigned();
    assert_eq!((taken(0), taken(2), taken(3)), (0, 0, 0));
    // Two messages, a ping, a step; and two answers.
    assert_eq!((taken(1), taken(6)), (6, 6), "operators see whether somebody does not sign yet");
    let refused = |step: usize, refusal| nodes[step].refusals().of(refusal);
    for refusal in Refusal::ALL {
        assert_eq!((0..8).map(|step| refused(step, refusal)).sum::<u64>(), 0, "{refusal}");
    }
    // What a step too many costs.
    assert!(!is_heard(&nodes[0], &nodes[2]).await);
    assert_eq!(refused(2, Refusal::Unsigned), 4);
    assert!(!is_heard(&nodes[5], &nodes[2]).await);
    assert_eq!(refused(2, Refusal::UnknownKey), 4);
}

#[tokio::test]
async fn a_key_that_is_to_sign_has_to_be_there() {
    let nats = Nats::start();
    let config = Config { keys: keys(&["a"], "b"), ..nats.config() };
    let error = NatsBus::connect(&config).await.unwrap_err();
    assert!(matches!(error, ConnectError::Key) && !error.may_pass(), "{error}");
}

/// Somebody who reaches the same NATS, and hears everything.
pub(super) struct Outsider {
    pub nats: Client,
    pub heard: Subscriber,
}

impl Outsider {
    pub(super) async fn at(nats: &Nats) -> Self {
        let nats = async_nats::connect(nats.url()).await.unwrap();
        let heard = nats.subscribe(">").await.unwrap();
        let mut outsider = Self { nats, heard };
        outsider.listens().await;
        outsider
    }

    /// The server does what a client says in order: once it hears itself, its subscriptions stand.
    async fn listens(&mut self) {
        self.say("settled", None, "").await;
        self.record("settled").await;
    }

    pub(super) async fn record(&mut self, subject: &str) -> Message {
        loop {
            let next = tokio::time::timeout(SOON * 4, self.heard.next());
            let heard = next.await.expect("it passes by").unwrap();
            if &*heard.subject == subject {
                return heard;
            }
        }
    }

    pub(super) async fn say(&self, subject: &str, headers: Option<HeaderMap>, payload: impl Into<Bytes>) {
        let headers = headers.unwrap_or_default();
        self.nats.publish_with_headers(subject.to_owned(), headers, payload.into()).await.unwrap();
        self.nats.flush().await.unwrap();
    }
}

fn header(text: &str) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(HEADER, text);
    Some(headers)
}

#[tokio::test]
async fn what_an_outsider_forges_redirects_or_repeats_is_refused_and_counted() {
    let nats = Nats::start();
    let (a, b) = (signing(&nats).await, signing(&nats).await);
    let mut inbox = b.open_inbox(&node("b")).await.unwrap();
    let mut at_c = b.open_inbox(&node("c")).await.unwrap();
    let mut outsider = Outsider::at(&nats).await;
    let (direct, all) = ("holdfast.v1.node.b", "holdfast.v1.all");
    a.send(&node("b"), large("a", 1, 10)).await.unwrap();
    a.announce(to_all("a")).await.unwrap();
    let (told, announced) = (outsider.record(direct).await, outsider.record(all).await);
    next(&mut inbox).await;
    next(&mut inbox).await;
    next(&mut at_c).await;
    inbox.missed.mark_unchanged();
    let of = |message: &Message| (message.headers.clone(), message.payload.clone());
    let ((told_by, told), (announced_by, announced)) = (of(&told), of(&announced));
    let signature = told_by.as_ref().unwrap().get(HEADER).unwrap().as_str().to_owned();
    let other_key = signature.replacen(" a ", " b ", 1);
    let poisoned = String::from_utf8(told.to_vec()).unwrap().replace("xxx", "yyy");
    let refusals = b.refusals();
    let refused = |refusal| refusals.of(refusal);

    outsider.say(direct, None, told.clone()).await;
    outsider.say(all, None, announced.clone()).await;
    wait_until("unsigned", || refused(Refusal::Unsigned) == 3).await;
    outsider.say(direct, header(&other_key), told.clone()).await;
    wait_until("unknown key", || refused(Refusal::UnknownKey) == 1).await;
    for (headers, payload) in [
        (told_by.clone(), Bytes::from(poisoned)),
        (header("1 a AAAA"), told.clone()),
        (header(""), told.clone()),
        (announced_by.clone(), announced.clone()),
    ] {
        outsider.say(direct, headers, payload).await;
    }
    outsider.say("holdfast.v1.node.c", told_by.clone(), told.clone()).await;
    outsider.say("holdfast.v1.relay.b", told_by.clone(), told.clone()).await;
    wait_until("bad signatures", || refused(Refusal::BadSignature) == 6).await;
    for _ in 0..10 {
        outsider.say(direct, told_by.clone(), told.clone()).await;
        outsider.say(all, announced_by.clone(), announced.clone()).await;
    }
    // Both nodes hear what goes to all.
    wait_until("replays", || refused(Refusal::Replayed) == 30).await;

    assert!(inbox.messages.try_recv().is_err() && at_c.messages.try_recv().is_err());
    assert!(inbox.relays.try_recv().is_err());
    assert!(inbox.missed.has_changed().unwrap(), "a node with a wrong key would be missed");
    // Two nodes, and each has it counted once in half a minute.
    let counted = *inbox.missed.borrow_and_update();
    for _ in 0..100 {
        outsider.say(direct, None, told.clone()).await;
    }
    wait_until("unsigned", || refused(Refusal::Unsigned) == 103).await;
    assert_eq!(*inbox.missed.borrow(), counted, "logs are read again by no more than that");
    let genuine = from("a");
    a.send(&node("b"), genuine.clone()).await.unwrap();
    assert_eq!(next(&mut inbox).await, genuine);
    println!("missed: {counted}");
}

/// Real time: what a node with a wrong key said last must not wait for something else to happen.
#[tokio::test]
async fn what_was_refused_last_counts_as_missed_half_a_minute_later() {
    let nats = Nats::start();
    let (known, stranger) = (signing(&nats).await, with(&nats, keys(&["b"], "b")).await);
    let mut inbox = known.open_inbox(&node("b")).await.unwrap();
    inbox.missed.mark_unchanged();
    stranger.send(&node("b"), from("a")).await.unwrap();
    tokio::time::timeout(SOON, inbox.missed.changed()).await.expect("at once").unwrap();
    stranger.send(&node("b"), from("a")).await.unwrap();
    wait_until("it is refused", || known.refusals().of(Refusal::UnknownKey) == 2).await;
    assert!(!inbox.missed.has_changed().unwrap());
    tokio::time::timeout(Duration::from_secs(32), inbox.missed.changed()).await.expect("later").unwrap();
    assert!(tokio::time::timeout(SOON, inbox.missed.changed()).await.is_err(), "once");
}

#[tokio::test]
async fn an_answer_is_taken_only_from_who_was_asked() {
    let nats = Nats::start();
    let (a, b, name, gone) = (signing(&nats).await, signing(&nats).await, node("b"), node("gone"));
    let mut inbox = b.open_inbox(&name).await.unwrap();
    let mut outsider = Outsider::at(&nats).await;
    let (asked, ()) = futures::join!(a.relay(&name, hold(), SOON), async {
        let step = inbox.relays.recv().await.unwrap();
        step.answer.send(RelayAnswer::NotYet).unwrap();
    });
    assert_eq!(asked, Ok(RelayAnswer::NotYet));
    let question = outsider.record("holdfast.v1.relay.b").await;
    let old_answer = outsider.record(question.reply.as_ref().unwrap()).await;
    // It answers first: with nothing, with what it makes up, with what was answered before.
    let (asked, ()) = futures::join!(a.relay(&name, hold(), SOON * 4), async {
        let step = inbox.relays.recv().await.unwrap();
        let reply = outsider.record("holdfast.v1.relay.b").await.reply.unwrap();
        outsider.say(&reply, None, "").await;
        outsider.say(&reply, None, "{\"format\":1,\"answer\":\"refused\",\"why\":\"unknown\"}\n").await;
        outsider.say(&reply, old_answer.headers.clone(), old_answer.payload.clone()).await;
        wait_until("refused", || a.refusals().of(Refusal::BadSignature) == 1).await;
        step.answer.send(RelayAnswer::Taken).unwrap();
    });
    assert_eq!(asked, Ok(RelayAnswer::Taken));
    assert_eq!(a.refusals().of(Refusal::Unsigned), 2);
    // A step that was there is not taken again, and not answered.
    let again = outsider.nats.request_with_headers(
        "holdfast.v1.relay.b",
        question.headers.clone().unwrap(),
        question.payload.clone(),
    );
    assert!(tokio::time::timeout(SOON, again).await.is_err());
    assert!(inbox.relays.try_recv().is_err());
    assert_eq!(b.refusals().of(Refusal::Replayed), 1);
    // Whoever pretends to be a node that is gone.
    let mut pings = outsider.nats.subscribe("holdfast.v1.ping.gone").await.unwrap();
    outsider.listens().await;
    let (pinged, ()) = futures::join!(a.ping(&gone, SOON), async {
        outsider.say(&pings.next().await.unwrap().reply.unwrap(), None, "").await;
    });
    assert_eq!(pinged, Err(BusError::Unavailable));
}

#[tokio::test]
async fn what_is_signed_fits_the_least_that_a_server_may_take() {
    let nats = Nats::configured("max_payload: 65536");
    let own = Own::answering(async |request: http::Request<Bytes>| whole(request.into_body()));
    let lifetime = Duration::from_secs(60);
    let near = End::start(Arc::new(signing(&nats).await), "near", own.clone(), lifetime).await;
    let far = End::start(Arc::new(signing(&nats).await), "far", own, lifetime).await;
    let sent = Bytes::from(vec![b'x'; 1 << 20]);
    let response = near.post(&far.node, sent.clone()).await.unwrap();
    assert!(response.into_body().collect().await.unwrap().to_bytes() == sent);
    // One byte more and more: it is refused here, before the server closes the connection.
    let bus = signing(&nats).await;
    let mut inbox = bus.open_inbox(&node("b")).await.unwrap();
    let mut fits = 0;
    for (number, bytes) in (64_900..65_500).step_by(20).enumerate() {
        match bus.send(&node("b"), large("a", number as u64 + 1, bytes)).await {
            Ok(()) => fits += 1,
            Err(error) => assert_eq!(error, BusError::TooLarge),
        }
    }
    assert!((1..30).contains(&fits), "{fits}");
    for _ in 0..fits {
        next(&mut inbox).await;
    }
    assert_eq!(bus.ping(&node("b"), SOON).await, Ok(()), "the connection stands");
}

#[tokio::test]
async fn that_a_node_is_away_is_not_believed_of_anybody_where_a_request_would_run_twice() {
    for (keys, expected) in [(keys(&["a"], "a"), BusError::Unavailable), (None, BusError::NoResponders)] {
        let nats = Nats::start();
        let (a, b, name) = (with(&nats, keys.clone()).await, with(&nats, keys).await, node("b"));
        let mut inbox = b.open_inbox(&name).await.unwrap();
        let mut outsider = Outsider::at(&nats).await;
        let (asked, _unanswered) = futures::join!(a.relay(&name, hold(), SOON * 4), async {
            let reply = outsider.record("holdfast.v1.relay.b").await.reply.unwrap();
            let mut raw = nats.raw();
            raw.say(NOBODY_LISTENS, &[reply]);
            raw.settled();
            inbox.relays.recv().await.unwrap()
        });
        assert_eq!(asked, Err(expected));
    }
}
