//! What nodes share: state and bus, as the configuration says.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::settings;
use crate::adapters::memory::{MemoryBus, MemoryRates, MemorySessionStore};
use crate::adapters::nats::{self, NatsBus};
use crate::adapters::redis::{self, RedisSessionStore};
use crate::config::{self, Config};
use crate::ports::{Bus, RateLimits, SessionStore};
use crate::telemetry::{Metered, Metrics};

/// Messages that may wait for a node of this process.
const INBOX_MAX: usize = 4096;

/// Between two attempts to reach a backend, before jitter; it doubles up to the other.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LAST_WAIT: Duration = Duration::from_secs(5);

/// Shared state and bus of one or several nodes.
#[derive(Debug, Clone)]
pub struct Shared {
    pub store: Arc<dyn SessionStore>,
    pub bus: Arc<dyn Bus>,
    pub rates: Arc<dyn RateLimits>,
}

/// A backend that can't be used as configured: waiting would not help.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error(transparent)]
    State(#[from] redis::ConnectError),
    #[error(transparent)]
    Bus(#[from] nats::ConnectError),
    #[error("{key}: {path} can't be read")]
    File { key: &'static str, path: std::path::PathBuf, source: std::io::Error },
}

impl Unusable {
    const fn may_pass(&self) -> bool {
        match self {
            Self::State(error) => error.may_pass(),
            Self::Bus(error) => error.may_pass(),
            Self::File { .. } => false,
        }
    }
}

impl Shared {
    /// The same, counted and timed.
    #[must_use]
    pub(super) fn metered(self, metrics: &Metrics) -> Self {
        Self {
            store: Arc::new(Metered::new(self.store, metrics)),
            bus: Arc::new(Metered::new(self.bus, metrics)),
            rates: Arc::new(Metered::new(self.rates, metrics)),
        }
    }

    /// In this process.
    #[must_use]
    pub fn memory(config: &Config) -> Self {
        Self {
            store: Arc::new(MemorySessionStore::new(settings::bounds(config))),
            bus: Arc::new(MemoryBus::new(INBOX_MAX)),
            rates: Arc::new(MemoryRates::default()),
        }
    }

    /// As configured. Waits for backends that are away, with back-off, and says so in the log.
    ///
    /// # Errors
    /// [`Unusable`].
    pub async fn connect(config: &Config) -> Result<Self, Unusable> {
        if let (config::State::Redis(_), config::Bus::Memory) = (&config.state, &config.bus) {
            tracing::warn!(
                "state is shared and bus is not: this must be the only node, or others' streams wait for ever"
            );
        }
        warn_of_unsigned(config);
        let (store, rates) = patiently(|| state(config)).await?;
        let bus = patiently(|| bus(config)).await?;
        Ok(Self { store, bus, rates })
    }
}

/// Says where what is told between nodes proves nothing.
fn warn_of_unsigned(config: &Config) {
    let config::Bus::Nats(url) = &config.bus else { return };
    if config.cluster.accept_unsigned {
        tracing::warn!("messages between nodes are taken unsigned as well (cluster.accept_unsigned)");
    } else if config.cluster.keys.is_empty() && !is_loopback(url.reveal()) {
        tracing::warn!(
            "messages between nodes are not signed (cluster.keys): whoever reaches the NATS can speak for a node"
        );
    }
}

fn is_loopback(url: &str) -> bool {
    let url = Url::parse(url).ok();
    let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.map_or(host == "localhost", |address| address.is_loopback())
}

async fn state(config: &Config) -> Result<(Arc<dyn SessionStore>, Arc<dyn RateLimits>), Unusable> {
    let bounds = settings::bounds(config);
    let Some(redis) = settings::redis(config) else {
        return Ok((Arc::new(MemorySessionStore::new(bounds)), Arc::new(MemoryRates::default())));
    };
    let redis = Arc::new(RedisSessionStore::connect(&redis, bounds).await?);
    Ok((redis.clone(), redis))
}

async fn bus(config: &Config) -> Result<Arc<dyn Bus>, Unusable> {
    Ok(match settings::nats(config)? {
        Some(nats) => Arc::new(NatsBus::connect(&nats).await?),
        None => Arc::new(MemoryBus::new(INBOX_MAX)),
    })
}

async fn patiently<T>(mut attempt: impl AsyncFnMut() -> Result<T, Unusable>) -> Result<T, Unusable> {
    let mut wait = FIRST_WAIT;
    loop {
        match attempt().await {
            Err(error) if error.may_pass() => {
                tracing::warn!(%error, "waiting for a backend; not ready meanwhile");
                tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                wait = (wait * 2).min(LAST_WAIT);
            }
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_addresses_are_this_machines_own() {
        for own in ["nats://127.0.0.1:4222", "nats://u:p@localhost", "tls://[::1]:4222", "nats://127.9.9.9"] {
            assert!(is_loopback(own), "{own}");
        }
        for other in
            ["nats://nats:4222", "nats://10.0.0.1", "tls://[2001:db8::1]", "nats://localhost.example"]
        {
            assert!(!is_loopback(other), "{other}");
        }
    }
}
