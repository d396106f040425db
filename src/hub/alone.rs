//! Whether this node alone lost its way to the store or to the bus. Then it says that it is not ready,
//! so that balancers leave it, and hands its streams to nodes that can do more for them. It takes
//! another node to know: while nobody can reach the store or the bus, everybody stays, since what needs
//! neither goes on, and leaving would turn less into nothing.

use std::time::Duration;

use tokio::time::Instant;

use super::Hub;
use super::nodes::Nodes;
use crate::domain::NodeId;
use crate::ports::Envelope;

/// Without the bus nobody renews a lease: who has one for longer than this has a bus.
const LEASES_DEAF: u32 = 2;

impl Nodes {
    /// This node does not hear itself on the bus, and others have a lease or not; true once they have
    /// had one for too long to be from before.
    fn deaf(&self, others: bool, patience: Duration) -> bool {
        let mut known = self.lock();
        if !others {
            (known.others_hear_since, known.alone_since) = (None, None);
            return false;
        }
        let since = *known.others_hear_since.get_or_insert_with(Instant::now);
        let news = since.elapsed() >= patience && known.alone_since.is_none();
        if news {
            known.alone_since = Some(Instant::now());
        }
        news
    }

    /// Another node says that this one has no lease. It is right about the store only while this node
    /// can't renew it.
    fn told_of_no_lease(&self) -> bool {
        let mut known = self.lock();
        let right = known.beaten && !known.left && known.healthy_since.is_none();
        let news = right && known.alone_since.is_none();
        if news {
            known.alone_since = Some(Instant::now());
        }
        news
    }

    fn alone_for(&self) -> Option<Duration> {
        self.lock().alone_since.map(|since| since.elapsed())
    }
}

impl Hub {
    /// Whether others reach what this node can't.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.inner.nodes.alone_for().is_some()
    }

    /// The bus is away from here. The store knows whether it is for others.
    pub(super) async fn look_whether_others_hear(&self, lease: Duration) {
        let Ok(Ok(seen)) = tokio::time::timeout(lease / 2, self.store().nodes()).await else { return };
        let others = seen.iter().any(|seen| seen.node != self.inner.node);
        if self.inner.nodes.deaf(others, lease * LEASES_DEAF) {
            tracing::warn!("only this node can't reach the bus: it is not ready");
        }
    }

    /// A node answers on the bus and has no lease, while this one renews its own.
    pub(super) async fn tell_of_no_lease(&self, node: &NodeId) {
        // Lost, it is said again after the next beat.
        let _ = self.inner.mail.send(node, Envelope::NoLease).await;
    }

    pub(super) fn hear_of_no_lease(&self) {
        if self.inner.nodes.told_of_no_lease() {
            tracing::warn!("only this node can't reach the session store: it is not ready");
        }
    }

    /// Once balancers had time to leave, clients are sent away, and come back elsewhere; those that may
    /// not come back, but wait for an answer, are when it has not come for long.
    pub(super) fn hand_over_when_alone(&self) {
        let Some(alone_for) = self.inner.nodes.alone_for() else { return };
        let leave = &self.inner.config.leave;
        if let Some(passed) = alone_for.checked_sub(leave.notice) {
            let handover = leave.handover.as_secs_f64().max(f64::MIN_POSITIVE);
            self.drain_streams(passed.as_secs_f64() / handover);
        }
        if alone_for >= leave.timeout {
            self.end_session_streams();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::Beat;

    #[tokio::test(start_paused = true)]
    async fn only_a_node_that_can_not_renew_its_lease_believes_that_it_has_none() {
        let nodes = Nodes::default();
        let beat = Beat { alive: vec![NodeId::incarnate("own")], lapsed: false, now_ms: 1 };
        assert!(!nodes.told_of_no_lease(), "it has not begun");
        nodes.beaten(&beat);
        assert!(!nodes.told_of_no_lease(), "it has one by now");
        nodes.ailing();
        assert!(nodes.alone_for().is_none(), "it may be so for all");
        assert!(nodes.told_of_no_lease());
        assert!(!nodes.told_of_no_lease(), "that is no news");
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(nodes.alone_for(), Some(Duration::from_secs(3)));
        nodes.beaten(&beat);
        assert!(nodes.alone_for().is_none(), "the lease is renewed");
    }

    #[tokio::test(start_paused = true)]
    async fn leases_that_others_had_before_the_bus_went_away_prove_nothing() {
        let (nodes, patience) = (Nodes::default(), Duration::from_secs(4));
        assert!(!nodes.deaf(true, patience), "they may be from before");
        tokio::time::advance(patience).await;
        assert!(!nodes.deaf(false, patience), "they were");
        assert!(!nodes.deaf(true, patience), "it is back, and this node may find it a moment later");
        tokio::time::advance(patience).await;
        assert!(nodes.deaf(true, patience) && nodes.alone_for().is_some());
        assert!(!nodes.deaf(true, patience), "that is no news");
        nodes.deaf(false, patience);
        assert!(nodes.alone_for().is_none(), "now it is away for all");
    }
}
