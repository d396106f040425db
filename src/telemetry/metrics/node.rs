//! The node and its process.

use std::time::Duration;

use prometheus::process_collector::ProcessCollector;
use prometheus::{Gauge, IntCounter, IntGauge};

use super::super::catalogue::{Catalogue, Counters, Gauges, Values, raise};
use super::super::labels::{Labels as _, NodePhase, SpanEnd, TakeoverEnd};
use super::super::traces;
use super::Metrics;

#[derive(Debug)]
pub(super) struct Node {
    phase: Gauges<NodePhase>,
    ready: IntGauge,
    lease_age: Gauge,
    nodes: IntGauge,
    deaths: IntCounter,
    takeovers: Counters<TakeoverEnd>,
    spans: Counters<SpanEnd>,
}

impl Node {
    pub(super) fn new(catalogue: &mut Catalogue) -> Self {
        catalogue.section("Node");
        let version = vec![("version", Values::Open("of Holdfast"))];
        let build = catalogue.gauge_vec("holdfast_build_info", version, "Always 1.");
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let node = Self {
            phase: catalogue.gauges(
                "holdfast_phase",
                &["phase"],
                "1 for the phase that the node is in, 0 for the others.",
            ),
            ready: catalogue.gauge("holdfast_ready", "1 while `/readyz` says yes."),
            lease_age: catalogue.real_gauge(
                "holdfast_lease_age_seconds",
                "How long ago the node's lease was renewed; before the first time, how long it has waited for it. \
                 Others take a node for dead after `cluster.lease`.",
            ),
            nodes: catalogue.gauge("holdfast_nodes", "Nodes with a lease, as this one saw them last."),
            deaths: catalogue.counter("holdfast_node_deaths_total", "Other nodes that this one found dead."),
            takeovers: catalogue.counters(
                "holdfast_takeovers_total",
                &["outcome"],
                "Requests of dead nodes that this one took over: the server is asked for the rest of the answer, or \
                 the client is told that it is lost.",
            ),
            spans: catalogue.counters(
                "holdfast_spans_total",
                &["outcome"],
                "Spans that were given to the collector, if there is one. What did not fit in the queue before is \
                 in neither.",
            ),
        };
        catalogue.foreign(ProcessCollector::for_self());
        node
    }

    /// They are the process's, and counted where they are exported.
    pub(super) fn refresh(&self) {
        for end in SpanEnd::all() {
            raise(self.spans.of(end), traces::spans(end));
        }
    }
}

impl Metrics {
    pub fn phase(&self, now: NodePhase) {
        for phase in [
            NodePhase::Starting,
            NodePhase::Ready,
            NodePhase::Leaving,
            NodePhase::Draining,
            NodePhase::Stopped,
        ] {
            self.inner.node.phase.of(phase).set(i64::from(phase == now));
        }
    }

    /// What `/readyz` says.
    pub fn ready(&self, ready: bool) {
        self.inner.node.ready.set(i64::from(ready));
    }

    pub fn lease_age(&self, age: Duration) {
        self.inner.node.lease_age.set(age.as_secs_f64());
    }

    pub fn nodes(&self, alive: usize) {
        self.inner.node.nodes.set(i64::try_from(alive).unwrap_or(i64::MAX));
    }

    pub fn node_died(&self) {
        self.inner.node.deaths.inc();
    }

    pub fn took_over(&self, end: TakeoverEnd) {
        self.inner.node.takeovers.of(end).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_shown_and_one_phase() {
        let metrics = Metrics::new();
        metrics.phase(NodePhase::Leaving);
        let text = metrics.render();
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.parse::<f64>().ok())
        };
        assert_eq!(value(r#"holdfast_phase{phase="leaving"}"#), Some(1.0));
        assert_eq!(value(r#"holdfast_phase{phase="ready"}"#), Some(0.0));
        assert!(value("process_resident_memory_bytes") > Some(1e6));
        assert!(value("process_open_fds") > Some(2.0));
        assert!(value("process_start_time_seconds") > Some(1.6e9));
    }
}
