//! Bindings and running records: which node holds a stream's socket, and which node runs a request.

use std::fmt;
use std::time::Duration;

use super::id::{NodeId, RequestId};
use super::stream::StreamId;

/// A number that only grows: max(previous + 1, server time in ms), so that a failover that forgot
/// one can't hand it out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(pub u64);

impl Fence {
    /// The fence after `previous` at `now_ms`.
    #[must_use]
    pub fn after(previous: Option<Self>, now_ms: u64) -> Self {
        Self(previous.map_or(now_ms, |fence| now_ms.max(fence.0 + 1)))
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The node that holds a stream's socket now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    pub node: NodeId,
    pub fence: Fence,
}

/// What the shared state knows of a request that must survive its runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningRecord {
    pub request: RequestId,
    /// The stream that its result will stand on.
    pub stream: StreamId,
    pub runner: NodeId,
    pub fence: Fence,
    /// Server time in ms at which the record ends by itself.
    pub deadline_ms: u64,
    /// The last event id that the upstream gave on the answer's stream: where it can be resumed.
    pub upstream_event: Option<String>,
}

impl RunningRecord {
    /// How long it had to live when its runner got it: a fence is about the time it was given out.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        Duration::from_millis(self.deadline_ms.saturating_sub(self.fence.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_grow_over_failovers_and_slow_clocks() {
        let first = Fence::after(None, 100);
        assert_eq!(first, Fence(100));
        assert_eq!(Fence::after(Some(first), 50), Fence(101));
        assert_eq!(Fence::after(Some(first), 200), Fence(200));
    }
}
