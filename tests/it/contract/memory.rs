//! The memory adapters keep the whole contract, on paused time.

use std::sync::Arc;
use std::time::Duration;

use holdfast::adapters::memory::{MemoryBus, MemorySessionStore};
use holdfast::domain::SessionId;
use holdfast::ports::{Bounds, Bus as _, BusError, Envelope, Lane, Parcel, SessionStore};

use super::{Harness, core_contract, instantiate, node};

struct Memory;

impl Harness for Memory {
    async fn store(&self, bounds: Bounds) -> Arc<dyn SessionStore> {
        Arc::new(MemorySessionStore::new(bounds))
    }

    async fn pass(&self, time: Duration) {
        tokio::time::advance(time).await;
    }
}

core_contract! { #[tokio::test(start_paused = true)] Memory }

instantiate! { #[tokio::test(start_paused = true)] Memory;
    sessions: there_is_room_for_so_many, subscriptions_are_bounded, found_by_what_they_are,
        pages_are_ordered_and_whole;
    ends: idle_sessions_are_reaped_once, an_idle_session_is_gone_before_it_is_reaped,
        many_idle_sessions_are_reaped_in_portions, a_session_whose_id_was_opened_anew_is_reaped_as_well,
        touching_prolongs_and_names_the_gone;
    log: the_top_of_a_lasting_stream_is_never_lost;
    running: a_dead_runner_is_robbed_once, a_repeated_steal_is_answered_alike;
    serial: of_many_thieves_one_takes_the_record, no_more_sessions_than_there_is_room_for;
}

/// The same callers as real races.
mod on_threads {
    use super::{Memory, instantiate};

    instantiate! { #[tokio::test(flavor = "multi_thread", worker_threads = 4)] Memory;
        serial: appends_and_attaches_are_serial, of_many_owners_one_gets_the_session,
            of_many_begins_one_is_recorded, of_many_closes_one_gets_the_rest,
            of_many_thieves_one_takes_the_record, no_more_sessions_than_there_is_room_for;
    }
}

fn from(sender: &str) -> Parcel {
    let envelope = Envelope::SessionEnded { session: SessionId::mint() };
    Parcel { from: node(sender), lane: Lane::Direct, number: 1, envelope }
}

#[tokio::test]
async fn the_bus_delivers_to_one_and_to_all_but_the_sender() {
    let bus = MemoryBus::new(8);
    let (mut a, mut b) = (bus.open_inbox(&node("a")), bus.open_inbox(&node("b")));
    let (one, all) = (from("a"), from("a"));
    bus.send(&node("b"), one.clone()).await.unwrap();
    bus.announce(all.clone()).await.unwrap();
    assert_eq!(b.messages.recv().await, Some(one));
    assert_eq!(b.messages.recv().await, Some(all));
    assert!(a.messages.try_recv().is_err());
}

#[tokio::test]
async fn the_bus_says_what_was_not_handed_over() {
    let bus = MemoryBus::new(1);
    assert_eq!(bus.send(&node("nobody"), from("sender")).await, Err(BusError::NoResponders));
    let mut inbox = bus.open_inbox(&node("a"));
    inbox.missed.borrow_and_update();
    bus.send(&node("a"), from("sender")).await.unwrap();
    assert_eq!(bus.send(&node("a"), from("sender")).await, Err(BusError::Full));
    assert!(inbox.missed.has_changed().unwrap(), "the receiver is told that it missed something");
    drop(inbox);
    assert_eq!(bus.send(&node("a"), from("sender")).await, Err(BusError::NoResponders));
}

#[tokio::test]
async fn an_announcement_reaches_whoever_has_room() {
    let bus = MemoryBus::new(1);
    let (mut full, mut free) = (bus.open_inbox(&node("full")), bus.open_inbox(&node("free")));
    drop(bus.open_inbox(&node("left")));
    bus.send(&node("full"), from("sender")).await.unwrap();
    full.missed.borrow_and_update();
    let all = from("sender");
    assert_eq!(bus.announce(all.clone()).await, Ok(()));
    assert_eq!(free.messages.recv().await, Some(all));
    assert!(full.missed.has_changed().unwrap() && !free.missed.has_changed().unwrap());
    full.messages.recv().await.unwrap();
    assert!(full.messages.try_recv().is_err(), "what found it full is lost");
}
