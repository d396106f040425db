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

/// A node that was taken for dead may only be deaf, and go on for a while before balancers leave it:
/// what it appends is announced to nobody.
const DEAD_AND_TALKING: Duration = Duration::from_secs(30);

/// What only this node can't reach, and since when that has been known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alone {
    since: Instant,
    without: Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    Store,
    Bus,
}

impl Nodes {
    /// Whether what other nodes say may not come here, for longer than a moment.
    pub(super) fn misses_news(&self) -> bool {
        let known = self.lock();
        known.deaf || known.dead.values().any(|since| since.elapsed() < DEAD_AND_TALKING)
    }

    pub(super) fn hears(&self) {
        let mut known = self.lock();
        known.deaf = false;
        known.others_hear_since = None;
    }

    /// This node does not hear itself on the bus, and others have a lease or not; true once they have
    /// had one for too long to be from before.
    fn deaf(&self, others: bool, patience: Duration) -> bool {
        let mut known = self.lock();
        if !others {
            (known.others_hear_since, known.alone) = (None, None);
            return false;
        }
        let since = *known.others_hear_since.get_or_insert_with(Instant::now);
        let news = since.elapsed() >= patience && known.alone.is_none();
        if news {
            known.alone = Some(Alone { since: Instant::now(), without: Lost::Bus });
        }
        news
    }

    /// Another node says that this one has no lease. It is right about the store only while this node
    /// can't renew it.
    fn told_of_no_lease(&self) -> bool {
        let mut known = self.lock();
        let right = known.beaten && !known.left && known.healthy_since.is_none();
        let news = right && known.alone.is_none();
        if news {
            known.alone = Some(Alone { since: Instant::now(), without: Lost::Store });
        }
        news
    }

    fn alone(&self) -> Option<Alone> {
        self.lock().alone
    }
}

impl Hub {
    /// Whether others reach what this node can't.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.inner.nodes.alone().is_some()
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

    /// Once balancers had time to leave, clients are sent away, and come back elsewhere. Without the bus
    /// what is being answered here is, all the same; without the store it can't be, and clients that
    /// may not come back are sent away too when they waited for long.
    pub(super) fn hand_over_when_alone(&self) {
        let Some(Alone { since, without }) = self.inner.nodes.alone() else { return };
        let (alone_for, leave) = (since.elapsed(), &self.inner.config.leave);
        let Some(passed) = alone_for.checked_sub(leave.notice) else { return };
        let share = passed.as_secs_f64() / leave.handover.as_secs_f64().max(f64::MIN_POSITIVE);
        match without {
            Lost::Bus => self.send_away(share, |stream| self.awaits_answer(stream)),
            Lost::Store if alone_for < leave.timeout => self.drain_streams(share),
            Lost::Store => self.send_away(1.0, |_| false),
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
        let alive = vec![NodeId::incarnate("own")];
        let beat = Beat { alive, left: Vec::new(), lapsed: false, shaken: false, now_ms: 1 };
        assert!(!nodes.told_of_no_lease(), "it has not begun");
        nodes.beaten(&beat);
        assert!(!nodes.told_of_no_lease(), "it has one by now");
        nodes.ailing();
        assert!(nodes.alone().is_none(), "it may be so for all");
        assert!(nodes.told_of_no_lease());
        assert!(!nodes.told_of_no_lease(), "that is no news");
        assert_eq!(nodes.alone().map(|alone| alone.without), Some(Lost::Store));
        nodes.beaten(&beat);
        assert!(nodes.alone().is_none(), "the lease is renewed");
    }

    #[tokio::test(start_paused = true)]
    async fn leases_that_others_had_before_the_bus_went_away_prove_nothing() {
        let (nodes, patience) = (Nodes::default(), Duration::from_secs(4));
        assert!(!nodes.deaf(true, patience), "they may be from before");
        tokio::time::advance(patience).await;
        assert!(!nodes.deaf(false, patience), "they were");
        assert!(!nodes.deaf(true, patience), "it is back, and this node may find it a moment later");
        tokio::time::advance(patience).await;
        assert!(nodes.deaf(true, patience) && nodes.alone().is_some());
        assert!(!nodes.deaf(true, patience), "that is no news");
        nodes.deaf(false, patience);
        assert!(nodes.alone().is_none(), "now it is away for all");
    }
}
