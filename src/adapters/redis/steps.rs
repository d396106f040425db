//! Running scripts: what their failures mean, and which keys they are given.

use std::time::Duration;

use bytes::Bytes;
use fred::clients::Client;
use fred::error::{Error as RedisError, ErrorKind};
use fred::interfaces::LuaInterface as _;
use fred::types::Value;

use super::answer::{Parts, Unreadable};
use super::presence::Presence;
use super::scripts::{Script, Scripts};
use crate::domain::{SessionId, StreamId};
use crate::ports::{Bounds, StoreError};

/// What Redis says before it runs anything of a step.
const NOT_RUN: [&str; 9] =
    ["OOM", "READONLY", "LOADING", "CLUSTERDOWN", "MASTERDOWN", "MISCONF", "NOREPLICAS", "BUSY", "TRYAGAIN"];

/// What a Redis that is away is given to answer.
const PATIENCE: Duration = Duration::from_millis(300);

/// Runs steps on one Redis.
#[derive(Debug)]
pub(super) struct Steps {
    client: Client,
    presence: Presence,
    prefix: String,
    pub(super) bounds: Bounds,
    pub(super) scripts: Scripts,
    /// What every step on a session begins with.
    common: Vec<Value>,
}

impl Steps {
    pub(super) fn new(client: Client, prefix: &str, bounds: Bounds) -> Self {
        let log = bounds.log;
        let common = [
            millis(bounds.session_idle_timeout),
            millis(log.event_ttl),
            log.events_max.to_string(),
            log.stream_bytes_max.to_string(),
            log.session_bytes_max.to_string(),
        ];
        let common = common.map(Value::from).to_vec();
        let presence = Presence::watch(&client, PATIENCE);
        Self { client, presence, prefix: prefix.to_owned(), bounds, scripts: Scripts::new(), common }
    }

    /// A step on a session, or on one of its streams. `None`: the session is gone.
    pub(super) async fn on_session(
        &self,
        script: &Script,
        id: &SessionId,
        stream: Option<&StreamId>,
        arguments: Vec<Value>,
    ) -> Result<Option<(String, Parts)>, StoreError> {
        let session = format!("{}:{{{id}}}", self.prefix);
        let mut keys: Vec<_> = ["", ":z", ":r", ":u"].map(|part| format!("{session}{part}")).to_vec();
        if let Some(stream) = stream {
            keys.push(format!("{session}:{stream}"));
            keys.push(format!("{session}:{stream}:b"));
        }
        let arguments = self.common.iter().cloned().chain(arguments).collect();
        let mut parts = self.run(script, keys, arguments).await?;
        let said = parts.text()?;
        match &*said {
            "gone" => Ok(None),
            "format" => Err(Unreadable("its format is another version's").into()),
            _ => Ok(Some((said, parts))),
        }
    }

    /// A step on the sessions' index.
    pub(super) async fn on_index(&self, arguments: Vec<Value>) -> Result<Parts, StoreError> {
        let keys = vec![format!("{}:{{index}}:ids", self.prefix), format!("{}:{{index}}:due", self.prefix)];
        self.run(&self.scripts.index, keys, arguments).await
    }

    /// A step on the nodes' leases.
    pub(super) async fn on_nodes(&self, arguments: Vec<Value>) -> Result<Parts, StoreError> {
        let keys = vec![format!("{}:{{nodes}}", self.prefix), format!("{}:{{nodes}}:facts", self.prefix)];
        self.run(&self.scripts.nodes, keys, arguments).await
    }

    pub(super) fn hints_key(&self, server: &str) -> String {
        format!("{}:hints:{{{server}}}", self.prefix)
    }

    pub(super) fn client(&self) -> Result<&Client, StoreError> {
        // Steps would wait for the whole timeout otherwise.
        if self.presence.is_there() { Ok(&self.client) } else { Err(StoreError::Unavailable) }
    }

    pub(super) async fn run(
        &self,
        script: &Script,
        keys: Vec<String>,
        arguments: Vec<Value>,
    ) -> Result<Parts, StoreError> {
        let client = self.client()?;
        let mut answer: Result<Value, _> =
            client.evalsha(script.hash.as_str(), keys.clone(), arguments.clone()).await;
        // After a restart, a failover or SCRIPT FLUSH it is told the whole text again.
        if answer.as_ref().is_err_and(|error| error.details().starts_with("NOSCRIPT")) {
            answer = client.eval(script.text.as_str(), keys, arguments).await;
        }
        Ok(Parts::of(answer.map_err(|error| failed(&error))?)?)
    }
}

/// What a failure means for the step.
pub(super) fn failed(error: &RedisError) -> StoreError {
    let details = error.details();
    if NOT_RUN.iter().any(|code| details.starts_with(code)) {
        tracing::warn!(%error, "Redis refuses to write");
        return StoreError::Unavailable;
    }
    match error.kind() {
        ErrorKind::Backpressure => StoreError::Unavailable,
        ErrorKind::Timeout | ErrorKind::IO | ErrorKind::Canceled => StoreError::Unknown,
        _ => {
            tracing::error!(%error, "a step of the session store failed");
            StoreError::Unknown
        }
    }
}

/// As the scripts count time; nothing lives for no time at all.
pub(super) fn millis(duration: Duration) -> String {
    duration.as_millis().max(1).to_string()
}

pub(super) fn text(text: &str) -> Value {
    Value::Bytes(Bytes::copy_from_slice(text.as_bytes()))
}

pub(super) fn flag(set: bool) -> Value {
    Value::from_static_str(if set { "1" } else { "0" })
}

/// Absent is written as an empty text.
pub(super) fn optional(value: Option<impl ToString>) -> Value {
    text(&value.map(|value| value.to_string()).unwrap_or_default())
}
