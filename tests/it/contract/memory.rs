//! The memory adapters keep the whole contract, on paused time.

use std::sync::Arc;
use std::time::Duration;

use holdfast::adapters::memory::{MemoryBus, MemorySessionStore};
use holdfast::domain::SessionId;
use holdfast::ports::{Bounds, Bus as _, BusError, Envelope, SessionStore};

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
    sessions: there_is_room_for_so_many, subscriptions_are_bounded, idle_sessions_are_reaped_once,
        touching_prolongs_and_names_the_gone, found_by_what_they_are, closed_only_while_unbound;
    log: the_log_is_trimmed_by_count_bytes_and_age, the_top_of_a_lasting_stream_is_never_lost;
    running: a_dead_runner_is_robbed_once, records_end_at_their_deadline;
}

fn ended() -> Envelope {
    Envelope::SessionEnded { session: SessionId::mint() }
}

#[tokio::test]
async fn the_bus_delivers_to_one_and_to_all_but_the_sender() {
    let bus = MemoryBus::new(8);
    let (mut a, mut b) = (bus.open_inbox(&node("a")), bus.open_inbox(&node("b")));
    let (one, all) = (ended(), ended());
    bus.send(&node("b"), one.clone()).await.unwrap();
    bus.announce(&node("a"), all.clone()).await.unwrap();
    assert_eq!(b.messages.recv().await, Some(one));
    assert_eq!(b.messages.recv().await, Some(all));
    assert!(a.messages.try_recv().is_err());
}

#[tokio::test]
async fn the_bus_says_what_was_not_handed_over() {
    let bus = MemoryBus::new(1);
    assert_eq!(bus.send(&node("nobody"), ended()).await, Err(BusError::NoResponders));
    let mut inbox = bus.open_inbox(&node("a"));
    inbox.missed.borrow_and_update();
    bus.send(&node("a"), ended()).await.unwrap();
    assert_eq!(bus.send(&node("a"), ended()).await, Err(BusError::Full));
    assert!(inbox.missed.has_changed().unwrap(), "the receiver is told that it missed something");
    drop(inbox);
    assert_eq!(bus.send(&node("a"), ended()).await, Err(BusError::NoResponders));
}
