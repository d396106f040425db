//! Sessions: how many, who claims them, who asks for them, how long they last.

use std::time::Duration;

use prometheus::{Histogram, IntGauge};

use super::super::buckets::SESSION;
use super::super::catalogue::{Catalogue, Counters};
use super::super::labels::{Claim, Lookup, SessionEnd};
use super::Metrics;
use crate::domain::Transport;

#[derive(Debug)]
pub(super) struct Sessions {
    now: IntGauge,
    opened: Counters<Transport>,
    ended: Counters<SessionEnd>,
    claims: Counters<Claim>,
    lookups: Counters<Lookup>,
    lasted: Histogram,
}

impl Sessions {
    pub(super) fn new(catalogue: &mut Catalogue) -> Self {
        catalogue.section("Sessions");
        Self {
            now: catalogue.gauge(
                "holdfast_sessions",
                "Sessions there are, of all nodes that share a state: the same at each of them, but for what was opened and ended within the last second or two. Take the highest, not the sum.",
            ),
            opened: catalogue.counters("holdfast_sessions_opened_total", &["transport"], "Sessions opened here."),
            ended: catalogue.counters(
                "holdfast_sessions_ended_total",
                &["reason"],
                "Sessions ended here, whichever node opened them.",
            ),
            claims: catalogue.counters(
                "holdfast_claims_total",
                &["outcome"],
                "Claims of new sessions for their owners.",
            ),
            lookups: catalogue.counters(
                "holdfast_session_lookups_total",
                &["outcome"],
                "Sessions that requests named. Clients can't tell `absent` from `foreign`, `unreadable` and `transport`: all are 404; the last two come on top of `cached` or `loaded`.",
            ),
            lasted: catalogue.histogram(
                "mcp_server_session_duration_seconds",
                "How long clients' sessions lasted, by the store's clock: OpenTelemetry's `mcp.server.session.duration`.",
                SESSION,
            ),
        }
    }
}

impl Metrics {
    /// As many as there are.
    pub fn sessions(&self, now: usize) {
        self.inner.sessions.now.set(i64::try_from(now).unwrap_or(i64::MAX));
    }

    pub fn session_opened(&self, transport: Transport) {
        self.inner.sessions.opened.of(transport).inc();
    }

    /// `lasted` if it is known when it was opened.
    pub fn session_ended(&self, end: SessionEnd, lasted: Option<Duration>) {
        self.inner.sessions.ended.of(end).inc();
        if let Some(lasted) = lasted {
            self.inner.sessions.lasted.observe(lasted.as_secs_f64());
        }
    }

    pub fn looked_up(&self, lookup: Lookup) {
        self.inner.sessions.lookups.of(lookup).inc();
    }

    pub(in crate::telemetry) fn claimed(&self, claim: Claim) {
        self.inner.sessions.claims.of(claim).inc();
    }
}
