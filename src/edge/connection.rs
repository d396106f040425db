//! One connection: which HTTP it speaks, how it is served, and how it ends. Told apart here and not
//! by hyper-util's `auto`: that one waits for the first bytes without a time limit, and its detour
//! doubles hyper's read buffer for as long as the connection lives.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, Version, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::head::HeadClock;
use super::listener::ListenerConfig;
use super::response;
use super::stuck::Unstuck;
use crate::domain::Limit;
use crate::lifecycle::{Lifecycle, Phase};
use crate::protocol::jsonrpc::codes;
use crate::telemetry::Metrics;

/// How an HTTP/2 connection begins (RFC 9113, 3.4). No method of HTTP/1.1 is called PRI.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Between two looks at a preface that comes in pieces.
const PIECE: Duration = Duration::from_millis(10);

/// What a connection may still say once all tasks are told to end.
const LAST_WORDS: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spoken {
    Http1,
    Http2,
    Nothing,
}

/// What all connections of a listener share.
#[derive(Debug)]
pub(super) struct Protocols {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    routes: Router,
    header_timeout: Duration,
    write_timeout: Duration,
    lifecycle: Lifecycle,
    metrics: Metrics,
}

impl Protocols {
    pub(super) fn new(
        config: &ListenerConfig,
        routes: Router,
        lifecycle: Lifecycle,
        metrics: Metrics,
    ) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .header_read_timeout(config.idle_timeout)
            .max_buf_size(config.header_bytes_max.max(8 * 1024))
            .max_headers(128);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(config.header_bytes_max).unwrap_or(u32::MAX))
            .max_concurrent_streams(256)
            .max_pending_accept_reset_streams(32)
            .keep_alive_interval(Duration::from_secs(20));
        let ListenerConfig { header_timeout, write_timeout, .. } = *config;
        let head = (config.header_bytes_max, metrics.clone());
        let routes = routes
            .layer(from_fn_with_state(head, head_fits))
            .layer(from_fn_with_state(lifecycle.clone(), say_goodbye));
        Self { http1, http2, routes, header_timeout, write_timeout, lifecycle, metrics }
    }

    /// Serves until the client goes or says nothing, draining finds nothing more to answer, or `stopped` fires.
    pub(super) async fn serve(&self, socket: TcpStream, watcher: Watcher, stopped: CancellationToken) {
        // Boxed, as are the connections: what is over takes no place in a task that may live for hours.
        let spoken = Box::pin(self.first_words(&socket, &stopped)).await;
        let clock = HeadClock::new(self.header_timeout);
        let io = TokioIo::new(Unstuck::new(socket, self.write_timeout, clock.clone(), self.metrics.clone()));
        let service = TowerToHyperService::new(self.routes.clone());
        match spoken {
            Spoken::Http1 => {
                let connection = self.http1.clone().timer(clock).serve_connection(io, service);
                finish(Box::pin(watcher.watch(connection)), stopped, &self.metrics).await;
            }
            Spoken::Http2 => {
                let connection = self.http2.serve_connection(io, service);
                finish(Box::pin(watcher.watch(connection)), stopped, &self.metrics).await;
            }
            Spoken::Nothing => {}
        }
    }

    /// Waits no longer for them than for a whole head, and not while draining: nobody waits for an answer.
    async fn first_words(&self, socket: &TcpStream, stopped: &CancellationToken) -> Spoken {
        tokio::select! {
            biased;
            spoken = tokio::time::timeout(self.header_timeout, spoken(socket)) => match spoken {
                Ok(Ok(spoken)) => spoken,
                Ok(Err(_)) | Err(_) => Spoken::Nothing,
            },
            () = self.lifecycle.reached(Phase::Draining) => Spoken::Nothing,
            () = stopped.cancelled() => Spoken::Nothing,
        }
    }
}

async fn finish(
    connection: Pin<Box<impl Future<Output = Result<(), hyper::Error>>>>,
    stopped: CancellationToken,
    metrics: &Metrics,
) {
    let stop = async {
        stopped.cancelled().await;
        tokio::time::sleep(LAST_WORDS).await;
    };
    tokio::select! {
        served = connection => if let Err(error) = served {
            if error.is_parse_too_large() {
                metrics.limit_hit(Limit::HeaderBytes);
            }
            tracing::debug!(%error, "a connection broke");
        },
        () = stop => {}
    }
}

/// While the node leaves, each connection ends with the answer it carries: the next request finds
/// another node. HTTP/2 connections are told once the listener closes.
async fn say_goodbye(State(lifecycle): State<Lifecycle>, request: Request, next: Next) -> Response {
    let http1 = request.version() < Version::HTTP_2;
    let mut response = next.run(request).await;
    if http1 && lifecycle.phase() >= Phase::Leaving {
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

/// Looks at the first bytes and leaves them where they are.
async fn spoken(socket: &TcpStream) -> io::Result<Spoken> {
    let mut seen = [0; PREFACE.len()];
    loop {
        match socket.peek(&mut seen).await? {
            0 => return Ok(Spoken::Nothing),
            length if seen[..length] != PREFACE[..length] => return Ok(Spoken::Http1),
            length if length == PREFACE.len() => return Ok(Spoken::Http2),
            // What was seen already makes the socket ready: only time tells whether there is more.
            _ => tokio::time::sleep(PIECE).await,
        }
    }
}
