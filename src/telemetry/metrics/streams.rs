//! Streams, and the events on them.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntGaugeVec};

use super::super::buckets::DELIVERY;
use super::super::catalogue::{Catalogue, Counters, SERVER, Table, behind, closed};
use super::super::labels::{Era, FenceOutcome, FenceStep, ResumeEnd, StreamEnd};
use super::Metrics;
use crate::domain::{StreamKind, Transport};

#[derive(Debug)]
pub(super) struct Streams {
    /// By server.
    pub(super) open: IntGaugeVec,
    ended: Counters<StreamEnd>,
    appended: IntCounter,
    delivered: IntCounter,
    replayed: IntCounter,
    duplicate: IntCounter,
    delivery: Histogram,
    resumes: Counters<ResumeEnd>,
    fences: Counters<(FenceStep, FenceOutcome)>,
    gaps: IntCounter,
    resyncs: IntCounter,
}

impl Streams {
    pub(super) fn new(catalogue: &mut Catalogue) -> Self {
        catalogue.section("Streams and events");
        let labels = behind::<(Transport, Era, StreamKind), 1>([SERVER], &["transport", "era", "kind"]);
        Self {
            open: catalogue.gauge_vec("holdfast_streams", labels, "Event streams open at this node."),
            ended: catalogue.counters("holdfast_streams_ended_total", &["reason"], "Event streams ended."),
            appended: catalogue.counter("holdfast_events_appended_total", "Events that this node wrote to the log."),
            delivered: catalogue.counter(
                "holdfast_events_delivered_total",
                "Events handed to a stream that was open as they came.",
            ),
            replayed: catalogue.counter(
                "holdfast_events_replayed_total",
                "Events read from the log for a client that came, or came back.",
            ),
            duplicate: catalogue.counter(
                "holdfast_events_duplicate_total",
                "Events dropped because their stream had them already.",
            ),
            delivery: catalogue.histogram(
                "holdfast_event_delivery_duration_seconds",
                "From an event's append, by the store's clock, to its socket, which another node may hold. Those that \
                 are replayed don't count. The clock is as exact as a beat's answer is fast, at best 1 ms.",
                DELIVERY,
            ),
            resumes: catalogue.counters("holdfast_resumes_total", &["outcome"], "Resumes with `Last-Event-ID`."),
            fences: fences(catalogue),
            gaps: catalogue.counter(
                "holdfast_stream_gaps_total",
                "Gaps that a stream met, and closed from the log.",
            ),
            resyncs: catalogue.counter(
                "holdfast_stream_resyncs_total",
                "Streams that read their log again because a message between nodes may have been lost.",
            ),
        }
    }
}

fn fences(catalogue: &mut Catalogue) -> Counters<(FenceStep, FenceOutcome)> {
    let fences = catalogue.counter_vec(
        "holdfast_fences_total",
        closed::<(FenceStep, FenceOutcome)>(&["step", "outcome"]),
        "Fences: given out, shown and found to be the newest, refused because there is a newer one or it is too \
         late for one.",
    );
    Table::of_some(&fences, &[])
        .shown(&catalogue.later, |(step, outcome): (FenceStep, FenceOutcome)| step.can(outcome))
}

impl Metrics {
    pub fn stream_ended(&self, end: StreamEnd) {
        self.inner.streams.ended.of(end).inc();
    }

    pub fn appended(&self) {
        self.inner.streams.appended.inc();
    }

    pub fn delivered(&self, events: usize) {
        self.inner.streams.delivered.inc_by(events as u64);
    }

    pub fn replayed(&self, events: usize) {
        self.inner.streams.replayed.inc_by(events as u64);
    }

    pub fn duplicate(&self) {
        self.inner.streams.duplicate.inc();
    }

    /// An event has reached its socket, so long after its append.
    pub fn reached_socket(&self, after: Duration) {
        self.inner.streams.delivery.observe(after.as_secs_f64());
    }

    pub fn resumed(&self, end: ResumeEnd) {
        self.inner.streams.resumes.of(end).inc();
    }

    pub(in crate::telemetry) fn fenced(&self, step: FenceStep, outcome: FenceOutcome) {
        self.inner.streams.fences.of((step, outcome)).inc();
    }

    pub fn gap(&self) {
        self.inner.streams.gaps.inc();
    }

    pub fn resynced(&self, streams: usize) {
        self.inner.streams.resyncs.inc_by(streams as u64);
    }
}
