//! The rate of each principal that all nodes keep together, if they are told to (`limits.shared`). A node
//! asks only for what its own account allows, and goes by that alone while there is no answer.

use std::sync::{Arc, Mutex};
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
    /// When to ask again, if there was no answer the last time.
    away_until: Mutex<Option<Instant>>,
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
        Self { port, timeout, away_until: Mutex::default() }
    }

    async fn take(&self, principal: &Principal, rate: Rate, requests: u64) -> Option<Taken> {
        let away = *self.away_until.lock().expect("no panic while holding it");
        if away.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        let taken = tokio::time::timeout(self.timeout, self.port.take(principal, rate, requests)).await;
        let taken = taken.ok().and_then(Result::ok);
        let until = taken.is_none().then(|| Instant::now() + PAUSE);
        let before =
            std::mem::replace(&mut *self.away_until.lock().expect("no panic while holding it"), until);
        match (before, until) {
            (None, Some(_)) => {
                tracing::warn!("rates can't be shared for now: each node goes by its own (limits.shared)");
            }
            (Some(_), None) => tracing::info!("rates are shared again"),
            (None, None) | (Some(_), Some(_)) => {}
        }
        taken
    }
}
