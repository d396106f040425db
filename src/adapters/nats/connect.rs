//! Reaching a NATS: how its client is set up, and what is looked at before it is used.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectErrorKind, ConnectOptions};
use percent_encoding::percent_decode_str;
use url::Url;

use super::ears::Ears;
use super::signature::Keys;

/// An event that travels whole must fit, with its head and some room.
const PAYLOAD_LEAST: usize = 64 * 1024;

/// How a NATS is used.
#[derive(Clone, PartialEq, Eq)]
pub struct Config {
    /// `nats://` or `tls://`; may hold user and password, or a token.
    pub url: String,
    /// What every subject begins with, so that several clusters of Holdfast can share a NATS.
    pub prefix: String,
    /// For connecting, and for what is waited for.
    pub timeout: Duration,
    pub token: Option<String>,
    /// A file with an nkey seed.
    pub nkey_file: Option<PathBuf>,
    /// A file with a user's JWT and seed.
    pub credentials_file: Option<PathBuf>,
    /// A file with the roots that are trusted instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Messages that may wait for this node, at least one.
    pub inbox_max: usize,
    /// Without them messages prove nothing: whoever reaches the NATS can speak for a node.
    pub keys: Option<Keys>,
}

/// Without the secrets.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("prefix", &self.prefix)
            .field("timeout", &self.timeout)
            .field("nkey_file", &self.nkey_file)
            .field("credentials_file", &self.credentials_file)
            .field("ca_file", &self.ca_file)
            .field("inbox_max", &self.inbox_max)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

/// Why a NATS can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("bus: the key that is to sign is not there")]
    Key,
    #[error("bus: the URL can't be used: {0}")]
    Url(String),
    #[error("bus: {0} can't be read: {1}")]
    File(PathBuf, std::io::Error),
    #[error("bus: NATS can't be reached: {0}")]
    Unreachable(String),
    #[error("bus: NATS refuses the credentials: {0}")]
    Login(String),
    #[error("bus: no TLS with NATS: {0}")]
    Tls(String),
    #[error("bus: NATS must be 2.2 or newer, with headers switched on: {0}")]
    Headers(String),
    #[error("bus: max_payload of NATS is {0}: {PAYLOAD_LEAST} is the least that will do")]
    Payload(usize),
}

impl ConnectError {
    /// Whether waiting may help.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}

/// A client that comes back by itself, and tells the ears what it goes through.
pub(super) async fn connect(config: &Config, ears: Arc<Ears>) -> Result<Client, ConnectError> {
    let client = client(config, options(config, ears)).await?;
    let server = client.server_info();
    if !server.headers {
        return Err(ConnectError::Headers(format!("it is {}, without them", server.version)));
    }
    if server.max_payload < PAYLOAD_LEAST {
        return Err(ConnectError::Payload(server.max_payload));
    }
    Ok(client)
}

/// The same in the place of one that gave up: connects by itself as soon as it can, as that one would have.
pub(super) async fn replace(config: &Config, ears: Arc<Ears>) -> Result<Client, ConnectError> {
    client(config, options(config, ears).retry_on_initial_connect()).await
}

async fn client(config: &Config, options: ConnectOptions) -> Result<Client, ConnectError> {
    let mut url = Url::parse(&config.url).map_err(|error| ConnectError::Url(error.to_string()))?;
    let options = with_credentials(options, config, &url).await?;
    // What it leaves in the URL, the client would print.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    options.connect(url.as_str()).await.map_err(|error| refused(&error))
}

fn options(config: &Config, ears: Arc<Ears>) -> ConnectOptions {
    let paced = ears.clone();
    let options = ConnectOptions::new()
        .name("holdfast")
        .connection_timeout(config.timeout)
        .request_timeout(Some(config.timeout))
        // The default is a minute: silence would prove nothing for long.
        .ping_interval(Duration::from_secs(5))
        .subscription_capacity(config.inbox_max.max(1))
        .reconnect_delay_callback(move |attempt| paced.pace.pause(attempt))
        .event_callback(move |event| {
            let ears = ears.clone();
            async move { ears.hear(&event) }
        });
    match &config.ca_file {
        Some(file) => options.add_root_certificates(file.clone()),
        None => options,
    }
}

async fn with_credentials(
    mut options: ConnectOptions,
    config: &Config,
    url: &Url,
) -> Result<ConnectOptions, ConnectError> {
    let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    options = match (url.username(), url.password()) {
        ("", None) => options,
        // As every client of NATS reads it.
        (token, None) => options.token(plain(token)),
        (user, Some(password)) => options.user_and_password(plain(user), plain(password)),
    };
    if let Some(token) = &config.token {
        options = options.token(token.clone());
    }
    if let Some(file) = &config.nkey_file {
        let seed = tokio::fs::read_to_string(file).await;
        let seed = seed.map_err(|error| ConnectError::File(file.clone(), error))?;
        options = options.nkey(seed.trim().to_owned());
    }
    if let Some(file) = &config.credentials_file {
        let read = options.credentials_file(file).await;
        options = read.map_err(|error| ConnectError::File(file.clone(), error))?;
    }
    Ok(options)
}

fn refused(error: &async_nats::ConnectError) -> ConnectError {
    let text = error.to_string();
    match error.kind() {
        ConnectErrorKind::ServerParse => ConnectError::Url(text),
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            ConnectError::Login(text)
        }
        ConnectErrorKind::Tls => ConnectError::Tls(text),
        // The client calls a failed handshake a fault of the connection.
        ConnectErrorKind::Io if of_tls(error) => ConnectError::Tls(text),
        // In the server's own words; it says so only where they are switched off.
        ConnectErrorKind::Io if text.contains("requires headers") => ConnectError::Headers(text),
        ConnectErrorKind::Io
        | ConnectErrorKind::Dns
        | ConnectErrorKind::TimedOut
        | ConnectErrorKind::MaxReconnects => ConnectError::Unreachable(text),
    }
}

fn of_tls(error: &async_nats::ConnectError) -> bool {
    let mut next = error.source();
    while let Some(source) = next {
        if source.is::<rustls::Error>() {
            return true;
        }
        // An I/O error hides what it wraps from `source`.
        next = match source.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => source.source(),
        };
    }
    false
}
