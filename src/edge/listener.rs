//! Accepting connections, with a limit on how many there are. The listener and the end come from
//! outside; what happens on a connection is [`super::connection`]'s matter.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::connection::Protocols;
use super::proxies::Proxies;
use super::tls::Tls;
use crate::domain::Limit;
use crate::lifecycle::{Lifecycle, Phase, Tasks};
use crate::telemetry::Metrics;

/// What is asked of connections.
#[derive(Debug, Clone)]
pub struct ListenerConfig {
    pub header_bytes_max: usize,
    pub header_timeout: Duration,
    pub idle_timeout: Duration,
    pub write_timeout: Duration,
    pub connections_max: usize,
    /// Without it, connections are plain.
    pub tls: Option<Tls>,
    /// What stands in between.
    pub proxies: Proxies,
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
    let protocols =
        Arc::new(Protocols::new(&config, routes, lifecycle.clone(), tasks.clone(), metrics.clone()));
    let places = Arc::new(Semaphore::new(config.connections_max));
    let graceful = GracefulShutdown::new();
    if let Some(tls) = &config.tls {
        tasks.spawn_until_stopped(tls.clone().renew());
    }
    let draining = lifecycle.reached(Phase::Draining);
    tokio::pin!(draining);
    loop {
        let (socket, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    rest(&error).await;
                    continue;
                }
            },
            () = &mut draining => break,
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            metrics.limit_hit(Limit::Connections);
            // Over TLS nothing could be said without the work of a handshake.
            if config.tls.is_none() {
                tasks.spawn(turn_away(socket));
            }
            continue;
        };
        // Events are small and wait for nobody.
        let _ = socket.set_nodelay(true);
        let (protocols, watcher, stopped) = (protocols.clone(), graceful.watcher(), tasks.stopped());
        let open = metrics.connection();
        tasks.spawn(async move {
            protocols.serve(socket, peer, watcher, stopped).await;
            drop((place, open));
        });
    }
    drop(listener);
    if tokio::time::timeout(config.goodbye, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections were still open at the deadline");
    }
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
