//! Where an issuer's keys come from, and when they are read again: on time, when a token names one that is
//! not known, and soon after a failure. What was read last is used while the source is away.

use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::keys::{Keys, Unusable};
use crate::upstream::HttpClient;

/// The largest document that is read.
const BYTES_MAX: usize = 1 << 20;

/// At least so long between two attempts, however many tokens name unknown keys.
const PAUSE: Duration = Duration::from_secs(5);

/// Where keys are.
#[derive(Debug, Clone)]
pub enum Source {
    /// Shared with the issuer: at least as long as the hash that it is used with (RFC 7518, section 3.2).
    Secret(Vec<u8>),
    /// A JWK set or PEM.
    File(PathBuf),
    /// A JWK set.
    Url(Uri),
    /// At the `jwks_uri` of the issuer's metadata (RFC 8414, or `OpenID` Connect Discovery).
    Discovered,
}

/// When keys are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Between two reads.
    pub ttl: Duration,
    /// For how long the last ones are used while they can't be read again.
    pub stale_max: Duration,
    /// For one read.
    pub timeout: Duration,
}

/// Why keys could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{path} can't be read: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("{uri}: {source}")]
    Http { uri: Uri, source: crate::upstream::BoxError },
    #[error("{uri}: the answer has status {status}")]
    Status { uri: Uri, status: StatusCode },
    #[error("{0}: no answer in time (auth.timeout)")]
    Late(Uri),
    #[error("what is at {0} {1}")]
    Unusable(String, Unusable),
    #[error("the metadata at {0} is none, is of another issuer, or names no jwks_uri that is safe")]
    Metadata(Uri),
}

/// The keys of one issuer, kept fresh by [`KeyRing::keep`].
#[derive(Debug)]
pub(super) struct KeyRing {
    issuer: String,
    source: Source,
    /// Empty: all that a key is fit for.
    algorithms: Vec<Algorithm>,
    times: Times,
    client: HttpClient,
    state: RwLock<State>,
    nudge: Notify,
    attempts: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    keys: Option<(Arc<Keys>, Instant)>,
    attempted: Option<Instant>,
}

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

impl KeyRing {
    pub(super) fn new(
        issuer: &str,
        source: Source,
        algorithms: Vec<Algorithm>,
        times: Times,
        client: HttpClient,
    ) -> Self {
        Self {
            issuer: issuer.to_owned(),
            source,
            algorithms,
            times,
            client,
            state: RwLock::default(),
            nudge: Notify::new(),
            attempts: watch::Sender::new(0),
        }
    }

    /// Keys in which `suits` finds what it needs, or else the newest there are, after another look at the
    /// source if there was none just now. `None` if none could be read.
    pub(super) async fn keys(&self, suits: impl Fn(&Keys) -> bool) -> Option<Arc<Keys>> {
        let mut attempts = self.attempts.subscribe();
        let current = self.current();
        if current.as_ref().is_some_and(|keys| suits(keys)) || self.was_read_just_now() {
            return current;
        }
        self.nudge.notify_one();
        let _ = tokio::time::timeout(self.times.timeout, attempts.changed()).await;
        self.current()
    }

    fn current(&self) -> Option<Arc<Keys>> {
        let state = self.state.read().expect("nothing panics while it holds this lock");
        let (keys, read) = state.keys.as_ref()?;
        (read.elapsed() < self.times.stale_max).then(|| keys.clone())
    }

    fn was_read_just_now(&self) -> bool {
        let state = self.state.read().expect("nothing panics while it holds this lock");
        state.attempted.is_some_and(|attempted| attempted.elapsed() < PAUSE)
    }

    /// Reads them now and again, and when nudged; to be run for as long as they are needed.
    pub(super) async fn keep(self: Arc<Self>) {
        loop {
            let rest = match self.read().await {
                Ok(keys) => {
                    let mut state = self.state.write().expect("nothing panics while it holds this lock");
                    state.keys = Some((Arc::new(keys), Instant::now()));
                    self.times.ttl
                }
                Err(failure) => {
                    tracing::warn!(issuer = %self.issuer, error = %failure, "an issuer's keys could not be read");
                    PAUSE
                }
            };
            self.state.write().expect("nothing panics while it holds this lock").attempted =
                Some(Instant::now());
            self.attempts.send_modify(|attempts| *attempts += 1);
            tokio::time::sleep(PAUSE).await;
            let _ = tokio::time::timeout(rest.saturating_sub(PAUSE), self.nudge.notified()).await;
        }
    }

    async fn read(&self) -> Result<Keys, Failure> {
        let keys = match &self.source {
            Source::Secret(secret) => Keys::secret(secret),
            Source::File(path) => {
                let text = tokio::fs::read_to_string(path).await;
                let text = text.map_err(|source| Failure::File { path: path.clone(), source })?;
                Keys::read(&text).map_err(|why| Failure::Unusable(path.display().to_string(), why))?
            }
            Source::Url(uri) => self.fetch_keys(uri).await?,
            Source::Discovered => self.fetch_keys(&self.discover().await?).await?,
        };
        Ok(if self.algorithms.is_empty() { keys } else { keys.limited(&self.algorithms) })
    }

    async fn fetch_keys(&self, uri: &Uri) -> Result<Keys, Failure> {
        let text = self.fetch(uri).await?;
        let keys = std::str::from_utf8(&text).map_err(|_| Unusable::Form).and_then(Keys::read);
        keys.map_err(|why| Failure::Unusable(uri.to_string(), why))
    }

    /// RFC 8414, section 3.1, and where `OpenID` providers have it.
    async fn discover(&self) -> Result<Uri, Failure> {
        let mut failure = None;
        for uri in metadata_addresses(&self.issuer) {
            let text = match self.fetch(&uri).await {
                Ok(text) => text,
                Err(failed) => {
                    failure = Some(failed);
                    continue;
                }
            };
            let metadata = serde_json::from_slice::<Metadata>(&text).ok();
            // Exactly, or one issuer could speak for another (RFC 8414, section 3.3).
            let metadata = metadata.filter(|metadata| metadata.issuer == self.issuer);
            let keys = metadata.and_then(|metadata| metadata.jwks_uri.parse().ok()).filter(is_safe);
            return keys.ok_or(Failure::Metadata(uri));
        }
        Err(failure.unwrap_or_else(|| Failure::Metadata(Uri::default())))
    }

    async fn fetch(&self, uri: &Uri) -> Result<Bytes, Failure> {
        let failed = |source| Failure::Http { uri: uri.clone(), source };
        let request = Request::get(uri.clone())
            .header(header::ACCEPT, "application/json")
            .body(Full::default())
            .map_err(|error| failed(error.into()))?;
        let fetched = async {
            let response = self.client.send(request).await.map_err(failed)?;
            if response.status() != StatusCode::OK {
                return Err(Failure::Status { uri: uri.clone(), status: response.status() });
            }
            let body = Limited::new(response.into_body(), BYTES_MAX).collect().await.map_err(failed)?;
            Ok(body.to_bytes())
        };
        let fetched = tokio::time::timeout(self.times.timeout, fetched).await;
        fetched.unwrap_or_else(|_| Err(Failure::Late(uri.clone())))
    }
}

fn metadata_addresses(issuer: &str) -> Vec<Uri> {
    let Some((scheme, rest)) = issuer.split_once("://") else { return Vec::new() };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.trim_end_matches('/');
    let slash = if path.is_empty() { "" } else { "/" };
    let well_known = format!("{scheme}://{host}/.well-known");
    let addresses = [
        format!("{well_known}/oauth-authorization-server{slash}{path}"),
        format!("{well_known}/openid-configuration{slash}{path}"),
        format!("{scheme}://{host}{slash}{path}/.well-known/openid-configuration"),
    ];
    addresses.iter().filter_map(|address| address.parse().ok()).collect()
}

/// Whoever can change what is read here can be anybody: encrypted, or on this machine.
#[must_use]
pub fn is_safe(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    uri.scheme_str() == Some("https") || (uri.scheme_str() == Some("http") && loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_where_each_standard_has_it() {
        let check = |issuer: &str, expected: [&str; 3]| {
            let addresses: Vec<_> = metadata_addresses(issuer).iter().map(ToString::to_string).collect();
            assert_eq!(addresses, expected);
        };
        check(
            "https://login.example.com/realms/one",
            [
                "https://login.example.com/.well-known/oauth-authorization-server/realms/one",
                "https://login.example.com/.well-known/openid-configuration/realms/one",
                "https://login.example.com/realms/one/.well-known/openid-configuration",
            ],
        );
        check(
            "https://login.example.com/",
            [
                "https://login.example.com/.well-known/oauth-authorization-server",
                "https://login.example.com/.well-known/openid-configuration",
                "https://login.example.com/.well-known/openid-configuration",
            ],
        );
    }

    #[test]
    fn keys_come_over_tls_or_from_this_machine() {
        let check = |uri: &str, safe: bool| assert_eq!(is_safe(&uri.parse().unwrap()), safe, "{uri}");
        check("https://login.example.com/keys", true);
        check("http://127.0.0.1:8080/keys", true);
        check("http://[::1]:8080/keys", true);
        check("http://localhost/keys", true);
        check("http://login.example.com/keys", false);
        check("http://localhost.example.com/keys", false);
        check("/keys", false);
    }
}
