//! What the audit log is told of requests: who was refused what. Whoever refuses leaves a word about it with
//! the response, for whoever knows who asked, and from where.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::Method;
use axum::response::Response;

use super::Edge;
use super::proxies::ClientAddress;
use crate::auth::{Denied, Flaw, Lacking};
use crate::domain::{Limit, Principal, ServerName};
use crate::telemetry::{AuditEvent, Deed, Verdict};

/// A refusal, as the audit log is to name it.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    deed: Deed,
    reason: &'static str,
    tool: Option<String>,
}

impl Refusal {
    pub(super) fn limit(limit: Limit) -> Self {
        Self { deed: Deed::LimitRefused, reason: limit.key(), tool: None }
    }

    pub(super) fn call(denied: &Denied, tool: &str) -> Self {
        Self { deed: Deed::CallDenied, reason: reason(denied), tool: Some(tool.to_owned()) }
    }
}

/// What a request was, for an event about it.
#[derive(Debug)]
pub(super) struct Asked {
    pub address: Option<IpAddr>,
    method: Method,
    endpoint: &'static str,
    server: Option<ServerName>,
}

impl Asked {
    pub(super) fn of(request: &Request, edge: &Edge, server: Option<&str>) -> Self {
        let path = request.uri().path().trim_end_matches('/');
        let endpoint = ["mcp", "sse", "message"].into_iter().find(|name| path.ends_with(name));
        Self {
            address: address(request),
            method: request.method().clone(),
            endpoint: endpoint.unwrap_or_default(),
            server: edge.hub.server(server).map(|server| server.name.clone()),
        }
    }

    /// A credential that was not taken.
    pub(super) fn denied(&self, edge: &Edge, denied: &Denied) {
        let principal = match denied {
            Denied::Insufficient(principal, _) => Some(principal),
            _ => None,
        };
        let mut event = AuditEvent::new(Deed::CredentialRefused).reason(reason(denied));
        if *denied == Denied::Unverifiable {
            event.verdict = Verdict::Failed;
        }
        self.record(edge, principal, event);
    }

    /// What the response says that was refused to them.
    pub(super) fn answered(&self, edge: &Edge, principal: &Principal, mut response: Response) -> Response {
        if let Some(Refusal { deed, reason, tool }) = response.extensions_mut().remove() {
            let event = AuditEvent::new(deed).reason(reason);
            self.record(edge, Some(principal), AuditEvent { tool, ..event });
        }
        response
    }

    fn record(&self, edge: &Edge, principal: Option<&Principal>, event: AuditEvent) {
        let event = event.method(&format!("{} /{}", self.method, self.endpoint));
        let (principal, server) = (principal.cloned(), self.server.clone());
        edge.hub.audit().record(&AuditEvent { principal, server, address: self.address, ..event });
    }
}

/// Where a request came from, if it came over a connection.
pub(super) fn address(request: &Request) -> Option<IpAddr> {
    request.extensions().get::<ClientAddress>().map(|ClientAddress(address)| *address)
}

pub(super) const fn reason(denied: &Denied) -> &'static str {
    match denied {
        Denied::Missing => "missing",
        Denied::Scheme => "scheme",
        Denied::Anonymous(_) => "anonymous",
        Denied::Malformed => "malformed",
        Denied::Invalid(Flaw::Unknown) => "unknown",
        Denied::Invalid(Flaw::Expired) => "expired",
        Denied::Invalid(Flaw::Premature) => "premature",
        Denied::Invalid(Flaw::Lifetime) => "lifetime",
        Denied::Invalid(Flaw::Audience) => "audience",
        Denied::Invalid(Flaw::Subject) => "subject",
        Denied::Invalid(Flaw::Bound) => "bound",
        Denied::Insufficient(_, Lacking::Scopes(_)) => "insufficient_scope",
        Denied::Insufficient(_, Lacking::Tool) => "tool",
        Denied::Unverifiable => "unverifiable",
    }
}
