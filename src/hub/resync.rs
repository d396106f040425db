//! Reading the log again, for streams that may have missed something: re-asserts the own binding at
//! the written position, unless a newer one exists, and writes what the log has beyond.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;

use super::Hub;
use super::attach::tell_if_orphaned;
use super::live::Live;
use super::stream::LocalStream;
use crate::ports::{Attach, Attached};
use crate::telemetry::StreamEnd;

/// How long a stream waits for a missing event before it reads the log.
const GAP_PATIENCE: Duration = Duration::from_millis(50);

/// Streams that read the log at the same time, when all of them have to.
const RESYNCS_AT_ONCE: usize = 16;

impl Hub {
    /// Reads the log for a stream that misses something, unless it arrives in the meantime.
    pub(super) fn close_gap(&self, live: &Arc<Live>, stream: &Arc<LocalStream>) {
        self.inner.metrics.gap();
        let (hub, live, stream) = (self.clone(), live.clone(), stream.clone());
        self.inner.tasks.spawn_until_stopped(async move {
            tokio::time::sleep(GAP_PATIENCE).await;
            hub.resync(&live, &stream).await;
        });
    }

    /// Re-asserts a stream's own binding at its written position, and writes what the log has beyond.
    pub(super) async fn resync(&self, live: &Arc<Live>, stream: &Arc<LocalStream>) {
        let Some((fence, position)) = stream.position() else { return };
        let attach = Attach {
            stream: stream.key.clone(),
            node: self.inner.node.clone(),
            position: Some(position),
            reassert: Some(fence),
            not_after_ms: None,
        };
        match self.store().attach(&attach).await {
            Ok(Attached::Bound { tail, running, upstream_event, .. }) => {
                self.inner.metrics.delivered(stream.caught_up(&tail));
                tell_if_orphaned(stream, &tail, &running);
                self.look_after(live, &stream.key, running);
                self.ensure_pump(live, &stream.key.stream, upstream_event).await;
            }
            // Nobody said who holds it now: the client finds out by coming back.
            Ok(Attached::Superseded(_)) => stream.end_with_retry(StreamEnd::Replaced, self.retry()),
            Ok(Attached::Ended) => stream.outlet.end(StreamEnd::Finished),
            Ok(Attached::Gone) => self.end_locally(live),
            // The client comes back with its position and is told.
            Ok(Attached::Lost { .. } | Attached::Unknown | Attached::TooLate) => {
                stream.end_with_retry(StreamEnd::Failed, self.retry());
            }
            Err(error) => {
                tracing::warn!(stream = %stream.key, %error, "a gap can't be read from the log yet");
                self.close_gap(live, stream);
            }
        }
    }

    /// Looks at everything whenever somebody asked for it, until it is dropped.
    pub(super) async fn keep_in_sync(self) {
        loop {
            self.inner.resync.notified().await;
            self.resync_all().await;
        }
    }

    /// Messages may be lost: nothing cached is trusted, and every stream reads its log.
    async fn resync_all(&self) {
        self.inner.registry.distrust();
        let mut held = Vec::new();
        self.inner.registry.sweep(|live| {
            held.extend(live.streams().into_iter().map(|stream| (live.clone(), stream)));
        });
        self.inner.metrics.resynced(held.len());
        futures::stream::iter(held)
            .for_each_concurrent(RESYNCS_AT_ONCE, |(live, stream)| async move {
                self.resync(&live, &stream).await;
            })
            .await;
    }
}
