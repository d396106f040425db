//! The metrics, told as verbs. Labels are enums, never ids or paths; a gauge is a guard that counts down
//! when dropped.

mod access;
mod verbs;

use std::sync::Arc;

use prometheus::{
    Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

use super::audited::Audited;
use super::believed::Believed;
use super::labels::{RelayEnd, RelaySide, SharedRate, kind_label, transport_label};
use crate::domain::{Limit, StreamKind, Transport};
use access::Access;

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
    connections: IntGauge,
    sessions: IntGauge,
    sessions_opened: IntCounterVec,
    sessions_ended: IntCounterVec,
    streams: IntGaugeVec,
    streams_ended: IntCounterVec,
    events_appended: IntCounter,
    events_delivered: IntCounter,
    events_replayed: IntCounter,
    events_duplicate: IntCounter,
    gaps: IntCounter,
    resyncs: IntCounter,
    nodes: IntGauge,
    node_deaths: IntCounter,
    resumes: IntCounterVec,
    takeovers: IntCounterVec,
    relays: IntGaugeVec,
    relays_ended: IntCounterVec,
    exchanges: IntGauge,
    exchange_seconds: HistogramVec,
    json_answers: IntCounter,
    upstream_seconds: Histogram,
    upstream_sessions: IntCounterVec,
    upstream_sessions_lost: IntCounter,
    answers_dropped: IntCounter,
    limit_hits: IntCounterVec,
    tls_handshakes_failed: IntCounter,
    requests_refused: IntCounterVec,
    audited: Audited,
    believed: Believed,
    access: Access,
    principals: IntGauge,
    shared_rates: IntCounterVec,
}

impl Metrics {
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "only panics if two metrics here had one name")]
    pub fn new() -> Self {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| {
            register(&registry, IntCounter::with_opts(Opts::new(name, help)).expect("a valid metric"))
        };
        let counters = |name: &str, help: &str, label: &str| {
            register(&registry, IntCounterVec::new(Opts::new(name, help), &[label]).expect("a valid metric"))
        };
        let gauge = |name: &str, help: &str| {
            register(&registry, IntGauge::with_opts(Opts::new(name, help)).expect("a valid metric"))
        };
        let buckets =
            || vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
        let inner = Inner {
            connections: gauge("holdfast_connections", "Client connections open."),
            sessions: gauge("holdfast_sessions", "Sessions opened here that have not ended here."),
            sessions_opened: counters("holdfast_sessions_opened_total", "Sessions opened.", "transport"),
            sessions_ended: counters("holdfast_sessions_ended_total", "Sessions ended, by reason.", "reason"),
            streams: register(
                &registry,
                IntGaugeVec::new(Opts::new("holdfast_streams", "Event streams open."), &["kind"])
                    .expect("a valid metric"),
            ),
            streams_ended: counters(
                "holdfast_streams_ended_total",
                "Event streams ended, by reason.",
                "reason",
            ),
            events_appended: counter("holdfast_events_appended_total", "Events written to the replay log."),
            events_delivered: counter("holdfast_events_delivered_total", "Events handed to an open stream."),
            events_replayed: counter(
                "holdfast_events_replayed_total",
                "Events replayed from the log to a client that came back.",
            ),
            events_duplicate: counter(
                "holdfast_events_duplicate_total",
                "Events dropped because the stream had them already.",
            ),
            nodes: gauge("holdfast_nodes", "Nodes with a lease, as this one saw them last."),
            node_deaths: counter("holdfast_node_deaths_total", "Other nodes that this one found dead."),
            resyncs: counter(
                "holdfast_stream_resyncs_total",
                "Streams that read their log again because a message between nodes may have been lost.",
            ),
            gaps: counter("holdfast_stream_gaps_total", "Gaps seen by a stream, and closed from the log."),
            takeovers: counters(
                "holdfast_takeovers_total",
                "Requests of dead nodes that this one took over, by what could be done.",
                "outcome",
            ),
            relays: register(
                &registry,
                IntGaugeVec::new(
                    Opts::new("holdfast_relays", "Exchanges with servers that one node has, open now."),
                    &["side"],
                )
                .expect("a valid metric"),
            ),
            relays_ended: counters(
                "holdfast_relays_ended_total",
                "Exchanges with another node's server, by how they ended.",
                "outcome",
            ),
            resumes: counters("holdfast_resumes_total", "Resumes with Last-Event-ID, by outcome.", "outcome"),
            exchanges: gauge("holdfast_exchanges", "Requests running."),
            exchange_seconds: register(
                &registry,
                HistogramVec::new(
                    HistogramOpts::new(
                        "holdfast_exchange_duration_seconds",
                        "From a request to its result, by outcome.",
                    )
                    .buckets(buckets()),
                    &["outcome"],
                )
                .expect("a valid metric"),
            ),
            json_answers: counter(
                "holdfast_json_answers_total",
                "Requests answered in plain JSON, without a stream.",
            ),
            upstream_seconds: register(
                &registry,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "holdfast_upstream_first_message_seconds",
                        "From sending a request to the upstream's first message.",
                    )
                    .buckets(buckets()),
                )
                .expect("a valid metric"),
            ),
            upstream_sessions: counters(
                "holdfast_upstream_sessions_opened_total",
                "Sessions opened at upstreams.",
                "outcome",
            ),
            upstream_sessions_lost: counter(
                "holdfast_upstream_sessions_lost_total",
                "Sessions that an upstream forgot; each was opened anew.",
            ),
            answers_dropped: counter(
                "holdfast_answers_dropped_total",
                "Answers and notifications of clients that nobody awaited any more.",
            ),
            limit_hits: counters("holdfast_limit_hits_total", "How often a bound was reached.", "limit"),
            tls_handshakes_failed: counter(
                "holdfast_tls_handshakes_failed_total",
                "Connections of clients that ended before their TLS handshake did.",
            ),
            shared_rates: counters(
                "holdfast_shared_rates_total",
                "Requests counted for all nodes together, by answer.",
                "outcome",
            ),
            principals: gauge("holdfast_principals", "Principals whose use of a limit is remembered here."),
            requests_refused: counters(
                "holdfast_requests_refused_total",
                "HTTP requests refused, by status.",
                "status",
            ),
            audited: Audited::new(&registry),
            believed: Believed::new(&registry),
            access: Access::new(&registry),
            registry: registry.clone(),
        };
        let build = register(
            &registry,
            IntGaugeVec::new(
                Opts::new("holdfast_build_info", "Always 1; the version is a label."),
                &["version"],
            )
            .expect("a valid metric"),
        );
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let process = prometheus::process_collector::ProcessCollector::for_self();
        registry.register(Box::new(process)).expect("registered once");
        let metrics = Self { inner: Arc::new(inner) };
        metrics.start_at_zero();
        metrics
    }

    /// A counter that was never touched is absent, and an alert on it blind: all labels start at 0.
    fn start_at_zero(&self) {
        for limit in Limit::ALL {
            self.inner.limit_hits.with_label_values(&[limit.key()]);
        }
        for kind in [StreamKind::Get, StreamKind::Post, StreamKind::HttpSse] {
            self.inner.streams.with_label_values(&[kind_label(kind)]);
        }
        for side in [RelaySide::Asked, RelaySide::Served] {
            self.inner.relays.with_label_values(&[side.label()]);
        }
        for end in [RelayEnd::Finished, RelayEnd::Dropped, RelayEnd::NodeGone, RelayEnd::Failed] {
            self.inner.relays_ended.with_label_values(&[end.label()]);
        }
        for outcome in [SharedRate::Taken, SharedRate::Refused, SharedRate::Alone] {
            self.inner.shared_rates.with_label_values(&[outcome.label()]);
        }
        for transport in [Transport::Streamable, Transport::HttpSse] {
            self.inner.sessions_opened.with_label_values(&[transport_label(transport)]);
        }
    }

    /// The text format of Prometheus.
    #[must_use]
    pub fn render(&self) -> String {
        self.inner.audited.refresh();
        self.inner.believed.refresh();
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

pub(super) fn register<C: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> C {
    registry.register(Box::new(collector.clone())).expect("each metric has a name of its own");
    collector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_counts_down_when_dropped() {
        let metrics = Metrics::new();
        let guard = metrics.stream(StreamKind::Get);
        assert!(metrics.render().contains("holdfast_streams{kind=\"get\"} 1"));
        drop(guard);
        assert!(metrics.render().contains("holdfast_streams{kind=\"get\"} 0"));
    }
}
