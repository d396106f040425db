//! Sessions: one legacy client's conversation with one server.

use super::id::{NodeId, Principal, ServerName, SessionId};

/// How the client reaches the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Streamable HTTP, 2025-03-26 to 2025-11-25.
    Streamable,
    /// HTTP+SSE, 2024-11-05.
    HttpSse,
}

/// What the shared state holds of a session. Identity never changes; the rest is set by
/// [`SessionPart`]s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub id: SessionId,
    pub server: ServerName,
    pub owner: Principal,
    pub transport: Transport,
    /// When, by the store's clock in ms; absent if an older version opened it.
    pub opened_ms: Option<u64>,
    /// Absent until the client's `initialize` was answered (over HTTP+SSE the session is older).
    pub client: Option<ClientFacts>,
    pub upstream: Option<UpstreamHandle>,
    /// The last `logging/setLevel`, to be restored when the upstream loses its session.
    pub log_level: Option<String>,
    /// Resource URIs subscribed to, in order, for the same.
    pub subscriptions: Vec<String>,
    /// What its opening GET sent for its server (HTTP+SSE), sealed.
    pub carried: Option<String>,
}

impl Session {
    /// What it is remembered by, in bytes: all of it that clients and servers choose.
    #[must_use]
    pub fn remembered_bytes(&self) -> usize {
        let client = self.client.as_ref().map_or(0, ClientFacts::bytes);
        let subscriptions: usize = self.subscriptions.iter().map(String::len).sum();
        let carried = self.carried.as_ref().map_or(0, String::len);
        client + self.log_level.as_ref().map_or(0, String::len) + subscriptions + carried
    }
}

/// What the handshake settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFacts {
    pub protocol_version: String,
    /// The client's `initialize` as it came, to be sent again if the upstream forgets its session.
    pub initialize: String,
    /// Names of the capabilities that the client declared, for "which sessions can do elicitation?".
    pub capabilities: Vec<String>,
    /// The server's capabilities as JSON: they tell which lists may change.
    pub server_capabilities: String,
}

impl ClientFacts {
    /// Their size, but for names that the `initialize` has as well.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.initialize.len() + self.server_capabilities.len()
    }
}

/// The upstream's session that belongs to ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamHandle {
    /// Rises by one with every session opened in place of a lost one; changes by compare-and-set.
    pub generation: u64,
    /// The upstream's `Mcp-Session-Id`; absent if it keeps no sessions.
    pub session: Option<String>,
    /// The node whose own server has the session, where each node has one (`pinned`); absent where every
    /// node reaches it.
    pub node: Option<NodeId>,
    /// The revision the upstream answered with: its `MCP-Protocol-Version`.
    pub protocol_version: String,
}

/// One change to a session's attributes; repeating it is harmless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionPart {
    /// Set once; a second, different one is refused by answering the first.
    Client(ClientFacts),
    /// Taken if its generation is one above the stored one (or the first); otherwise the stored
    /// handle is the winner's and the caller adopts it.
    Upstream(UpstreamHandle),
    LogLevel(String),
    Subscribed(String),
    Unsubscribed(String),
    /// Set once, as the session is opened.
    Carried(String),
}
