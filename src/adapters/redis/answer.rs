//! Reading what a script answered. A malformed answer is one that another version wrote: nothing is
//! guessed from it.

use std::str::FromStr;

use bytes::Bytes;
use fred::types::Value;
use serde::Deserialize;

use crate::domain::{
    Binding, ClientFacts, Fence, NodeId, Principal, RequestId, RunningRecord, ServerName, Session, SessionId,
    StreamId, Transport, UpstreamHandle,
};
use crate::ports::StoreError;

/// Why an answer could not be read.
#[derive(Debug, thiserror::Error)]
#[error("an answer of the session store can't be read: {0}")]
pub(super) struct Unreadable(pub &'static str);

impl From<Unreadable> for StoreError {
    fn from(unreadable: Unreadable) -> Self {
        tracing::error!(error = %unreadable, "is another version at work on the same keys?");
        Self::Unknown
    }
}

/// The parts of an answer, one after the other.
#[derive(Debug)]
pub(super) struct Parts(std::vec::IntoIter<Value>);

impl Parts {
    pub(super) fn of(value: Value) -> Result<Self, Unreadable> {
        match value {
            Value::Array(parts) => Ok(Self(parts.into_iter())),
            Value::Null => Ok(Self(Vec::new().into_iter())),
            _ => Err(Unreadable("no list")),
        }
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes, Unreadable> {
        match self.0.next() {
            Some(Value::Bytes(bytes)) => Ok(bytes),
            Some(Value::String(text)) => Ok(Bytes::copy_from_slice(text.as_bytes())),
            Some(Value::Integer(number)) => Ok(Bytes::from(number.to_string())),
            _ => Err(Unreadable("a text is missing")),
        }
    }

    pub(super) fn text(&mut self) -> Result<String, Unreadable> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| Unreadable("a text is not UTF-8"))
    }

    /// Absent is written as an empty text.
    pub(super) fn optional(&mut self) -> Result<Option<String>, Unreadable> {
        Ok(Some(self.text()?).filter(|text| !text.is_empty()))
    }

    pub(super) fn parsed<T: FromStr>(&mut self) -> Result<T, Unreadable> {
        self.text()?.parse().map_err(|_| Unreadable("a number is none"))
    }

    pub(super) fn fence(&mut self) -> Result<Fence, Unreadable> {
        Ok(Fence(self.parsed()?))
    }

    pub(super) fn flag(&mut self) -> Result<bool, Unreadable> {
        Ok(self.text()? == "1")
    }

    pub(super) fn node(&mut self) -> Result<NodeId, Unreadable> {
        NodeId::parse(&self.text()?).map_err(|_| Unreadable("a node's name is none"))
    }

    pub(super) fn stream(&mut self) -> Result<StreamId, Unreadable> {
        StreamId::parse(&self.text()?).map_err(|_| Unreadable("a stream's name is none"))
    }

    /// Node and fence, both empty if there is none.
    pub(super) fn binding(&mut self) -> Result<Option<Binding>, Unreadable> {
        let (node, fence) = (self.optional()?, self.optional()?);
        let Some(node) = node else { return Ok(None) };
        let node = NodeId::parse(&node).map_err(|_| Unreadable("a node's name is none"))?;
        let fence = fence.and_then(|fence| fence.parse().ok()).ok_or(Unreadable("a binding has no fence"))?;
        Ok(Some(Binding { node, fence: Fence(fence) }))
    }

    pub(super) fn list(&mut self) -> Result<Self, Unreadable> {
        self.0.next().map_or_else(|| Err(Unreadable("a list is missing")), Self::of)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.len() == 0
    }

    /// Everything that is left, read by `read`.
    pub(super) fn rest<T>(
        mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, Unreadable>,
    ) -> Result<Vec<T>, Unreadable> {
        let mut all = Vec::new();
        while !self.is_empty() {
            all.push(read(&mut self)?);
        }
        Ok(all)
    }

    /// A session's facts, field by field.
    pub(super) fn session(&mut self, id: &SessionId) -> Result<Session, Unreadable> {
        let mut fields = self.list()?;
        let mut session = Session {
            id: id.clone(),
            server: ServerName::parse("none").map_err(|_| Unreadable("no server"))?,
            owner: Principal::anonymous(),
            transport: Transport::Streamable,
            opened_ms: None,
            client: None,
            upstream: None,
            log_level: None,
            subscriptions: Vec::new(),
            carried: None,
        };
        while !fields.is_empty() {
            match &*fields.text()? {
                "server" => {
                    session.server = ServerName::parse(&fields.text()?)
                        .map_err(|_| Unreadable("a server's name is none"))?;
                }
                "owner" => session.owner = owner(&fields.text()?)?,
                "transport" => {
                    session.transport = match &*fields.text()? {
                        "g" => Transport::Streamable,
                        "s" => Transport::HttpSse,
                        _ => return Err(Unreadable("a transport is none")),
                    };
                }
                "opened" => session.opened_ms = Some(fields.parsed()?),
                "client" => session.client = Some(json::<StoredClient>(&fields.text()?)?.into()),
                "upstream" => {
                    session.upstream = Some(json::<StoredUpstream>(&fields.text()?)?.try_into()?);
                }
                "level" => session.log_level = Some(fields.text()?),
                "carried" => session.carried = Some(fields.text()?),
                "subscriptions" => session.subscriptions = fields.list()?.rest(Self::text)?,
                _ => {
                    fields.bytes()?;
                }
            }
        }
        Ok(session)
    }

    /// A running record, as the scripts keep it.
    pub(super) fn record(&mut self) -> Result<RunningRecord, Unreadable> {
        let stored: StoredRecord = json(&self.text()?)?;
        Ok(RunningRecord {
            request: RequestId::from_json(&stored.request),
            stream: StreamId::parse(&stored.stream).map_err(|_| Unreadable("a stream's name is none"))?,
            runner: NodeId::parse(&stored.runner).map_err(|_| Unreadable("a node's name is none"))?,
            fence: Fence(stored.fence.parse().map_err(|_| Unreadable("a fence is none"))?),
            deadline_ms: stored.deadline as u64,
            upstream_event: stored.upstream,
        })
    }
}

fn json<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, Unreadable> {
    serde_json::from_str(text).map_err(|_| Unreadable("JSON is none"))
}

/// Any text but these is another version's, and nobody's to guess.
pub(super) fn owner(stored: &str) -> Result<Principal, Unreadable> {
    match stored.strip_prefix('=') {
        Some(name) => Ok(Principal::named(name)),
        None if stored == Principal::anonymous().as_str() => Ok(Principal::anonymous()),
        None => Err(Unreadable("an owner is none")),
    }
}

#[derive(Deserialize)]
struct StoredRecord {
    request: String,
    stream: String,
    runner: String,
    fence: String,
    /// Lua has one kind of number.
    deadline: f64,
    upstream: Option<String>,
}

#[derive(serde::Serialize, Deserialize)]
pub(super) struct StoredClient {
    protocol_version: String,
    initialize: String,
    capabilities: Vec<String>,
    server_capabilities: String,
}

impl From<ClientFacts> for StoredClient {
    fn from(facts: ClientFacts) -> Self {
        let ClientFacts { protocol_version, initialize, capabilities, server_capabilities } = facts;
        Self { protocol_version, initialize, capabilities, server_capabilities }
    }
}

impl From<StoredClient> for ClientFacts {
    fn from(stored: StoredClient) -> Self {
        let StoredClient { protocol_version, initialize, capabilities, server_capabilities } = stored;
        Self { protocol_version, initialize, capabilities, server_capabilities }
    }
}

#[derive(serde::Serialize, Deserialize)]
pub(super) struct StoredUpstream {
    generation: u64,
    session: Option<String>,
    /// Older handles have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    protocol_version: String,
}

impl From<UpstreamHandle> for StoredUpstream {
    fn from(handle: UpstreamHandle) -> Self {
        let UpstreamHandle { generation, session, node, protocol_version } = handle;
        Self { generation, session, node: node.map(|node| node.to_string()), protocol_version }
    }
}

impl TryFrom<StoredUpstream> for UpstreamHandle {
    type Error = Unreadable;

    fn try_from(stored: StoredUpstream) -> Result<Self, Unreadable> {
        let StoredUpstream { generation, session, node, protocol_version } = stored;
        let node = node.map(|node| NodeId::parse(&node)).transpose();
        let node = node.map_err(|_| Unreadable("a node's name is none"))?;
        Ok(Self { generation, session, node, protocol_version })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(stored: &str, node: Option<&str>) {
        let handle = UpstreamHandle::try_from(json::<StoredUpstream>(stored).unwrap()).unwrap();
        assert_eq!(handle.node.as_ref().map(NodeId::as_str), node);
        assert_eq!(serde_json::to_string(&StoredUpstream::from(handle)).unwrap(), stored);
    }

    #[test]
    fn a_handle_names_its_node_or_none_as_older_ones_do() {
        check(r#"{"generation":1,"session":"u","protocol_version":"2025-11-25"}"#, None);
        check(r#"{"generation":1,"session":"u","node":"a-1","protocol_version":"2025-11-25"}"#, Some("a-1"));
    }
}
