//! Rates that nodes share: optional, and never what a request waits for.

use std::fmt::Debug;
use std::time::Duration;

use super::{PortFuture, StoreError};
use crate::domain::{Principal, Rate};

/// `take`'s answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    All,
    /// Nothing was taken; the same fits after so long.
    Nothing {
        wait: Duration,
    },
}

/// What principals may do on all nodes together.
pub trait RateLimits: Send + Sync + Debug + 'static {
    /// Takes so many requests from what is left of a principal's rate, all or none, in one atomic step, by the
    /// backend's clock, which may go back. More than the burst are given out of what is whole, and are owed.
    /// What is whole again is not remembered. Repeating it takes twice.
    fn take<'a>(
        &'a self,
        principal: &'a Principal,
        rate: Rate,
        requests: u64,
    ) -> PortFuture<'a, Result<Taken, StoreError>>;
}
