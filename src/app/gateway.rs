//! One node: two listeners, a hub, its adapters. Started and stopped in order, by `serve`, by the
//! demo, and by tests.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::Instant;

use super::servers;
use super::settings;
use super::shared::Shared;
use super::tls;
use crate::auth::UnknownAlgorithm;
use crate::certificates;
use crate::config::{Bus, Config, DrainConfig};
use crate::domain::{Entropy, InvalidId, NodeId};
use crate::edge;
use crate::hub::{Hub, Parts, Rates, Relays};
use crate::lifecycle::{Ending, Lifecycle, Phase, Tasks};
use crate::telemetry::{Audit, Metrics};
use crate::upstream::HttpClient;

/// How long connections may take to close once nothing runs on them.
const LAST_MOMENT: Duration = Duration::from_millis(500);

/// What upstreams get to hear of the end, even after the deadline.
const LAST_SECOND: Duration = Duration::from_secs(1);

/// How often a node that ends looks whether it may.
const POLL: Duration = Duration::from_millis(20);

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the address is not usable")]
    Address(#[from] io::Error),
    #[error("audit.file can't be opened")]
    Audit(#[source] io::Error),
    #[error("a certificate is not usable")]
    Certificate(#[from] certificates::Fault),
    #[error("a server's name or URL is not usable")]
    Name(#[from] InvalidId),
    #[error("an algorithm of an issuer's is not usable")]
    Algorithm(#[from] UnknownAlgorithm),
}

/// Sockets that are bound already, so that their addresses are known.
#[derive(Debug)]
pub struct Listeners {
    client: TcpListener,
    admin: TcpListener,
}

impl Listeners {
    /// # Errors
    /// If an address is taken or not this machine's; the error names it.
    pub async fn bind(client: SocketAddr, admin: SocketAddr) -> io::Result<Self> {
        Ok(Self { client: bind("listen", client).await?, admin: bind("admin.listen", admin).await? })
    }

    /// # Errors
    /// If the system can't tell.
    pub fn client_address(&self) -> io::Result<SocketAddr> {
        self.client.local_addr()
    }

    /// A node that waits for its backends is alive and not ready.
    pub(super) fn answer_probes(&self, config: &Config) -> Result<Waiting, StartError> {
        let twin = std::net::TcpListener::from(self.admin.as_fd().try_clone_to_owned()?);
        let twin = TcpListener::from_std(twin)?;
        let listener = edge::ListenerConfig { tls: tls::operators(config)?, ..settings::listener(config) };
        let tasks = Tasks::new();
        // A bus is shared together with the state.
        let awaited = match &config.bus {
            Bus::Memory => "state",
            Bus::Nats(_) => "state and bus",
        };
        let serving = edge::serve(
            twin,
            edge::waiting_routes(awaited),
            listener,
            Lifecycle::new(),
            tasks.clone(),
            Metrics::new(),
        );
        tasks.spawn_until_stopped(serving);
        Ok(Waiting { tasks })
    }

    /// # Errors
    /// If the system can't tell.
    pub fn admin_address(&self) -> io::Result<SocketAddr> {
        self.admin.local_addr()
    }
}

/// Answers probes on the admin port until the node is there: alive, not ready.
#[derive(Debug)]
pub(super) struct Waiting {
    tasks: Tasks,
}

impl Waiting {
    pub(super) async fn end(self) {
        self.tasks.finish(LAST_MOMENT).await;
    }
}

async fn bind(key: &str, address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("{key} {address}: {error}")))
}

/// What a node takes from the machine that it runs on; a simulation has its own.
#[derive(Debug)]
pub struct Surroundings {
    /// This incarnation's id.
    pub node: NodeId,
    /// How upstreams are reached.
    pub client: HttpClient,
    pub tasks: Tasks,
    pub entropy: Entropy,
    /// Where clients find it: what a `Host` header may name.
    pub address: SocketAddr,
}

/// A running node.
#[derive(Debug)]
pub struct Gateway {
    hub: Hub,
    lifecycle: Lifecycle,
    tasks: Tasks,
    /// Outlives the other tasks, and writes what they did last.
    writers: Tasks,
    drain: DrainConfig,
}

impl Gateway {
    /// Starts serving; ready when it returns.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(config: &Config, listeners: Listeners, shared: Shared) -> Result<Self, StartError> {
        let address = listeners.client_address()?;
        let admin_address = listeners.admin_address()?;
        let admin_listener =
            edge::ListenerConfig { tls: tls::operators(config)?, ..settings::listener(config) };
        let listener = edge::ListenerConfig {
            tls: tls::clients(config)?,
            proxies: settings::proxies(config),
            ..admin_listener.clone()
        };
        let scheme = if listener.tls.is_some() { "https" } else { "http" };
        let surroundings = Surroundings {
            node: NodeId::incarnate(&config.cluster.node_name),
            client: HttpClient::new(&settings::http_client(config))?,
            tasks: Tasks::new(),
            entropy: Entropy::system(),
            address,
        };
        let (gateway, clients) = Self::assemble(config, shared, surroundings)?;
        let Self { hub, lifecycle, tasks, .. } = &gateway;
        let metrics = hub.metrics().clone();
        let operating = settings::operating(config, admin_address);
        let admins = edge::admin_routes(hub.clone(), lifecycle.clone(), operating);
        tasks.spawn(edge::serve(
            listeners.client,
            clients,
            listener,
            lifecycle.clone(),
            tasks.clone(),
            metrics.clone(),
        ));
        // Probes and scrapes go on while the node drains; the stop token ends them.
        let admin_lifecycle = Lifecycle::new();
        let serving =
            edge::serve(listeners.admin, admins, admin_listener, admin_lifecycle, tasks.clone(), metrics);
        tasks.spawn_until_stopped(serving);
        lifecycle.advance(Phase::Ready);
        for name in config.servers.keys() {
            tracing::info!(server = name, url = %format_args!("{scheme}://{address}/servers/{name}/mcp"), "offering");
        }
        tracing::info!(
            listen = %address,
            admin = %admin_address,
            version = env!("CARGO_PKG_VERSION"),
            "ready: Streamable HTTP at /mcp, HTTP+SSE at /sse"
        );
        Ok(gateway)
    }

    /// A node without sockets, and what it answers to clients.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn assemble(
        config: &Config,
        shared: Shared,
        surroundings: Surroundings,
    ) -> Result<(Self, edge::Routes), StartError> {
        let Surroundings { node, client, tasks, entropy, address } = surroundings;
        let lifecycle = Lifecycle::new();
        let metrics = Metrics::telling_apart(config.metrics.tools_max);
        metrics.watch_bus(shared.bus.refusals());
        settings::limits_set(config, &metrics);
        let shared = shared.metered(config, &metrics);
        let writers = Tasks::new();
        let audit = Audit::new(node.clone(), settings::audit(config, &writers)?, metrics.clone());
        let relays = Relays::new(node.clone(), shared.bus.clone(), tasks.clone(), metrics.clone());
        let authenticator = settings::authenticator(config, &client, &metrics)?;
        authenticator.start(&tasks);
        let servers = servers::servers(config, &client, &node, &relays, &authenticator, (&metrics, &tasks))?;
        let hub = Hub::start(Parts {
            config: settings::hub(config),
            node,
            store: shared.store,
            bus: shared.bus,
            relays,
            servers,
            limits: settings::limits(config),
            rates: config.limits.shared.then(|| Rates::new(shared.rates, config.limits.shared_timeout)),
            metrics,
            audit,
            lifecycle: lifecycle.clone(),
            tasks: tasks.clone(),
            entropy,
            sealer: settings::sealer(&config.cluster),
        });
        let edge = settings::edge(config, address, authenticator);
        let clients = edge::client_routes(hub.clone(), lifecycle.clone(), edge);
        Ok((Self { hub, lifecycle, tasks, writers, drain: config.drain.clone() }, clients))
    }

    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    #[must_use]
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Not ready, and for `drain.notice` still serving everything; then no new connections, streams end
    /// with a `retry` over `drain.handover`, running requests within `drain.timeout`. What still runs
    /// then is left to other nodes, or ends with an error.
    pub async fn stop(self) -> Ending {
        let deadline = Instant::now() + self.drain.timeout;
        self.lifecycle.advance(Phase::Leaving);
        self.hub.leave_relays();
        if self.hub.is_shared() {
            tokio::time::sleep(self.drain.notice).await;
        }
        self.lifecycle.advance(Phase::Draining);
        let began = Instant::now();
        // Again and again: a stream that answers something now may answer nothing a moment later.
        // And for as long as connections linger, somebody may still ask on one.
        let calm = if self.hub.is_shared() { edge::LINGER + POLL } else { Duration::ZERO };
        let mut quiet_since = None;
        while Instant::now() < deadline {
            if !self.hub.is_quiet() {
                quiet_since = None;
            } else if quiet_since.get_or_insert_with(Instant::now).elapsed() >= calm {
                break;
            }
            let share =
                began.elapsed().as_secs_f64() / self.drain.handover.as_secs_f64().max(f64::MIN_POSITIVE);
            self.hub.drain_streams(if self.hub.is_shared() { share } else { 1.0 });
            tokio::time::sleep(POLL).await;
        }
        let forced = !self.hub.is_quiet();
        let last = deadline.max(Instant::now() + LAST_SECOND);
        // What can't be left to another node is answered with an error; then streams wait for nothing.
        self.hub.abandon_requests();
        self.until(Instant::now() + LAST_MOMENT, Hub::runs_nothing).await;
        self.hub.end_streams();
        self.until(Instant::now() + LAST_MOMENT, Hub::is_quiet).await;
        self.hub.leave_upstreams();
        let _ = tokio::time::timeout_at(last, self.hub.close_own_sessions()).await;
        self.until(last, Hub::has_said_farewell).await;
        self.hub.end_farewells();
        let _ = tokio::time::timeout(LAST_MOMENT, self.hub.leave()).await;
        let ending = self.tasks.finish(LAST_MOMENT.max(last.saturating_duration_since(Instant::now()))).await;
        self.hub.audit().finish();
        let written = self.writers.finish(LAST_MOMENT).await;
        self.lifecycle.advance(Phase::Stopped);
        match (ending, written) {
            (Ending::Clean, Ending::Clean) if forced => Ending::Forced { left: 0 },
            (Ending::Clean, written) => written,
            (forced, _) => forced,
        }
    }

    async fn until(&self, deadline: Instant, reached: impl Fn(&Hub) -> bool) {
        while !reached(&self.hub) && Instant::now() < deadline {
            tokio::time::sleep(POLL).await;
        }
    }
}
