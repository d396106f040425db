//! Response bodies that stay open. However one ends, its drop is the one release path, and runs
//! once.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use http_body::Frame;
use tokio::sync::Notify;

use super::live::Live;
use super::outlet::Outlet;
use super::stream::LocalStream;
use super::{Hub, StreamPlace};
use crate::domain::{Limit, StreamKind};
use crate::protocol::sse::KEEP_ALIVE;
use crate::telemetry::StreamEnd;

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
}

impl http_body::Body for StreamBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match &mut self.feed {
            Feed::Session { stream, .. } => stream.outlet.poll_next(context),
            Feed::Passing { outlet, source } => match outlet.poll_next(context) {
                Poll::Pending => match source.poll_next_unpin(context) {
                    Poll::Ready(None) => {
                        outlet.end(StreamEnd::Finished);
                        Poll::Ready(None)
                    }
                    other => other,
                },
                ready @ Poll::Ready(_) => ready,
            },
        };
        next.map(|frame| frame.map(|bytes| Ok(Frame::data(bytes))))
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.hub.inner.outlets.leave(self.slot);
        let outlet = match &self.feed {
            Feed::Session { stream, .. } => &stream.outlet,
            Feed::Passing { outlet, .. } => &**outlet,
        };
        outlet.end(StreamEnd::ClientGone);
        let end = outlet.ended().unwrap_or(StreamEnd::ClientGone);
        self.hub.inner.metrics.stream_ended(end);
        if end == StreamEnd::Lagged {
            self.hub.inner.metrics.limit_hit(Limit::SlowReader);
        }
        if let Feed::Session { live, stream } = &self.feed {
            live.leave_stream(stream);
            let release = Release { live: live.clone(), stream: stream.clone(), place: self.place.take() };
            self.hub.inner.releases.push(release);
        }
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
        self.nudge.notify_one();
    }

    fn take(&self) -> Vec<Release> {
        std::mem::take(&mut *self.waiting.lock().expect("no panic while holding it"))
    }
}

impl Hub {
    /// Gives bindings back, until the process stops and nothing is left.
    pub(super) async fn release_streams(self) {
        let stopped = self.inner.tasks.stopped();
        loop {
            let released = self.inner.releases.take();
            if released.is_empty() && stopped.is_cancelled() && self.inner.outlets.len() == 0 {
                return;
            }
            for mut release in released {
                self.release(&release).await;
                drop(release.place.take());
            }
            tokio::select! {
                biased;
                () = self.inner.releases.nudge.notified() => {}
                () = stopped.cancelled(), if !stopped.is_cancelled() => {}
            }
        }
    }

    async fn release(&self, release: &Release) {
        let Release { live, stream, .. } = release;
        let Some(fence) = stream.fence() else { return };
        if let Err(err) = self.store().release(&stream.key, fence).await {
            tracing::debug!(stream = %stream.key, error = %err, "a binding was not given back; the next one replaces it");
        }
        match stream.key.stream.kind() {
            StreamKind::Post => {}
            StreamKind::Get => self.give_back(live, stream).await,
            StreamKind::HttpSse => self.inner.graces.start(live.id.clone()),
        }
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
