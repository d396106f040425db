//! What this node and the others send each other, numbered, so that a lost message is noticed: it
//! delays an event by a second or two, and silence costs nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::NodeId;
use crate::ports::{Bus, BusError, Envelope, Lane, Parcel};

/// For how long after the last message its number is repeated.
const RECENT: Duration = Duration::from_secs(5);

/// For how long after it, if the bus did not take it, or does not take its number: as long as a receiver may
/// not have heard of it, but not for ever if there is none.
const UNHEARD: Duration = Duration::from_secs(120);

/// Numbers what goes out, and looks at the numbers of what comes in.
#[derive(Debug)]
pub(super) struct Mail {
    node: NodeId,
    bus: Arc<dyn Bus>,
    /// By receiver; `None` is everybody.
    sent: Mutex<BTreeMap<Option<NodeId>, Sent>>,
    received: Mutex<HashMap<(NodeId, Lane), u64>>,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    number: u64,
    at: Instant,
    /// Since when the bus has taken all that there was.
    heard: Option<Instant>,
}

impl Sent {
    fn is_recent(&self, now: Instant) -> bool {
        self.heard.map_or(now < self.at + UNHEARD, |heard| now < self.at.max(heard) + RECENT)
    }
}

/// What a parcel's number tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Nothing is missing before it.
    Next,
    /// Something before it did not arrive, or has not yet.
    AfterGap,
}

impl Mail {
    pub(super) fn new(node: NodeId, bus: Arc<dyn Bus>) -> Self {
        Self { node, bus, sent: Mutex::default(), received: Mutex::default() }
    }

    /// Hands an envelope to one node, at most once.
    pub(super) async fn send(&self, to: &NodeId, envelope: Envelope) -> Result<(), BusError> {
        let number = self.next(Some(to));
        let sent = self.bus.send(to, self.parcel(Lane::Direct, number, envelope)).await;
        self.sent(Some(to), number, sent)
    }

    /// Hands an envelope to every other node, at most once each.
    pub(super) async fn announce(&self, envelope: Envelope) -> Result<(), BusError> {
        let number = self.next(None);
        let sent = self.bus.announce(self.parcel(Lane::All, number, envelope)).await;
        self.sent(None, number, sent)
    }

    /// Notes whether the bus took a message or the last number.
    fn sent(&self, to: Option<&NodeId>, number: u64, sent: Result<(), BusError>) -> Result<(), BusError> {
        if let Some(last) = lock(&self.sent).get_mut(&to.cloned()) {
            match sent {
                Ok(()) if last.number == number => _ = last.heard.get_or_insert_with(Instant::now),
                Ok(()) => {}
                Err(_) => last.heard = None,
            }
        }
        sent
    }

    /// Repeats the last numbers while traffic is recent.
    pub(super) async fn tally(&self) {
        let now = Instant::now();
        let recent: Vec<_> = {
            let sent = lock(&self.sent);
            let recent = sent.iter().filter(|(_, last)| last.is_recent(now));
            recent.map(|(to, last)| (to.clone(), last.number)).collect()
        };
        for (to, number) in recent {
            // A lost tally is made good by the next one.
            let tally = |lane| self.parcel(lane, number, Envelope::Tally);
            let sent = match &to {
                Some(to) => self.bus.send(to, tally(Lane::Direct)).await,
                None => self.bus.announce(tally(Lane::All)).await,
            };
            let _ = self.sent(to.as_ref(), number, sent);
        }
    }

    /// Notes a parcel that came in.
    pub(super) fn arrived(&self, parcel: &Parcel) -> Arrival {
        let mut received = lock(&self.received);
        let known = received.get(&(parcel.from.clone(), parcel.lane)).copied();
        // Who joins late has not missed what went to everybody before.
        let before = known.unwrap_or(match parcel.lane {
            Lane::Direct => 0,
            Lane::All => parcel.number.saturating_sub(1),
        });
        let expected = if parcel.envelope == Envelope::Tally { before } else { before + 1 };
        received.insert((parcel.from.clone(), parcel.lane), before.max(parcel.number));
        if parcel.number > expected { Arrival::AfterGap } else { Arrival::Next }
    }

    /// Forgets what nodes said that are dead. What they were told is counted on: one that only seemed dead knows the
    /// numbers, and would not miss a message with a smaller one.
    pub(super) fn forget(&self, dead: impl Fn(&NodeId) -> bool) {
        lock(&self.received).retain(|(from, _), _| !dead(from));
    }

    /// This node may have seemed dead to others. With their next number it looks whether it missed something.
    pub(super) fn forget_received(&self) {
        lock(&self.received).clear();
    }

    fn next(&self, to: Option<&NodeId>) -> u64 {
        let mut sent = lock(&self.sent);
        let now = Instant::now();
        let last = sent.entry(to.cloned()).or_insert(Sent { number: 0, at: now, heard: Some(now) });
        last.number += 1;
        last.at = now;
        last.number
    }

    fn parcel(&self, lane: Lane, number: u64, envelope: Envelope) -> Parcel {
        Parcel { from: self.node.clone(), lane, number, envelope, trace: None }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().expect("no panic while holding it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::memory::MemoryBus;
    use crate::domain::SessionId;
    use crate::ports::Inbox;

    fn ended() -> Envelope {
        Envelope::SessionEnded { session: SessionId::mint() }
    }

    async fn two() -> (Mail, Mail, Inbox) {
        let bus: Arc<dyn Bus> = Arc::new(MemoryBus::new(16));
        let [one, other] = ["a", "b"].map(NodeId::incarnate);
        let inbox = bus.open_inbox(&other).await.unwrap();
        (Mail::new(one, bus.clone()), Mail::new(other, bus), inbox)
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_message_is_noticed_by_the_next_one_or_by_the_tally() {
        let (one, other, mut inbox) = two().await;
        one.send(&other.node, ended()).await.unwrap();
        assert_eq!(other.arrived(&inbox.messages.recv().await.unwrap()), Arrival::Next);
        one.send(&other.node, ended()).await.unwrap();
        let _lost = inbox.messages.recv().await.unwrap();
        one.tally().await;
        assert_eq!(other.arrived(&inbox.messages.recv().await.unwrap()), Arrival::AfterGap);
        one.tally().await;
        assert_eq!(other.arrived(&inbox.messages.recv().await.unwrap()), Arrival::Next, "once is enough");
        one.send(&other.node, ended()).await.unwrap();
        assert_eq!(other.arrived(&inbox.messages.recv().await.unwrap()), Arrival::Next);
        tokio::time::advance(RECENT).await;
        one.tally().await;
        assert!(inbox.messages.try_recv().is_err(), "silence costs nothing");
    }

    #[tokio::test]
    async fn the_first_message_of_all_may_be_the_lost_one_but_not_what_went_to_all_before() {
        let (one, other, mut inbox) = two().await;
        one.send(&other.node, ended()).await.unwrap();
        let _lost = inbox.messages.recv().await.unwrap();
        one.send(&other.node, ended()).await.unwrap();
        assert_eq!(other.arrived(&inbox.messages.recv().await.unwrap()), Arrival::AfterGap);
        one.announce(ended()).await.unwrap();
        let _before = inbox.messages.recv().await.unwrap();
        one.announce(ended()).await.unwrap();
        assert_eq!(other.arrived(&inbox.messages.recv().await.unwrap()), Arrival::Next);
    }

    #[tokio::test(start_paused = true)]
    async fn a_number_that_the_bus_did_not_take_is_repeated_until_it_does() {
        let bus: Arc<dyn Bus> = Arc::new(MemoryBus::new(16));
        let [one, other] = ["a", "b"].map(NodeId::incarnate);
        let (one, other) = (Mail::new(one, bus.clone()), Mail::new(other, bus.clone()));
        one.send(&other.node, ended()).await.unwrap_err();
        for _ in 0..5 {
            tokio::time::advance(RECENT).await;
            one.tally().await;
        }
        let mut inbox = bus.open_inbox(&other.node).await.unwrap();
        one.tally().await;
        assert_eq!(other.arrived(&inbox.messages.try_recv().unwrap()), Arrival::AfterGap);
        one.tally().await;
        inbox.messages.try_recv().unwrap();
        tokio::time::advance(RECENT).await;
        one.tally().await;
        assert!(inbox.messages.try_recv().is_err(), "it was heard");
        drop(inbox);
        one.send(&other.node, ended()).await.unwrap_err();
        tokio::time::advance(UNHEARD).await;
        let _inbox = bus.open_inbox(&other.node).await.unwrap();
        one.tally().await;
        assert!(lock(&one.sent).values().all(|last| last.heard.is_none()), "nobody is waited for for ever");
    }

    #[tokio::test]
    async fn who_only_seemed_dead_misses_nothing() {
        let (one, other, mut inbox) = two().await;
        for _ in 0..2 {
            one.send(&other.node, ended()).await.unwrap();
            other.arrived(&inbox.messages.recv().await.unwrap());
        }
        one.forget(|_| true);
        one.send(&other.node, ended()).await.unwrap();
        let _lost = inbox.messages.recv().await.unwrap();
        one.tally().await;
        assert_eq!(other.arrived(&inbox.messages.recv().await.unwrap()), Arrival::AfterGap);
        other.forget_received();
        one.send(&other.node, ended()).await.unwrap();
        assert_eq!(other.arrived(&inbox.messages.recv().await.unwrap()), Arrival::AfterGap, "it looks");
        one.send(&other.node, ended()).await.unwrap();
        assert_eq!(other.arrived(&inbox.messages.recv().await.unwrap()), Arrival::Next);
    }
}
