//! Ports that are measured: each is as the one inside it, and what it is asked for is counted and timed.

mod bus;
mod store;

use std::sync::Arc;

use super::metrics::Metrics;

/// A port, measured.
#[derive(Debug)]
pub struct Metered<P: ?Sized> {
    inner: Arc<P>,
    metrics: Metrics,
}

impl<P: ?Sized> Metered<P> {
    #[must_use]
    pub fn new(inner: Arc<P>, metrics: &Metrics) -> Self {
        Self { inner, metrics: metrics.clone() }
    }
}
