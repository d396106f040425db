//! Reaching a NATS: how its client is set up.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event};
use tokio::sync::watch;
use url::Url;

/// How a NATS is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `nats://` or `tls://`; may hold user and password.
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
    /// A file with the roots that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Messages that may wait for this node.
    pub inbox_max: usize,
}

/// Why a NATS can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("bus: the URL can't be used: {0}")]
    Url(String),
    #[error("bus: {0} can't be read: {1}")]
    File(PathBuf, std::io::Error),
    #[error("bus: NATS can't be reached: {0}")]
    Unreachable(String),
    #[error("bus: NATS refuses the credentials: {0}")]
    Login(String),
}

impl ConnectError {
    /// Whether waiting may help.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}

/// A client that comes back by itself; `missed` changes whenever messages may have been lost.
pub(super) async fn connect(config: &Config, missed: watch::Sender<u64>) -> Result<Client, ConnectError> {
    let mut options = ConnectOptions::new()
        .name("holdfast")
        .connection_timeout(config.timeout)
        .request_timeout(Some(config.timeout))
        // The default is a minute: silence would prove nothing for long.
        .ping_interval(Duration::from_secs(5))
        .subscription_capacity(config.inbox_max)
        .reconnect_delay_callback(|attempts| {
            let base = Duration::from_millis(50) * 2_u32.saturating_pow(attempts.min(5) as u32);
            base.min(Duration::from_secs(1)).mul_f64(0.5 + fastrand::f64() / 2.0)
        })
        .event_callback(move |event| {
            let missed = missed.clone();
            async move { heard(&event, &missed) }
        });
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
    if let Some(file) = &config.ca_file {
        options = options.add_root_certificates(file.clone());
    }
    let mut url = Url::parse(&config.url).map_err(|error| ConnectError::Url(error.to_string()))?;
    if let Some(password) = url.password().map(str::to_owned) {
        options = options.user_and_password(url.username().to_owned(), password);
    }
    // What it leaves in the URL, the client would print.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    options.connect(url.as_str()).await.map_err(|error| match error.kind() {
        ConnectErrorKind::ServerParse => ConnectError::Url(error.to_string()),
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            ConnectError::Login(error.to_string())
        }
        _ => ConnectError::Unreachable(error.to_string()),
    })
}

fn heard(event: &Event, missed: &watch::Sender<u64>) {
    match event {
        Event::Connected => {
            tracing::info!("connected to NATS");
            missed.send_modify(|missed| *missed += 1);
        }
        Event::Disconnected => tracing::warn!("NATS is away; coming back"),
        // One such event for each message that was dropped.
        Event::SlowConsumer(_) => missed.send_modify(|missed| *missed += 1),
        Event::LameDuckMode => tracing::info!("the NATS server is about to end; another one is looked for"),
        Event::Draining | Event::Closed => {}
        Event::ServerError(error) => tracing::warn!(%error, "NATS complains"),
        Event::ClientError(error) => tracing::warn!(%error, "NATS can't be used as configured"),
    }
}
