//! The audit log: who did what, when, from where, and how it ended. Never a payload, never a credential.

use std::fmt;
use std::net::IpAddr;
use std::time::SystemTime;

use serde::Serialize;

use crate::domain::{NodeId, Principal, ServerName, SessionId};

/// What somebody did, or tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Deed {
    SessionOpened,
    /// A stream of a session that was there before is read by whoever came; or another node takes over what
    /// a dead one ran for it.
    SessionClaimed,
    /// It does not exist, or is somebody else's.
    SessionRefused,
    SessionClosed,
    CredentialRefused,
    /// Its `Host` or `Origin` is not allowed.
    OriginRefused,
    LimitRefused,
    /// A tool that its caller may not call.
    CallDenied,
    AdminRefused,
    AdminListedSessions,
    AdminShowedSession,
    AdminEndedSession,
    AdminClosedStreams,
    AdminPublished,
    AdminListedNodes,
}

impl Deed {
    /// The `event` of its line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SessionOpened => "session.opened",
            Self::SessionClaimed => "session.claimed",
            Self::SessionRefused => "session.refused",
            Self::SessionClosed => "session.closed",
            Self::CredentialRefused => "credential.refused",
            Self::OriginRefused => "origin.refused",
            Self::LimitRefused => "limit.refused",
            Self::CallDenied => "call.denied",
            Self::AdminRefused => "admin.refused",
            Self::AdminListedSessions => "admin.list_sessions",
            Self::AdminShowedSession => "admin.show_session",
            Self::AdminEndedSession => "admin.end_session",
            Self::AdminClosedStreams => "admin.close_streams",
            Self::AdminPublished => "admin.publish",
            Self::AdminListedNodes => "admin.list_nodes",
        }
    }

    /// Whether a stranger can do it as often as they like.
    #[must_use]
    pub const fn is_refusal(self) -> bool {
        matches!(
            self,
            Self::SessionRefused
                | Self::CredentialRefused
                | Self::OriginRefused
                | Self::LimitRefused
                | Self::CallDenied
                | Self::AdminRefused
        )
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Done,
    Refused,
    /// Something that was needed was away.
    Failed,
}

impl Verdict {
    /// The `outcome` of its line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// One line of the audit log. What is absent does not apply, or is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    pub at: SystemTime,
    pub deed: Deed,
    pub verdict: Verdict,
    /// Why, in one word of a closed set, or the key of a limit.
    pub reason: Option<&'static str>,
    pub principal: Option<Principal>,
    pub address: Option<IpAddr>,
    pub server: Option<ServerName>,
    pub session: Option<SessionId>,
    /// What was asked for: `POST /mcp`, or a JSON-RPC method.
    pub method: Option<String>,
    pub tool: Option<String>,
    /// Who had it before.
    pub from_node: Option<NodeId>,
    /// How many such events there were, where one line stands for several.
    pub count: Option<u64>,
}

/// Longer names are cut: they come from outside.
const NAME_CHARACTERS_MAX: usize = 128;

impl AuditEvent {
    /// Now, and done; a refusal is refused.
    #[must_use]
    pub fn new(deed: Deed) -> Self {
        Self {
            at: SystemTime::now(),
            deed,
            verdict: if deed.is_refusal() { Verdict::Refused } else { Verdict::Done },
            reason: None,
            principal: None,
            address: None,
            server: None,
            session: None,
            method: None,
            tool: None,
            from_node: None,
            count: None,
        }
    }

    #[must_use]
    pub fn reason(self, reason: &'static str) -> Self {
        Self { reason: Some(reason), ..self }
    }

    #[must_use]
    pub fn by(self, principal: &Principal, address: Option<IpAddr>) -> Self {
        Self { principal: Some(principal.clone()), address, ..self }
    }

    #[must_use]
    pub fn of(self, server: &ServerName, session: &SessionId) -> Self {
        Self { server: Some(server.clone()), session: Some(session.clone()), ..self }
    }

    #[must_use]
    pub fn method(self, method: &str) -> Self {
        Self { method: Some(cut(method)), ..self }
    }

    #[must_use]
    pub fn tool(self, tool: &str) -> Self {
        Self { tool: Some(cut(tool)), ..self }
    }

    /// As it is written for a machine: one object, without a line's end.
    #[must_use]
    pub fn to_json(&self, node: &NodeId) -> String {
        let line = Line {
            time: humantime::format_rfc3339_millis(self.at).to_string(),
            event: self.deed.name(),
            outcome: self.verdict.name(),
            reason: self.reason,
            principal: self.principal.as_ref().map(Principal::shown),
            address: self.address,
            node: node.as_str(),
            server: self.server.as_ref().map(ServerName::as_str),
            session: self.session.as_ref().map(SessionId::fingerprint),
            method: self.method.as_deref(),
            tool: self.tool.as_deref(),
            from_node: self.from_node.as_ref().map(NodeId::as_str),
            count: self.count,
        };
        // Texts and numbers only: there is nothing that could not be written.
        serde_json::to_string(&line).unwrap_or_default()
    }
}

fn cut(name: &str) -> String {
    // What a terminal may obey and JSON does not escape.
    let shown = |character| match character {
        '\u{7f}'..='\u{9f}' => char::REPLACEMENT_CHARACTER,
        other => other,
    };
    name.chars().take(NAME_CHARACTERS_MAX).map(shown).collect()
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    event: &'static str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    node: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_node: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
}

/// Where audit events go.
pub trait AuditSink: fmt::Debug + Send + Sync + 'static {
    /// Takes it, in order, without waiting for anything; what can't be kept is counted as lost.
    fn write(&self, node: &NodeId, event: &AuditEvent);

    /// How many events were lost since the start.
    fn lost(&self) -> u64;
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_line_says_who_what_when_from_where_and_how_it_ended() {
        let (node, id) = (NodeId::parse("n-1").unwrap(), SessionId::parse("0123").unwrap());
        let event = AuditEvent {
            at: UNIX_EPOCH + Duration::from_millis(1_700_000_000_070),
            address: Some("2001:db8::7".parse().unwrap()),
            ..AuditEvent::new(Deed::CallDenied)
        };
        let event = event.reason("tool").of(&ServerName::parse("files").unwrap(), &id).tool("a\n\"b");
        assert_eq!(
            event.to_json(&node),
            r#"{"time":"2023-11-14T22:13:20.070Z","event":"call.denied","outcome":"refused","reason":"tool","address":"2001:db8::7","node":"n-1","server":"files","session":"1be2e452b46d7a0d","tool":"a\n\"b"}"#
        );
        let long = AuditEvent::new(Deed::CallDenied).tool(&"ä".repeat(1000));
        assert_eq!(long.tool.map(|tool| tool.chars().count()), Some(NAME_CHARACTERS_MAX));
    }
}
