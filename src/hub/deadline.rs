//! How long a call may take.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::RequestsConfig;
use crate::protocol::jsonrpc::Message;

/// Returns at that moment; without one, never.
pub(super) async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Until when a call may take: `timeout` after its last sign of life, `timeout_max` in all. While
/// the server waits for the client's answer to a question, only the latter counts.
#[derive(Debug)]
pub(super) struct Deadline {
    soft: Instant,
    hard: Instant,
    timeout: Duration,
}

impl Deadline {
    pub(super) fn new(config: &RequestsConfig) -> Self {
        let now = Instant::now();
        Self { soft: now + config.timeout, hard: now + config.timeout_max, timeout: config.timeout }
    }

    pub(super) fn sign_of_life(&mut self, message: &Message) {
        self.soft = if message.is_request() { self.hard } else { Instant::now() + self.timeout };
    }

    pub(super) fn at(&self) -> Instant {
        self.soft.min(self.hard)
    }

    /// The moment beyond which nothing extends it.
    pub(super) fn last(&self) -> Instant {
        self.hard
    }

    /// Nothing extends it beyond this any more.
    pub(super) fn shorten(&mut self, to: Instant) {
        self.soft = self.at().min(to);
    }
}

/// Waits for the client to cancel, if it can.
pub(super) async fn cancelled(cancel: Option<Arc<Notify>>) {
    match cancel {
        Some(cancel) => cancel.notified().await,
        None => std::future::pending().await,
    }
}
