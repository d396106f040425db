//! What principals may do on all nodes together.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use holdfast::domain::{Principal, Rate};
use holdfast::ports::{RateLimits, Taken};

/// Makes rates of one kind.
pub(crate) trait Rating {
    async fn rates(&self) -> Arc<dyn RateLimits>;

    /// Lets the backend's time pass.
    async fn pass(&self, time: Duration);
}

fn named(name: &str) -> Principal {
    Principal::named(name)
}

async fn wait_for(rates: &dyn RateLimits, principal: &Principal, rate: Rate, requests: u64) -> Duration {
    match rates.take(principal, rate, requests).await.unwrap() {
        Taken::Nothing { wait } => wait,
        Taken::All => panic!("{requests} were there"),
    }
}

pub(crate) async fn a_burst_and_then_the_rate(rating: &impl Rating) {
    let (rates, rate) = (rating.rates().await, Rate::per_second(2, 5));
    let alice = named("token:alice");
    assert_eq!(rates.take(&alice, rate, 4).await, Ok(Taken::All));
    let two = wait_for(&*rates, &alice, rate, 2).await;
    assert!(two <= Duration::from_millis(500), "{two:?}");
    assert_eq!(rates.take(&alice, rate, 1).await, Ok(Taken::All), "nothing was taken of what did not fit");
    let one = wait_for(&*rates, &alice, rate, 1).await;
    assert!(
        one > two.saturating_sub(Duration::from_millis(500)) && one <= Duration::from_millis(500),
        "{one:?}"
    );
    rating.pass(one).await;
    assert_eq!(rates.take(&alice, rate, 1).await, Ok(Taken::All));
    wait_for(&*rates, &alice, rate, 1).await;
}

pub(crate) async fn each_principal_has_its_own(rating: &impl Rating) {
    let (rates, rate) = (rating.rates().await, Rate::per_minute(3));
    // Names are what others gave: any text.
    for name in ["a", "a}", "{a}", "}{", "", "a b\r\n", "ä", &"x".repeat(2000)] {
        assert_eq!(rates.take(&named(name), rate, 3).await, Ok(Taken::All), "{name}");
        wait_for(&*rates, &named(name), rate, 1).await;
    }
    assert_eq!(rates.take(&Principal::anonymous(), rate, 3).await, Ok(Taken::All));
}

pub(crate) async fn more_than_the_burst_is_owed(rating: &impl Rating) {
    let (rates, rate) = (rating.rates().await, Rate::per_minute(60));
    let alice = named("token:alice");
    assert_eq!(rates.take(&alice, rate, 128).await, Ok(Taken::All), "it is whole");
    let wait = wait_for(&*rates, &alice, rate, 1).await;
    assert!((60..=69).contains(&wait.as_secs()), "{wait:?}");
    let wait = wait_for(&*rates, &alice, rate, 128).await;
    assert!((120..=128).contains(&wait.as_secs()), "{wait:?}");
}

pub(crate) async fn of_many_who_take_at_once_nobody_gets_too_much(rating: &impl Rating) {
    let (rates, rate) = (rating.rates().await, Rate::per_minute(20));
    let taken =
        join_all((0..50).map(async |_| rates.take(&named("token:alice"), rate, 1).await.unwrap())).await;
    assert_eq!(taken.iter().filter(|taken| **taken == Taken::All).count(), 20);
}

macro_rules! rates_contract {
    (#[$test:meta] $harness:expr) => {
        $crate::contract::instantiate! { #[$test] $harness;
            rates: a_burst_and_then_the_rate, each_principal_has_its_own, more_than_the_burst_is_owed,
                of_many_who_take_at_once_nobody_gets_too_much;
        }
    };
}

mod memory {
    use holdfast::adapters::memory::MemoryRates;

    use super::*;

    struct Memory;

    impl Rating for Memory {
        async fn rates(&self) -> Arc<dyn RateLimits> {
            Arc::new(MemoryRates::default())
        }

        async fn pass(&self, time: Duration) {
            tokio::time::advance(time).await;
        }
    }

    rates_contract! { #[tokio::test(start_paused = true)] Memory }
}

mod redis {
    use super::*;
    use crate::contract::bounds;
    use crate::servers::Redis;

    impl Rating for Redis {
        async fn rates(&self) -> Arc<dyn RateLimits> {
            Arc::new(self.store(bounds()).await)
        }

        async fn pass(&self, time: Duration) {
            tokio::time::sleep(time).await;
        }
    }

    rates_contract! { #[tokio::test] Redis::start() }

    #[tokio::test]
    async fn what_is_whole_again_leaves_nothing() {
        let redis = Redis::start();
        let (rates, rate) = (redis.rates().await, Rate::per_second(10, 10));
        let keys = || redis.ask(&["KEYS", "*:rate:*"]).trim().to_owned();
        assert_eq!(rates.take(&named("token:alice"), rate, 3).await, Ok(Taken::All));
        assert!(keys().ends_with(":rate:=token:alice"), "{}", keys());
        tokio::time::sleep(Duration::from_millis(350)).await;
        assert_eq!(keys(), "");
    }

    /// After a failover it is another one's.
    #[tokio::test]
    async fn a_clock_that_goes_back_costs_nobody_anything() {
        let redis = Redis::start();
        let (rates, rate) = (redis.rates().await, Rate::per_second(1, 10));
        let alice = named("token:alice");
        assert_eq!(rates.take(&alice, rate, 4).await, Ok(Taken::All));
        let key = redis.ask(&["KEYS", "*:rate:*"]).trim().to_owned();
        let stored = redis.ask(&["GET", &key]);
        let ahead = |text: &str| (text.parse::<u64>().unwrap() + 3_600_000_000).to_string();
        let (whole, written) = stored.trim().split_once(' ').unwrap();
        redis.command(&["SET", &key, &format!("{} {}", ahead(whole), ahead(written)), "PX", "60000"]);
        assert_eq!(rates.take(&alice, rate, 6).await, Ok(Taken::All));
        let wait = wait_for(&*rates, &alice, rate, 1).await;
        assert!(wait <= Duration::from_secs(1), "{wait:?}");
    }
}
