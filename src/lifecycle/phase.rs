//! Which phase the process is in, and who may know.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

/// A process goes through these once, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Starting,
    Ready,
    /// Told to end: not ready, so that the balancer leaves, and everything is still served.
    Leaving,
    /// No new connections; streams are handed over, running requests finish.
    Draining,
    Stopped,
}

impl Phase {
    /// As operators read it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Leaving => "leaving",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        }
    }
}

/// A cloneable view of the phase; the owner advances it.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    phase: Arc<watch::Sender<Phase>>,
    started: Instant,
}

impl Lifecycle {
    #[must_use]
    pub fn new() -> Self {
        Self { phase: Arc::new(watch::Sender::new(Phase::Starting)), started: Instant::now() }
    }

    /// Moves on; going back is ignored.
    pub fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let forward = to > *phase;
            if forward {
                *phase = to;
            }
            forward
        });
    }

    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Returns once the phase is `at_least` reached.
    pub async fn reached(&self, at_least: Phase) {
        let mut phase = self.phase.subscribe();
        // The sender lives as long as `self`, so waiting can't fail.
        let _ = phase.wait_for(|phase| *phase >= at_least).await;
    }

    /// Seconds since the process started.
    #[must_use]
    pub fn uptime_seconds(&self) -> u64 {
        self.started.elapsed().as_secs()
    }
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_phase_never_goes_back() {
        let lifecycle = Lifecycle::new();
        lifecycle.advance(Phase::Draining);
        lifecycle.advance(Phase::Ready);
        assert_eq!(lifecycle.phase(), Phase::Draining);
        lifecycle.reached(Phase::Ready).await;
    }
}
