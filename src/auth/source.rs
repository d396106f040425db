//! Where an issuer's keys come from, and when they are read again: on time, when a token names one that is
//! not known, and soon after a failure. What was read last is used while the source is away.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::keys::{Keys, Unusable};
use crate::telemetry::{Metrics, Outcome};
use crate::upstream::HttpClient;

/// The largest document that is read.
const BYTES_MAX: usize = 1 << 20;

/// At least so long between two attempts, however many tokens name unknown keys.
const PAUSE: Duration = Duration::from_secs(2);

/// Where keys are.
#[derive(Clone)]
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
    metrics: Metrics,
    keys: RwLock<Option<(Arc<Keys>, Instant)>>,
    nudge: Notify,
    last: watch::Sender<Option<Attempt>>,
}

/// A look at the source.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    began: Instant,
    failed: bool,
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
        metrics: Metrics,
    ) -> Self {
        Self {
            issuer: issuer.to_owned(),
            source,
            algorithms,
            times,
            client,
            metrics,
            keys: RwLock::default(),
            nudge: Notify::new(),
            last: watch::Sender::new(None),
        }
    }

    /// Keys in which `suits` finds what it needs, or else the newest there are, after a look at the source
    /// that began now or later; a source that just failed is not waited for. `None` if none could be read.
    pub(super) async fn keys(&self, suits: impl Fn(&Keys) -> bool) -> Option<Arc<Keys>> {
        let asked = Instant::now();
        let mut last = self.last.subscribe();
        let looked = async {
            loop {
                if self.current().is_some_and(|keys| suits(&keys)) {
                    return;
                }
                let attempt = *last.borrow_and_update();
                let over = |Attempt { began, failed }| began >= asked || (failed && began.elapsed() < PAUSE);
                if attempt.is_some_and(over) {
                    return;
                }
                self.nudge.notify_one();
                if last.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(self.times.timeout, looked).await;
        self.current()
    }

    /// The keys that were read last, unless that is too long ago.
    pub(super) fn current(&self) -> Option<Arc<Keys>> {
        let keys = self.keys.read().expect("nothing panics while it holds this lock");
        let (keys, read) = keys.as_ref()?;
        (read.elapsed() < self.times.stale_max).then(|| keys.clone())
    }

    /// Reads them now and again, and when nudged; to be run for as long as they are needed.
    pub(super) async fn keep(self: Arc<Self>) {
        loop {
            let began = Instant::now();
            let read = self.read().await;
            let failed = read.is_err();
            self.metrics.keys_read(if failed { Outcome::Error } else { Outcome::Ok });
            match read {
                Ok(keys) => {
                    if keys.is_empty() {
                        tracing::warn!(issuer = %self.issuer, "an issuer has no keys that could be used");
                    }
                    let mut current = self.keys.write().expect("nothing panics while it holds this lock");
                    // What was verified with keys stays so while they are the same.
                    let same = current.take().map(|(before, _)| before).filter(|before| **before == keys);
                    *current = Some((same.unwrap_or_else(|| Arc::new(keys)), Instant::now()));
                }
                Err(failure) => {
                    tracing::warn!(issuer = %self.issuer, error = %failure, "an issuer's keys could not be read");
                }
            }
            self.last.send_replace(Some(Attempt { began, failed }));
            tokio::time::sleep(PAUSE).await;
            let rest = if failed { Duration::ZERO } else { self.times.ttl.saturating_sub(PAUSE) };
            let _ = tokio::time::timeout(rest, self.nudge.notified()).await;
        }
    }

    async fn read(&self) -> Result<Keys, Failure> {
        let keys = match &self.source {
            Source::Secret(secret) => Keys::secret(secret),
            Source::File(path) => {
                let text = read_file(path).await;
                let text = text.map_err(|source| Failure::File { path: path.clone(), source })?;
                Keys::of_file(&text).map_err(|why| Failure::Unusable(path.display().to_string(), why))?
            }
            Source::Url(uri) => self.fetch_keys(uri).await?,
            Source::Discovered => self.fetch_keys(&self.discover().await?).await?,
        };
        Ok(if self.algorithms.is_empty() { keys } else { keys.limited(&self.algorithms) })
    }

    async fn fetch_keys(&self, uri: &Uri) -> Result<Keys, Failure> {
        let text = self.fetch(uri).await?;
        let keys = std::str::from_utf8(&text).map_err(|_| Unusable::NoSet).and_then(Keys::of_set);
        keys.map_err(|why| Failure::Unusable(uri.to_string(), why))
    }

    /// RFC 8414, section 3.1, and where `OpenID` providers have it: the first that is of this issuer, to the
    /// letter, or one issuer could speak for another (section 3.3).
    async fn discover(&self) -> Result<Uri, Failure> {
        let mut failure = Failure::Metadata(Uri::default());
        // Plain HTTP on this machine is for issuers on this machine.
        let plain = self.issuer.starts_with("http://");
        for uri in metadata_addresses(&self.issuer) {
            let text = match self.fetch(&uri).await {
                Ok(text) => text,
                Err(failed) => {
                    failure = failed;
                    continue;
                }
            };
            let metadata = serde_json::from_slice::<Metadata>(&text).ok();
            let metadata = metadata.filter(|metadata| metadata.issuer == self.issuer);
            let keys = metadata.and_then(|metadata| metadata.jwks_uri.parse::<Uri>().ok());
            match keys.filter(|keys| keys.scheme_str() == Some("https") || (plain && is_safe(keys))) {
                Some(keys) => return Ok(keys),
                None => failure = Failure::Metadata(uri),
            }
        }
        Err(failure)
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

async fn read_file(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let file = tokio::fs::File::open(path).await?;
    file.take(BYTES_MAX as u64).read_to_string(&mut text).await?;
    Ok(text)
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

/// Without the secret.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(_) => f.write_str("Secret"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Url(uri) => f.debug_tuple("Url").field(uri).finish(),
            Self::Discovered => f.write_str("Discovered"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", Source::Secret(b"hunter2".to_vec())), "Secret");
    }

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
