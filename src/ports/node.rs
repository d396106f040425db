//! Which nodes are alive: each holds a lease for its incarnation, by the store's clock.

use std::time::Duration;

use crate::domain::NodeId;

/// For how long it is known of a node that it left. Whoever saw it alive and did not beat meanwhile takes it for dead.
pub const LEFT_FOR: Duration = Duration::from_secs(600);

/// One node's sign of life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub node: NodeId,
    /// From now; without another beat the node counts as dead then.
    pub lifetime: Duration,
    /// What the node says of itself, a JSON object for people (version, streams, phase).
    pub facts: String,
}

/// `beat`'s answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// Every node with a lease, the caller's included, in the order of their ids.
    pub alive: Vec<NodeId>,
    /// Nodes that gave their lease back within [`LEFT_FOR`]: gone, and not dead.
    pub left: Vec<NodeId>,
    /// The caller's own lease had ended before this beat: others may have taken it for dead.
    pub lapsed: bool,
    /// Since the last beat the store may have forgotten what it acknowledged, bindings too: another
    /// server took over, or it was away.
    pub shaken: bool,
    /// The store's time in ms.
    pub now_ms: u64,
}

/// A node with a lease, and what it said of itself last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenNode {
    pub node: NodeId,
    pub facts: String,
}
