//! Which eras of MCP an upstream speaks: set in the configuration, or found out and remembered for
//! a while.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// What is known of an upstream's eras.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eras {
    pub legacy: bool,
    /// The modern revisions it supports; empty if none.
    pub modern: Vec<String>,
}

/// What the configuration says of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EraPolicy {
    /// `server/discover`, then `initialize`.
    #[default]
    FindOut,
    Legacy,
    Modern,
    Both,
}

/// Remembers the answer; one prober at a time.
#[derive(Debug)]
pub(super) struct EraCache {
    known: Mutex<Option<(Eras, Instant)>>,
    ttl: Duration,
    pub(super) probing: tokio::sync::Mutex<()>,
}

impl EraCache {
    pub(super) fn new(ttl: Duration) -> Self {
        Self { known: Mutex::new(None), ttl, probing: tokio::sync::Mutex::new(()) }
    }

    pub(super) fn get(&self) -> Option<Eras> {
        let known = self.known.lock().expect("no panic while holding it");
        known.as_ref().filter(|(_, since)| since.elapsed() < self.ttl).map(|(eras, _)| eras.clone())
    }

    pub(super) fn set(&self, eras: Eras) {
        *self.known.lock().expect("no panic while holding it") = Some((eras, Instant::now()));
    }
}
