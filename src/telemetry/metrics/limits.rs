//! Limits and queues: how much there may be, how much there is, how often it was too much.

use prometheus::{GaugeVec, IntGauge};

use super::super::catalogue::{Catalogue, Counters, Gauges, Table, closed};
use super::super::labels::{Label as _, Queue};
use super::Metrics;
use crate::domain::Limit;

#[derive(Debug)]
pub(super) struct Limits {
    set: GaugeVec,
    used: Gauges<Limit>,
    hits: Counters<Limit>,
    principals: IntGauge,
    queues: Gauges<Queue>,
    stream_bytes: IntGauge,
}

impl Limits {
    pub(super) fn new(catalogue: &mut Catalogue) -> Self {
        catalogue.section("Limits and queues");
        let set = catalogue.real_gauge_vec(
            "holdfast_limit",
            closed::<Limit>(&["limit"]),
            "What a limit is set to: a number, bytes or seconds, as its key says. Absent where there is none.",
        );
        let used = catalogue.gauge_vec(
            "holdfast_limit_used",
            closed::<Limit>(&["limit"]),
            "How much of a limit is in use; of one that each session, stream or principal has, by whoever uses most \
             of it. A limit on a single thing (a body, a wait) or on a rate has hits only; so has one on principals \
             where it is not set.",
        );
        Self {
            set,
            used: Table::of_some(&used, &[]),
            hits: catalogue.counters(
                "holdfast_limit_hits_total",
                &["limit"],
                "How often a limit was reached.",
            ),
            principals: catalogue
                .gauge("holdfast_principals", "Principals whose use of a limit is remembered here."),
            queues: catalogue.gauges(
                "holdfast_queue_length",
                &["queue"],
                "What waits for its turn at this node.",
            ),
            stream_bytes: catalogue
                .gauge("holdfast_stream_queue_bytes", "Bytes that open streams hold for their readers."),
        }
    }
}

impl Metrics {
    /// What it is set to, in its key's unit.
    pub fn limit_is(&self, limit: Limit, set: f64) {
        self.inner.limits.set.with_label_values(&[limit.text()]).set(set);
    }

    /// How much of it is in use now.
    pub fn limit_used(&self, limit: Limit, used: usize) {
        self.inner.limits.used.of(limit).set(i64::try_from(used).unwrap_or(i64::MAX));
    }

    pub fn limit_hit(&self, limit: Limit) {
        self.inner.limits.hits.of(limit).inc();
    }

    pub fn principals(&self, known: usize) {
        self.inner.limits.principals.set(i64::try_from(known).unwrap_or(i64::MAX));
    }

    /// So many wait now.
    pub fn queued(&self, queue: Queue, waiting: usize) {
        self.inner.limits.queues.of(queue).set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    pub fn stream_bytes_queued(&self, bytes: usize) {
        self.inner.limits.stream_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
