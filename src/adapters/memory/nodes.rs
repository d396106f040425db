//! Leases of nodes, and the hints that servers gave: what a store keeps beside sessions.

use std::collections::BTreeMap;

use super::session::millis;
use crate::domain::{NodeId, ServerName};
use crate::ports::{Beat, LEFT_FOR, Lease, SeenNode};

#[derive(Debug, Default)]
pub(super) struct Nodes {
    leases: BTreeMap<NodeId, Held>,
    /// When each gave its lease back.
    left: BTreeMap<NodeId, u64>,
}

#[derive(Debug)]
struct Held {
    ends_ms: u64,
    facts: String,
}

impl Nodes {
    pub(super) fn beat(&mut self, lease: &Lease, now_ms: u64) -> Beat {
        self.leases.retain(|_, held| held.ends_ms > now_ms);
        self.left.retain(|_, left_ms| left_ms.saturating_add(millis(LEFT_FOR)) > now_ms);
        let held =
            Held { ends_ms: now_ms.saturating_add(millis(lease.lifetime)), facts: lease.facts.clone() };
        let lapsed = self.leases.insert(lease.node.clone(), held).is_none();
        let names = |nodes: &mut dyn Iterator<Item = &NodeId>| nodes.cloned().collect();
        let (alive, left) = (names(&mut self.leases.keys()), names(&mut self.left.keys()));
        Beat { alive, left, lapsed, shaken: false, now_ms }
    }

    pub(super) fn leave(&mut self, node: &NodeId, now_ms: u64) {
        if self.leases.remove(node).is_some() {
            self.left.insert(node.clone(), now_ms);
        }
    }

    pub(super) fn seen(&self, now_ms: u64) -> Vec<SeenNode> {
        let alive = self.leases.iter().filter(|(_, held)| held.ends_ms > now_ms);
        alive.map(|(node, held)| SeenNode { node: node.clone(), facts: held.facts.clone() }).collect()
    }
}

/// When each hint of each server was last given. Bounded by what servers can hint at: methods come
/// from the gateway's own table.
#[derive(Debug, Default)]
pub(super) struct Hints {
    given: BTreeMap<(String, String), u64>,
}

impl Hints {
    pub(super) fn give(&mut self, server: &ServerName, method: &str, now_ms: u64) {
        self.given.insert((server.as_str().to_owned(), method.to_owned()), now_ms);
    }

    pub(super) fn of(&self, server: &ServerName) -> Vec<(String, u64)> {
        let own = self.given.iter().filter(|((of, _), _)| of == server.as_str());
        own.map(|((_, method), at_ms)| (method.clone(), *at_ms)).collect()
    }
}
