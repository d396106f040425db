//! From what the person set to what each room is given.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use url::Url;

use super::gateway::StartError;
use super::shared::Unusable;
use crate::adapters::file::FileAudit;
use crate::adapters::{nats, redis};
use crate::auth::{self, Access, Authenticator, Offered, Operators, Token, ToolRule};
use crate::config::{
    AccessConfig, AllowedHosts, AllowedOrigins, AuditTo, AuthMode, Bus, ClusterConfig, Config,
    ForwardedHeader, IssuerConfig, KeysFrom, LogFormat, NatsConfig, PrincipalConfig, ProxiesConfig,
    RedisConfig, ServerConfig, State, TokenConfig, UseConfig,
};
use crate::domain::{InvalidId, Limit, Rate};
use crate::hub::{Buffer, LeaveConfig, RequestsConfig, Sealer, StreamsConfig};
use crate::lifecycle::Tasks;
use crate::limits::{Allowance, Limits};
use crate::ports::{AuditSink, Bounds, LogBounds};
use crate::telemetry::{LogAudit, Metrics};
use crate::upstream::{HttpClient, HttpConfig};
use crate::{edge, hub, limits, telemetry};

pub(super) fn logging(config: &Config) -> telemetry::LogConfig {
    let format = match config.telemetry.log_format {
        LogFormat::Auto => telemetry::LogFormat::Auto,
        LogFormat::Text => telemetry::LogFormat::Text,
        LogFormat::Json => telemetry::LogFormat::Json,
    };
    telemetry::LogConfig {
        format,
        filter: config.telemetry.log_filter.clone(),
        audit: config.audit == AuditTo::Log,
    }
}

/// Where audit events go, if anywhere.
pub(super) fn audit(config: &Config, tasks: &Tasks) -> Result<Option<Arc<dyn AuditSink>>, StartError> {
    Ok(match &config.audit {
        AuditTo::Nowhere => None,
        AuditTo::Log => Some(Arc::new(LogAudit)),
        AuditTo::File(path) => Some(Arc::new(FileAudit::open(path, tasks).map_err(StartError::Audit)?)),
    })
}

/// Shows what every limit is set to.
pub(super) fn limits_set(config: &Config, metrics: &Metrics) {
    let Config { limits, http, streams, requests, .. } = config;
    let (total, own) = (&limits.total, &limits.principal);
    let (number, time) = (|number: usize| Some(number as f64), |time: Duration| Some(time.as_secs_f64()));
    for limit in Limit::ALL {
        let set = match limit {
            Limit::Sessions => number(limits.sessions_max),
            Limit::Streams => number(limits.streams_max),
            Limit::StreamsPerSession => number(limits.streams_per_session_max),
            Limit::RequestsPerSession => number(limits.requests_per_session_max),
            Limit::Attaches => number(limits.attaches_max),
            Limit::SubscriptionsPerSession => number(limits.subscriptions_per_session_max),
            Limit::SessionBytes => number(limits.session_bytes_max),
            Limit::HeaderBytes => number(http.header_bytes_max),
            Limit::BodyBytes => number(http.body_bytes_max),
            Limit::Connections => number(http.connections_max),
            Limit::SlowReader => number(streams.buffer_events_max),
            Limit::Requests => total.requests_per_second.and_then(number),
            Limit::RequestsRunning => total.requests_running_max.and_then(number),
            Limit::Bytes => total.bytes_per_minute.and_then(number),
            Limit::PrincipalRequests => own.usage.requests_per_second.and_then(number),
            Limit::PrincipalRequestsRunning => own.usage.requests_running_max.and_then(number),
            Limit::PrincipalBytes => own.usage.bytes_per_minute.and_then(number),
            Limit::PrincipalStreams => own.streams_max.and_then(number),
            Limit::PrincipalSessions => own.sessions_max.and_then(number),
            Limit::HeaderTime => time(http.header_timeout),
            Limit::RequestTime => time(requests.timeout),
            Limit::StuckWrite => time(http.write_timeout),
        };
        if let Some(set) = set {
            metrics.limit_is(limit, set);
        }
    }
}

pub(super) fn bounds(config: &Config) -> Bounds {
    Bounds {
        log: LogBounds {
            events_max: config.log.events_max,
            event_ttl: config.log.event_ttl,
            stream_bytes_max: config.log.stream_bytes_max,
            session_bytes_max: config.log.session_bytes_max,
        },
        session_idle_timeout: config.sessions.idle_timeout,
        sessions_max: config.limits.sessions_max,
        subscriptions_per_session_max: config.limits.subscriptions_per_session_max,
    }
}

pub(super) fn requests(config: &Config, server: Option<&ServerConfig>) -> RequestsConfig {
    let own = &config.requests;
    RequestsConfig {
        timeout: server.and_then(|server| server.timeout).unwrap_or(own.timeout),
        timeout_max: server.and_then(|server| server.timeout_max).unwrap_or(own.timeout_max),
        json_wait: own.json_wait,
        cancel_grace: own.cancel_grace,
    }
}

pub(super) fn hub(config: &Config) -> hub::Config {
    hub::Config {
        streams: StreamsConfig {
            keep_alive: config.streams.keep_alive.then_some(config.streams.keep_alive_interval),
            life_max: config.streams.life_max,
            idle_timeout: config.streams.idle_timeout,
            retry: config.streams.retry,
            retry_max: config.streams.retry_max,
            buffer: Buffer {
                events_max: config.streams.buffer_events_max,
                bytes_max: config.streams.buffer_bytes_max,
            },
        },
        sessions_max: config.limits.sessions_max,
        streams_max: config.limits.streams_max,
        streams_per_session_max: config.limits.streams_per_session_max,
        requests_per_session_max: config.limits.requests_per_session_max,
        attaches_max: config.limits.attaches_max,
        session_bytes_max: config.limits.session_bytes_max,
        session_idle_timeout: config.sessions.idle_timeout,
        sse_grace: config.sessions.sse_grace,
        cache_ttl: config.sessions.cache_ttl,
        lease: config.cluster.lease,
        leave: LeaveConfig {
            notice: config.drain.notice,
            handover: config.drain.handover,
            timeout: config.drain.timeout,
        },
        // What the gateway does of its own, whichever server it is for.
        own_timeout: config.requests.timeout,
    }
}

/// How the Redis of `state` is used, if there is one.
pub(super) fn redis(config: &Config) -> Option<redis::Config> {
    let State::Redis(url) = &config.state else { return None };
    let RedisConfig { prefix, timeout, pending_max, ca_file } = config.redis.clone();
    Some(redis::Config { url: url.reveal().to_owned(), prefix, timeout, pending_max, ca_file })
}

/// How the NATS of `bus` is used, if there is one.
pub(super) fn nats(config: &Config) -> Result<Option<nats::Config>, Unusable> {
    let Bus::Nats(url) = &config.bus else { return Ok(None) };
    let NatsConfig { prefix, timeout, inbox_max, token_file, nkey_file, credentials_file, ca_file } =
        config.nats.clone();
    let read = |path: PathBuf| {
        let token = std::fs::read_to_string(&path);
        token.map_err(|source| Unusable::File { key: "nats.token_file", path, source })
    };
    let token = token_file.map(read).transpose()?.map(|token| token.trim().to_owned());
    let (url, keys) = (url.reveal().to_owned(), keys(&config.cluster));
    Ok(Some(nats::Config {
        url,
        prefix,
        timeout,
        token,
        nkey_file,
        credentials_file,
        ca_file,
        inbox_max,
        keys,
    }))
}

/// What messages between nodes are signed with, if they are.
fn keys(cluster: &ClusterConfig) -> Option<nats::Keys> {
    let signing = cluster.signing_key.clone()?;
    let known = cluster.keys.iter().map(|(name, key)| (name.clone(), key.reveal().to_vec())).collect();
    Some(nats::Keys { known, signing, accept_unsigned: cluster.accept_unsigned })
}

pub(super) fn http_client(config: &Config) -> HttpConfig {
    HttpConfig {
        connect_timeout: config.upstream.connect_timeout,
        idle_connections_max: config.upstream.idle_connections_max,
        idle_connection_timeout: config.upstream.idle_connection_timeout,
    }
}

/// With the keys that messages between nodes are signed with.
pub(super) fn sealer(cluster: &ClusterConfig) -> Sealer {
    let known = cluster.keys.iter().map(|(name, key)| (name.as_str(), key.reveal()));
    Sealer::new(known, cluster.signing_key.as_deref())
}

pub(super) fn edge(config: &Config, listening: SocketAddr, authenticator: Authenticator) -> edge::Config {
    let origins = match &config.http.allowed_origins {
        AllowedOrigins::Own => edge::Origins::Own,
        AllowedOrigins::Any => edge::Origins::Any,
        AllowedOrigins::Only(origins) => edge::Origins::Only(origins.clone()),
    };
    let hosts = match &config.http.allowed_hosts {
        AllowedHosts::Own => edge::Hosts::Own,
        AllowedHosts::Any => edge::Hosts::Any,
        AllowedHosts::Only(hosts) => edge::Hosts::Only(hosts.clone()),
    };
    let public = config.public_url.as_ref().and_then(|url| {
        let host = url.host_str()?;
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        Some((host, url.origin().ascii_serialization()))
    });
    let prefix = config.public_url.as_ref().map_or("", |url| url.path().trim_end_matches('/')).to_owned();
    edge::Config {
        authenticator,
        policy: edge::Policy { origins, hosts, loopback: listening.ip().is_loopback(), public },
        body_bytes_max: config.http.body_bytes_max,
        body_timeout: config.http.body_timeout,
        retry_after: config.limits.retry_after,
        prefix,
        sessions: config.state != State::None,
    }
}

pub(super) fn limits(config: &Config) -> Limits {
    let allowance = |usage: &UseConfig| Allowance {
        requests: usage
            .requests_per_second
            .map(|rate| Rate::per_second(rate, usage.requests_burst.unwrap_or(rate))),
        bytes: usage.bytes_per_minute.map(Rate::per_minute),
        running_max: usage.requests_running_max,
        ..Allowance::default()
    };
    let PrincipalConfig { usage, streams_max, sessions_max } = &config.limits.principal;
    Limits::new(limits::Config {
        principal: Allowance { streams_max: *streams_max, sessions_max: *sessions_max, ..allowance(usage) },
        total: allowance(&config.limits.total),
    })
}

/// Who may call what.
pub(super) fn authenticator(
    config: &Config,
    client: &HttpClient,
    metrics: &Metrics,
) -> Result<Authenticator, StartError> {
    let auth = &config.auth;
    if auth.mode == AuthMode::None {
        return Ok(Authenticator::Nobody);
    }
    let token = |(name, token): (&String, &TokenConfig)| {
        Token::new(name, token.sha256.as_ref()?.reveal(), &token.scopes).ok()
    };
    let times = auth::Times { ttl: auth.keys_ttl, stale_max: auth.keys_stale_max, timeout: auth.timeout };
    let uri = |url: &Url| Uri::try_from(url.as_str()).map_err(|_| InvalidId);
    let issuer = |(name, own): (&String, &IssuerConfig)| {
        let source = match &own.keys {
            KeysFrom::Secret(secret) => Some(auth::Source::Secret(secret.reveal().as_bytes().to_vec())),
            KeysFrom::File(path) => Some(auth::Source::File(path.clone())),
            KeysFrom::Url(url) => Some(auth::Source::Url(uri(url)?)),
            KeysFrom::Metadata => Some(auth::Source::Discovered),
            KeysFrom::Nowhere => None,
        };
        let introspection = own.introspection.as_ref().map(|own| {
            Ok::<_, StartError>(auth::IntrospectionConfig {
                uri: uri(&own.url)?,
                client_id: own.client_id.clone(),
                client_secret: own.client_secret.reveal().to_owned(),
                prefix: own.token_prefix.clone(),
                timeout: auth.timeout,
                asked_max: auth.introspections_max,
            })
        });
        Ok(auth::IssuerConfig {
            name: name.clone(),
            issuer: own.issuer.clone(),
            source,
            algorithms: own.algorithms.clone(),
            audiences: own.audiences.clone(),
            subject_claim: own.subject_claim.clone(),
            leeway: auth.leeway,
            times,
            introspection: introspection.transpose()?,
        })
    };
    let access = |(name, server): (&String, &ServerConfig)| {
        let AccessConfig { anonymous, scopes, tools } = server.access.clone();
        (
            name.clone(),
            Access { anonymous, scopes, tools: tools.iter().map(|rule| ToolRule::new(rule)).collect() },
        )
    };
    let offered = Offered {
        public_url: config.public_url.clone(),
        servers: config.servers.iter().map(access).collect(),
        default_server: config.default_server.clone(),
    };
    let tokens = auth.tokens.iter().filter_map(token).collect();
    let issuers = auth.issuers.iter().map(issuer).collect::<Result<_, StartError>>()?;
    let memory =
        auth::Memory { tokens_max: auth.tokens_remembered_max, introspection_ttl: auth.introspection_ttl };
    Ok(Authenticator::bearer(tokens, issuers, memory, offered, client, metrics.clone())?)
}

/// Operators come without one in between.
pub(super) fn proxies(config: &Config) -> edge::Proxies {
    let ProxiesConfig { trusted, protocol, header } = config.http.proxies.clone();
    let header = match header {
        ForwardedHeader::None => edge::ForwardedHeader::None,
        ForwardedHeader::XForwardedFor => edge::ForwardedHeader::XForwardedFor,
        ForwardedHeader::Forwarded => edge::ForwardedHeader::Forwarded,
    };
    edge::Proxies { trusted, protocol, header }
}

/// Who may use the admin API, which listens there.
pub(super) fn operating(config: &Config, listening: SocketAddr) -> edge::Operating {
    let tokens = config.admin.tokens.iter();
    let tokens = tokens.filter_map(|(name, sha256)| Token::operators(name, sha256.as_ref()?.reveal()).ok());
    match tokens.collect::<Vec<_>>() {
        tokens if !tokens.is_empty() => edge::Operating::Tokens(Operators::new(tokens)),
        _ if listening.ip().is_loopback() => edge::Operating::Local,
        _ => edge::Operating::Nobody,
    }
}

pub(super) fn listener(config: &Config) -> edge::ListenerConfig {
    edge::ListenerConfig {
        header_bytes_max: config.http.header_bytes_max,
        header_timeout: config.http.header_timeout,
        idle_timeout: config.http.idle_timeout,
        write_timeout: config.http.write_timeout,
        connections_max: config.http.connections_max,
        goodbye: config.drain.timeout + Duration::from_secs(1),
        tls: None,
        proxies: edge::Proxies::default(),
    }
}
