//! The use cases: open, exchange, attach, resume, answer, listen, close. Between the transports
//! (`edge`) and what is shared or behind (`ports`, `upstream`); knows neither HTTP routes nor
//! backends.

mod alone;
mod attach;
mod audit;
mod body;
mod call;
mod carried;
mod clock;
mod close;
mod deadline;
mod deliver;
mod error;
mod exchange;
mod farewell;
mod handshake;
mod head;
mod inbox;
mod janitor;
mod limits;
mod live;
mod loss;
mod mail;
mod measures;
mod modern;
mod nodes;
mod open;
mod operate;
mod outlet;
mod passing;
mod post;
mod progress;
mod promote;
mod pump;
mod rates;
mod registry;
mod relay;
mod reopen;
mod resync;
mod sealer;
mod server;
mod stateless;
mod step;
mod stopping;
mod stream;
mod takeover;
mod traced;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderMap;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

pub use attach::{Attachment, Wanted};
pub use body::StreamBody;
pub use error::{Blame, Error};
pub use live::Live;
pub use open::Opening;
pub use operate::{Audience, Inspected, Published, Query, SeenStream};
pub use outlet::Buffer;
pub use passing::PassingBody;
pub use post::{Form, Reply};
pub use rates::Rates;
pub use relay::Relays;
pub use sealer::Sealer;
pub use server::{AnswerPolicy, Server, Servers, SessionPolicy};

use crate::domain::{Entropy, Limit, NodeId, Principal, RequestId, StreamId, StreamKind};
use crate::lifecycle::{Lifecycle, Tasks};
use crate::limits::{Limits, Place};
use crate::ports::{Bus, SessionStore};
use crate::telemetry::{Audit, Era, Gauged, Metrics};
use outlet::Outlet;
use registry::Registry;

/// Limits and times of the use cases; the keys of `docs/configuration.md` carry the same names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub streams: StreamsConfig,
    pub sessions_max: usize,
    pub streams_max: usize,
    pub streams_per_session_max: usize,
    pub requests_per_session_max: usize,
    pub attaches_max: usize,
    pub session_bytes_max: usize,
    pub session_idle_timeout: Duration,
    /// How long an HTTP+SSE session outlives its stream (S5), and an upstream's stream its client's.
    pub sse_grace: Duration,
    pub cache_ttl: Duration,
    /// A node without a sign of life for this long is suspected to be dead.
    pub lease: Duration,
    pub leave: LeaveConfig,
    /// For what the gateway does of its own: a store that is away is asked again for this long.
    pub own_timeout: Duration,
}

/// How a node is left that alone can't do its work; as `drain` says for one that ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaveConfig {
    /// For balancers, before any stream ends.
    pub notice: Duration,
    /// Over which streams then end.
    pub handover: Duration,
    /// After which none waits for an answer any more.
    pub timeout: Duration,
}

/// What open streams are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamsConfig {
    /// A comment after this much silence, and one at once on opening; `None`: no comments.
    pub keep_alive: Option<Duration>,
    /// No stream is open for longer, about; `None`: as long as its client likes.
    pub life_max: Option<Duration>,
    /// A stream without events for this long ends; `None`: never.
    pub idle_timeout: Option<Duration>,
    /// When to come back, jittered between the two.
    pub retry: Duration,
    pub retry_max: Duration,
    pub buffer: Buffer,
}

/// How long requests may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestsConfig {
    /// Without a sign of life (progress extends it).
    pub timeout: Duration,
    /// In all.
    pub timeout_max: Duration,
    /// A response within this is answered in plain JSON.
    pub json_wait: Duration,
    /// What a cancelled request gets to answer after all.
    pub cancel_grace: Duration,
}

/// Who calls, from where, and what of their headers goes on to the upstream.
#[derive(Debug, Clone)]
pub struct Caller {
    pub principal: Principal,
    /// Where they are, as far as that is known.
    pub address: Option<IpAddr>,
    pub headers: HeaderMap,
}

/// The use cases of one node; a cheap handle.
#[derive(Debug, Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    node: NodeId,
    store: Arc<dyn SessionStore>,
    bus: Arc<dyn Bus>,
    mail: mail::Mail,
    nodes: Arc<nodes::Nodes>,
    relays: Relays,
    /// Asks for a look at all streams: something may have been missed.
    resync: tokio::sync::Notify,
    lifecycle: Lifecycle,
    /// The store's time in ms when hints were last looked for because some may have been lost.
    hints_looked_ms: AtomicU64,
    servers: Servers,
    limits: Limits,
    /// What of them all nodes keep together.
    rates: Option<Rates>,
    /// The sessions that count for their principals.
    opened: limits::Opened,
    metrics: Metrics,
    audit: Audit,
    tasks: Tasks,
    registry: Registry,
    outlets: body::Outlets,
    streams: AtomicUsize,
    releases: body::Releases,
    graces: janitor::Graces,
    farewells: farewell::Farewells,
    /// Streams that are being bound.
    attaches: tokio::sync::Semaphore,
    entropy: Entropy,
    sealer: Sealer,
    /// Fires when running requests have to end, answered or not.
    abandon: CancellationToken,
}

/// What a hub is built from.
#[derive(Debug)]
pub struct Parts {
    pub config: Config,
    pub node: NodeId,
    pub store: Arc<dyn SessionStore>,
    pub bus: Arc<dyn Bus>,
    /// Over the same bus, for the same node.
    pub relays: Relays,
    pub servers: Servers,
    pub limits: Limits,
    /// If nodes share them.
    pub rates: Option<Rates>,
    pub metrics: Metrics,
    pub audit: Audit,
    /// Which it tells the other nodes.
    pub lifecycle: Lifecycle,
    pub tasks: Tasks,
    /// Where session and stream ids come from.
    pub entropy: Entropy,
    /// For what of a session nobody but nodes may read.
    pub sealer: Sealer,
}

impl Hub {
    /// Builds a node's hub and starts its background work.
    #[must_use]
    pub fn start(parts: Parts) -> Self {
        let inner = Inner {
            attaches: tokio::sync::Semaphore::new(parts.config.attaches_max),
            registry: Registry::new(parts.config.cache_ttl),
            farewells: farewell::Farewells::new(&parts.servers),
            config: parts.config,
            mail: mail::Mail::new(parts.node.clone(), parts.bus.clone()),
            nodes: parts.relays.nodes(),
            relays: parts.relays,
            resync: tokio::sync::Notify::new(),
            hints_looked_ms: AtomicU64::new(0),
            lifecycle: parts.lifecycle,
            node: parts.node,
            store: parts.store,
            bus: parts.bus,
            servers: parts.servers,
            limits: parts.limits,
            rates: parts.rates,
            opened: limits::Opened::new(),
            metrics: parts.metrics,
            audit: parts.audit,
            tasks: parts.tasks,
            outlets: body::Outlets::default(),
            streams: AtomicUsize::new(0),
            releases: body::Releases::default(),
            graces: janitor::Graces::default(),
            entropy: parts.entropy,
            sealer: parts.sealer,
            abandon: CancellationToken::new(),
        };
        let hub = Self { inner: Arc::new(inner) };
        hub.inner.tasks.spawn_until_stopped(hub.clone().watch_inbox());
        hub.inner.tasks.spawn_until_stopped(hub.clone().keep_lease());
        hub.inner.tasks.spawn_until_stopped(hub.clone().keep_tally());
        hub.inner.tasks.spawn_until_stopped(hub.clone().keep_in_sync());
        hub.inner.tasks.spawn_until_stopped(hub.clone().keep_streams());
        hub.inner.tasks.spawn_until_stopped(hub.clone().keep_house());
        // Not dropped at the stop: what is released last is released too.
        hub.inner.tasks.spawn(hub.clone().release_streams());
        hub
    }

    /// The server of that name, or the default one.
    #[must_use]
    pub fn server(&self, name: Option<&str>) -> Option<Arc<Server>> {
        self.inner.servers.get(name)
    }

    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.inner.audit
    }

    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.inner.node
    }

    /// Open streams of this node.
    #[must_use]
    pub fn stream_count(&self) -> usize {
        self.inner.streams.load(Ordering::Relaxed)
    }

    /// Sessions there are, here and at other nodes, as far as is known.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.inner.store.known_sessions()
    }

    /// The limits on sessions and on streams.
    #[must_use]
    pub fn limits(&self) -> (usize, usize) {
        (self.inner.config.sessions_max, self.inner.config.streams_max)
    }

    /// A jittered time to come back after, so that a crowd doesn't come back at once.
    #[must_use]
    pub fn retry(&self) -> Duration {
        let StreamsConfig { retry, retry_max, .. } = self.inner.config.streams;
        retry + retry_max.saturating_sub(retry).mul_f64(fastrand::f64())
    }

    /// Does it to its end, whether or not who asked for it still waits; `None` if it could not be done.
    pub async fn to_its_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (send, done) = oneshot::channel();
        let finished = async move {
            let _ = send.send(work.await);
        };
        self.inner.tasks.spawn(finished.in_current_span());
        done.await.ok()
    }

    fn store(&self) -> &dyn SessionStore {
        &*self.inner.store
    }

    fn post_stream(&self, requests: &[RequestId]) -> StreamId {
        StreamId::post(requests, self.inner.entropy.draw())
    }

    fn outlet(&self) -> Outlet {
        Outlet::new(self.inner.config.streams.buffer)
    }

    /// A place for one more stream on this node, of a server. Its principal may have one too many for as long as
    /// the one that it `replaces` takes to end.
    fn stream_place(
        &self,
        server: Option<&Server>,
        of: &Principal,
        (era, kind): (Era, StreamKind),
        replaces: bool,
    ) -> Result<StreamPlace, Error> {
        let own = self.inner.limits.stream(of, replaces).map_err(|exceeded| self.exceeded(exceeded))?;
        let taken = self.inner.streams.fetch_add(1, Ordering::Relaxed);
        let gauge = server.map(|server| server.metrics.stream(era, kind));
        let place = StreamPlace { inner: self.inner.clone(), _gauge: gauge, own: Some(own) };
        if taken >= self.inner.config.streams_max {
            return Err(self.limit(Limit::Streams));
        }
        Ok(place)
    }

    fn limit(&self, limit: Limit) -> Error {
        self.inner.metrics.limit_hit(limit);
        Error::Limit(limit)
    }
}

/// Counts an open stream for as long as it lives.
#[derive(Debug)]
struct StreamPlace {
    inner: Arc<Inner>,
    _gauge: Option<Gauged>,
    /// Its principal's.
    own: Option<Place>,
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.inner.streams.fetch_sub(1, Ordering::Relaxed);
    }
}
