//! Connections; who was let in and who was not, and what it took to find out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{IntCounter, IntCounterVec, IntGauge};

use super::super::buckets::ISSUER;
use super::super::catalogue::{Catalogue, Counters, Histograms, Table, Values, closed, raise};
use super::super::labels::{AuthOutcome, Credential, Introspected, Outcome};
use super::{Gauged, Metrics};
use crate::ports::AuditSink;

/// The statuses that requests are refused with.
const STATUSES: [&str; 19] = [
    "400", "401", "403", "404", "405", "406", "408", "409", "413", "415", "421", "422", "429", "431", "500",
    "502", "503", "504", "other",
];

#[derive(Debug)]
pub(super) struct Access {
    connections: IntGauge,
    handshakes_failed: IntCounter,
    refused: IntCounterVec,
    credentials: Counters<(Credential, AuthOutcome)>,
    key_reads: Counters<Outcome>,
    introspections: Histograms<Introspected>,
    audit_suppressed: IntCounter,
    audit_lost: IntCounter,
    /// It counts what it lost by itself.
    sink: Mutex<Option<Arc<dyn AuditSink>>>,
}

impl Access {
    pub(super) fn new(catalogue: &mut Catalogue) -> Self {
        catalogue.section("Connections and requests");
        let connections =
            catalogue.gauge("holdfast_connections", "Connections open, those of operators among them.");
        let handshakes_failed = catalogue.counter(
            "holdfast_tls_handshakes_failed_total",
            "Connections of clients that ended before their TLS handshake did.",
        );
        let refused = catalogue.counter_vec(
            "holdfast_requests_refused_total",
            vec![("status", Values::Closed(STATUSES.to_vec()))],
            "HTTP requests refused, by status.",
        );
        let all = refused.clone();
        catalogue.later.push(move || STATUSES.iter().for_each(|status| _ = all.with_label_values(&[status])));
        let credentials = catalogue.counter_vec(
            "holdfast_auth_credentials_total",
            closed::<(Credential, AuthOutcome)>(&["credential", "outcome"]),
            "Credentials of requests, by kind and by what was found of them. What can't come together is not shown.",
        );
        Self {
            connections,
            handshakes_failed,
            refused,
            credentials: Table::of_some(&credentials, &[])
                .shown(&catalogue.later, |(credential, verdict): (Credential, AuthOutcome)| {
                    credential.can_be(verdict)
                }),
            key_reads: catalogue.counters(
                "holdfast_auth_key_reads_total",
                &["outcome"],
                "Looks at the keys of issuers.",
            ),
            introspections: catalogue
                .histograms(
                    "holdfast_auth_introspection_duration_seconds",
                    &["outcome"],
                    "From asking an issuer about a token to its answer.",
                    ISSUER,
                )
                .shown(&catalogue.later, |_| true),
            audit_suppressed: catalogue.counter(
                "holdfast_audit_suppressed_total",
                "Refusals that the audit log counts instead of naming each, because there were so many.",
            ),
            audit_lost: catalogue.counter(
                "holdfast_audit_lost_total",
                "Events of the audit log that could not be written, and are lost.",
            ),
            sink: Mutex::default(),
        }
    }

    pub(super) fn refresh(&self) {
        if let Some(sink) = &*self.sink.lock().unwrap_or_else(PoisonError::into_inner) {
            raise(&self.audit_lost, sink.lost());
        }
    }
}

impl Metrics {
    #[must_use]
    pub fn connection(&self) -> Gauged {
        Gauged::new(self.inner.access.connections.clone())
    }

    /// Connections open now.
    #[must_use]
    pub fn connections(&self) -> usize {
        usize::try_from(self.inner.access.connections.get()).unwrap_or_default()
    }

    pub fn handshake_failed(&self) {
        self.inner.access.handshakes_failed.inc();
    }

    pub fn refused(&self, status: u16) {
        let status = status.to_string();
        let known = STATUSES.contains(&&*status);
        self.inner.access.refused.with_label_values(&[if known { &*status } else { "other" }]).inc();
    }

    pub fn authenticated(&self, credential: Credential, verdict: AuthOutcome) {
        self.inner.access.credentials.of((credential, verdict)).inc();
    }

    pub fn keys_read(&self, outcome: Outcome) {
        self.inner.access.key_reads.of(outcome).inc();
    }

    pub fn introspected(&self, outcome: Introspected, after: Duration) {
        self.inner.access.introspections.of(outcome).observe(after.as_secs_f64());
    }

    /// The audit log's losses are this sink's.
    pub fn watch_audit(&self, sink: Arc<dyn AuditSink>) {
        *self.inner.access.sink.lock().unwrap_or_else(PoisonError::into_inner) = Some(sink);
    }

    pub fn audit_suppressed(&self) {
        self.inner.access.audit_suppressed.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_come_starts_at_zero_and_what_can_not_is_not_there() {
        let text = Metrics::new().render();
        let shows = |labels: &str| text.contains(&format!("holdfast_auth_credentials_total{{{labels}}} 0"));
        assert!(shows(r#"credential="jwt",outcome="expired""#));
        assert!(shows(r#"credential="none",outcome="missing""#));
        assert!(!shows(r#"credential="none",outcome="accepted""#));
        assert!(!shows(r#"credential="static",outcome="unavailable""#));
    }

    #[test]
    fn a_status_that_nobody_knows_has_no_label_of_its_own() {
        let metrics = Metrics::new();
        (600..900).for_each(|status| metrics.refused(status));
        metrics.refused(503);
        let text = metrics.render();
        assert!(text.contains("holdfast_requests_refused_total{status=\"other\"} 300\n"));
        assert!(text.contains("holdfast_requests_refused_total{status=\"503\"} 1\n"));
    }
}
