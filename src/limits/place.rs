//! What is counted for as long as it is there: it has a place, which its end gives back.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Account;

#[derive(Debug, Default)]
pub(super) struct Counter(AtomicUsize);

impl Counter {
    pub(super) fn now(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Is taken until it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Place {
    _taken: [Option<Taken>; 2],
}

impl Place {
    /// A principal's, and one of all.
    pub(super) fn of(taken: [Option<Taken>; 2]) -> Self {
        Self { _taken: taken }
    }
}

/// One more of something, in one account.
pub(super) struct Taken {
    account: Arc<Account>,
    counter: fn(&Account) -> &Counter,
}

impl Taken {
    /// `None` if there are `max` already.
    pub(super) fn up_to(
        max: usize,
        account: Arc<Account>,
        counter: fn(&Account) -> &Counter,
    ) -> Option<Self> {
        let Counter(count) = counter(&account);
        let more = |count: usize| (count < max).then_some(count + 1);
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Self { account, counter })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let Counter(count) = (self.counter)(&self.account);
        count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Taken").finish_non_exhaustive()
    }
}
