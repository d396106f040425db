//! Relays: an HTTP exchange with a server that only one node reaches is carried to that node, and its
//! response comes back part by part. The near end pulls: it asks for each step and each part, so that a
//! slow reader holds the far end up, silence ends both, and what was lost is asked for again
//! (docs/decisions/0014-relays.md).

mod far;
mod near;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use tokio::sync::mpsc;

use super::nodes::Nodes;
use crate::domain::{NodeId, ServerName};
use crate::lifecycle::Tasks;
use crate::ports::{Bus, RelayId, Relayed};
use crate::telemetry::Metrics;
use crate::upstream::{BoxError, HttpClient, Movable, Received, Transport};

/// What travels at once, in bytes: every bus takes as much.
const PIECE_BYTES_MAX: usize = 48 * 1024;

/// Relays that this node serves at the same time.
const SERVED_MAX: usize = 32 * 1024;

/// Bytes of requests that this node holds for others, all together.
const SERVED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Who asks nothing for so long is gone, and its request is let go.
const SILENCE: Duration = Duration::from_secs(10);

/// How long the far end waits for a part before it says that there is none yet; it doubles up to the other
/// while there is none, because a relay on which nothing happens should cost next to nothing.
const NOT_YET_AFTER: Duration = Duration::from_secs(2);
const NOT_YET_AFTER_MAX: Duration = Duration::from_secs(16);

/// How long an answer may be on its way, besides.
const PATIENCE: Duration = Duration::from_secs(2);

/// Without any answer for so long the far end is given up; sooner while the request does not run yet.
const SILENT_FOR: Duration = Duration::from_secs(6);
const SILENT_AT_FIRST_FOR: Duration = Duration::from_secs(3);

/// Why a relay did not bring its response. What a client is told of it is that the server can't be reached.
#[derive(Debug, thiserror::Error)]
enum RelayError {
    /// The request did not run.
    #[error("the node that holds the upstream's session is gone")]
    Gone,
    #[error("the node that holds the upstream's session was lost; the request may have run")]
    Lost,
    #[error("the node that holds the upstream's session does not answer")]
    Silent,
    #[error("the node that holds the upstream's session does not go on: {0}")]
    Refused(#[source] crate::ports::RelayRefusal),
    #[error("at the node that holds the upstream's session: {0}")]
    Failed(String),
    #[error("a head of more than {PIECE_BYTES_MAX} bytes can't go to the node that holds the session")]
    TooLarge,
    #[error("the node that holds the upstream's session sent something else than was asked for")]
    Damaged,
    #[error("this node ended before the response did")]
    Ended,
}

impl RelayError {
    /// What it is, for a request that was handed over before.
    fn after_all(self) -> Self {
        match self {
            Self::Gone => Self::Lost,
            other => other,
        }
    }
}

/// The relays of one node, at both ends; a cheap handle.
#[derive(Debug, Clone)]
pub struct Relays {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    node: NodeId,
    bus: Arc<dyn Bus>,
    nodes: Arc<Nodes>,
    tasks: Tasks,
    metrics: Metrics,
    /// Relays that this node began.
    begun: AtomicU64,
    pinned: Mutex<BTreeMap<ServerName, Own>>,
    served: Mutex<BTreeMap<RelayId, mpsc::Sender<Relayed>>>,
    served_bytes: AtomicUsize,
    /// How much that will have an end runs in each session of this node's servers, for whomever.
    busy: Mutex<BTreeMap<String, usize>>,
    /// Relays served that will have an end.
    answering: AtomicUsize,
    /// This node ends, and its server with it.
    leaving: AtomicBool,
}

/// This node's own server.
#[derive(Debug, Clone)]
struct Own {
    uri: Uri,
    client: HttpClient,
}

impl Relays {
    #[must_use]
    pub fn new(node: NodeId, bus: Arc<dyn Bus>, tasks: Tasks, metrics: Metrics) -> Self {
        let inner = Inner {
            node,
            bus,
            nodes: Arc::default(),
            tasks,
            metrics,
            begun: AtomicU64::new(0),
            pinned: Mutex::default(),
            served: Mutex::default(),
            served_bytes: AtomicUsize::new(0),
            busy: Mutex::default(),
            answering: AtomicUsize::new(0),
            leaving: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Makes this node's own server of that name known, and gives the way to the servers of all nodes:
    /// a request that names another node in an extension ([`NodeId`]) goes to that node's server, every
    /// other one to this node's. A GET may last; anything else is over after `lifetime`.
    ///
    /// Where that node is gone and the request certainly did not run, it is answered with 404, as by a
    /// server that has forgotten the session. What may have run fails.
    #[must_use]
    pub fn pin(&self, server: ServerName, uri: Uri, client: HttpClient, lifetime: Duration) -> HttpClient {
        lock(&self.inner.pinned).insert(server.clone(), Own { uri, client: client.clone() });
        HttpClient::within(Arc::new(Ways { relays: self.clone(), server, client, lifetime }))
    }

    /// Takes a step of another node's relay, and answers it in its time.
    pub fn serve(&self, relayed: Relayed) {
        far::serve(self, relayed);
    }

    /// From now on other nodes' new calls are sent back to be made at servers that stay; what belongs to those
    /// that run already is still taken.
    pub(super) fn leave(&self) {
        self.inner.leaving.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.inner.leaving.load(Ordering::Relaxed)
    }

    /// Whether something that will have an end runs in this session of a server of this node's.
    pub(super) fn is_busy_in(&self, session: Option<&str>) -> bool {
        session.is_some_and(|session| lock(&self.inner.busy).contains_key(session))
    }

    /// Something runs in the session that these headers name, until what comes back is dropped.
    fn enter(&self, headers: &HeaderMap) -> Option<Busy> {
        let session = session_of(headers)?.to_owned();
        *lock(&self.inner.busy).entry(session.clone()).or_default() += 1;
        Some(Busy { relays: self.clone(), session })
    }

    /// Whether no request runs here for another node.
    pub(super) fn answers_nothing(&self) -> bool {
        self.inner.answering.load(Ordering::Relaxed) == 0
    }

    /// What this node knows of the others.
    pub(super) fn nodes(&self) -> Arc<Nodes> {
        self.inner.nodes.clone()
    }
}

/// To this node's own server, or to another's.
#[derive(Debug)]
struct Ways {
    relays: Relays,
    server: ServerName,
    client: HttpClient,
    lifetime: Duration,
}

impl Transport for Ways {
    fn send(&self, request: Request<Full<Bytes>>) -> BoxFuture<'_, Result<Response<Received>, BoxError>> {
        let holder = request.extensions().get::<NodeId>().filter(|node| **node != self.relays.inner.node);
        match holder.cloned() {
            None => {
                let busy =
                    (request.method() != Method::GET).then(|| self.relays.enter(request.headers())).flatten();
                Box::pin(async move {
                    let response = self.client.send(request).await?;
                    Ok(match busy {
                        Some(busy) => response.map(|body| Received::within(Busily { body, _busy: busy })),
                        None => response,
                    })
                })
            }
            Some(holder) => {
                let lifetime = (request.method() != Method::GET).then_some(self.lifetime);
                // Two nodes that end would send it back and forth.
                let moves = request.extensions().get::<Movable>().is_some() && !self.relays.is_leaving();
                Box::pin(near::carry(&self.relays, &self.server, holder, lifetime, moves, request))
            }
        }
    }
}

fn session_of(headers: &HeaderMap) -> Option<&str> {
    headers.get("mcp-session-id")?.to_str().ok()
}

/// Something that runs in a session.
#[derive(Debug)]
struct Busy {
    relays: Relays,
    session: String,
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut busy = lock(&self.relays.inner.busy);
        if let Some(count) = busy.get_mut(&self.session) {
            *count -= 1;
            if *count == 0 {
                busy.remove(&self.session);
            }
        }
    }
}

/// A body until whose end its session is busy.
struct Busily {
    body: Received,
    _busy: Busy,
}

impl Body for Busily {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().expect("no panic while holding it")
}
