//! Response bodies that stay open. However one ends, its drop is the one release path, and runs
//! once.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use http_body::Frame;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};

use super::live::Live;
use super::outlet::{Outlet, Queued};
use super::stream::LocalStream;
use super::{Hub, StreamPlace};
use crate::domain::{Fence, Limit, StreamKey, StreamKind};
use crate::protocol::sse::KEEP_ALIVE;
use crate::telemetry::StreamEnd;

/// Bindings that are given back at the same time: one that takes long holds up no others.
const RELEASES_AT_ONCE: usize = 64;

/// Between two attempts to give back what the store did not take.
const RELEASE_AGAIN: Duration = Duration::from_secs(1);

/// An open event stream on its way to a client.
pub struct StreamBody {
    hub: Hub,
    place: Option<StreamPlace>,
    feed: Feed,
    /// Where the janitor finds it.
    slot: u64,
}

enum Feed {
    /// A session's stream, fed by whoever appends to it.
    Session { live: Arc<Live>, stream: Arc<LocalStream> },
    /// One request's stream, fed by its source as it is read; no ids, no log.
    Passing { outlet: Arc<Outlet>, source: BoxStream<'static, Bytes> },
}

impl StreamBody {
    pub(super) fn session(hub: &Hub, place: StreamPlace, live: Arc<Live>, stream: Arc<LocalStream>) -> Self {
        let slot = hub.inner.outlets.enter(Held::Session(stream.clone()));
        Self { hub: hub.clone(), place: Some(place), feed: Feed::Session { live, stream }, slot }
    }

    /// `farewell` is what ends it in good order when this node sends its clients away; without one,
    /// only the answer, or the last moment, ends it.
    pub(super) fn passing(
        hub: &Hub,
        place: StreamPlace,
        source: BoxStream<'static, Bytes>,
        farewell: Option<Bytes>,
    ) -> Self {
        let outlet = Arc::new(hub.outlet());
        if hub.inner.config.streams.keep_alive.is_some() {
            outlet.push_replayed(Bytes::from_static(KEEP_ALIVE));
        }
        let slot = hub.inner.outlets.enter(Held::Passing { outlet: outlet.clone(), farewell });
        Self { hub: hub.clone(), place: Some(place), feed: Feed::Passing { outlet, source }, slot }
    }

    /// Ends then, as soon as it owes no answer: what let its reader in is good no longer.
    #[must_use]
    pub fn until(self, until: Option<Instant>) -> Self {
        if let Some(until) = until {
            self.outlet().set_until(until);
        }
        self
    }

    fn outlet(&self) -> &Outlet {
        match &self.feed {
            Feed::Session { stream, .. } => &stream.outlet,
            Feed::Passing { outlet, .. } => outlet,
        }
    }
}

impl http_body::Body for StreamBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match &mut self.feed {
            Feed::Session { stream, .. } => stream.outlet.poll_next(context).map(|next| {
                next.map(|Queued { frame, appended_ms }| {
                    appended_ms.inspect(|appended_ms| self.hub.reached_socket(*appended_ms));
                    frame
                })
            }),
            Feed::Passing { outlet, source } => match outlet.poll_next(context) {
                Poll::Pending => match source.poll_next_unpin(context) {
                    Poll::Ready(None) => {
                        outlet.end(StreamEnd::Finished);
                        Poll::Ready(None)
                    }
                    Poll::Ready(frame) => {
                        outlet.passed();
                        Poll::Ready(frame)
                    }
                    Poll::Pending => Poll::Pending,
                },
                Poll::Ready(queued) => Poll::Ready(queued.map(|queued| queued.frame)),
            },
        };
        next.map(|frame| frame.map(|bytes| Ok(Frame::data(bytes))))
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        let outlet = self.outlet();
        outlet.end(StreamEnd::ClientGone);
        let end = outlet.ended().unwrap_or(StreamEnd::ClientGone);
        self.hub.inner.metrics.stream_ended(end);
        if end == StreamEnd::Lagged {
            self.hub.inner.metrics.limit_hit(Limit::SlowReader);
        }
        // Its principal may open another at once, however long the node takes to release this one.
        drop(self.place.as_mut().and_then(|place| place.own.take()));
        if let Feed::Session { live, stream } = &self.feed {
            live.leave_stream(stream);
            let release = Release { live: live.clone(), stream: stream.clone(), place: self.place.take() };
            self.hub.inner.releases.push(release);
        }
        // Last: whoever waits for the end of all streams then finds what they left.
        self.hub.inner.outlets.leave(self.slot);
        self.hub.inner.releases.nudge.notify_one();
    }
}

impl fmt::Debug for StreamBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamBody").field("slot", &self.slot).finish_non_exhaustive()
    }
}

/// What a stream's end leaves to be done.
#[derive(Debug)]
pub(super) struct Release {
    pub live: Arc<Live>,
    pub stream: Arc<LocalStream>,
    place: Option<StreamPlace>,
}

/// Ended streams whose binding is still to be given back. Bounded by the number of streams: each
/// keeps its place until it is released.
#[derive(Debug, Default)]
pub(super) struct Releases {
    waiting: Mutex<Vec<Release>>,
    nudge: Notify,
}

impl Releases {
    fn push(&self, release: Release) {
        self.waiting.lock().expect("no panic while holding it").push(release);
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.lock().expect("no panic while holding it").len()
    }

    fn take(&self) -> Vec<Release> {
        std::mem::take(&mut *self.waiting.lock().expect("no panic while holding it"))
    }
}

impl Hub {
    /// Gives bindings back, until the process stops and nothing is left.
    pub(super) async fn release_streams(self) {
        let stopped = self.inner.tasks.stopped();
        let streams_max = self.inner.config.streams_max;
        // Bindings that a store that was away has not taken back. They would look like somebody who listens.
        let mut kept: Vec<(StreamKey, Fence)> = Vec::new();
        // However often something else happens.
        let mut again = tokio::time::interval(RELEASE_AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Before the last look: a stream leaves its release before it leaves.
            let last = stopped.is_cancelled() && self.inner.outlets.len() == 0;
            let released = self.inner.releases.take();
            if released.is_empty() && last {
                return;
            }
            let released = futures::stream::iter(released).map(|release| self.release(release));
            let failed: Vec<_> = released.buffer_unordered(RELEASES_AT_ONCE).collect().await;
            let room = streams_max.saturating_sub(kept.len());
            kept.extend(failed.into_iter().flatten().take(room));
            tokio::select! {
                biased;
                () = self.inner.releases.nudge.notified() => {}
                () = stopped.cancelled(), if !stopped.is_cancelled() => {}
                _ = again.tick(), if !kept.is_empty() => {
                    let kept_so_far = std::mem::take(&mut kept);
                    let given = futures::stream::iter(kept_so_far).map(|(key, fence)| self.unbind(key, fence));
                    let failed: Vec<_> = given.buffer_unordered(RELEASES_AT_ONCE).collect().await;
                    kept = failed.into_iter().flatten().collect();
                }
            }
        }
    }

    /// Gives a binding back; returns it if the store did not take it.
    async fn unbind(&self, key: StreamKey, fence: Fence) -> Option<(StreamKey, Fence)> {
        let error = self.store().release(&key, fence).await.err()?;
        tracing::debug!(stream = %key, %error, "a binding is not given back yet");
        Some((key, fence))
    }

    async fn release(&self, release: Release) -> Option<(StreamKey, Fence)> {
        let Release { live, stream, place: _place } = &release;
        let Some(fence) = stream.fence() else {
            // It could not be bound. What it would have silenced may have waited for it.
            let others = live.streams_named(&stream.key.stream).into_iter();
            others
                .filter(|other| other.is_silent())
                .for_each(|other| self.look(live, &other, Duration::ZERO));
            return None;
        };
        let failed = self.unbind(stream.key.clone(), fence).await;
        match stream.key.stream.kind() {
            StreamKind::Post => {}
            StreamKind::Get => self.give_back(live, stream).await,
            StreamKind::HttpSse => self.inner.graces.start(live.id.clone(), fence),
        }
        failed
    }
}

/// An open stream, as the janitor sees it.
#[derive(Debug, Clone)]
pub(super) enum Held {
    Session(Arc<LocalStream>),
    Passing { outlet: Arc<Outlet>, farewell: Option<Bytes> },
}

impl Held {
    pub(super) fn outlet(&self) -> &Outlet {
        match self {
            Self::Session(stream) => &stream.outlet,
            Self::Passing { outlet, .. } => outlet,
        }
    }
}

/// All open streams of this node.
#[derive(Debug, Default)]
pub(super) struct Outlets {
    slots: Mutex<(u64, BTreeMap<u64, Held>)>,
}

impl Outlets {
    fn enter(&self, held: Held) -> u64 {
        let mut slots = self.slots.lock().expect("no panic while holding it");
        slots.0 += 1;
        let slot = slots.0;
        slots.1.insert(slot, held);
        slot
    }

    fn leave(&self, slot: u64) {
        self.slots.lock().expect("no panic while holding it").1.remove(&slot);
    }

    pub(super) fn len(&self) -> usize {
        self.slots.lock().expect("no panic while holding it").1.len()
    }

    /// Each with its slot, a number that no other stream of this node has.
    pub(super) fn all(&self) -> Vec<(u64, Held)> {
        let slots = self.slots.lock().expect("no panic while holding it");
        slots.1.iter().map(|(slot, held)| (*slot, held.clone())).collect()
    }
}
