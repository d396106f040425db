//! Reaching a Redis: what it is, one server or several, and what is looked at before it is used.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fred::types::Value;
use fred::types::config::{Server, ServerConfig};

use super::link::{Link, Manner, refused};
use super::servers::Servers;
use super::topology::{Sentinels, Slots};

/// How a Redis is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `redis://`, `redis-sentinel://`, `redis-cluster://`, or each with `rediss`; may hold passwords.
    pub url: String,
    /// What every key begins with, so that several clusters of Holdfast can share a Redis.
    pub prefix: String,
    /// For one step; what takes longer may still be done, and is treated as both.
    pub timeout: Duration,
    /// Steps that may wait for an answer.
    pub pending_max: usize,
    /// A file with the only roots that are trusted, instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// Why a Redis can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("state: the URL can't be used: {0}")]
    Url(String),
    #[error("state: the session store can't be reached: {0}")]
    Unreachable(String),
    #[error("state: the session store refuses the user or password: {0}")]
    Login(String),
    #[error("state: the session store can't be trusted: {0}")]
    Tls(String),
    #[error("state: {0} can't be read")]
    File(PathBuf, #[source] std::io::Error),
    #[error("state: {0}: its URL begins with {1}://")]
    Kind(&'static str, &'static str),
    #[error("state: Redis {0} is too old: 6.2 is the oldest that will do")]
    Version(String),
    #[error(
        "state: maxmemory-policy is {0}: Redis would drop sessions that are in use. Set it to noeviction"
    )]
    Eviction(String),
}

impl ConnectError {
    /// Whether waiting may help.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}

/// What a server can be, as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Standalone,
    Cluster,
    Sentinel,
}

impl Kind {
    fn of(mode: &str) -> Self {
        match mode {
            "cluster" => Self::Cluster,
            "sentinel" => Self::Sentinel,
            _ => Self::Standalone,
        }
    }

    /// The error that it is this, where something else was expected.
    fn instead(self, secure: bool) -> ConnectError {
        let (what, plain, with_tls) = match self {
            Self::Standalone => ("the server is a single one", "redis", "rediss"),
            Self::Cluster => ("the server is one of a cluster", "redis-cluster", "rediss-cluster"),
            Self::Sentinel => ("the server is a Sentinel", "redis-sentinel", "rediss-sentinel"),
        };
        ConnectError::Kind(what, if secure { with_tls } else { plain })
    }
}

/// Whatever the URL names.
pub(super) async fn connect(config: &Config) -> Result<Servers, ConnectError> {
    let manner = Manner::of(config)?;
    match manner.named().clone() {
        ServerConfig::Centralized { server } => {
            let link = Link::reach(server, &manner).await?;
            check(&link, Kind::Standalone, &manner).await?;
            Ok(Servers::one(link, manner))
        }
        ServerConfig::Clustered { hosts, .. } => {
            let (slots, links) = cluster(&hosts, &manner).await?;
            Ok(Servers::cluster(&slots, &links, hosts, manner))
        }
        ServerConfig::Sentinel { hosts, service_name, username, password } => {
            let sentinels =
                Sentinels::reach(hosts, service_name, &manner.with_login(username, password)).await?;
            let primary = sentinels.primary(None, &manner).await?;
            check(&primary, Kind::Standalone, &manner).await?;
            if setting(&primary, "min-replicas-to-write", &manner).await.as_deref() == Some("0") {
                tracing::warn!(
                    "min-replicas-to-write is 0: what a primary acknowledges after it was replaced will be lost"
                );
            }
            Ok(Servers::behind(sentinels, primary, manner))
        }
    }
}

/// Any of the named servers tells of all. One that is away now doesn't keep the others' sessions waiting.
async fn cluster(hosts: &[Server], manner: &Manner) -> Result<(Slots, Vec<Arc<Link>>), ConnectError> {
    let mut error = ConnectError::Unreachable("the URL names no server".into());
    for host in hosts {
        let told = async {
            let first = Link::reach(host.clone(), manner).await?;
            check(&first, Kind::Cluster, manner).await?;
            Slots::ask(&first, manner.timeout)
                .await
                .map_err(|error| refused(&error))
                .map(|slots| (first, slots))
        };
        let (first, slots) = match told.await {
            Ok(told) => told,
            Err(refusal) if refusal.may_pass() => {
                error = refusal;
                continue;
            }
            Err(refusal) => return Err(refusal),
        };
        let others = slots.servers().into_iter().filter(|server| *server != first.server);
        let reached = futures::future::join_all(others.map(|server| async {
            let link = Link::reach(server.clone(), manner).await;
            let checked = match link {
                Ok(link) => check(&link, Kind::Cluster, manner).await.map(|()| link),
                Err(error) => Err(error),
            };
            match checked {
                Err(error) if error.may_pass() => {
                    tracing::warn!(%error, ?server, "its sessions wait");
                    Ok(Link::open(server, manner))
                }
                decided => decided,
            }
        }));
        let mut links = reached.await.into_iter().collect::<Result<Vec<_>, _>>()?;
        links.push(first);
        return Ok((slots, links));
    }
    Err(error)
}

/// Whether a server is what it is taken for, and will do.
pub(super) async fn check(link: &Link, kind: Kind, manner: &Manner) -> Result<(), ConnectError> {
    let info =
        link.ask("INFO", vec!["server".into()], manner.timeout).await.map_err(|error| refused(&error))?;
    let info = info.as_string().unwrap_or_default();
    let fact = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    let told = Kind::of(fact("redis_mode:"));
    if told != kind {
        return Err(told.instead(manner.secure));
    }
    let version = fact("redis_version:");
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    if (numbers.next(), numbers.next()) < (Some(6), Some(2)) {
        return Err(ConnectError::Version(version.to_owned()));
    }
    if kind == Kind::Sentinel {
        return Ok(());
    }
    match setting(link, "maxmemory-policy", manner).await {
        Some(policy) if policy != "noeviction" => Err(ConnectError::Eviction(policy)),
        Some(_) => Ok(()),
        None => {
            tracing::warn!("whether Redis evicts keys can't be checked: maxmemory-policy must be noeviction");
            Ok(())
        }
    }
}

/// Managed offers don't tell.
async fn setting(link: &Link, name: &str, manner: &Manner) -> Option<String> {
    let told = link.ask("CONFIG", vec!["GET".into(), name.into()], manner.timeout).await.ok()?;
    let texts: Vec<_> = match told {
        Value::Array(values) => values.iter().filter_map(Value::as_string).collect(),
        Value::Map(map) => map.inner().into_values().filter_map(|value| value.as_string()).collect(),
        _ => Vec::new(),
    };
    texts.into_iter().find(|text| text != name)
}
