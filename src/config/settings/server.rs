//! What a server is: where it is, how it is spoken to, and what it is shown.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::{AccessConfig, TlsFiles};
use crate::config::secret::Secret;
use crate::config::upstream_url::UpstreamUrl;

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
