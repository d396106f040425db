//! The metrics, told as verbs. Labels are enums, never ids or paths; a gauge is a guard that counts down
//! when dropped, or is read from its owner just before it is shown.

mod access;
mod exchanges;
mod limits;
mod node;
mod operations;
mod server;
mod sessions;
mod shared;
mod streams;
mod tools;

use std::sync::Arc;

use prometheus::{Encoder as _, IntGauge, Registry, TextEncoder};

pub use exchanges::Measured;
pub use server::{Requested, ServerMetrics};

use super::catalogue::{Catalogue, Described, Later};

/// How many tools are told apart in a process, unless told otherwise (`metrics.tools_max`).
const TOOLS_MAX: usize = 200;

/// Counts up when made and down when dropped.
#[derive(Debug)]
pub struct Gauged(IntGauge);

impl Gauged {
    fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Gauged {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A cloneable handle on one registry; every node of a process has its own.
#[derive(Debug, Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    registry: Registry,
    later: Later,
    node: node::Node,
    access: access::Access,
    sessions: sessions::Sessions,
    streams: streams::Streams,
    exchanges: exchanges::Exchanges,
    operations: operations::Operations,
    tools: tools::Tools,
    servers: server::Servers,
    shared: shared::Shared,
    limits: limits::Limits,
}

impl Metrics {
    #[must_use]
    pub fn new() -> Self {
        Self::telling_apart(TOOLS_MAX)
    }

    /// Calls of at most `tools_max` tools have a label of their own; the rest is `other`.
    #[must_use]
    pub fn telling_apart(tools_max: usize) -> Self {
        Self::described(tools_max).0
    }

    /// With what there is to be said of all of them.
    pub(super) fn described(tools_max: usize) -> (Self, Vec<Described>) {
        let mut catalogue = Catalogue::new();
        let inner = Inner {
            node: node::Node::new(&mut catalogue),
            access: access::Access::new(&mut catalogue),
            sessions: sessions::Sessions::new(&mut catalogue),
            streams: streams::Streams::new(&mut catalogue),
            exchanges: exchanges::Exchanges::new(&mut catalogue),
            tools: tools::Tools::new(&mut catalogue, tools_max),
            servers: server::Servers::new(&mut catalogue),
            shared: shared::Shared::new(&mut catalogue),
            limits: limits::Limits::new(&mut catalogue),
            operations: operations::Operations::new(&mut catalogue),
            registry: catalogue.registry(),
            later: catalogue.later.clone(),
        };
        (Self { inner: Arc::new(inner) }, catalogue.described)
    }

    /// The text format of Prometheus. What is read from its owner is as the last `Hub::measure` found it.
    #[must_use]
    pub fn render(&self) -> String {
        self.inner.later.make();
        self.inner.access.refresh();
        self.inner.shared.refresh();
        self.inner.node.refresh();
        let mut text = Vec::new();
        // Encoding to memory fails only for a metric without a name or value, and there is none.
        let _ = TextEncoder::new().encode(&self.inner.registry.gather(), &mut text);
        String::from_utf8(text).unwrap_or_default()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
