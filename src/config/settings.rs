//! The settings themselves: what the rooms get. Each struct is the `Config` of one room.

mod auth;
mod server;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

use super::key_bytes::KeyBytes;
use super::secret::Secret;

pub use auth::{
    AccessConfig, AuthConfig, AuthMode, IntrospectionConfig, IssuerConfig, KeysFrom, TokenConfig,
};
pub use server::*;

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub listen: SocketAddr,
    /// What clients call this gateway from outside; may have a path prefix.
    pub public_url: Option<Url>,
    pub state: State,
    pub bus: Bus,
    /// The server behind `/mcp`, `/sse` and `/message`; always one of `servers`.
    pub default_server: Option<String>,
    pub admin: AdminConfig,
    pub auth: AuthConfig,
    pub http: HttpConfig,
    pub streams: StreamsConfig,
    pub log: LogConfig,
    pub sessions: SessionsConfig,
    pub limits: LimitsConfig,
    pub requests: RequestsConfig,
    pub upstream: UpstreamConfig,
    pub redis: RedisConfig,
    pub nats: NatsConfig,
    pub cluster: ClusterConfig,
    pub drain: DrainConfig,
    pub telemetry: TelemetryConfig,
    pub audit: AuditTo,
    pub metrics: MetricsConfig,
    pub servers: BTreeMap<String, ServerConfig>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Sessions and logs live in this process.
    Memory,
    /// No sessions at all: each request stands alone.
    None,
    /// In a Redis that nodes share; the URL may hold a password.
    Redis(Secret),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bus {
    Memory,
    /// Over a NATS; the URL may hold a password.
    Nats(Secret),
}

/// How a Redis is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisConfig {
    pub prefix: String,
    pub timeout: Duration,
    pub pending_max: usize,
    pub ca_file: Option<PathBuf>,
}

/// How a NATS is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsConfig {
    pub prefix: String,
    pub timeout: Duration,
    pub inbox_max: usize,
    pub token_file: Option<PathBuf>,
    pub nkey_file: Option<PathBuf>,
    pub credentials_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct AdminConfig {
    pub listen: SocketAddr,
    /// The SHA-256 of operators' tokens, by who holds them; absent only beside a fault.
    pub tokens: BTreeMap<String, Option<Secret>>,
    pub tls: Option<TlsFiles>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HttpConfig {
    pub allowed_origins: AllowedOrigins,
    pub allowed_hosts: AllowedHosts,
    pub header_bytes_max: usize,
    pub header_timeout: Duration,
    pub idle_timeout: Duration,
    pub body_bytes_max: usize,
    pub body_timeout: Duration,
    pub write_timeout: Duration,
    pub connections_max: usize,
    pub proxies: ProxiesConfig,
    pub tls: Option<TlsFiles>,
}

/// What stands in front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxiesConfig {
    pub trusted: Vec<IpNet>,
    /// Their connections begin with a PROXY header.
    pub protocol: bool,
    pub header: ForwardedHeader,
}

/// In which header they say where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedHeader {
    None,
    XForwardedFor,
    Forwarded,
}

/// A listener's certificate and its key, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
}

/// Which web pages may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// Those of the host that was called; on loopback, any loopback page.
    Own,
    Any,
    /// Lower case, without a trailing slash: `https://app.example.com`.
    Only(Vec<String>),
}

/// Which `Host` a request may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedHosts {
    /// Loopback names when listening on loopback, otherwise any; the host of `public_url` always.
    Own,
    Any,
    /// Lower case, with or without a port; one without a port stands for every port.
    Only(Vec<String>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct StreamsConfig {
    pub keep_alive: bool,
    pub keep_alive_interval: Duration,
    pub life_max: Option<Duration>,
    pub idle_timeout: Option<Duration>,
    pub retry: Duration,
    pub retry_max: Duration,
    pub buffer_events_max: usize,
    pub buffer_bytes_max: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    pub events_max: usize,
    pub event_ttl: Duration,
    pub stream_bytes_max: usize,
    pub session_bytes_max: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SessionsConfig {
    pub idle_timeout: Duration,
    pub sse_grace: Duration,
    pub cache_ttl: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LimitsConfig {
    pub sessions_max: usize,
    pub streams_max: usize,
    pub streams_per_session_max: usize,
    pub requests_per_session_max: usize,
    pub attaches_max: usize,
    pub subscriptions_per_session_max: usize,
    pub session_bytes_max: usize,
    pub retry_after: Duration,
    /// Of all principals together, on a node.
    pub total: UseConfig,
    pub principal: PrincipalConfig,
    /// `principal.requests_per_second` is of all nodes together.
    pub shared: bool,
    pub shared_timeout: Duration,
}

/// What may be used in a time, and at once; `None`: as much as anybody likes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UseConfig {
    pub requests_per_second: Option<usize>,
    /// In place of `requests_per_second`.
    pub requests_burst: Option<usize>,
    pub requests_running_max: Option<usize>,
    pub bytes_per_minute: Option<usize>,
}

/// What one principal may use of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrincipalConfig {
    pub usage: UseConfig,
    pub streams_max: Option<usize>,
    pub sessions_max: Option<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RequestsConfig {
    pub timeout: Duration,
    pub timeout_max: Duration,
    pub json_wait: Duration,
    pub cancel_grace: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamConfig {
    pub connect_timeout: Duration,
    pub idle_connections_max: usize,
    pub idle_connection_timeout: Duration,
    pub message_bytes_max: usize,
    pub era_ttl: Duration,
    pub reconnect_delay: Duration,
    pub reconnect_delay_max: Duration,
    pub close_timeout: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ClusterConfig {
    /// What the node is called; its incarnation is added.
    pub node_name: String,
    pub lease: Duration,
    /// What nodes sign their messages with, by name.
    pub keys: BTreeMap<String, KeyBytes>,
    /// Which of them signs; there is one if there are keys.
    pub signing_key: Option<String>,
    /// What is not signed is taken as well.
    pub accept_unsigned: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainConfig {
    /// Not ready, and still serving.
    pub notice: Duration,
    /// Over which streams are handed over.
    pub handover: Duration,
    /// All of it, from the signal on.
    pub timeout: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TelemetryConfig {
    pub log_format: LogFormat,
    pub log_filter: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsConfig {
    pub tools_max: usize,
}

/// Where it is written who did what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditTo {
    Nowhere,
    Log,
    File(PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    Text,
    Json,
}
