//! The servers that Holdfast offers, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderName;

use super::RequestsConfig;
use crate::domain::ServerName;
use crate::telemetry::ServerMetrics;
use crate::upstream::Upstream;

/// What a request is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AnswerPolicy {
    /// The upstream's first message decides: a response soon enough becomes JSON.
    #[default]
    Auto,
    Json,
    Sse,
}

/// Whether legacy clients get sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SessionPolicy {
    #[default]
    Stateful,
    /// No session id is minted; each request stands alone.
    Stateless,
}

/// A named MCP endpoint.
#[derive(Debug)]
pub struct Server {
    pub name: ServerName,
    pub upstream: Upstream,
    pub answers: AnswerPolicy,
    pub sessions: SessionPolicy,
    pub requests: RequestsConfig,
    /// What is counted under its name.
    pub metrics: ServerMetrics,
    /// Headers of clients that go on to it.
    pub passes: Vec<HeaderName>,
    /// Where to log in, as JSON: what legacy clients are told as the experimental capability `oauth`.
    pub login: Option<String>,
}

/// All of them, and which one is meant when none is named.
#[derive(Debug, Default)]
pub struct Servers {
    named: BTreeMap<String, Arc<Server>>,
    default: Option<Arc<Server>>,
}

impl Servers {
    #[must_use]
    pub fn new(servers: Vec<Server>, default: Option<&ServerName>) -> Self {
        let named: BTreeMap<_, _> =
            servers.into_iter().map(|server| (server.name.as_str().to_owned(), Arc::new(server))).collect();
        let default = default.and_then(|name| named.get(name.as_str()).cloned());
        Self { named, default }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &ServerName> {
        self.named.values().map(|server| &server.name)
    }

    #[must_use]
    pub fn get(&self, name: Option<&str>) -> Option<Arc<Server>> {
        match name {
            Some(name) => self.named.get(name).cloned(),
            None => self.default.clone(),
        }
    }
}
