//! What the bus counts of messages that it did not believe, or could not read, as metrics.

use std::sync::{Mutex, PoisonError};

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use super::metrics::register;
use crate::ports::{Refusal, Refusals};

/// The bus was there before the metrics, and counts by itself: its counts are taken over when they are asked for.
#[derive(Debug)]
pub(super) struct Believed {
    refused: IntCounterVec,
    unsigned: IntCounter,
    replaced: IntCounter,
    counts: Mutex<Refusals>,
}

impl Believed {
    pub(super) fn new(registry: &Registry) -> Self {
        let refused = Opts::new(
            "holdfast_bus_refused_total",
            "Messages between nodes that were dropped because nothing shows that a node sent them, by reason.",
        );
        let unsigned = IntCounter::new(
            "holdfast_bus_unsigned_total",
            "Unsigned messages between nodes that were taken because of cluster.accept_unsigned.",
        );
        let replaced = IntCounter::new(
            "holdfast_bus_clients_replaced_total",
            "Clients of the bus that gave up, as on a message that they can't read, and were replaced.",
        );
        let refused = IntCounterVec::new(refused, &["reason"]).expect("a valid metric");
        Self {
            refused: register(registry, refused),
            unsigned: register(registry, unsigned.expect("a valid metric")),
            replaced: register(registry, replaced.expect("a valid metric")),
            counts: Mutex::default(),
        }
    }

    pub(super) fn watch(&self, refusals: Refusals) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner) = refusals;
    }

    pub(super) fn refresh(&self) {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let raise = |counter: &IntCounter, to: u64| counter.inc_by(to.saturating_sub(counter.get()));
        for refusal in Refusal::ALL {
            raise(&self.refused.with_label_values(&[label(refusal)]), counts.of(refusal));
        }
        raise(&self.unsigned, counts.taken_unsigned());
        raise(&self.replaced, counts.replaced_clients());
    }
}

const fn label(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Unsigned => "unsigned",
        Refusal::UnknownKey => "unknown_key",
        Refusal::BadSignature => "bad_signature",
        Refusal::Stale => "stale",
        Refusal::Replayed => "replayed",
        Refusal::Overtaken => "overtaken",
    }
}

#[cfg(test)]
mod tests {
    use crate::ports::{Refusal, Refusals};
    use crate::telemetry::Metrics;

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
