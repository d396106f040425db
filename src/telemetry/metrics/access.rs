//! Who was let in and who was not, and what it took to find out.

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

use super::super::labels::{AuthOutcome, Credential, Introspected, Outcome};
use super::{Metrics, register};

#[derive(Debug)]
pub(super) struct Access {
    credentials: IntCounterVec,
    key_reads: IntCounterVec,
    introspections: HistogramVec,
}

impl Access {
    pub(super) fn new(registry: &Registry) -> Self {
        let credentials = Opts::new(
            "holdfast_auth_credentials_total",
            "Credentials of requests, by kind and by what was found of them.",
        );
        let key_reads =
            Opts::new("holdfast_auth_key_reads_total", "Looks at the keys of issuers, by outcome.");
        let introspections = HistogramOpts::new(
            "holdfast_auth_introspection_duration_seconds",
            "From asking an issuer about a token to its answer, by outcome.",
        );
        let buckets = vec![0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
        let credentials = IntCounterVec::new(credentials, &["credential", "outcome"]);
        let key_reads = IntCounterVec::new(key_reads, &["outcome"]);
        let introspections = HistogramVec::new(introspections.buckets(buckets), &["outcome"]);
        let access = Self {
            credentials: register(registry, credentials.expect("a valid metric")),
            key_reads: register(registry, key_reads.expect("a valid metric")),
            introspections: register(registry, introspections.expect("a valid metric")),
        };
        for credential in Credential::ALL {
            for verdict in AuthOutcome::ALL.into_iter().filter(|verdict| credential.can_be(*verdict)) {
                access.credentials.with_label_values(&[credential.label(), verdict.label()]);
            }
        }
        for outcome in [Outcome::Ok, Outcome::Error] {
            access.key_reads.with_label_values(&[outcome.label()]);
        }
        for outcome in Introspected::ALL {
            access.introspections.with_label_values(&[outcome.label()]);
        }
        access
    }
}

impl Metrics {
    pub fn authenticated(&self, credential: Credential, verdict: AuthOutcome) {
        self.inner.access.credentials.with_label_values(&[credential.label(), verdict.label()]).inc();
    }

    pub fn keys_read(&self, outcome: Outcome) {
        self.inner.access.key_reads.with_label_values(&[outcome.label()]).inc();
    }

    pub fn introspected(&self, outcome: Introspected, after: Duration) {
        self.inner.access.introspections.with_label_values(&[outcome.label()]).observe(after.as_secs_f64());
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
}
