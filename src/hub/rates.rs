//! The rate of each principal that all nodes keep together, if they are told to (`limits.shared`). A node
//! asks only for what its own account allows, and goes by that alone while there is no answer.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use super::{Error, Hub};
use crate::domain::{Limit, Principal, Rate};
use crate::limits::Exceeded;
use crate::ports::{RateLimits, Taken};
use crate::telemetry::SharedRate;

/// Nobody asks for so long after there was no answer.
const PAUSE: Duration = Duration::from_secs(1);

/// What nodes share of their limits.
#[derive(Debug)]
pub struct Rates {
    port: Arc<dyn RateLimits>,
    /// How long a request waits for an answer.
    timeout: Duration,
    /// When it was last seen that there is no answer, unless one was asked for since, and came.
    away_since: Mutex<Option<Instant>>,
}

impl Hub {
    /// Counts requests of a principal, all or none.
    ///
    /// # Errors
    /// [`Error::Exceeded`].
    pub async fn admit(&self, principal: &Principal, requests: usize) -> Result<(), Error> {
        let (limits, requests) = (&self.inner.limits, requests as u64);
        limits.requests(principal, requests).map_err(|exceeded| self.exceeded(exceeded))?;
        let Some((rates, rate)) = self.inner.rates.as_ref().zip(limits.rate()) else { return Ok(()) };
        let taken = rates.take(principal, rate, requests).await;
        self.inner.metrics.asked_for_rate(match taken {
            Some(Taken::All) => SharedRate::Taken,
            Some(Taken::Nothing { .. }) => SharedRate::Refused,
            None => SharedRate::Alone,
        });
        let Some(Taken::Nothing { wait }) = taken else { return Ok(()) };
        limits.refuse(principal, requests, wait);
        Err(self.exceeded(Exceeded { limit: Limit::PrincipalRequests, wait: Some(wait) }))
    }
}

impl Rates {
    #[must_use]
    pub fn new(port: Arc<dyn RateLimits>, timeout: Duration) -> Self {
        Self { port, timeout, away_since: Mutex::default() }
    }

    async fn take(&self, principal: &Principal, rate: Rate, requests: u64) -> Option<Taken> {
        let began = Instant::now();
        if self.away().is_some_and(|since| began < since + PAUSE) {
            return None;
        }
        let taken = tokio::time::timeout(self.timeout, self.port.take(principal, rate, requests)).await;
        let taken = taken.ok().and_then(Result::ok);
        let mut away = self.away();
        match (*away, &taken) {
            (None, None) => {
                tracing::warn!("rates can't be shared for now: each node goes by its own (limits.shared)");
                *away = Some(Instant::now());
            }
            (Some(_), None) => *away = Some(Instant::now()),
            // An answer to what was asked before says nothing of what came after it.
            (Some(since), Some(_)) if began > since => {
                tracing::info!("rates are shared again");
                *away = None;
            }
            (None | Some(_), Some(_)) => {}
        }
        taken
    }

    fn away(&self) -> MutexGuard<'_, Option<Instant>> {
        self.away_since.lock().expect("no panic while holding it")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::ports::PortFuture;

    /// Answers after so long, one after the other; then at once.
    #[derive(Debug, Default)]
    struct Scripted {
        after: Mutex<VecDeque<Duration>>,
        asked: Mutex<usize>,
    }

    impl RateLimits for Scripted {
        fn take<'a>(
            &'a self,
            _: &'a Principal,
            _: Rate,
            _: u64,
        ) -> PortFuture<'a, Result<Taken, crate::ports::StoreError>> {
            *self.asked.lock().unwrap() += 1;
            let after = self.after.lock().unwrap().pop_front().unwrap_or_default();
            Box::pin(async move {
                tokio::time::sleep(after).await;
                Ok(Taken::All)
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_to_an_earlier_question_does_not_end_the_pause() {
        let port = Arc::new(Scripted::default());
        let (never, late) = (Duration::from_secs(60), Duration::from_millis(99));
        *port.after.lock().unwrap() = VecDeque::from([never, late]);
        let rates = Rates::new(port.clone(), Duration::from_millis(100));
        let (principal, rate) = (Principal::anonymous(), Rate::per_second(1, 1));
        let take = || rates.take(&principal, rate, 1);
        let asked = || *port.asked.lock().unwrap();
        // The second is asked before the first is given up, and answered after that.
        let second = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            take().await
        };
        assert_eq!(tokio::join!(take(), second), (None, Some(Taken::All)));
        assert_eq!((take().await, asked()), (None, 2), "nobody asks during the pause");
        tokio::time::advance(PAUSE).await;
        assert_eq!((take().await, asked()), (Some(Taken::All), 3));
        assert_eq!((take().await, asked()), (Some(Taken::All), 4), "it is over");
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_lets_nobody_else_ask_for_a_while() {
        let port = Arc::new(Scripted::default());
        *port.after.lock().unwrap() = VecDeque::from([Duration::from_secs(60)]);
        let rates = Rates::new(port.clone(), Duration::from_millis(100));
        let (principal, rate) = (Principal::anonymous(), Rate::per_second(1, 1));
        for _ in 0..10 {
            assert_eq!(rates.take(&principal, rate, 1).await, None);
        }
        assert_eq!(*port.asked.lock().unwrap(), 1);
    }
}
