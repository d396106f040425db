//! What the metrics are told, as verbs.

use std::sync::Arc;
use std::time::Duration;

use super::super::labels::{
    ExchangeEnd, Outcome, RelayEnd, RelaySide, ResumeEnd, SessionEnd, SharedRate, StreamEnd, TakeoverEnd,
    kind_label, transport_label,
};
use super::{Gauged, Metrics};
use crate::domain::{Limit, StreamKind, Transport};
use crate::ports::{AuditSink, Refusals};

impl Metrics {
    /// Shows what the bus refuses.
    pub fn watch_bus(&self, refusals: Refusals) {
        self.inner.believed.watch(refusals);
    }

    #[must_use]
    pub fn connection(&self) -> Gauged {
        Gauged::new(self.inner.connections.clone())
    }

    #[must_use]
    pub fn stream(&self, kind: StreamKind) -> Gauged {
        Gauged::new(self.inner.streams.with_label_values(&[kind_label(kind)]))
    }

    #[must_use]
    pub fn exchange(&self) -> Gauged {
        Gauged::new(self.inner.exchanges.clone())
    }

    /// Sessions opened here that have not ended here.
    #[must_use]
    pub fn sessions(&self) -> i64 {
        self.inner.sessions.get()
    }

    /// Requests running now.
    #[must_use]
    pub fn exchanges(&self) -> i64 {
        self.inner.exchanges.get()
    }

    pub fn session_opened(&self, transport: Transport) {
        self.inner.sessions.inc();
        self.inner.sessions_opened.with_label_values(&[transport_label(transport)]).inc();
    }

    pub fn session_ended(&self, end: SessionEnd) {
        self.inner.sessions.dec();
        self.inner.sessions_ended.with_label_values(&[end.label()]).inc();
    }

    pub fn stream_ended(&self, end: StreamEnd) {
        self.inner.streams_ended.with_label_values(&[end.label()]).inc();
    }

    pub fn appended(&self) {
        self.inner.events_appended.inc();
    }

    pub fn delivered(&self, events: usize) {
        self.inner.events_delivered.inc_by(events as u64);
    }

    pub fn replayed(&self, events: usize) {
        self.inner.events_replayed.inc_by(events as u64);
    }

    pub fn duplicate(&self) {
        self.inner.events_duplicate.inc();
    }

    pub fn nodes(&self, alive: usize) {
        self.inner.nodes.set(i64::try_from(alive).unwrap_or(i64::MAX));
    }

    pub fn node_died(&self) {
        self.inner.node_deaths.inc();
    }

    pub fn resynced(&self, streams: usize) {
        self.inner.resyncs.inc_by(streams as u64);
    }

    pub fn gap(&self) {
        self.inner.gaps.inc();
    }

    pub fn resumed(&self, end: ResumeEnd) {
        self.inner.resumes.with_label_values(&[end.label()]).inc();
    }

    pub fn took_over(&self, end: TakeoverEnd) {
        self.inner.takeovers.with_label_values(&[end.label()]).inc();
    }

    #[must_use]
    pub fn relay(&self, side: RelaySide) -> Gauged {
        Gauged::new(self.inner.relays.with_label_values(&[side.label()]))
    }

    pub fn relayed(&self, end: RelayEnd) {
        self.inner.relays_ended.with_label_values(&[end.label()]).inc();
    }

    pub fn exchanged(&self, end: ExchangeEnd, took: Duration) {
        self.inner.exchange_seconds.with_label_values(&[end.label()]).observe(took.as_secs_f64());
    }

    pub fn answered_in_json(&self) {
        self.inner.json_answers.inc();
    }

    pub fn upstream_answered(&self, after: Duration) {
        self.inner.upstream_seconds.observe(after.as_secs_f64());
    }

    pub fn upstream_session_opened(&self, outcome: Outcome) {
        self.inner.upstream_sessions.with_label_values(&[outcome.label()]).inc();
    }

    pub fn upstream_session_lost(&self) {
        self.inner.upstream_sessions_lost.inc();
    }

    pub fn answer_dropped(&self) {
        self.inner.answers_dropped.inc();
    }

    pub fn limit_hit(&self, limit: Limit) {
        self.inner.limit_hits.with_label_values(&[limit.key()]).inc();
    }

    /// The audit log's losses are this sink's.
    pub fn watch_audit(&self, sink: Arc<dyn AuditSink>) {
        self.inner.audited.watch(sink);
    }

    pub fn audit_suppressed(&self) {
        self.inner.audited.suppressed.inc();
    }

    pub fn handshake_failed(&self) {
        self.inner.tls_handshakes_failed.inc();
    }

    pub fn asked_for_rate(&self, outcome: SharedRate) {
        self.inner.shared_rates.with_label_values(&[outcome.label()]).inc();
    }

    pub fn principals(&self, known: usize) {
        self.inner.principals.set(i64::try_from(known).unwrap_or(i64::MAX));
    }

    pub fn refused(&self, status: u16) {
        self.inner.requests_refused.with_label_values(&[&status.to_string()]).inc();
    }
}
