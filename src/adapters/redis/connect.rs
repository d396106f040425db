//! Reaching a Redis: how its client is set up, and what is looked at before it is used.

use std::path::PathBuf;
use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error as RedisError, ErrorKind};
use fred::interfaces::ClientLike as _;
use fred::types::config::{
    Config as FredConfig, ConnectionConfig, Options, PerformanceConfig, ReconnectPolicy, Server,
    ServerConfig, TcpConfig, UnresponsiveConfig,
};
use fred::types::{ClusterHash, CustomCommand, Value};

use super::tls;

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
    #[error("state: the server is a {0}: its URL begins with {1}://")]
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

/// A client that gives up early, never sends a step twice, and comes back by itself.
pub(super) async fn connect(config: &Config) -> Result<Client, ConnectError> {
    let (url, secure) = match config.url.strip_prefix("rediss") {
        Some(rest) => (format!("redis{rest}"), true),
        None => (config.url.clone(), false),
    };
    let mut fred =
        FredConfig::from_url(&url).map_err(|error| ConnectError::Url(error.details().to_owned()))?;
    if secure {
        fred.tls = Some(tls::connector(config.ca_file.as_deref())?.into());
    }
    let performance = PerformanceConfig {
        default_command_timeout: config.timeout,
        broadcast_channel_capacity: 256,
        ..PerformanceConfig::default()
    };
    let connection = ConnectionConfig {
        connection_timeout: config.timeout,
        internal_command_timeout: config.timeout,
        // A step that was sent may have been done: sending it again is the caller's decision.
        max_command_attempts: 1,
        max_command_buffer_len: config.pending_max,
        reconnect_on_auth_error: true,
        unresponsive: UnresponsiveConfig {
            max_timeout: Some(config.timeout * 2),
            interval: (config.timeout / 4).max(Duration::from_millis(50)),
        },
        tcp: TcpConfig { nodelay: Some(true), ..TcpConfig::default() },
        ..ConnectionConfig::default()
    };
    let mut policy = ReconnectPolicy::new_exponential(0, 50, 1000, 2);
    policy.set_jitter(100);
    let kind = fred.server.clone();
    let client = Client::new(fred, Some(performance), Some(connection), Some(policy));
    // The first attempt's failure is the caller's to see; later ones are met by coming back.
    let _driver = client.connect();
    match tokio::time::timeout(config.timeout * 2, client.wait_for_connect()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(quit(&client, refused(&error)).await),
        Err(_) => return Err(quit(&client, ConnectError::Unreachable("no answer in time".into())).await),
    }
    match check(&client, &kind).await {
        Ok(()) => Ok(client),
        Err(error) => Err(quit(&client, error).await),
    }
}

async fn quit(client: &Client, error: ConnectError) -> ConnectError {
    let _ = tokio::time::timeout(Duration::from_millis(200), client.quit()).await;
    error
}

fn refused(error: &RedisError) -> ConnectError {
    let details = error.details().to_owned();
    let says = |codes: &[&str]| codes.iter().any(|code| details.contains(code));
    match error.kind() {
        ErrorKind::Auth => ConnectError::Login(details),
        ErrorKind::Config | ErrorKind::Url => ConnectError::Url(details),
        ErrorKind::Tls => ConnectError::Tls(details),
        // What rustls refuses comes as broken input.
        _ if says(&["kind: InvalidData"]) => ConnectError::Tls(details),
        _ if says(&["NOAUTH", "WRONGPASS", "NOPERM"]) => ConnectError::Login(details),
        _ if says(&["DB index"]) => ConnectError::Url(details),
        _ => ConnectError::Unreachable(details),
    }
}

/// Asks one server, of a cluster the one that is named.
async fn ask(
    client: &Client,
    server: Option<&Server>,
    command: &'static str,
    arguments: &[&'static str],
) -> Result<Value, RedisError> {
    let command = CustomCommand::new_static(command, ClusterHash::Random, false);
    let options = Options { cluster_node: server.cloned(), ..Options::default() };
    client.with_options(&options).custom(command, arguments.to_vec()).await
}

async fn check(client: &Client, kind: &ServerConfig) -> Result<(), ConnectError> {
    if !kind.is_clustered() {
        return check_server(client, None).await;
    }
    for server in client.active_connections() {
        check_server(client, Some(&server)).await?;
    }
    Ok(())
}

async fn check_server(client: &Client, server: Option<&Server>) -> Result<(), ConnectError> {
    let info = ask(client, server, "INFO", &["server"]).await.map_err(|error| refused(&error))?;
    let info = info.as_string().unwrap_or_default();
    let fact = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    match fact("redis_mode:") {
        "cluster" if server.is_none() => return Err(ConnectError::Kind("cluster", "redis-cluster")),
        "sentinel" => return Err(ConnectError::Kind("Sentinel", "redis-sentinel")),
        _ => {}
    }
    let version = fact("redis_version:");
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    if (numbers.next(), numbers.next()) < (Some(6), Some(2)) {
        return Err(ConnectError::Version(version.to_owned()));
    }
    match ask(client, server, "CONFIG", &["GET", "maxmemory-policy"]).await {
        Ok(policy) => {
            let texts: Vec<_> = match policy {
                Value::Array(values) => values.iter().filter_map(Value::as_string).collect(),
                Value::Map(map) => map.inner().into_values().filter_map(|value| value.as_string()).collect(),
                _ => Vec::new(),
            };
            match texts.iter().find(|text| *text != "maxmemory-policy") {
                Some(policy) if policy != "noeviction" => Err(ConnectError::Eviction(policy.clone())),
                _ => Ok(()),
            }
        }
        Err(error) => {
            tracing::warn!(%error, "whether Redis evicts keys can't be checked: maxmemory-policy must be noeviction");
            Ok(())
        }
    }
}
