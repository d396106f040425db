//! HTTP/2 connections to upstreams that offer it. A server allows only so many requests at once on a
//! connection, and event streams stay open: a full connection is joined by another one, where
//! hyper-util's pool would let everything else wait.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Authority;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::rt::Executor as _;
use hyper_util::client::legacy::connect::Connection as _;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::watch;
use tokio::time::interval;
use tower_service::Service as _;

use super::connector::{Connection, Connector};
use super::http_client::{BoxError, Config};
use super::received::Received;

/// Between two looks whether a server's settings have come.
const LOOK: Duration = Duration::from_millis(2);

/// What a server may send of one response ahead of its reader, in bytes.
const STREAM_WINDOW: u32 = 256 * 1024;

/// The largest there is (RFC 9113, 6.9.1): what is not read yet is bounded for each response.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// What a server speaks.
pub(super) enum Offered {
    Http2(Response<Received>),
    /// Only HTTP/1.1: the request is given back.
    Http1(Request<Full<Bytes>>),
}

#[derive(Debug, Clone)]
pub(super) struct Http2 {
    connector: Connector,
    builder: http2::Builder<TokioExecutor>,
    connect_timeout: Duration,
    idle_timeout: Duration,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    connections: HashMap<Authority, Vec<Shared>>,
    /// They did not offer it.
    http1: HashSet<Authority>,
}

/// One connection that several requests use.
#[derive(Clone)]
struct Shared {
    sender: SendRequest<Full<Bytes>>,
    requests: Arc<Requests>,
}

/// How many requests are on a connection, how many there may be, and how many there were.
#[derive(Debug)]
struct Requests {
    open: AtomicUsize,
    /// Unknown before the server's settings came; none once the connection has ended.
    max: watch::Sender<Option<usize>>,
    ever: AtomicU64,
}

/// One request's place on a connection, until its response was read.
#[derive(Debug)]
pub(super) struct Place(Arc<Requests>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Http2 {
    pub(super) fn new(connector: Connector, config: &Config) -> Self {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(20))
            // One stream that nobody reads, for as long as its client likes, holds up no other.
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            // Until the server has said how many it allows.
            .initial_max_send_streams(0);
        Self {
            connector,
            builder,
            connect_timeout: config.connect_timeout,
            idle_timeout: config.idle_connection_timeout,
            known: Arc::default(),
        }
    }

    pub(super) async fn send(&self, mut request: Request<Full<Bytes>>) -> Result<Offered, BoxError> {
        let authority = request.uri().authority().cloned().ok_or("the address has no host")?;
        while let Some((mut shared, place)) = self.place(&authority) {
            match shared.sender.try_send_request(request).await {
                Ok(response) => return Ok(offered(response, place)),
                // It closed just now, and gives back what it did not send.
                Err(mut failed) => request = failed.take_message().ok_or_else(|| failed.into_error())?,
            }
        }
        if self.known().http1.contains(&authority) {
            return Ok(Offered::Http1(request));
        }
        match self.connect(request.uri(), &authority).await? {
            Some((mut shared, place)) => Ok(offered(shared.sender.send_request(request).await?, place)),
            None => Ok(Offered::Http1(request)),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }

    /// On a connection that is there already and has room.
    fn place(&self, authority: &Authority) -> Option<(Shared, Place)> {
        let mut known = self.known();
        let connections = known.connections.get_mut(authority)?;
        connections.retain(|shared| !shared.sender.is_closed());
        connections.iter().find_map(|shared| Some((shared.clone(), shared.enter()?)))
    }

    /// On a new connection; `None` if the server speaks HTTP/1.1 only.
    async fn connect(&self, uri: &Uri, authority: &Authority) -> Result<Option<(Shared, Place)>, BoxError> {
        let mut connector = self.connector.clone();
        poll_fn(|context| connector.poll_ready(context)).await?;
        let connection = connector.call(uri.clone()).await?;
        if !connection.connected().is_negotiated_h2() {
            self.known().http1.insert(authority.clone());
            return Ok(None);
        }
        let made = tokio::time::timeout(self.connect_timeout, self.shake_hands(connection, authority));
        let made = made.await.map_err(|_| "no HTTP/2 settings in time (upstream.connect_timeout)")??;
        let place = made.enter().ok_or("the connection ended, or allows no requests")?;
        self.known().connections.entry(authority.clone()).or_default().push(made.clone());
        Ok(Some((made, place)))
    }

    /// Ready once the server has said how many requests it allows.
    async fn shake_hands(&self, connection: Connection, authority: &Authority) -> Result<Shared, BoxError> {
        let (sender, connection) = self.builder.handshake(connection).await?;
        let (max, mut allowed) = watch::channel(None);
        let requests = Arc::new(Requests { open: AtomicUsize::new(0), max, ever: AtomicU64::new(0) });
        let shared = Shared { sender, requests: requests.clone() };
        let (known, idle_timeout) = (Arc::downgrade(&self.known), self.idle_timeout);
        let authority = authority.clone();
        TokioExecutor::new().execute(async move {
            let (mut connection, mut look) = (pin!(connection), interval(LOOK));
            let mut served = pin!(poll_fn(|context| {
                let polled = connection.as_mut().poll(context);
                // Settings wake nobody here.
                loop {
                    let max = connection.current_max_send_streams();
                    if max > 0 || requests.max.borrow().is_some() {
                        requests.max.send_if_modified(|known| known.replace(max) != Some(max));
                        break;
                    }
                    if look.poll_tick(context).is_pending() {
                        break;
                    }
                }
                polled
            }));
            let ended = tokio::select! {
                ended = &mut served => ended,
                // Nobody can send on it any more: it says goodbye by itself.
                () = unused(&known, &authority, &requests, idle_timeout) => served.await,
            };
            requests.max.send_replace(Some(0));
            if let Err(error) = ended {
                tracing::debug!(%error, "an upstream's connection broke");
            }
        });
        allowed.wait_for(Option::is_some).await?;
        Ok(shared)
    }
}

fn offered(response: Response<Incoming>, place: Place) -> Offered {
    Offered::Http2(response.map(|body| Received::network(body, Some(place))))
}

/// Until a connection was without requests for the idle time; then it is forgotten.
async fn unused(
    known: &Weak<Mutex<Known>>,
    authority: &Authority,
    requests: &Arc<Requests>,
    idle_timeout: Duration,
) {
    let mut before = None;
    loop {
        tokio::time::sleep(idle_timeout / 2).await;
        let Some(known) = known.upgrade() else { return };
        let mut known = lock(&known);
        let ever = Some(requests.ever.load(Ordering::Relaxed));
        if requests.open.load(Ordering::Relaxed) == 0 && ever == before {
            if let Some(connections) = known.connections.get_mut(authority) {
                connections.retain(|shared| !Arc::ptr_eq(&shared.requests, requests));
            }
            return;
        }
        before = ever;
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().expect("no panic while holding it")
}

impl Shared {
    /// A place, if there is one. Called by one at a time only while others can see it.
    fn enter(&self) -> Option<Place> {
        let requests = &self.requests;
        let max = requests.max.borrow().unwrap_or(0);
        let entered = requests
            .open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (open < max).then_some(open + 1));
        entered.ok()?;
        requests.ever.fetch_add(1, Ordering::Relaxed);
        Some(Place(requests.clone()))
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("requests", &self.requests).finish_non_exhaustive()
    }
}
