//! What nodes share, and what they do for each other.

use std::sync::{Mutex, PoisonError};

use prometheus::{Histogram, IntCounter};
use tokio::time::Instant;

use super::super::buckets::STEP;
use super::super::catalogue::{Catalogue, Counters, Gauges, Histograms, raise};
use super::super::labels::{
    BusOutcome, BusStep, Message, RelayEnd, RelaySide, SharedRate, StoreOutcome, StoreStep,
};
use super::{Gauged, Metrics};
use crate::ports::{Envelope, Refusal, Refusals};

#[derive(Debug)]
pub(super) struct Shared {
    store: Counters<(StoreStep, StoreOutcome)>,
    store_seconds: Histograms<StoreStep>,
    bus: Counters<(BusStep, BusOutcome)>,
    bus_seconds: Histograms<BusStep>,
    received: Counters<Message>,
    missed: IntCounter,
    refused: Counters<Refusal>,
    unsigned: IntCounter,
    replaced: IntCounter,
    /// The bus was there before the metrics, and counts by itself.
    refusals: Mutex<Refusals>,
    relays: Gauges<RelaySide>,
    relays_ended: Counters<RelayEnd>,
    rates: Counters<SharedRate>,
}

impl Shared {
    pub(super) fn new(catalogue: &mut Catalogue) -> Self {
        catalogue.section("Store and bus");
        Self {
            store: catalogue.counters(
                "holdfast_store_operations_total",
                &["operation", "outcome"],
                "Steps that the session store was asked for (and the rates beside it), by what it said: `unavailable` \
                 did not run, `unknown` may have run, `dropped` was not waited for.",
            ),
            store_seconds: catalogue
                .histograms(
                    "holdfast_store_operation_duration_seconds",
                    &["operation"],
                    "From asking the session store to its answer, or to giving up.",
                    STEP,
                )
                .shown(&catalogue.later, |_| true),
            bus: catalogue.counters(
                "holdfast_bus_operations_total",
                &["operation", "outcome"],
                "What the bus was asked for, by what it said.",
            ),
            bus_seconds: catalogue
                .histograms(
                    "holdfast_bus_operation_duration_seconds",
                    &["operation"],
                    "From asking the bus to its answer. A `relay` waits for another node's server, up to some seconds.",
                    STEP,
                )
                .shown(&catalogue.later, |_| true),
            received: catalogue.counters(
                "holdfast_bus_received_total",
                &["message"],
                "Messages of other nodes that were taken.",
            ),
            missed: catalogue.counter(
                "holdfast_bus_missed_total",
                "How often messages of other nodes may have been lost; the logs are read then.",
            ),
            refused: catalogue.counters(
                "holdfast_bus_refused_total",
                &["reason"],
                "Messages between nodes that were dropped because nothing shows that a node sent them.",
            ),
            unsigned: catalogue.counter(
                "holdfast_bus_unsigned_total",
                "Unsigned messages between nodes that were taken because of `cluster.accept_unsigned`.",
            ),
            replaced: catalogue.counter(
                "holdfast_bus_clients_replaced_total",
                "Clients of the bus that gave up, as on a message that they can't read, and were replaced.",
            ),
            refusals: Mutex::default(),
            relays: catalogue.gauges(
                "holdfast_relays",
                &["side"],
                "HTTP exchanges with a server that only one node reaches (`pinned`), open now: `asked` of another \
                 node, or `served` for one.",
            ),
            relays_ended: catalogue.counters(
                "holdfast_relays_ended_total",
                &["outcome"],
                "Such exchanges, as the node saw their end that asked.",
            ),
            rates: catalogue.counters(
                "holdfast_shared_rates_total",
                &["outcome"],
                "Requests counted for all nodes together; `alone` if nobody answered and the node decided by itself.",
            ),
        }
    }

    pub(super) fn refresh(&self) {
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        for refusal in Refusal::ALL {
            raise(self.refused.of(refusal), refusals.of(refusal));
        }
        raise(&self.unsigned, refusals.taken_unsigned());
        raise(&self.replaced, refusals.replaced_clients());
    }
}

/// A step on its way: told how it ended, or dropped with whoever waited for it.
#[derive(Debug)]
pub(in crate::telemetry) struct Timed<'m> {
    seconds: &'m Histogram,
    outcome: &'m IntCounter,
    since: Instant,
}

impl<'m> Timed<'m> {
    pub(in crate::telemetry) fn ended(mut self, outcome: &'m IntCounter) {
        self.outcome = outcome;
    }
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        self.seconds.observe(self.since.elapsed().as_secs_f64());
        self.outcome.inc();
    }
}

impl Metrics {
    pub(in crate::telemetry) fn store_step(&self, step: StoreStep) -> Timed<'_> {
        let shared = &self.inner.shared;
        let outcome = shared.store.of((step, StoreOutcome::Dropped));
        Timed { seconds: shared.store_seconds.of(step), outcome, since: Instant::now() }
    }

    pub(in crate::telemetry) fn store_outcome(&self, step: StoreStep, outcome: StoreOutcome) -> &IntCounter {
        self.inner.shared.store.of((step, outcome))
    }

    pub(in crate::telemetry) fn bus_step(&self, step: BusStep) -> Timed<'_> {
        let shared = &self.inner.shared;
        let outcome = shared.bus.of((step, BusOutcome::Dropped));
        Timed { seconds: shared.bus_seconds.of(step), outcome, since: Instant::now() }
    }

    pub(in crate::telemetry) fn bus_outcome(&self, step: BusStep, outcome: BusOutcome) -> &IntCounter {
        self.inner.shared.bus.of((step, outcome))
    }

    /// Another node said this.
    pub fn received(&self, envelope: &Envelope) {
        self.inner.shared.received.of(Message::of(envelope)).inc();
    }

    /// Something that another node said may have been lost.
    pub fn missed(&self) {
        self.inner.shared.missed.inc();
    }

    /// Shows what the bus refuses.
    pub fn watch_bus(&self, refusals: Refusals) {
        *self.inner.shared.refusals.lock().unwrap_or_else(PoisonError::into_inner) = refusals;
    }

    #[must_use]
    pub fn relay(&self, side: RelaySide) -> Gauged {
        Gauged::new(self.inner.shared.relays.of(side).clone())
    }

    pub fn relayed(&self, end: RelayEnd) {
        self.inner.shared.relays_ended.of(end).inc();
    }

    pub fn asked_for_rate(&self, outcome: SharedRate) {
        self.inner.shared.rates.of(outcome).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_bus_counts_is_shown_and_starts_at_zero() {
        let (metrics, refusals) = (Metrics::new(), Refusals::default());
        let shows = |line: &str| metrics.render().lines().any(|shown| shown == line);
        assert!(shows("holdfast_bus_refused_total{reason=\"unknown_key\"} 0"));
        metrics.watch_bus(refusals.clone());
        (0..3).for_each(|_| refusals.count(Refusal::UnknownKey));
        refusals.count_taken_unsigned();
        refusals.count_replaced_client();
        for _ in 0..2 {
            assert!(shows("holdfast_bus_refused_total{reason=\"unknown_key\"} 3"));
            assert!(shows("holdfast_bus_refused_total{reason=\"unsigned\"} 0"));
            assert!(shows("holdfast_bus_unsigned_total 1"));
            assert!(shows("holdfast_bus_clients_replaced_total 1"));
        }
    }
}
