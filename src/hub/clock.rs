//! The store's clock, as nodes know it between two beats.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

/// The store's clock, as the last beat showed it, to be asked for each event without a lock.
#[derive(Debug)]
pub(super) struct Clock {
    /// When it was made: `then_ms` was the time then.
    pub(super) since: Instant,
    /// In ms; 0 before the first beat.
    then_ms: AtomicU64,
}

impl Default for Clock {
    fn default() -> Self {
        Self { since: Instant::now(), then_ms: AtomicU64::new(0) }
    }
}

impl Clock {
    pub(super) fn set(&self, now_ms: u64, now: Instant) {
        let passed = u64::try_from(now.saturating_duration_since(self.since).as_millis()).unwrap_or_default();
        self.then_ms.store(now_ms.saturating_sub(passed), Ordering::Relaxed);
    }

    pub(super) fn now_ms(&self) -> Option<u64> {
        let then_ms = Some(self.then_ms.load(Ordering::Relaxed)).filter(|then_ms| *then_ms > 0)?;
        Some(then_ms + u64::try_from(self.since.elapsed().as_millis()).ok()?)
    }
}
