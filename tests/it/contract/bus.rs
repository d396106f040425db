//! What every bus promises its nodes.

use std::sync::Arc;
use std::time::Duration;

use holdfast::domain::{Event, EventNumber, Fence, Payload, SessionId};
use holdfast::ports::{Bus, BusError, Envelope, Inbox, Lane, Parcel};

use super::{get_stream, node};

/// What an inbox of these tests holds.
pub(crate) const INBOX_MAX: usize = 64;

const PATIENCE: Duration = Duration::from_secs(2);

/// Joins nodes; those of another cluster's name are not among them.
pub(crate) trait Joining {
    /// A node's own end of the bus.
    async fn join(&self, cluster: &str) -> Arc<dyn Bus>;
}

pub(crate) fn from(sender: &str) -> Parcel {
    let envelope = Envelope::SessionEnded { session: SessionId::mint() };
    Parcel { from: node(sender), lane: Lane::Direct, number: 1, envelope, trace: None }
}

pub(crate) fn to_all(sender: &str) -> Parcel {
    Parcel { lane: Lane::All, ..from(sender) }
}

/// An event whose payload is so large.
pub(crate) fn large(sender: &str, number: u64, bytes: usize) -> Parcel {
    let payload = Payload::from(vec![b'x'; bytes]);
    let event = Event { number: EventNumber::new(number, 0), previous: EventNumber::default(), payload };
    let to = get_stream(&SessionId::mint());
    let envelope = Envelope::Appended { to, fence: Fence(1), event, last: false };
    Parcel { number, envelope, ..from(sender) }
}

pub(crate) async fn next(inbox: &mut Inbox) -> Parcel {
    let next = tokio::time::timeout(Duration::from_secs(5), inbox.messages.recv()).await;
    next.expect("a message in time").expect("an open inbox")
}

async fn pair(buses: &impl Joining) -> (Arc<dyn Bus>, Inbox, Arc<dyn Bus>, Inbox) {
    let (a, b) = (buses.join("one").await, buses.join("one").await);
    let (at_a, at_b) = (a.open_inbox(&node("a")).await.unwrap(), b.open_inbox(&node("b")).await.unwrap());
    (a, at_a, b, at_b)
}

pub(crate) async fn to_one_and_to_all_but_the_sender(buses: &impl Joining) {
    let (a, mut at_a, b, mut at_b) = pair(buses).await;
    let mut at_c = b.open_inbox(&node("c")).await.unwrap();
    let (one, all, back) = (from("a"), to_all("a"), from("b"));
    a.send(&node("b"), one.clone()).await.unwrap();
    assert_eq!(next(&mut at_b).await, one);
    a.announce(all.clone()).await.unwrap();
    assert_eq!(next(&mut at_b).await, all);
    assert_eq!(next(&mut at_c).await, all, "and nothing of what went to b");
    b.send(&node("a"), back.clone()).await.unwrap();
    assert_eq!(next(&mut at_a).await, back, "and not its own announcement");
    let own = from("a");
    a.send(&node("a"), own.clone()).await.unwrap();
    assert_eq!(next(&mut at_a).await, own, "what it sends to itself arrives");
}

pub(crate) async fn an_inbox_that_is_open_hears_what_is_sent_at_once(buses: &impl Joining) {
    let (sender, receiver) = (buses.join("one").await, buses.join("one").await);
    for round in 0..50 {
        let name = node(&format!("n{round}"));
        let mut inbox = receiver.open_inbox(&name).await.unwrap();
        let sent = from("sender");
        sender.send(&name, sent.clone()).await.unwrap();
        assert_eq!(next(&mut inbox).await, sent);
    }
}

pub(crate) async fn one_senders_messages_keep_their_order(buses: &impl Joining) {
    let (a, _at_a, _b, mut at_b) = pair(buses).await;
    for number in 1..=50 {
        let bytes = if number % 10 == 0 { 32 * 1024 } else { 10 };
        a.send(&node("b"), large("a", number, bytes)).await.unwrap();
    }
    for number in 1..=50 {
        assert_eq!(next(&mut at_b).await.number, number);
    }
}

pub(crate) async fn half_a_megabyte_travels_whole(buses: &impl Joining) {
    let (a, _at_a, _b, mut at_b) = pair(buses).await;
    let sent = large("a", 1, 500 * 1024);
    a.send(&node("b"), sent.clone()).await.unwrap();
    assert!(next(&mut at_b).await == sent);
}

pub(crate) async fn what_finds_an_inbox_full_is_lost_and_its_owner_is_told(buses: &impl Joining) {
    let (a, _at_a, _b, mut full) = pair(buses).await;
    let mut free = buses.join("one").await.open_inbox(&node("free")).await.unwrap();
    // A bus that is on its way up may tell of it late.
    tokio::time::sleep(Duration::from_millis(100)).await;
    full.missed.mark_unchanged();
    free.missed.mark_unchanged();
    for number in 1..=INBOX_MAX as u64 {
        a.send(&node("b"), Parcel { number, ..from("a") }).await.unwrap();
    }
    // Whether the sender learns it as well is the bus's choice.
    let refused = a.send(&node("b"), from("a")).await;
    assert!(matches!(refused, Ok(()) | Err(BusError::Full)), "{refused:?}");
    tokio::time::timeout(PATIENCE, full.missed.changed()).await.expect("it is told").unwrap();
    a.announce(to_all("a")).await.unwrap();
    assert_eq!(next(&mut free).await.lane, Lane::All, "it reaches whoever has room");
    assert!(!free.missed.has_changed().unwrap());
    for number in 1..=INBOX_MAX as u64 {
        assert_eq!(next(&mut full).await.number, number);
    }
    let after = from("a");
    a.send(&node("b"), after.clone()).await.unwrap();
    let mut heard = next(&mut full).await;
    if heard.lane == Lane::All {
        // On a way of its own it may have come after the first was read.
        heard = next(&mut full).await;
    }
    assert_eq!(heard, after, "there is room again");
}

pub(crate) async fn a_ping_tells_who_listens(buses: &impl Joining) {
    let (a, _at_a, _b, at_b) = pair(buses).await;
    assert_eq!(a.ping(&node("a"), PATIENCE).await, Ok(()), "also of itself");
    assert_eq!(a.ping(&node("b"), PATIENCE).await, Ok(()));
    assert_eq!(a.ping(&node("nobody"), PATIENCE).await, Err(BusError::NoResponders));
    drop(at_b);
    for _ in 0..200 {
        if a.ping(&node("b"), PATIENCE).await == Err(BusError::NoResponders) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a dropped inbox still answers");
}

pub(crate) async fn clusters_do_not_hear_each_other(buses: &impl Joining) {
    let (a, _at_a, _b, mut at_b) = pair(buses).await;
    let other = buses.join("other").await;
    let mut foreign = other.open_inbox(&node("foreign")).await.unwrap();
    let mut namesake = other.open_inbox(&node("b")).await.unwrap();
    assert_eq!(a.ping(&node("foreign"), PATIENCE).await, Err(BusError::NoResponders));
    a.announce(to_all("a")).await.unwrap();
    a.send(&node("b"), from("a")).await.unwrap();
    next(&mut at_b).await;
    next(&mut at_b).await;
    let (one, all) = (from("x"), to_all("x"));
    other.send(&node("b"), one.clone()).await.unwrap();
    assert_eq!(next(&mut namesake).await, one, "and nothing before it");
    other.announce(all.clone()).await.unwrap();
    assert_eq!(next(&mut foreign).await, all);
    assert!(at_b.messages.try_recv().is_err());
}

macro_rules! bus_contract {
    (#[$test:meta] $buses:expr) => {
        $crate::contract::instantiate! { #[$test] $buses;
            bus: to_one_and_to_all_but_the_sender, an_inbox_that_is_open_hears_what_is_sent_at_once,
                one_senders_messages_keep_their_order, half_a_megabyte_travels_whole,
                what_finds_an_inbox_full_is_lost_and_its_owner_is_told, a_ping_tells_who_listens,
                clusters_do_not_hear_each_other;
        }
    };
}

pub(crate) use bus_contract;
