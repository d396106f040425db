//! One connection: how it is served, and how it ends. Which HTTP it speaks is told apart in
//! [`super::opening`] and not by hyper-util's `auto`: that one waits for the first bytes without a time
//! limit, and its detour doubles hyper's read buffer for as long as the connection lives.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, Version, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::flow::{Streams, in_pieces};
use super::head::HeadClock;
use super::listener::ListenerConfig;
use super::opening::{Http, Opened, Opening};
use super::proxies::{Located, Proxies, note_refusals};
use super::response;
use crate::domain::Limit;
use crate::lifecycle::{Lifecycle, Phase, Tasks};
use crate::protocol::jsonrpc::codes;
use crate::telemetry::Metrics;

/// How an HTTP/2 connection begins (RFC 9113, 3.4). No method of HTTP/1.1 is called PRI.
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a connection may still say once all tasks are told to end.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// How long an HTTP/1.1 connection is still open behind an answer that did not say that it is the last: a client
/// that asks for the rest of its stream at once is already on its way. Shorter than a stream's `retry`.
pub const LINGER: Duration = Duration::from_millis(400);

/// What all connections of a listener share.
#[derive(Debug)]
pub(super) struct Protocols {
    http1: http1::Builder,
    config: ListenerConfig,
    tasks: Tasks,
    routes: Router,
    opening: Opening,
    proxies: Arc<Proxies>,
    lifecycle: Lifecycle,
    metrics: Metrics,
}

impl Protocols {
    pub(super) fn new(
        config: &ListenerConfig,
        routes: Router,
        lifecycle: Lifecycle,
        tasks: Tasks,
        metrics: Metrics,
    ) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .header_read_timeout(config.idle_timeout)
            .max_buf_size(config.header_bytes_max.max(8 * 1024))
            .max_headers(128);
        let opening = Opening::new(config, metrics.clone());
        let proxies = Arc::new(config.proxies.clone());
        let head = (config.header_bytes_max, metrics.clone());
        let routes = routes
            .layer(from_fn_with_state(head, head_fits))
            .layer(from_fn_with_state(lifecycle.clone(), say_goodbye))
            .layer(from_fn(note_refusals));
        Self { http1, config: config.clone(), tasks, routes, opening, proxies, lifecycle, metrics }
    }

    /// Serves until the client goes or says nothing, draining finds nothing more to answer, or `stopped` fires.
    pub(super) async fn serve(
        &self,
        socket: TcpStream,
        peer: SocketAddr,
        watcher: Watcher,
        stopped: CancellationToken,
    ) {
        // Boxed, as are the connections: what is over takes no place in a task that may live for hours.
        let Some(opened) = Box::pin(self.open(socket, peer, &stopped)).await else { return };
        let (proxies, nearest) = (self.proxies.clone(), opened.nearest);
        let service = Located { service: TowerToHyperService::new(self.routes.clone()), proxies, nearest };
        match opened.http {
            Http::One(wire, clock) => {
                let mut http1 = self.http1.clone();
                let connection = http1.timer(clock.clone()).serve_connection(TokioIo::new(wire), service);
                let (lifecycle, waits) = (&self.lifecycle, clock.clone());
                let served = async move {
                    let mut connection = pin!(connection);
                    let told = async {
                        lifecycle.reached(Phase::Draining).await;
                        waits.idle(LINGER).await;
                    };
                    tokio::select! {
                        served = &mut connection => return served,
                        () = told => connection.as_mut().graceful_shutdown(),
                    }
                    connection.await
                };
                self.finish(Box::pin(served), stopped, Some(clock)).await;
            }
            Http::Two(wire) => {
                let ListenerConfig { write_timeout, idle_timeout, .. } = self.config;
                let streams = Streams::new(self.tasks.clone(), write_timeout, self.metrics.clone());
                let connection = self.http2(streams.clone()).serve_connection(TokioIo::new(wire), service);
                // Told to go by draining, or because nothing is asked of it. The listener waits for it.
                let graceful = GracefulShutdown::new();
                let connection = graceful.watch(connection);
                let told = async {
                    tokio::select! {
                        () = self.lifecycle.reached(Phase::Draining) => {}
                        () = streams.idle(idle_timeout) => {}
                    }
                    // Who does not go by itself is not asked twice.
                    tokio::select! {
                        () = graceful.shutdown() => std::future::pending().await,
                        () = streams.idle(write_timeout) => Ok(()),
                    }
                };
                let served = async {
                    tokio::select! {
                        served = connection => served,
                        never = told => never,
                    }
                };
                self.finish(Box::pin(served), stopped, None).await;
            }
        }
        drop(watcher);
    }

    fn http2(&self, streams: Streams) -> http2::Builder<Streams> {
        let mut http2 = http2::Builder::new(streams);
        http2
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(self.config.header_bytes_max).unwrap_or(u32::MAX))
            .max_concurrent_streams(256)
            .max_pending_accept_reset_streams(32)
            .keep_alive_interval(Duration::from_secs(20));
        http2
    }

    /// Not while draining: nobody waits for an answer.
    async fn open(&self, socket: TcpStream, peer: SocketAddr, stopped: &CancellationToken) -> Option<Opened> {
        tokio::select! {
            biased;
            opened = self.opening.open(socket, peer) => opened,
            () = self.lifecycle.reached(Phase::Draining) => None,
            () = stopped.cancelled() => None,
        }
    }

    async fn finish(
        &self,
        connection: Pin<Box<impl Future<Output = Result<(), hyper::Error>>>>,
        stopped: CancellationToken,
        clock: Option<HeadClock>,
    ) {
        let stop = async {
            stopped.cancelled().await;
            tokio::time::sleep(LAST_WORDS).await;
        };
        tokio::select! {
            served = connection => if let Err(error) = served {
                if error.is_parse_too_large() {
                    self.metrics.limit_hit(Limit::HeaderBytes);
                }
                // Idle connections end the same way, and break no limit.
                if error.is_timeout() && clock.is_some_and(|clock| clock.is_in_head()) {
                    self.metrics.limit_hit(Limit::HeaderTime);
                }
                tracing::debug!(%error, "a connection broke");
            },
            () = stop => {}
        }
    }
}

/// While the node leaves, each connection ends with the answer it carries: the next request finds
/// another node. HTTP/2 connections are told once the listener closes; their answers go out in pieces.
async fn say_goodbye(State(lifecycle): State<Lifecycle>, request: Request, next: Next) -> Response {
    let http1 = request.version() < Version::HTTP_2;
    let mut response = next.run(request).await;
    if !http1 {
        return response.map(in_pieces);
    }
    if lifecycle.phase() >= Phase::Leaving {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Exactly: hyper refuses only what its read buffer, which grows in large steps, can't hold.
async fn head_fits(
    State((bytes_max, metrics)): State<(usize, Metrics)>,
    request: Request,
    next: Next,
) -> Response {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let headers =
        request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    if target + headers.sum::<usize>() <= bytes_max {
        return next.run(request).await;
    }
    metrics.limit_hit(Limit::HeaderBytes);
    let why = format!("the request's head is larger than {bytes_max} bytes (http.header_bytes_max)");
    response::error(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, codes::SERVER, &why)
}
