//! Rates that nodes of one process share.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::{Principal, Rate};
use crate::ports::{PortFuture, RateLimits, StoreError, Taken};

/// Fewer are not worth a look.
const FEW: usize = 64;

/// When the rate of each principal is whole again.
#[derive(Debug, Default)]
pub struct MemoryRates {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    whole: HashMap<Principal, Instant>,
    /// With so many, those that are whole are dropped.
    look_at: usize,
}

impl RateLimits for MemoryRates {
    fn take<'a>(
        &'a self,
        principal: &'a Principal,
        rate: Rate,
        requests: u64,
    ) -> PortFuture<'a, Result<Taken, StoreError>> {
        let taken = self.state.lock().expect("no panic while holding it").take(principal, rate, requests);
        Box::pin(std::future::ready(Ok(taken)))
    }
}

impl State {
    fn take(&mut self, principal: &Principal, rate: Rate, requests: u64) -> Taken {
        let now = Instant::now();
        if self.whole.len() > self.look_at {
            self.whole.retain(|_, whole| *whole > now);
            self.look_at = (self.whole.len() * 2).max(FEW);
        }
        let [cost, needed, burst] =
            [rate.nanos(requests), rate.needed_nanos(requests), rate.nanos(rate.burst())]
                .map(Duration::from_nanos);
        let whole = self.whole.get(principal).map_or(now, |whole| (*whole).max(now));
        let wait = (whole - now + needed).saturating_sub(burst);
        if !wait.is_zero() {
            return Taken::Nothing { wait };
        }
        self.whole.insert(principal.clone(), whole + cost);
        Taken::All
    }
}
