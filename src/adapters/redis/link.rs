//! A connection to one server that comes back by itself. Which server a step belongs to is decided next
//! door: the client's own ways with clusters and Sentinels stop everything for one server that is away.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error as RedisError, ErrorKind};
use fred::interfaces::{ClientLike as _, EventInterface as _};
use fred::types::config::{
    Config as FredConfig, ConnectionConfig, PerformanceConfig, ReconnectPolicy, Server, ServerConfig,
    TcpConfig, UnresponsiveConfig,
};
use fred::types::{ClusterHash, ConnectHandle, CustomCommand, Value};

use super::connect::{Config, ConnectError};
use super::presence::{Errors, Presence};
use super::tls;

/// How servers are spoken to.
#[derive(Clone, Debug)]
pub(super) struct Manner {
    fred: FredConfig,
    connection: ConnectionConfig,
    pub(super) timeout: Duration,
    pub(super) secure: bool,
    /// Set when one of them comes back: it may have forgotten something.
    pub(super) shaken: Arc<AtomicBool>,
}

impl Manner {
    pub(super) fn of(config: &Config) -> Result<Self, ConnectError> {
        let (url, secure) = match config.url.strip_prefix("rediss") {
            Some(rest) => (format!("redis{rest}"), true),
            None => (config.url.clone(), false),
        };
        let mut fred =
            FredConfig::from_url(&url).map_err(|error| ConnectError::Url(error.details().to_owned()))?;
        if secure {
            fred.tls = Some(tls::connector(config.ca_file.as_deref())?.into());
        }
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
        Ok(Self { fred, connection, timeout: config.timeout, secure, shaken: Arc::default() })
    }

    /// What the URL names.
    pub(super) fn named(&self) -> &ServerConfig {
        &self.fred.server
    }

    /// The same with another login, where there are no databases.
    pub(super) fn with_login(&self, username: Option<String>, password: Option<String>) -> Self {
        let fred = FredConfig { username, password, database: None, ..self.fred.clone() };
        Self { fred, shaken: Arc::default(), ..self.clone() }
    }

    /// Servers don't say that they were spoken to in the wrong way.
    fn explained(&self, error: ConnectError) -> ConnectError {
        match error {
            // Without TLS it takes a handshake for the beginning of a command.
            ConnectError::Unreachable(text) if self.secure && text.contains("time") => {
                ConnectError::Unreachable(format!("{text} (is it a server without TLS?)"))
            }
            ConnectError::Unreachable(text) if !self.secure && text.contains("Reset") => {
                ConnectError::Unreachable(format!("{text} (if it wants TLS, its URL begins with rediss)"))
            }
            other => other,
        }
    }

    fn client(&self, server: &Server, fail_fast: bool) -> Client {
        let server = ServerConfig::Centralized { server: server.clone() };
        let fred = FredConfig { server, fail_fast, ..self.fred.clone() };
        let performance = PerformanceConfig {
            default_command_timeout: self.timeout,
            broadcast_channel_capacity: 256,
            ..PerformanceConfig::default()
        };
        let mut policy = ReconnectPolicy::new_exponential(0, 50, 1000, 2);
        policy.set_jitter(100);
        Client::new(fred, Some(performance), Some(self.connection.clone()), Some(policy))
    }
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) server: Server,
    line: Arc<Mutex<Line>>,
    presence: Presence,
}

/// A client, for as long as it is of use.
#[derive(Debug)]
struct Line {
    client: Client,
    driver: Driver,
}

impl Line {
    fn start(server: &Server, manner: &Manner, fail_fast: bool) -> (Self, Errors) {
        let client = manner.client(server, fail_fast);
        let errors = client.error_rx();
        let driver = Driver(client.connect());
        (Self { client, driver }, errors)
    }
}

impl Link {
    /// Not there yet: it connects as soon as it can.
    pub(super) fn open(server: Server, manner: &Manner) -> Arc<Self> {
        let (line, errors) = Line::start(&server, manner, false);
        Self::of(server, manner, line, errors, false)
    }

    /// Connects, or says why not.
    pub(super) async fn reach(server: Server, manner: &Manner) -> Result<Arc<Self>, ConnectError> {
        let (mut line, errors) = Line::start(&server, manner, true);
        let connected = tokio::time::timeout(manner.timeout * 2, async {
            tokio::select! {
                ended = &mut line.driver.0 => match ended {
                    Ok(Err(error)) => Err(refused(&error)),
                    Ok(Ok(())) | Err(_) => Err(ConnectError::Unreachable("it broke off".into())),
                },
                connected = line.client.wait_for_connect() => connected.map_err(|error| refused(&error)),
            }
        });
        let connected =
            connected.await.unwrap_or_else(|_| Err(ConnectError::Unreachable("no answer in time".into())));
        connected.map_err(|error| manner.explained(error))?;
        Ok(Self::of(server, manner, line, errors, true))
    }

    fn of(server: Server, manner: &Manner, line: Line, errors: Errors, there: bool) -> Arc<Self> {
        let client = line.client.clone();
        let line = Arc::new(Mutex::new(line));
        let (place, to, manner) = (line.clone(), server.clone(), manner.clone());
        let shaken = manner.shaken.clone();
        let presence = Presence::watch(client, errors, there, shaken, move || {
            let (line, _) = Line::start(&to, &manner, false);
            let client = line.client.clone();
            *place.lock().expect("no panic while holding it") = line;
            client
        });
        Arc::new(Self { server, line, presence })
    }

    pub(super) fn client(&self) -> Client {
        self.line.lock().expect("no panic while holding it").client.clone()
    }

    /// Whether it answered, and did not break since. Steps would wait for their whole timeout otherwise.
    pub(super) fn is_there(&self) -> bool {
        self.presence.is_there()
    }

    /// Something was not answered in time.
    pub(super) fn doubt(&self) {
        self.presence.doubt();
    }

    /// Waits until it is there, at most for so long.
    pub(super) async fn there(&self, patience: Duration) -> bool {
        tokio::time::timeout(patience, self.presence.there()).await.is_ok()
    }

    /// Asks what no key belongs to.
    pub(super) async fn ask(
        &self,
        command: &'static str,
        arguments: Vec<String>,
        patience: Duration,
    ) -> Result<Value, RedisError> {
        let command = CustomCommand::new_static(command, ClusterHash::Random, false);
        let answer = tokio::time::timeout(patience, self.client().custom(command, arguments)).await;
        answer.unwrap_or_else(|_| {
            self.doubt();
            Err(RedisError::new(ErrorKind::Timeout, "no answer in time"))
        })
    }
}

/// What the client does by itself; ends when it is dropped.
#[derive(Debug)]
struct Driver(ConnectHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why a server did not let us in.
pub(super) fn refused(error: &RedisError) -> ConnectError {
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
