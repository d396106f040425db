//! What every bus promises its nodes.

use std::time::Duration;

use holdfast::domain::{Event, EventNumber, Fence, Payload, SessionId};
use holdfast::ports::{Bus, BusError, Envelope, Inbox, Lane, Parcel};

use super::{get_stream, node};

pub(crate) fn from(sender: &str) -> Parcel {
    let envelope = Envelope::SessionEnded { session: SessionId::mint() };
    Parcel { from: node(sender), lane: Lane::Direct, number: 1, envelope }
}

pub(crate) async fn next(inbox: &mut Inbox) -> Parcel {
    let next = tokio::time::timeout(Duration::from_secs(5), inbox.messages.recv()).await;
    next.expect("a message in time").expect("an open inbox")
}

/// `connect` gives each node its own end of one bus, or all of them the same.
pub(crate) async fn promises<B: Bus>(connect: &impl AsyncFn() -> B) {
    let bus = connect().await;
    let (mut a, mut b) =
        (bus.open_inbox(&node("a")).await.unwrap(), bus.open_inbox(&node("b")).await.unwrap());
    let (one, all) = (from("a"), Parcel { lane: Lane::All, ..from("a") });
    bus.send(&node("b"), one.clone()).await.unwrap();
    assert_eq!(next(&mut b).await, one);
    bus.announce(all.clone()).await.unwrap();
    assert_eq!(next(&mut b).await, all);
    let back = from("b");
    bus.send(&node("a"), back.clone()).await.unwrap();
    assert_eq!(next(&mut a).await, back, "and not its own announcement");

    // One sender's messages keep their order, large ones included.
    for number in 1..=50 {
        let payload = Payload::from(vec![b'x'; if number % 10 == 0 { 32 * 1024 } else { 10 }]);
        let event = Event { number: EventNumber::new(number, 0), previous: EventNumber::default(), payload };
        let to = get_stream(&SessionId::mint());
        let envelope = Envelope::Appended { to, fence: Fence(1), event, last: false };
        bus.send(&node("b"), Parcel { number, envelope, ..from("a") }).await.unwrap();
    }
    for number in 1..=50 {
        assert_eq!(next(&mut b).await.number, number);
    }

    let patience = Duration::from_secs(2);
    assert_eq!(bus.ping(&node("a"), patience).await, Ok(()), "also of itself");
    assert_eq!(bus.ping(&node("b"), patience).await, Ok(()));
    assert_eq!(bus.ping(&node("nobody"), patience).await, Err(BusError::NoResponders));
    drop(b);
    for _ in 0..200 {
        if bus.ping(&node("b"), patience).await == Err(BusError::NoResponders) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a dropped inbox still answers");
}
