//! Who did what: stamped with the node, paced where a stranger could flood, and given to the sink.

mod pace;

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::Metrics;
use crate::domain::{NodeId, Principal, ServerName, SessionId};
use crate::ports::{AuditEvent, AuditSink};
use pace::{Pace, Source};

/// Its events in the log; `telemetry.log_filter` does not keep them out.
pub(super) const TARGET: &str = "holdfast::audit";

/// A cloneable handle on a node's audit log.
#[derive(Debug, Clone)]
pub struct Audit(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    node: NodeId,
    sink: Arc<dyn AuditSink>,
    pace: Mutex<Pace>,
    metrics: Metrics,
}

impl Audit {
    /// Without a sink nothing is recorded.
    #[must_use]
    pub fn new(node: NodeId, sink: Option<Arc<dyn AuditSink>>, metrics: Metrics) -> Self {
        Self(sink.map(|sink| {
            metrics.watch_audit(sink.clone());
            Arc::new(Inner { node, sink, pace: Mutex::new(Pace::new(Instant::now())), metrics })
        }))
    }

    /// Waits for nothing. Of refusals, so many of one kind from one source are written in a while, and so
    /// many of all; of the others their number is, at the end of that while.
    pub fn record(&self, event: &AuditEvent) {
        let Some(inner) = &self.0 else { return };
        if event.deed.is_refusal() {
            let source = Source::of(event);
            let mut pace = inner.pace.lock().unwrap_or_else(PoisonError::into_inner);
            if !pace.lets_through(source) {
                inner.metrics.audit_suppressed();
                return;
            }
        }
        inner.sink.write(&inner.node, event);
    }

    /// To be called about once a second.
    pub fn turn(&self) {
        self.summarize(Instant::now());
    }

    /// Says how many refusals were left out, whether it is time for it or not.
    pub fn finish(&self) {
        self.summarize(Instant::now() + pace::WINDOW);
    }

    fn summarize(&self, now: Instant) {
        let Some(inner) = &self.0 else { return };
        let left_out = inner.pace.lock().unwrap_or_else(PoisonError::into_inner).turn(now);
        for (deed, count) in left_out {
            let event = AuditEvent { count: Some(count), ..AuditEvent::new(deed).reason("suppressed") };
            inner.sink.write(&inner.node, &event);
        }
    }
}

/// The process's log.
#[derive(Debug, Clone, Copy)]
pub struct LogAudit;

impl AuditSink for LogAudit {
    fn write(&self, node: &NodeId, event: &AuditEvent) {
        // As values, and not as they display themselves: names from outside are escaped in the text format.
        tracing::info!(
            target: TARGET,
            event = event.deed.name(),
            outcome = event.verdict.name(),
            reason = event.reason,
            principal = event.principal.as_ref().map(Principal::shown),
            address = event.address.map(tracing::field::display),
            node = node.as_str(),
            server = event.server.as_ref().map(ServerName::as_str),
            session = event.session.as_ref().map(SessionId::fingerprint),
            method = event.method.as_deref(),
            tool = event.tool.as_deref(),
            from_node = event.from_node.as_ref().map(NodeId::as_str),
            count = event.count,
            "audit"
        );
    }

    fn lost(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::ports::Deed;

    #[derive(Debug, Default)]
    struct Kept(Mutex<Vec<AuditEvent>>);

    impl AuditSink for Kept {
        fn write(&self, _: &NodeId, event: &AuditEvent) {
            self.0.lock().unwrap().push(event.clone());
        }

        fn lost(&self) -> u64 {
            7
        }
    }

    fn from(address: &str, deed: Deed) -> AuditEvent {
        AuditEvent { address: Some(address.parse::<IpAddr>().unwrap()), ..AuditEvent::new(deed) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_refusals_is_counted_and_hides_nobody_else() {
        let (kept, metrics) = (Arc::new(Kept::default()), Metrics::new());
        let audit = Audit::new(NodeId::parse("n").unwrap(), Some(kept.clone()), metrics.clone());
        let taken = || std::mem::take(&mut *kept.0.lock().unwrap());
        for _ in 0..10_000 {
            audit.record(&from("203.0.113.7", Deed::CredentialRefused));
            audit.record(&from("203.0.113.7", Deed::SessionOpened));
        }
        assert_eq!(taken().len(), 10_000 + pace::OF_A_SOURCE, "what was let in is never left out");
        audit.record(&from("203.0.113.8", Deed::CredentialRefused));
        audit.record(&from("203.0.113.7", Deed::SessionRefused));
        assert_eq!(taken().len(), 2);
        audit.turn();
        assert!(taken().is_empty(), "not yet");
        tokio::time::advance(pace::WINDOW).await;
        audit.turn();
        let suppressed = taken();
        let said: Vec<_> = suppressed.iter().map(|event| (event.deed, event.reason, event.count)).collect();
        let count = 10_000 - pace::OF_A_SOURCE as u64;
        assert_eq!(said, [(Deed::CredentialRefused, Some("suppressed"), Some(count))]);
        audit.record(&from("203.0.113.7", Deed::CredentialRefused));
        audit.finish();
        assert_eq!(taken().len(), 1, "nothing was left out since");
        let shown = metrics.render();
        assert!(shown.contains(&format!("holdfast_audit_suppressed_total {count}\n")), "{shown}");
        assert!(shown.contains("holdfast_audit_lost_total 7\n"), "{shown}");
    }
}
