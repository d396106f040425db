//! What nodes share: state and bus, as the configuration says.

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
    /// The same, counted, timed and traced.
    #[must_use]
    pub(super) fn metered(self, config: &Config, metrics: &Metrics) -> Self {
        let store = if matches!(config.state, config::State::Redis(_)) { "redis" } else { "memory" };
        let bus = if matches!(config.bus, config::Bus::Nats(_)) { "nats" } else { "memory" };
        Self {
            store: Arc::new(Metered::new(self.store, metrics, store)),
            bus: Arc::new(Metered::new(self.bus, metrics, bus)),
            rates: Arc::new(Metered::new(self.rates, metrics, store)),
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
        let (at_state, at_bus) = match (&config.state, &config.bus) {
            (config::State::Redis(state), config::Bus::Nats(bus)) => (address(state), address(bus)),
            (config::State::Redis(state), _) => (address(state), String::new()),
            _ => Default::default(),
        };
        let (store, rates) = patiently(&at_state, || state(config)).await?;
        let bus = patiently(&at_bus, || bus(config)).await?;
        Ok(Self { store, bus, rates })
    }
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

/// Where a backend's URL leads to, without the rest of it.
fn address(url: &config::Secret) -> String {
    let url = Url::parse(url.reveal()).ok();
    let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
    let port = url.as_ref().and_then(Url::port).map(|port| format!(":{port}")).unwrap_or_default();
    format!("{host}{port}")
}

async fn patiently<T>(
    at: &str,
    mut attempt: impl AsyncFnMut() -> Result<T, Unusable>,
) -> Result<T, Unusable> {
    let mut wait = FIRST_WAIT;
    loop {
        match attempt().await {
            Err(error) if error.may_pass() => {
                tracing::warn!(at, %error, "waiting for a backend; not ready meanwhile");
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
    fn where_a_backend_is_said_without_its_password() {
        for (url, expected) in [
            ("redis://user:hunter2@redis:6379/0?x=hunter2", "redis:6379"),
            ("redis://127.0.0.1", "127.0.0.1"),
            ("nats://hunter2@[::1]:4222", "[::1]:4222"),
        ] {
            assert_eq!(address(&config::Secret::new(url)), expected);
        }
    }
}
