//! Ports that are measured: each is as the one inside it, and what it is asked for is counted, timed and traced.

mod bus;
mod store;

use std::sync::Arc;

use super::metrics::Metrics;

/// A port, measured.
#[derive(Debug)]
pub struct Metered<P: ?Sized> {
    inner: Arc<P>,
    metrics: Metrics,
    /// What stands behind it, for spans: `redis`, `nats`, `memory`.
    system: &'static str,
}

impl<P: ?Sized> Metered<P> {
    #[must_use]
    pub fn new(inner: Arc<P>, metrics: &Metrics, system: &'static str) -> Self {
        Self { inner, metrics: metrics.clone(), system }
    }
}
