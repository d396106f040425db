//! What upstreams are told in passing: that a session is over, that nobody waits for an answer any more.
//! Nobody waits for their acknowledgement either. Each upstream has its own turns, so that one that hangs
//! costs itself; and the end of the process waits only for those that answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Hub;
use super::server::{Server, Servers};
use crate::domain::{ServerName, UpstreamHandle};
use crate::telemetry::Outcome;
use crate::upstream::{self, Upstream};

/// Sessions of one upstream that are ended at the same time.
const CLOSES_AT_ONCE: usize = 64;

/// Cancels that one upstream is told at the same time, and for how long it may think about one.
const CANCELS_AT_ONCE: usize = 64;
const CANCEL_PATIENCE: Duration = Duration::from_secs(5);

/// What is being said, of all upstreams.
#[derive(Debug)]
pub(super) struct Farewells {
    upstreams: HashMap<ServerName, Arc<Parting>>,
    under_way: AtomicUsize,
    /// This process ends: whoever hangs is not asked again.
    leaving: AtomicBool,
    /// Fires when it ends now.
    over: CancellationToken,
}

/// What is being said to one upstream.
#[derive(Debug)]
struct Parting {
    closes: Semaphore,
    cancels: Semaphore,
    /// The last session that was to be ended there met with silence.
    hangs: AtomicBool,
}

impl Farewells {
    pub(super) fn new(servers: &Servers) -> Self {
        let parting = || Parting {
            closes: Semaphore::new(CLOSES_AT_ONCE),
            cancels: Semaphore::new(CANCELS_AT_ONCE),
            hangs: AtomicBool::new(false),
        };
        Self {
            upstreams: servers.names().map(|name| (name.clone(), Arc::new(parting()))).collect(),
            under_way: AtomicUsize::new(0),
            leaving: AtomicBool::new(false),
            over: CancellationToken::new(),
        }
    }

    /// How much is being said.
    pub(super) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }
}

/// Ends an upstream session when it is dropped, unless it was kept.
#[derive(Debug)]
pub(super) struct Unkept {
    hub: Hub,
    server: ServerName,
    upstream: Upstream,
    handle: Option<UpstreamHandle>,
}

impl Unkept {
    /// `upstream` as whoever opened it reaches it.
    pub(super) fn new(hub: &Hub, server: &Server, upstream: Upstream, handle: UpstreamHandle) -> Self {
        Self { hub: hub.clone(), server: server.name.clone(), upstream, handle: Some(handle) }
    }

    pub(super) fn keep(mut self) {
        self.handle = None;
    }
}

impl Drop for Unkept {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            self.hub.close_upstream(&self.server, self.upstream.clone(), handle);
        }
    }
}

impl Hub {
    /// Tells an upstream that its session is over, in the background.
    pub(super) fn close_upstream(&self, server: &ServerName, upstream: Upstream, handle: UpstreamHandle) {
        if handle.session.is_none() {
            return;
        }
        let (hub, name) = (self.clone(), server.clone());
        self.say_farewell(server, async move |parting| {
            let Ok(_turn) = parting.closes.acquire().await else { return };
            if hub.inner.farewells.leaving.load(Ordering::Relaxed) && parting.hangs.load(Ordering::Relaxed) {
                return;
            }
            let closed = upstream.close(&handle).await;
            parting.hangs.store(matches!(closed, Err(upstream::Error::Late { .. })), Ordering::Relaxed);
            if let Some(server) = hub.inner.servers.get(Some(name.as_str())) {
                server.metrics.session_closed(if closed.is_ok() { Outcome::Ok } else { Outcome::Error });
            }
            if let Err(error) = closed {
                tracing::debug!(upstream = upstream.name(), %error, "an upstream session could not be ended");
            }
        });
    }

    /// Tells an upstream that nobody waits for an answer any more. The client has one.
    pub(super) fn cancel_upstream(
        &self,
        server: &ServerName,
        upstream: Upstream,
        handle: UpstreamHandle,
        cancel: Bytes,
    ) {
        self.say_farewell(server, async move |parting| {
            let Ok(_turn) = parting.cancels.acquire().await else { return };
            let headers = HeaderMap::new();
            let told = upstream.notify(Some(&handle), cancel, &headers);
            let _ = tokio::time::timeout(CANCEL_PATIENCE, told).await;
        });
    }

    fn say_farewell<F>(&self, server: &ServerName, say: impl FnOnce(Arc<Parting>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(parting) = self.inner.farewells.upstreams.get(server) else { return };
        let said = say(parting.clone());
        self.inner.farewells.under_way.fetch_add(1, Ordering::Relaxed);
        let counted = UnderWay(self.clone());
        self.inner.tasks.spawn(async move {
            let _ = counted.0.inner.farewells.over.run_until_cancelled(said).await;
        });
    }

    /// From now on, an upstream that hangs is not told of its other sessions.
    pub fn leave_upstreams(&self) {
        self.inner.farewells.leaving.store(true, Ordering::Relaxed);
    }

    /// Whether all upstreams have been told all.
    #[must_use]
    pub fn has_said_farewell(&self) -> bool {
        self.inner.farewells.under_way() == 0
    }

    /// What was not said by now is not said.
    pub fn end_farewells(&self) {
        let left = self.inner.farewells.under_way();
        if left > 0 {
            tracing::warn!(left, "upstreams were not told of everything that ended");
        }
        self.inner.farewells.over.cancel();
    }
}

struct UnderWay(Hub);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.inner.farewells.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}
