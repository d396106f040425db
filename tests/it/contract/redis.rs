//! The Redis adapter keeps the whole contract, on a real server.

use std::sync::Arc;
use std::time::Duration;

use holdfast::ports::{Bounds, LogBounds, SessionStore};
use proptest::test_runner::{Config as ProptestConfig, TestRunner};

use super::model::{LOG, actions, run};
use super::{Harness, bounds, instantiate};
use crate::servers::Redis;

impl Harness for Redis {
    async fn store(&self, bounds: Bounds) -> Arc<dyn SessionStore> {
        Arc::new(Self::store(self, bounds).await)
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// Hours pass in seconds: every life is a thousandth of what the test says.
pub(crate) struct Fast<H>(pub H);

impl<H: Harness> Harness for Fast<H> {
    async fn store(&self, bounds: Bounds) -> Arc<dyn SessionStore> {
        let log = LogBounds { event_ttl: bounds.log.event_ttl / 1000, ..bounds.log };
        let session_idle_timeout = bounds.session_idle_timeout / 1000;
        self.0.store(Bounds { log, session_idle_timeout, ..bounds }).await
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time / 1000).await;
    }
}

/// All that a Redis promises, however many servers it is.
macro_rules! redis_contract {
    (#[$test:meta] $harness:expr) => {
        $crate::contract::core_contract! { #[$test] $harness }

        $crate::contract::instantiate! { #[$test] $harness;
            sessions: there_is_room_for_so_many, subscriptions_are_bounded, found_by_what_they_are,
                pages_are_ordered_and_whole;
            running: a_dead_runner_is_robbed_once, a_repeated_steal_is_answered_alike;
            serial: of_many_thieves_one_takes_the_record, no_more_sessions_than_there_is_room_for;
        }

        $crate::contract::instantiate! { #[$test] $crate::contract::redis::Fast($harness);
            ends: idle_sessions_are_reaped_once, an_idle_session_is_gone_before_it_is_reaped,
                many_idle_sessions_are_reaped_in_portions,
                a_session_whose_id_was_opened_anew_is_reaped_as_well, touching_prolongs_and_names_the_gone;
            log: the_top_of_a_lasting_stream_is_never_lost;
        }
    };
}

pub(crate) use redis_contract;

redis_contract! { #[tokio::test] Redis::start() }

/// The same callers as real races.
mod on_threads {
    use super::{Redis, instantiate};

    instantiate! { #[tokio::test(flavor = "multi_thread", worker_threads = 4)] Redis::start();
        serial: appends_and_attaches_are_serial, of_many_owners_one_gets_the_session,
            of_many_begins_one_is_recorded, of_many_closes_one_gets_the_rest,
            of_many_thieves_one_takes_the_record, no_more_sessions_than_there_is_room_for;
    }
}

#[test]
fn resuming_anywhere_gives_exactly_the_rest_or_says_lost() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let redis = Redis::start();
    let mut runner = TestRunner::new(ProptestConfig { cases: 60, ..ProptestConfig::default() });
    let ran = runner.run(&actions(false), |actions| {
        runtime.block_on(async {
            let store = redis.store(Bounds { log: LOG, sessions_max: 1000, ..bounds() }).await;
            run(&store, actions).await;
        });
        Ok(())
    });
    ran.unwrap();
}
