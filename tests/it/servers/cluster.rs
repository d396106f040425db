//! Three nodes on one Redis and one NATS behind a balancer that knows nothing of MCP. What the nodes tell each
//! other is signed.

use std::process::Command;

use super::{Balancer, Folder, Link, Nats, Redis, Server, State};
use crate::peers::process::{Process, free_port, holdfast_at};

pub(crate) const NODES: usize = 3;

/// How a cluster is set up.
#[derive(Default)]
pub(crate) struct Setup {
    /// As `("requests.json_wait", "50ms")`.
    pub settings: Vec<(String, String)>,
    /// The node whose ways to Redis and NATS can be made bad.
    pub linked: Option<usize>,
    /// Each node's own server, in place of the one that all have.
    pub own_upstreams: Vec<String>,
    /// A single Redis by default.
    pub state: Option<State>,
    /// The nodes have no keys.
    pub unsigned: bool,
    /// Variables that are no settings.
    pub environment: Vec<(&'static str, String)>,
    /// HAProxy by default.
    pub balancer: Balancer,
    /// Ports that can be foretold, instead of free ones.
    pub ports: Option<Ports>,
}

/// The balancer's, and each node's for clients and for operators.
pub(crate) struct Ports {
    pub balancer: u16,
    pub nodes: Vec<(u16, u16)>,
}

/// Gives a node its key.
pub(crate) const SIGNED: (&str, &str) =
    ("cluster.keys.test.secret", "6b6579206f662061206e6f6465206f66206120746573747320636c7573746572");

pub(crate) struct Cluster {
    pub state: State,
    pub nats: Nats,
    links: Option<Links>,
    nodes: Vec<Option<Process>>,
    addresses: Vec<(u16, u16)>,
    balancer: Option<Server>,
    port: u16,
    settings: Vec<(String, String)>,
    own_upstreams: Vec<String>,
    environment: Vec<(&'static str, String)>,
    folder: Folder,
}

/// One node's own ways.
pub(crate) struct Links {
    node: usize,
    pub redis: Link,
    pub nats: Link,
}

impl Cluster {
    /// Before one upstream, with settings as `("requests.json_wait", "50ms")`.
    pub(crate) fn start(upstream: &str, settings: &[(&str, &str)]) -> Self {
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Self::set_up(upstream, Setup { settings, ..Setup::default() })
    }

    /// Within a runtime, if a node is linked.
    pub(crate) fn set_up(upstream: &str, setup: Setup) -> Self {
        let folder = Folder::new();
        let state = setup.state.unwrap_or_else(|| State::One(Redis::start()));
        let nats = Nats::start();
        let links = setup.linked.map(|node| Links {
            node,
            redis: Link::to(state.one().port()),
            nats: Link::to(nats.port()),
        });
        let mut settings = setup.settings;
        if !setup.unsigned {
            settings.push((SIGNED.0.to_owned(), SIGNED.1.to_owned()));
        }
        settings.push(("servers.default.upstream".into(), upstream.into()));
        let ports = setup.ports.unwrap_or_else(|| Ports {
            balancer: free_port(),
            nodes: (0..NODES).map(|_| (free_port(), free_port())).collect(),
        });
        let mut cluster = Self {
            state,
            nats,
            links,
            nodes: (0..NODES).map(|_| None).collect(),
            addresses: ports.nodes,
            balancer: None,
            port: ports.balancer,
            settings,
            own_upstreams: setup.own_upstreams,
            environment: setup.environment,
            folder,
        };
        for node in 0..NODES {
            cluster.start_node(node);
        }
        cluster.balancer = Some(setup.balancer.start(&cluster.folder, cluster.port, &cluster.addresses));
        cluster
    }

    /// For nodes that are started from now on.
    pub(crate) fn set(&mut self, (key, value): (&str, &str)) {
        self.settings.push((key.to_owned(), value.to_owned()));
    }

    /// The only Redis.
    pub(crate) fn redis(&mut self) -> &mut Redis {
        self.state.one_mut()
    }

    /// Where the balancer listens.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where each node's operators look.
    pub(crate) fn admin_urls(&self) -> Vec<String> {
        self.addresses.iter().map(|(_, admin)| format!("http://127.0.0.1:{admin}")).collect()
    }

    /// Prints what the nodes say from now on.
    pub(crate) fn print_logs(&mut self) {
        for node in 0..NODES {
            self.process(node).echo(move |line| format!("n{node} {line}"));
        }
    }

    /// The ways of the node that was linked.
    pub(crate) fn links(&self) -> &Links {
        self.links.as_ref().unwrap()
    }

    /// Where each node listens itself.
    pub(crate) fn node_urls(&self) -> Vec<String> {
        self.addresses.iter().map(|(listen, _)| format!("http://127.0.0.1:{listen}")).collect()
    }

    /// The processes of the nodes that run.
    pub(crate) fn process_ids(&self) -> Vec<u32> {
        self.nodes.iter().flatten().map(Process::id).collect()
    }

    pub(crate) fn process(&mut self, node: usize) -> &mut Process {
        self.nodes[node].as_mut().unwrap()
    }

    /// On the ports that it had before; ready when this returns.
    pub(crate) fn start_node(&mut self, node: usize) {
        let (listen, admin) = self.addresses[node];
        let mut command = Command::new("true");
        for (key, value) in &self.settings {
            command.env(format!("HOLDFAST_{}", key.replace('.', "_").to_uppercase()), value);
        }
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        if let Some(own) = self.own_upstreams.get(node) {
            command.env("HOLDFAST_SERVERS_DEFAULT_UPSTREAM", own);
        }
        command.env("HOLDFAST_CLUSTER_NODE_NAME", format!("n{node}"));
        let (state, nats) = match &self.links {
            Some(links) if links.node == node => {
                (format!("redis://127.0.0.1:{}", links.redis.port()), links.nats.port())
            }
            _ => (self.state.url(), self.nats.port()),
        };
        command.env("HOLDFAST_STATE", state);
        command.env("HOLDFAST_BUS", format!("nats://127.0.0.1:{nats}"));
        self.nodes[node] = Some(holdfast_at(&command, listen, admin));
    }

    /// kill -9.
    pub(crate) fn kill_node(&mut self, node: usize) {
        self.nodes[node] = None;
    }
}
