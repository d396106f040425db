//! Accepting connections: HTTP/1.1 and HTTP/2, with limits on how many there are, how large their
//! headers get and how long they take. The listener and the end come from outside.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::stuck::Unstuck;
use crate::domain::Limit;
use crate::lifecycle::{Lifecycle, Phase, Tasks};
use crate::telemetry::Metrics;

/// Limits of connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerConfig {
    pub header_bytes_max: usize,
    pub header_timeout: Duration,
    pub write_timeout: Duration,
    pub connections_max: usize,
    /// How long connections may take to end once told to.
    pub goodbye: Duration,
}

/// Serves `routes` until draining begins; then no connection is accepted, and each ends with what it
/// is answering.
pub async fn serve(
    listener: TcpListener,
    routes: Router,
    config: ListenerConfig,
    lifecycle: Lifecycle,
    tasks: Tasks,
    metrics: Metrics,
) {
    let http = builder(&config);
    let places = Arc::new(Semaphore::new(config.connections_max));
    let graceful = GracefulShutdown::new();
    let draining = lifecycle.reached(Phase::Draining);
    tokio::pin!(draining);
    loop {
        let socket = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => socket,
                Err(error) => {
                    rest(&error).await;
                    continue;
                }
            },
            () = &mut draining => break,
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            metrics.limit_hit(Limit::Connections);
            tasks.spawn(turn_away(socket));
            continue;
        };
        // Events are small and wait for nobody.
        let _ = socket.set_nodelay(true);
        let io = TokioIo::new(Unstuck::new(socket, config.write_timeout, metrics.clone()));
        let connection = http.serve_connection(io, TowerToHyperService::new(routes.clone())).into_owned();
        let connection = graceful.watch(connection);
        let (open, stopped) = (metrics.connection(), tasks.stopped());
        tasks.spawn(async move {
            tokio::select! {
                served = connection => if let Err(error) = served {
                    tracing::debug!(%error, "a connection broke");
                },
                () = async { stopped.cancelled().await; tokio::time::sleep(Duration::from_millis(200)).await } => {}
            }
            drop((place, open));
        });
    }
    drop(listener);
    if tokio::time::timeout(config.goodbye, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections were still open at the deadline");
    }
}

fn builder(config: &ListenerConfig) -> Builder<TokioExecutor> {
    let mut http = Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout)
        .max_buf_size(config.header_bytes_max.max(8 * 1024))
        .max_headers(128)
        .pipeline_flush(true);
    http.http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(config.header_bytes_max).unwrap_or(u32::MAX))
        .max_concurrent_streams(256)
        .max_pending_accept_reset_streams(32)
        .keep_alive_interval(Duration::from_secs(20));
    http
}

/// Out of descriptors, say: accepting again at once would only burn a core.
async fn rest(error: &io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

/// One line for a client that found no place.
async fn turn_away(socket: TcpStream) {
    use tokio::io::AsyncWriteExt as _;
    const FULL: &[u8] =
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let mut socket = socket;
    let said = async {
        socket.write_all(FULL).await?;
        socket.shutdown().await
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), said).await;
}
