//! Reading the log again, for streams that may have missed something: re-asserts the own binding at
//! the written position, unless a newer one exists, and writes what the log has beyond.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt as _;

use super::Hub;
use super::live::Live;
use super::loss::tell_if_orphaned;
use super::nodes::Health;
use super::stream::LocalStream;
use crate::ports::{Attach, Attached};
use crate::protocol::jsonrpc;
use crate::telemetry::StreamEnd;

/// How long a stream waits for a missing event before it reads the log.
const GAP_PATIENCE: Duration = Duration::from_millis(50);

/// The longest pause between two attempts to read it.
const PATIENCE_MAX: Duration = Duration::from_secs(2);

/// A hint may still be on its way when somebody looks: in ms.
const HINTS_OVERLAP_MS: u64 = 10_000;

/// While others may say what is not heard here, streams read their logs this often.
const LOOK: Duration = Duration::from_secs(3);

/// Streams that read the log at the same time, when all of them have to.
const RESYNCS_AT_ONCE: usize = 16;

impl Hub {
    /// Reads the log for a stream that misses something, unless it arrives in the meantime.
    pub(super) fn close_gap(&self, live: &Arc<Live>, stream: &Arc<LocalStream>) {
        self.inner.metrics.gap();
        self.look(live, stream, GAP_PATIENCE);
    }

    /// Reads the log for a stream, `after` a while; once for all who ask for it meanwhile, and again with
    /// back-off while the store is away.
    pub(super) fn look(&self, live: &Arc<Live>, stream: &Arc<LocalStream>, after: Duration) {
        if !stream.ask_for_a_look() {
            return;
        }
        let (hub, live, stream) = (self.clone(), live.clone(), stream.clone());
        self.inner.tasks.spawn_until_stopped(async move {
            let mut pause = after;
            // What ended is read by whoever comes back for it.
            while stream.outlet.ended().is_none() {
                tokio::time::sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
                let asked = stream.looks();
                if hub.read_log(&live, &stream).await {
                    if stream.looked(asked) {
                        return;
                    }
                    pause = GAP_PATIENCE;
                } else {
                    pause = (pause * 2).clamp(GAP_PATIENCE, PATIENCE_MAX);
                }
            }
        });
    }

    /// Reads the log now; if that can't be done, soon. False if it is still to be done.
    pub(super) async fn resync(&self, live: &Arc<Live>, stream: &Arc<LocalStream>) -> bool {
        let read = self.read_log(live, stream).await;
        if !read {
            self.look(live, stream, GAP_PATIENCE);
        }
        read
    }

    /// Re-asserts a stream's own binding at its written position, and writes what the log has beyond. False
    /// if the store gave no answer.
    async fn read_log(&self, live: &Arc<Live>, stream: &Arc<LocalStream>) -> bool {
        let Some((fence, position)) = stream.position() else {
            // The log can't be read for a stream that is another's by now; its client can, with its position.
            if stream.is_silent_with_a_gap() {
                stream.end_with_retry(StreamEnd::Failed, self.retry());
                return true;
            }
            return !stream.is_silent() || self.promote_if_unheld(live, stream).await;
        };
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
                self.look_after(live, stream, running);
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
                tracing::debug!(stream = %stream.key, %error, "a log can't be read yet");
                return false;
            }
        }
        true
    }

    /// The word that the newest stream ended may be what was lost, or its node may be dead. False if the
    /// store gave no answer.
    async fn promote_if_unheld(&self, live: &Arc<Live>, stream: &Arc<LocalStream>) -> bool {
        let seen = match self.store().inspect(&live.id).await {
            Ok(Some(inspected)) => {
                inspected.streams.into_iter().find(|seen| seen.stream == stream.key.stream)
            }
            Ok(None) => return true,
            Err(_) => return false,
        };
        let held = seen.and_then(|seen| seen.binding).is_some_and(|binding| {
            // Its own may be on its way.
            binding.node == self.inner.node || self.inner.nodes.health(&binding.node) != Health::Dead
        });
        if !held {
            self.promote_silent(live, &stream.key.stream).await;
        }
        true
    }

    /// Looks at everything whenever somebody asked for it, and at the logs now and then while the others
    /// can't say that there is something to look at, until it is dropped.
    pub(super) async fn keep_in_sync(self) {
        loop {
            tokio::select! {
                biased;
                () = self.inner.resync.notified() => {
                    // Messages may be lost: nothing cached is trusted.
                    self.inner.registry.distrust();
                    self.inner.opened.doubt();
                    let held = self.held_streams();
                    self.repeat_hints(&held).await;
                    self.read_logs(held).await;
                }
                () = tokio::time::sleep(LOOK) => {
                    if self.inner.nodes.misses_news() {
                        self.read_logs(self.held_streams()).await;
                    }
                }
            }
        }
    }

    /// Hints may be among what was lost: those that were given since the last time are given again.
    async fn repeat_hints(&self, held: &[(Arc<Live>, Arc<LocalStream>)]) {
        let now_ms = self.inner.nodes.store_time(Duration::ZERO).unwrap_or_default();
        let since_ms = self.inner.hints_looked_ms.swap(now_ms, Ordering::Relaxed);
        let hearing: Vec<_> = held.iter().filter(|(_, stream)| stream.hears_unasked()).collect();
        let servers: BTreeSet<_> = hearing.iter().map(|(live, _)| live.session().server.clone()).collect();
        for server in servers {
            let Ok(hints) = self.store().hints(&server).await else {
                // The next time looks as far back.
                self.inner.hints_looked_ms.fetch_min(since_ms, Ordering::Relaxed);
                continue;
            };
            for (method, at_ms) in hints.iter().filter(|(_, at_ms)| at_ms + HINTS_OVERLAP_MS >= since_ms) {
                let notification = jsonrpc::notification(method, None);
                for (live, stream) in &hearing {
                    let bound = stream.fence().is_some_and(|fence| *at_ms >= fence.0);
                    if bound && live.session().server == server {
                        stream.hint(&notification);
                    }
                }
            }
        }
    }

    fn held_streams(&self) -> Vec<(Arc<Live>, Arc<LocalStream>)> {
        let mut held = Vec::new();
        self.inner.registry.sweep(|live| {
            held.extend(live.streams().into_iter().map(|stream| (live.clone(), stream)));
        });
        held
    }

    async fn read_logs(&self, held: Vec<(Arc<Live>, Arc<LocalStream>)>) {
        self.inner.metrics.resynced(held.len());
        let unread = futures::stream::iter(held)
            .map(|(live, stream)| async move { self.resync(&live, &stream).await })
            .buffer_unordered(RESYNCS_AT_ONCE)
            .filter(|read| std::future::ready(!read))
            .count()
            .await;
        if unread > 0 {
            tracing::warn!(streams = unread, "logs can't be read yet");
        }
    }
}
