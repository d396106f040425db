//! Which nodes are alive. Dead means: no lease, seen by a node whose own way to the store and the bus
//! has been healthy for a whole lease, and no answer on the bus. What follows from it (stealing) is
//! guarded by fences, so that a mistake costs time and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};

use super::Hub;
use super::alone::Alone;
use super::clock::Clock;
use crate::domain::NodeId;
use crate::ports::{Beat, BusError, Lease};

/// Beats in a lease's life: one that is lost or late does no harm.
const BEATS: u32 = 4;

/// How often numbers of recent messages are repeated.
const TALLY: Duration = Duration::from_secs(1);

/// A node that answers on the bus but has had no lease for so many of them can't append either:
/// its requests would wait for ever.
const LEASES_WITHOUT: u32 = 5;

/// Between two lines of the log that say that the lease can't be renewed.
const SAY_AGAIN: Duration = Duration::from_secs(30);

/// For how long it is known that a node is dead.
const DEAD_FOR: Duration = Duration::from_secs(3600);

/// What this node knows of the others.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    known: Mutex<Known>,
    doubts: Notify,
    clock: Clock,
}

#[derive(Debug, Default)]
pub(super) struct Known {
    alive: BTreeSet<NodeId>,
    /// Without a lease, and since when; not proven dead.
    missing: BTreeMap<NodeId, Missing>,
    /// Gave their lease back.
    departed: Vec<NodeId>,
    pub(super) dead: BTreeMap<NodeId, Instant>,
    /// Since when this node's own beats have come through.
    pub(super) healthy_since: Option<Instant>,
    pub(super) beaten: bool,
    /// This node gave its lease back.
    pub(super) left: bool,
    /// This node does not hear itself on the bus.
    pub(super) deaf: bool,
    /// Since when others have had a lease while this node does not hear itself on the bus.
    pub(super) others_hear_since: Option<Instant>,
    /// Others reach what this node can't.
    pub(super) alone: Option<Alone>,
    outage: Option<Outage>,
    /// The store's time at a beat, and when that was here.
    store_time: Option<(u64, Instant)>,
}

/// The lease can't be renewed.
#[derive(Debug)]
struct Outage {
    since: Instant,
    /// For want of what, and when that was logged last.
    said: Option<(&'static str, Instant)>,
}

/// A node without a lease.
#[derive(Debug, Clone, Copy)]
struct Missing {
    since: Instant,
    /// It was alive before this node's eyes; otherwise it was only asked for, and may have left long ago.
    seen: bool,
}

/// What is known of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    Alive,
    /// Nobody knows yet; it is being found out.
    Missing,
    Dead,
}

impl Nodes {
    /// Asks about a node; one that is not known is looked for from now on.
    pub(super) fn health(&self, node: &NodeId) -> Health {
        let mut known = self.lock();
        if known.alive.contains(node) {
            return Health::Alive;
        }
        if known.dead.contains_key(node) {
            return Health::Dead;
        }
        known.missing.entry(node.clone()).or_insert_with(|| Missing { since: Instant::now(), seen: false });
        Health::Missing
    }

    pub(super) fn ailing(&self) {
        self.lock().healthy_since = None;
    }

    /// Notes that the lease could not be renewed for want of what is `missing`; true if that should be said.
    fn not_renewed(&self, missing: &'static str) -> bool {
        let now = Instant::now();
        let mut known = self.lock();
        let outage = known.outage.get_or_insert(Outage { since: now, said: None });
        let again = outage.said.is_none_or(|(what, when)| what != missing || now - when >= SAY_AGAIN);
        if again {
            outage.said = Some((missing, now));
        }
        again
    }

    /// Notes that it was renewed: for how long it could not be, if that was so.
    fn renewed(&self) -> Option<Duration> {
        self.lock().outage.take().map(|outage| outage.since.elapsed())
    }

    /// Notes a beat; true if others may have taken this node for dead before it.
    pub(super) fn beaten(&self, beat: &Beat) -> bool {
        let now = Instant::now();
        let mut known = self.lock();
        known.alone = None;
        known.healthy_since.get_or_insert(now);
        known.store_time = Some((beat.now_ms, now));
        self.clock.set(beat.now_ms, now);
        let alive: BTreeSet<_> = beat.alive.iter().cloned().collect();
        let gone: Vec<_> = known.alive.difference(&alive).cloned().collect();
        if !gone.is_empty() {
            self.doubt();
        }
        for node in gone {
            known.missing.entry(node).or_insert(Missing { since: now, seen: true }).seen = true;
        }
        known.missing.retain(|node, _| !alive.contains(node));
        known.dead.retain(|node, since| !alive.contains(node) && since.elapsed() < DEAD_FOR);
        known.alive = alive;
        known.departed.clone_from(&beat.left);
        std::mem::replace(&mut known.beaten, true) && beat.lapsed
    }

    /// The store's time `from_now`, as far as it is known: what is asked for later than that has no
    /// business any more. It may be late by as long as a beat takes.
    pub(super) fn store_time(&self, from_now: Duration) -> Option<u64> {
        let (then_ms, then) = self.lock().store_time?;
        u64::try_from((then.elapsed() + from_now).as_millis()).ok().map(|passed| then_ms + passed)
    }

    /// How long ago something was that has this time of the store's; not known before the first beat.
    pub(super) fn since_store_time(&self, then_ms: u64) -> Option<Duration> {
        self.clock.now_ms().map(|now_ms| Duration::from_millis(now_ms.saturating_sub(then_ms)))
    }

    /// How old the lease is, or for how long there has been none.
    pub(super) fn lease_age(&self) -> Duration {
        self.lock().store_time.map_or(self.clock.since, |(_, renewed)| renewed).elapsed()
    }

    /// Nodes that may be dead, and for how long they have had no lease; none while this node can't
    /// know.
    fn suspects(&self, lease: Duration) -> Vec<(NodeId, Duration)> {
        let known = self.lock();
        if known.healthy_since.is_none_or(|since| since.elapsed() < lease) {
            return Vec::new();
        }
        known.missing.iter().map(|(node, missing)| (node.clone(), missing.since.elapsed())).collect()
    }

    /// True if it died before this node's eyes: it was alive, and did not leave.
    fn buried(&self, node: &NodeId) -> bool {
        let mut known = self.lock();
        let seen = known.missing.remove(node).is_some_and(|missing| missing.seen);
        known.dead.insert(node.clone(), Instant::now());
        let died = seen && !known.departed.contains(node);
        drop(known);
        self.doubt();
        died
    }

    /// Messages between nodes may have been lost.
    pub(super) fn doubt(&self) {
        self.doubts.notify_waiters();
    }

    /// Waits until a node is missing or dead, or messages may have been lost.
    pub(super) async fn doubted(&self) {
        self.doubts.notified().await;
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no panic while holding it")
    }
}

impl Hub {
    /// Shows that this node is alive, and finds out which others are, until it is dropped.
    pub(super) async fn keep_lease(self) {
        let lease = self.inner.config.lease;
        let mut beats = tokio::time::interval(lease / BEATS);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            self.beat(lease).await;
            self.bury_the_dead(lease).await;
        }
    }

    /// Only while its own message comes back to it: a node that nobody can reach must not seem alive.
    async fn beat(&self, lease: Duration) {
        let nodes = &self.inner.nodes;
        let node = self.inner.node.clone();
        if nodes.lock().left {
            return;
        }
        if let Err(error) = self.inner.bus.ping(&node, lease / BEATS).await {
            if nodes.not_renewed("bus") {
                tracing::warn!(%error, "this node does not hear itself on the bus, and lets its lease run out");
            }
            nodes.ailing();
            nodes.lock().deaf = true;
            return self.look_whether_others_hear(lease).await;
        }
        nodes.hears();
        let renewed = Lease { node, lifetime: lease, facts: self.facts() };
        match tokio::time::timeout(lease / 2, self.store().beat(&renewed)).await {
            // It was on its way when the lease was given back.
            Ok(Ok(_)) if nodes.lock().left => self.leave().await,
            Ok(Ok(beat)) => {
                if let Some(away) = nodes.renewed() {
                    tracing::info!(seconds = away.as_secs_f64(), "the lease is renewed again");
                }
                if nodes.beaten(&beat) {
                    tracing::warn!("this node's lease had run out: others may have taken its place");
                    self.inner.mail.forget_received();
                    self.inner.resync.notify_one();
                }
                if beat.shaken {
                    tracing::warn!("the session store may have forgotten something: the logs are read again");
                    self.inner.resync.notify_one();
                }
                self.inner.metrics.nodes(beat.alive.len());
            }
            Ok(Err(error)) => {
                if nodes.not_renewed("store") {
                    tracing::warn!(%error, "the lease could not be renewed");
                }
                nodes.ailing();
            }
            Err(_) => {
                if nodes.not_renewed("store") {
                    tracing::warn!("the lease could not be renewed in time");
                }
                nodes.ailing();
            }
        }
    }

    async fn bury_the_dead(&self, lease: Duration) {
        let mut found = false;
        // All at once: those that say nothing must not hold up this node's own beat.
        let asked = self.inner.nodes.suspects(lease).into_iter().map(async |(node, missing_for)| {
            let answer = self.inner.bus.ping(&node, lease / BEATS).await;
            if answer.is_ok() {
                self.tell_of_no_lease(&node).await;
            }
            (node, missing_for, answer)
        });
        for (node, missing_for, answer) in futures::future::join_all(asked).await {
            let dead = match answer {
                Ok(()) => missing_for >= lease * LEASES_WITHOUT,
                Err(BusError::NoResponders | BusError::Unavailable | BusError::Full | BusError::TooLarge) => {
                    true
                }
            };
            if dead {
                if self.inner.nodes.buried(&node) {
                    tracing::warn!(%node, answers = answer.is_ok(), "a node is dead; what it ran is taken over");
                    self.inner.metrics.node_died();
                } else {
                    tracing::info!(%node, "a node is gone; it had left, or was never seen alive from here");
                }
                found = true;
            }
        }
        if found {
            self.inner.mail.forget(|node| self.inner.nodes.health(node) == Health::Dead);
            self.inner.resync.notify_one();
        }
    }

    /// Repeats the numbers of recent messages, until it is dropped.
    pub(super) async fn keep_tally(self) {
        let mut rounds = tokio::time::interval(TALLY);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            self.inner.mail.tally().await;
        }
    }

    fn facts(&self) -> String {
        serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "phase": self.inner.lifecycle.phase().name(),
            "streams": self.stream_count(),
            "requests": self.inner.metrics.exchanges(),
        })
        .to_string()
    }

    /// Gives the lease back: what this node leaves behind is not waited for.
    pub async fn leave(&self) {
        self.inner.nodes.lock().left = true;
        if let Err(error) = self.store().leave(&self.inner.node).await {
            tracing::debug!(%error, "the lease runs out by itself");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(alive: &[&NodeId], lapsed: bool) -> Beat {
        let alive = alive.iter().copied().cloned().collect();
        Beat { alive, left: Vec::new(), lapsed, shaken: false, now_ms: 1 }
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_is_suspected_only_by_one_that_was_healthy_for_a_whole_lease() {
        let lease = Duration::from_secs(2);
        let [own, other] = ["own", "other"].map(NodeId::incarnate);
        let nodes = Nodes::default();
        assert!(!nodes.beaten(&beat(&[&own, &other], true)), "the first beat finds no lease");
        assert_eq!(nodes.health(&other), Health::Alive);
        nodes.ailing();
        nodes.beaten(&beat(&[&own], false));
        assert_eq!(nodes.health(&other), Health::Missing);
        assert!(nodes.suspects(lease).is_empty(), "after an outage everybody has a lease of grace");
        tokio::time::advance(lease).await;
        nodes.beaten(&beat(&[&own], false));
        assert_eq!(nodes.suspects(lease), [(other.clone(), lease)]);
        assert!(nodes.buried(&other), "it did not leave");
        assert_eq!(nodes.health(&other), Health::Dead);
        assert!(nodes.suspects(lease).is_empty());
        nodes.beaten(&beat(&[&own, &other], false));
        assert_eq!(nodes.health(&other), Health::Alive, "it was not dead after all");
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_said_now_and_then_and_its_end_once() {
        let nodes = Nodes::default();
        assert_eq!(nodes.renewed(), None);
        assert!(nodes.not_renewed("store"));
        assert!(!nodes.not_renewed("store"));
        assert!(nodes.not_renewed("bus"), "another reason is news");
        tokio::time::advance(SAY_AGAIN).await;
        assert!(nodes.not_renewed("bus"));
        assert!(!nodes.not_renewed("bus"));
        assert_eq!(nodes.renewed(), Some(SAY_AGAIN));
        assert_eq!(nodes.renewed(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_nobody_saw_is_looked_for_once_somebody_asks() {
        let (own, other) = (NodeId::incarnate("own"), NodeId::incarnate("other"));
        let nodes = Nodes::default();
        nodes.beaten(&beat(&[&own], true));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(nodes.suspects(Duration::from_secs(2)).is_empty());
        assert_eq!(nodes.health(&other), Health::Missing);
        assert_eq!(nodes.suspects(Duration::from_secs(2)).len(), 1);
        assert!(!nodes.buried(&other), "it may have left before anybody who is here now came");
        assert_eq!(nodes.health(&other), Health::Dead);
        assert!(nodes.beaten(&beat(&[&own], true)), "its own lease had run out");
    }
}
