//! When messages were sent, by the clocks of the nodes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What was on its way for longer is dropped: it waited in a client that was away. It is long because
/// clocks of nodes differ.
pub(super) const STALE: Duration = Duration::from_secs(30);

pub(super) const STALE_MS: u64 = STALE.as_millis() as u64;

pub(super) fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}
