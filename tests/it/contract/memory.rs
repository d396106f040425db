//! The memory adapters keep the whole contract, on paused time.

use std::sync::Arc;
use std::time::Duration;

use holdfast::adapters::memory::MemorySessionStore;
use holdfast::ports::{Bounds, SessionStore};

use super::{Harness, core_contract, instantiate};

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

mod bus {
    use std::collections::HashMap;
    use std::sync::{Arc, Mutex};

    use holdfast::adapters::memory::MemoryBus;
    use holdfast::ports::{Bus, BusError};

    use crate::contract::bus::{INBOX_MAX, Joining, bus_contract, from};
    use crate::contract::node;
    use crate::contract::relay::relay_contract;

    /// One bus for each cluster.
    #[derive(Default)]
    struct Clusters(Mutex<HashMap<String, Arc<MemoryBus>>>);

    impl Joining for Clusters {
        async fn join(&self, cluster: &str) -> Arc<dyn Bus> {
            let mut clusters = self.0.lock().unwrap();
            clusters.entry(cluster.to_owned()).or_insert_with(|| Arc::new(MemoryBus::new(INBOX_MAX))).clone()
        }
    }

    bus_contract! { #[tokio::test(start_paused = true)] Clusters::default() }

    relay_contract! { #[tokio::test(start_paused = true)] Clusters::default() }

    super::instantiate! { #[tokio::test(start_paused = true)] Clusters::default();
        relay_faults: silence_costs_little_and_what_comes_then_arrives_at_once;
    }

    #[tokio::test]
    async fn the_sender_learns_of_a_full_inbox_and_of_a_dropped_one() {
        let bus = MemoryBus::new(1);
        let _full = bus.open_inbox(&node("full")).await.unwrap();
        drop(bus.open_inbox(&node("left")).await.unwrap());
        assert_eq!(bus.send(&node("full"), from("sender")).await, Ok(()));
        assert_eq!(bus.send(&node("full"), from("sender")).await, Err(BusError::Full));
        assert_eq!(bus.send(&node("left"), from("sender")).await, Err(BusError::NoResponders));
    }
}
