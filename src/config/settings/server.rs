//! What a server is: where it is, how it is spoken to, and what it is shown.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::{AccessConfig, TlsFiles};
use crate::config::secret::Secret;

#[derive(Clone, Debug, PartialEq)]
pub struct ServerConfig {
    pub upstream: UpstreamUrl,
    pub access: AccessConfig,
    pub credentials: CredentialsConfig,
    /// In lower case.
    pub pass_headers: Vec<String>,
    pub tls: ServerTlsConfig,
    pub era: Era,
    pub answers: Answers,
    pub sessions: SessionMode,
    /// Each node has a server of its own behind the address.
    pub pinned: bool,
    /// In place of `requests.timeout`.
    pub timeout: Option<Duration>,
    /// In place of `requests.timeout_max`.
    pub timeout_max: Option<Duration>,
}

/// What a server is shown of who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialsConfig {
    None,
    /// A header's name, and its value.
    Header(String, Secret),
    Token {
        grant: Grant,
        endpoint: Url,
        client_id: String,
        client_secret: Secret,
        scopes: Vec<String>,
        /// `None`: the server's own address is named.
        resource: Option<String>,
    },
}

/// What a token is given for (OAuth 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// For the gateway itself.
    ClientCredentials,
    /// For the token of a client (RFC 8693).
    TokenExchange,
}

/// How TLS is spoken with a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerTlsConfig {
    /// `None`: the system's roots.
    pub ca_file: Option<PathBuf>,
    /// What the server is shown.
    pub shown: Option<TlsFiles>,
}

/// Which era of MCP a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// Found out and remembered.
    Auto,
    Legacy,
    Modern,
    Both,
}

/// In which form legacy clients get their answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// The upstream's first message decides.
    Auto,
    Json,
    Sse,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionMode {
    Stateful,
    /// No session id is minted; each request stands alone.
    Stateless,
}

/// Where a server is. Its query may hold a key, so `Debug` and `Display` leave it out.
#[derive(Clone, PartialEq, Eq)]
pub struct UpstreamUrl(Url);

impl UpstreamUrl {
    pub fn new(url: Url) -> Self {
        Self(url)
    }

    /// The whole URL, query included: for requests, not for logs.
    pub fn reveal(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(url) = self;
        write!(f, "{}{}", url.origin().ascii_serialization(), url.path())?;
        if url.query().is_some() { f.write_str("?…") } else { Ok(()) }
    }
}

impl fmt::Debug for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
