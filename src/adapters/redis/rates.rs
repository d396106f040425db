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
            let micros = |nanos: u64| text(&nanos.div_ceil(1000).to_string());
            let times = [rate.nanos(requests), rate.needed_nanos(requests), rate.nanos(rate.burst())];
            let arguments = times.map(micros).to_vec();
            let keys = vec![self.steps.rate_key(principal)];
            let mut answer = self.steps.run(&self.steps.scripts.rates, keys, arguments).await?;
            if answer.text()? == "all" {
                return Ok(Taken::All);
            }
            Ok(Taken::Nothing { wait: Duration::from_micros(answer.parsed()?) })
        })
    }
}
