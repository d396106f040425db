//! The servers that the configuration names, how each is reached, and what it is shown.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Uri};
use url::{Host, Url};

use super::gateway::StartError;
use super::metered::metered;
use super::{settings, tls};
use crate::auth::Authenticator;
use crate::config::{Answers, Config, CredentialsConfig, Era, Grant, ServerConfig, SessionMode, State};
use crate::domain::{InvalidId, NodeId, ServerName};
use crate::hub::{AnswerPolicy, Relays, Server, Servers, SessionPolicy};
use crate::lifecycle::Tasks;
use crate::telemetry::Metrics;
use crate::upstream::{self, Credentials, EraPolicy, HttpClient, Upstream};

/// Those that `node` offers. `state: none` makes every one stateless.
pub(super) fn servers(
    config: &Config,
    client: &HttpClient,
    node: &NodeId,
    relays: &Relays,
    authenticator: &Authenticator,
    (metrics, tasks): (&Metrics, &Tasks),
) -> Result<Servers, StartError> {
    let mut servers = Vec::new();
    for (name, own) in &config.servers {
        let requests = settings::requests(config, Some(own));
        let upstream = upstream::Config {
            era: match own.era {
                Era::Auto => EraPolicy::FindOut,
                Era::Legacy => EraPolicy::Legacy,
                Era::Modern => EraPolicy::Modern,
                Era::Both => EraPolicy::Both,
            },
            era_ttl: config.upstream.era_ttl,
            message_bytes_max: config.upstream.message_bytes_max,
            reconnect_delay: config.upstream.reconnect_delay,
            reconnect_delay_max: config.upstream.reconnect_delay_max,
            timeout: requests.timeout,
            close_timeout: config.upstream.close_timeout,
            pinned_to: own.pinned.then(|| node.clone()),
        };
        // A URL that the configuration took is a URI: both follow RFC 3986 here.
        let uri = Uri::try_from(own.upstream.reveal().as_str()).map_err(|_| InvalidId)?;
        let server = ServerName::parse(name)?;
        let metrics = metrics.server(&server);
        let mut reached = metered(connections(config, name, client, tasks)?, &metrics);
        if let Some(credentials) = credentials(own, config, client)? {
            if is_exposed(own.upstream.reveal()) {
                tracing::warn!(
                    server = name,
                    "whoever is on the way to this server can read what it is shown: use https://"
                );
            }
            reached = reached.showing(credentials);
        }
        if own.pinned {
            // What it is shown is put on where its own node sends it.
            reached = relays.pin(server.clone(), uri.clone(), reached, requests.timeout_max);
        }
        let passes = own.pass_headers.iter().map(|name| HeaderName::try_from(name.as_str()));
        servers.push(Server {
            name: server,
            upstream: Upstream::new(&format!("{name} at {}", own.upstream), uri, reached, upstream),
            answers: match own.answers {
                Answers::Auto => AnswerPolicy::Auto,
                Answers::Json => AnswerPolicy::Json,
                Answers::Sse => AnswerPolicy::Sse,
            },
            sessions: match (&config.state, own.sessions) {
                (State::None, _) | (_, SessionMode::Stateless) => SessionPolicy::Stateless,
                (State::Memory | State::Redis(_), SessionMode::Stateful) => SessionPolicy::Stateful,
            },
            requests,
            metrics,
            passes: passes.collect::<Result<_, _>>().map_err(|_| InvalidId)?,
            login: authenticator.metadata_of(&format!("/servers/{name}/mcp")).map(|login| login.to_json()),
        });
    }
    let default = config.default_server.as_deref().map(ServerName::parse).transpose()?;
    Ok(Servers::new(servers, default.as_ref()))
}

/// Those of all, or a server's own where TLS is spoken in another way.
fn connections(
    config: &Config,
    name: &str,
    client: &HttpClient,
    tasks: &Tasks,
) -> Result<HttpClient, StartError> {
    let (trusted, shown) = (tls::roots(config, name)?, tls::server(config, name)?);
    if trusted.is_none() && shown.is_none() {
        return Ok(client.clone());
    }
    if let Some(pair) = &shown {
        tasks.spawn_until_stopped(Arc::clone(pair).renew());
    }
    Ok(HttpClient::secured(&settings::http_client(config), trusted, shown)?)
}

/// Whoever is on the way to it can read what it is shown.
fn is_exposed(url: &Url) -> bool {
    let here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() == "http" && !here
}

/// As a server is known to others.
fn without_query(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.to_string()
}

/// What a server is shown, which `client` asks for a token where it needs one.
fn credentials(
    server: &ServerConfig,
    config: &Config,
    client: &HttpClient,
) -> Result<Option<Credentials>, InvalidId> {
    Ok(match server.credentials.clone() {
        CredentialsConfig::None => None,
        CredentialsConfig::Header(name, value) => {
            let name = HeaderName::try_from(name).map_err(|_| InvalidId)?;
            let mut value = HeaderValue::try_from(value.reveal()).map_err(|_| InvalidId)?;
            value.set_sensitive(true);
            Some(Credentials::header(name, value))
        }
        CredentialsConfig::Token { grant, endpoint, client_id, client_secret, scopes, resource } => {
            let token = upstream::TokenConfig {
                endpoint: Uri::try_from(endpoint.as_str()).map_err(|_| InvalidId)?,
                client_id,
                client_secret: client_secret.reveal().to_owned(),
                scopes,
                resource: resource.unwrap_or_else(|| without_query(server.upstream.reveal())),
                timeout: config.auth.timeout,
            };
            Some(match grant {
                Grant::ClientCredentials => Credentials::token(token, client.clone()),
                Grant::TokenExchange => Credentials::exchanged(token, client.clone()),
            })
        }
    })
}
