//! What clients of a NATS tell of themselves.

use std::sync::atomic::{AtomicBool, Ordering};

use async_nats::Event;
use tokio::sync::watch;

use super::pace::Pace;
use crate::lifecycle::Seldom;

/// Of one process, whichever client it has.
#[derive(Debug)]
pub(super) struct Ears {
    /// Changes whenever messages may have been lost.
    lost: watch::Sender<u64>,
    pub pace: Pace,
    /// There was a connection before.
    began: AtomicBool,
    slow: Seldom,
    away: Seldom,
}

impl Ears {
    pub(super) fn new(lost: watch::Sender<u64>) -> Self {
        Self {
            lost,
            pace: Pace::default(),
            began: AtomicBool::new(false),
            slow: Seldom::default(),
            away: Seldom::default(),
        }
    }

    pub(super) fn hear(&self, event: &Event) {
        match event {
            Event::Connected => {
                tracing::info!("connected to NATS");
                if self.began.swap(true, Ordering::Relaxed) {
                    self.lost.send_modify(|lost| *lost += 1);
                }
            }
            Event::Disconnected => tracing::warn!("NATS is away; coming back"),
            // One such event for each message that was dropped.
            Event::SlowConsumer(_) => {
                self.lost.send_modify(|lost| *lost += 1);
                if let Some(unsaid) = self.slow.again() {
                    tracing::warn!(unsaid, "messages between nodes come faster than they are read");
                }
            }
            Event::LameDuckMode => {
                tracing::info!("the NATS server is about to end; another one is looked for");
            }
            Event::Draining | Event::Closed => {}
            Event::ServerError(error) => {
                if let Some(unsaid) = self.away.again() {
                    tracing::warn!(%error, unsaid, "NATS complains");
                }
            }
            // One for each attempt to come back.
            Event::ClientError(error) => {
                if let Some(unsaid) = self.away.again() {
                    tracing::warn!(%error, unsaid, "NATS can't be reached");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use async_nats::ServerError;

    use super::*;

    #[test]
    fn messages_may_be_lost_by_who_was_away_or_reads_too_slowly() {
        let (lost, heard) = watch::channel(0);
        let ears = Ears::new(lost);
        ears.hear(&Event::Connected);
        assert_eq!(*heard.borrow(), 0, "there was nothing before");
        for event in [Event::Connected, Event::SlowConsumer(1), Event::SlowConsumer(1)] {
            ears.hear(&event);
        }
        assert_eq!(*heard.borrow(), 3);
        for event in [Event::Disconnected, Event::ServerError(ServerError::AuthorizationViolation)] {
            ears.hear(&event);
        }
        assert_eq!(*heard.borrow(), 3, "the coming back counts");
    }
}
