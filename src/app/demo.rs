//! `holdfast demo`: a server, three nodes that can be killed, a balancer and clients in one process.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::{Gateway, Listeners, Shared, fail, run};
use crate::config::{self, Config, Overrides};
use crate::demo::{self, DemoError};
use crate::lifecycle::{Tasks, shutdown_requested};

const NODES: usize = 3;

/// How long things may take to end.
const LAST_MOMENT: Duration = Duration::from_secs(2);

type Failure = Box<dyn std::error::Error>;

/// What the person asked for.
#[derive(Debug, Clone, Default)]
pub struct DemoOptions {
    pub listen: Option<SocketAddr>,
    pub once: bool,
    /// Real ones instead of this process's memory.
    pub redis: Option<String>,
    pub nats: Option<String>,
}

/// Tells the story; 0 if every step kept its promise.
#[must_use]
pub fn demo(options: DemoOptions) -> ExitCode {
    run(async move {
        match run_demo(options).await {
            Ok(code) => code,
            Err(error) => fail("the demo can't start", &*error),
        }
    })
}

async fn run_demo(options: DemoOptions) -> Result<ExitCode, Failure> {
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    let usual = if options.once { free } else { SocketAddr::from(([127, 0, 0, 1], 4444)) };
    if let Some(listen) = options.listen.filter(|listen| !listen.ip().is_loopback()) {
        return Err(format!(
            "--listen {listen}: nobody has to log in to the demo, so it is for this machine only"
        )
        .into());
    }
    let signal = shutdown_requested()?;
    let tasks = Tasks::new();
    let upstream = TcpListener::bind(free).await?;
    let upstream_url = format!("http://{}/mcp", upstream.local_addr()?);
    tasks.spawn_until_stopped(demo::serve_upstream(upstream, tasks.clone()));
    let balancer = TcpListener::bind(options.listen.unwrap_or(usual)).await?;
    let url = format!("http://{}", balancer.local_addr()?);
    let config = configured(&options, &url, upstream_url)?;
    let shared = Shared::connect(&config).await?;
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        nodes.push(Node::start(&config, shared.clone()).await?);
    }
    let addresses = nodes.iter().map(|node| node.address).collect();
    tasks.spawn_until_stopped(async move {
        if let Err(error) = demo::balance(balancer, addresses).await {
            tracing::error!(%error, "the demo's balancer ended");
        }
    });
    let kept = demo::run(&url, &mut |node| nodes[node].kill()).await?.kept_all();
    if !options.once {
        let alive = nodes.iter().find(|node| node.runtime.is_some());
        let admin = alive.map(|node| format!("http://{}", node.admin)).unwrap_or_default();
        if demo::invite(&url, &admin) {
            signal.await;
        }
    }
    for node in nodes {
        node.stop().await;
    }
    tasks.finish(LAST_MOMENT).await;
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn configured(options: &DemoOptions, url: &str, upstream: String) -> Result<Config, Failure> {
    let mut entries = vec![
        ("servers.default.upstream", upstream, "demo"),
        ("public_url", url.to_owned(), "demo"),
        ("drain.notice", "0s".to_owned(), "demo"),
    ];
    entries.extend(options.redis.clone().map(|url| ("state", url, "--redis")));
    entries.extend(options.nats.clone().map(|url| ("bus", url, "--nats")));
    Ok(config::load(None, std::iter::empty(), Overrides { entries })?)
}

/// A node on a runtime of its own, so that it can be killed without a word.
struct Node {
    address: SocketAddr,
    admin: SocketAddr,
    runtime: Option<Runtime>,
    stop: Option<oneshot::Sender<()>>,
    stopped: oneshot::Receiver<()>,
}

impl Node {
    async fn start(config: &Config, shared: Shared) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = config.clone();
        let (started, address) = oneshot::channel();
        let (stop, told) = oneshot::channel();
        let (ended, stopped) = oneshot::channel();
        runtime.spawn(async move {
            let node = async {
                let listeners = Listeners::bind(free, free).await?;
                let addresses = (listeners.client_address()?, listeners.admin_address()?);
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>((
                    Gateway::start(&config, listeners, shared)?,
                    addresses,
                ))
            };
            match node.await {
                Ok((gateway, addresses)) => {
                    let _ = started.send(Ok(addresses));
                    let _ = told.await;
                    gateway.stop().await;
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            }
            let _ = ended.send(());
        });
        let (address, admin) = match address.await {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(Box::new(DemoError::new("a node ended before it began"))),
        };
        Ok(Self { address, admin, runtime: Some(runtime), stop: Some(stop), stopped })
    }

    /// Its tasks are dropped where they stand, its sockets closed.
    fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    async fn stop(mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        let _ = tokio::time::timeout(LAST_MOMENT, self.stopped).await;
        runtime.shutdown_background();
    }
}
