//! What of the audit log was not written, as metrics.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{IntCounter, Registry};

use super::metrics::register;
use crate::ports::AuditSink;

/// The sink counts by itself: its count is taken over when it is asked for.
#[derive(Debug)]
pub(super) struct Audited {
    pub(super) suppressed: IntCounter,
    lost: IntCounter,
    sink: Mutex<Option<Arc<dyn AuditSink>>>,
}

impl Audited {
    pub(super) fn new(registry: &Registry) -> Self {
        let counter =
            |name: &str, help: &str| register(registry, IntCounter::new(name, help).expect("a valid metric"));
        Self {
            suppressed: counter(
                "holdfast_audit_suppressed_total",
                "Refusals that the audit log counts instead of naming each, because there were so many.",
            ),
            lost: counter(
                "holdfast_audit_lost_total",
                "Events of the audit log that could not be written, and are lost.",
            ),
            sink: Mutex::default(),
        }
    }

    pub(super) fn watch(&self, sink: Arc<dyn AuditSink>) {
        *self.sink.lock().unwrap_or_else(PoisonError::into_inner) = Some(sink);
    }

    pub(super) fn refresh(&self) {
        if let Some(sink) = &*self.sink.lock().unwrap_or_else(PoisonError::into_inner) {
            self.lost.inc_by(sink.lost().saturating_sub(self.lost.get()));
        }
    }
}
