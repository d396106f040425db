//! Tokens of clients, and what they were exchanged for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use http::HeaderValue;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::Kept;
use super::endpoint::Endpoint;

/// Clients' tokens for which one is kept; of more, those that were used last.
const KEPT_MAX: usize = 10_000;

pub(super) struct Exchange {
    endpoint: Endpoint,
    kept: Mutex<HashMap<Digest, (Arc<Kept>, Instant)>>,
}

/// SHA-256 of a client's token: that itself is not kept.
type Digest = [u8; 32];

impl Exchange {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, kept: Mutex::default() }
    }

    pub(super) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// What is kept for a client's token.
    pub(super) fn kept(&self, token: &str) -> Arc<Kept> {
        let key: Digest = Sha256::digest(token).into();
        let mut all = self.kept.lock().expect("no panic while holding it");
        if !all.contains_key(&key) && all.len() >= KEPT_MAX {
            // A quarter at a time, so that it need not be looked for with each new one.
            let mut used: Vec<_> = all.values().map(|(_, at)| *at).collect();
            let (_, limit, _) = used.select_nth_unstable(KEPT_MAX / 4);
            let limit = *limit;
            all.retain(|_, (_, at)| *at > limit);
        }
        let (kept, used) = all.entry(key).or_insert_with(|| (Arc::default(), Instant::now()));
        *used = Instant::now();
        kept.clone()
    }
}

/// The token in a client's `Authorization`.
pub(super) fn bearer(clients: Option<&HeaderValue>) -> Option<&str> {
    let (scheme, token) = clients?.to_str().ok()?.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Uri;

    use super::super::endpoint::TokenConfig;
    use super::*;
    use crate::upstream::{HttpClient, HttpConfig};

    #[tokio::test(start_paused = true)]
    async fn of_too_many_those_that_were_used_last_are_kept() {
        let config = TokenConfig {
            endpoint: Uri::from_static("http://localhost"),
            client_id: String::new(),
            client_secret: String::new(),
            scopes: Vec::new(),
            resource: String::new(),
            timeout: Duration::from_secs(1),
        };
        let http = HttpConfig {
            connect_timeout: Duration::from_secs(1),
            idle_connections_max: 1,
            idle_connection_timeout: Duration::from_secs(1),
        };
        let exchange = Exchange::new(Endpoint::new(config, HttpClient::new(&http).unwrap()));
        let first = exchange.kept("0");
        for number in 1..KEPT_MAX {
            tokio::time::advance(Duration::from_millis(1)).await;
            exchange.kept(&number.to_string());
        }
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(Arc::ptr_eq(&first, &exchange.kept("0")), "all have room");
        let second = exchange.kept("1");
        tokio::time::advance(Duration::from_millis(1)).await;
        exchange.kept("one too many");
        assert!(exchange.kept.lock().unwrap().len() <= KEPT_MAX * 3 / 4 + 1);
        assert!(Arc::ptr_eq(&first, &exchange.kept("0")), "it was used last");
        assert!(Arc::ptr_eq(&second, &exchange.kept("1")));
        assert!(Arc::strong_count(&first) == 2);
    }
}
