//! Rates in Redis: one key for each principal, which goes when its rate is whole again.

use std::time::Duration;

use super::steps::text;
use super::store::RedisSessionStore;
use crate::domain::{Principal, Rate};
use crate::ports::{PortFuture, RateLimits, StoreError, Taken};

impl RateLimits for RedisSessionStore {
    fn take<'a>(
        &'a self,
        principal: &'a Principal,
        rate: Rate,
        requests: u64,
    ) -> PortFuture<'a, Result<Taken, StoreError>> {
        Box::pin(async move {
            let micros = |cells| text(&rate.nanos(cells).div_ceil(1000).to_string());
            let arguments = vec![micros(requests), micros(rate.burst())];
            let keys = vec![self.steps.rate_key(principal)];
            let mut answer = self.steps.run(&self.steps.scripts.rates, keys, arguments).await?;
            if answer.text()? == "all" {
                return Ok(Taken::All);
            }
            Ok(Taken::Nothing { wait: Duration::from_micros(answer.parsed()?) })
        })
    }
}
