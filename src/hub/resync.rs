//! Reading the log again, for streams that may have missed something: re-asserts the own binding at
//! the written position, unless a newer one exists, and writes what the log has beyond.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;

use super::Hub;
use super::live::Live;
use super::stream::LocalStream;
use crate::ports::{Attach, Attached, StoreError};
use crate::telemetry::StreamEnd;

/// How long a stream waits for a missing event before it reads the log.
const GAP_PATIENCE: Duration = Duration::from_millis(50);

/// Streams that read the log at the same time, when all of them have to.
const RESYNCS_AT_ONCE: usize = 16;

/// The longest time until a log that could not be read is looked at again.
const AGAIN: Duration = Duration::from_secs(1);

/// While others may say what is not heard here, streams read their logs this often.
const LOOK: Duration = Duration::from_secs(3);

impl Hub {
    /// Reads the log for a stream that misses something, unless it arrives in the meantime.
    pub(super) fn close_gap(&self, live: &Arc<Live>, stream: &Arc<LocalStream>) {
        self.inner.metrics.gap();
        self.read_log_after(GAP_PATIENCE, live, stream);
    }

    /// There is something in the log for this stream.
    pub(super) fn read_log(&self, live: &Arc<Live>, stream: &Arc<LocalStream>) {
        self.read_log_after(Duration::ZERO, live, stream);
    }

    fn read_log_after(&self, patience: Duration, live: &Arc<Live>, stream: &Arc<LocalStream>) {
        let (hub, live, stream) = (self.clone(), live.clone(), stream.clone());
        self.inner.tasks.spawn_until_stopped(async move {
            let mut wait = patience;
            loop {
                tokio::time::sleep(wait).await;
                if stream.outlet.ended().is_some() || hub.resync(&live, &stream).await.is_ok() {
                    return;
                }
                wait = (wait * 2).clamp(GAP_PATIENCE, AGAIN);
            }
        });
    }

    /// Re-asserts a stream's own binding at its written position, and writes what the log has beyond.
    /// It is to be repeated if it fails.
    async fn resync(&self, live: &Arc<Live>, stream: &Arc<LocalStream>) -> Result<(), StoreError> {
        let Some((fence, position)) = stream.position() else { return Ok(()) };
        let attach = Attach {
            stream: stream.key.clone(),
            node: self.inner.node.clone(),
            position: Some(position),
            reassert: Some(fence),
            not_after_ms: None,
        };
        match self.store().attach(&attach).await? {
            Attached::Bound { tail, running, upstream_event, .. } => {
                self.inner.metrics.delivered(stream.caught_up(&tail));
                self.look_after(live, &stream.key, running);
                self.ensure_pump(live, &stream.key.stream, upstream_event).await;
            }
            // Nobody said who holds it now: the client finds out by coming back.
            Attached::Superseded(_) => stream.end_with_retry(StreamEnd::Replaced, self.retry()),
            Attached::Ended => stream.outlet.end(StreamEnd::Finished),
            Attached::Gone => self.end_locally(live),
            // The client comes back with its position and is told.
            Attached::Lost { .. } | Attached::Unknown | Attached::TooLate => {
                stream.end_with_retry(StreamEnd::Failed, self.retry());
            }
        }
        Ok(())
    }

    /// Looks at everything whenever somebody asked for it, and now and then while the others can't say
    /// that there is something to look at, until it is dropped.
    pub(super) async fn keep_in_sync(self) {
        let mut unread = false;
        loop {
            tokio::select! {
                () = self.inner.resync.notified() => {
                    // Messages may be lost: nothing cached is trusted.
                    self.inner.registry.distrust();
                    unread = !self.read_logs().await;
                }
                () = tokio::time::sleep(if unread { AGAIN } else { LOOK }) => {
                    if unread || self.inner.nodes.misses_news() {
                        unread &= !self.read_logs().await;
                    }
                }
            }
        }
    }

    /// For every stream held here: whether all could be read.
    async fn read_logs(&self) -> bool {
        let mut held = Vec::new();
        self.inner.registry.sweep(|live| {
            held.extend(live.streams().into_iter().map(|stream| (live.clone(), stream)));
        });
        self.inner.metrics.resynced(held.len());
        let failed: Vec<_> = futures::stream::iter(held)
            .map(|(live, stream)| async move { self.resync(&live, &stream).await })
            .buffer_unordered(RESYNCS_AT_ONCE)
            .filter_map(|read| std::future::ready(read.err()))
            .collect()
            .await;
        if let Some(error) = failed.first() {
            tracing::warn!(streams = failed.len(), %error, "logs can't be read yet");
        }
        failed.is_empty()
    }
}
