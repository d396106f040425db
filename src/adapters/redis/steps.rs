//! Running scripts: what their failures mean, and which keys they are given.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use fred::error::{Error as RedisError, ErrorKind};
use fred::interfaces::{ClientLike as _, LuaInterface as _};
use fred::types::{ClusterHash, CustomCommand, Value};
use fred::util::redis_keyslot;
use tokio::time::Instant;

use super::answer::Parts;
use super::link::Link;
use super::scripts::{Script, Scripts};
use super::servers::Servers;
use super::topology::Elsewhere;
use crate::domain::{Principal, SessionId, StreamId};
use crate::ports::{Bounds, StoreError};

/// What Redis says before it runs anything of a step.
const NOT_RUN: [&str; 7] = ["OOM", "READONLY", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "BUSY"];

/// Between two attempts on a slot that is on its way.
const AGAIN: Duration = Duration::from_millis(20);

/// Runs steps where their keys are.
#[derive(Debug)]
pub(super) struct Steps {
    servers: Servers,
    prefix: String,
    pub(super) bounds: Bounds,
    pub(super) scripts: Scripts,
    /// What every step on a session begins with.
    common: Vec<Value>,
}

impl Steps {
    pub(super) fn new(servers: Servers, prefix: &str, bounds: Bounds) -> Self {
        let log = bounds.log;
        let common = [
            millis(bounds.session_idle_timeout),
            millis(log.event_ttl),
            log.events_max.to_string(),
            log.stream_bytes_max.to_string(),
            log.session_bytes_max.to_string(),
        ];
        let common = common.map(Value::from).to_vec();
        Self { servers, prefix: prefix.to_owned(), bounds, scripts: Scripts::new(), common }
    }

    /// Whether something may have been forgotten since this was asked last.
    pub(super) fn take_shaken(&self) -> bool {
        self.servers.shaken().swap(false, Ordering::Relaxed)
    }

    /// Nobody was told.
    pub(super) fn give_shaken_back(&self, shaken: bool) {
        self.servers.shaken().fetch_or(shaken, Ordering::Relaxed);
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
            "format" => {
                let format = parts.text()?;
                tracing::error!(session = ?id, format, "a session has another version's format: this node can't serve it");
                Err(StoreError::Unavailable)
            }
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
        let keys = ["", ":facts", ":left"].map(|part| format!("{}:{{nodes}}{part}", self.prefix)).to_vec();
        self.run(&self.scripts.nodes, keys, arguments).await
    }

    pub(super) fn hints_key(&self, server: &str) -> String {
        format!("{}:hints:{{{server}}}", self.prefix)
    }

    pub(super) fn rate_key(&self, principal: &Principal) -> String {
        format!("{}:rate:{}", self.prefix, principal.as_str())
    }

    pub(super) async fn run(
        &self,
        script: &Script,
        keys: Vec<String>,
        arguments: Vec<Value>,
    ) -> Result<Parts, StoreError> {
        let slot = redis_keyslot(keys.first().map(String::as_bytes).unwrap_or_default());
        let since = Instant::now();
        let mut way = Way { link: self.servers.of(slot).ok_or_else(|| self.away())?, asking: false };
        // Servers that contradict each other are given time to agree.
        let mut turned = false;
        loop {
            if !way.link.is_there() {
                return Err(self.away());
            }
            let error = match way.tell(script, keys.clone(), arguments.clone()).await {
                Ok(answer) => return Ok(Parts::of(answer)?),
                Err(error) => error,
            };
            let Some(elsewhere) = Elsewhere::of(error.details(), &way.link.server) else {
                if *error.kind() == ErrorKind::Timeout {
                    way.link.doubt();
                }
                self.servers.doubt();
                return Err(failed(&error));
            };
            let left = self.servers.timeout().saturating_sub(since.elapsed());
            if left.is_zero() {
                tracing::warn!(%error, "a slot of Redis is on its way for too long");
                return Err(StoreError::Unavailable);
            }
            way = match elsewhere {
                Elsewhere::Moved(server) => Way { link: self.servers.moved(slot, &server), asking: false },
                Elsewhere::Ask(server) => Way { link: self.servers.at(&server), asking: true },
                Elsewhere::Again => {
                    turned = true;
                    Way { link: self.servers.of(slot).ok_or_else(|| self.away())?, asking: false }
                }
            };
            way.link.there(left).await;
            if turned {
                tokio::time::sleep(AGAIN).await;
            }
            turned = true;
        }
    }

    fn away(&self) -> StoreError {
        self.servers.doubt();
        StoreError::Unavailable
    }
}

/// Where a step is told.
struct Way {
    link: Arc<Link>,
    /// The slot is not its own yet.
    asking: bool,
}

impl Way {
    async fn tell(
        &self,
        script: &Script,
        keys: Vec<String>,
        arguments: Vec<Value>,
    ) -> Result<Value, RedisError> {
        let client = self.link.client();
        if self.asking {
            let mut words = vec![text(&script.text), text(&keys.len().to_string())];
            words.extend(keys.iter().map(|key| text(key)));
            words.extend(arguments);
            let pipeline = client.pipeline();
            let command = |name| CustomCommand::new_static(name, ClusterHash::Random, false);
            let () = pipeline.custom(command("ASKING"), Vec::<Value>::new()).await?;
            let () = pipeline.custom(command("EVAL"), words).await?;
            return pipeline.last().await;
        }
        let answer = client.evalsha(script.hash.as_str(), keys.clone(), arguments.clone()).await;
        // After a restart, a failover or SCRIPT FLUSH it is told the whole text again.
        if answer.as_ref().is_err_and(|error: &RedisError| error.details().starts_with("NOSCRIPT")) {
            return client.eval(script.text.as_str(), keys, arguments).await;
        }
        answer
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
        // The client drops the connection, and says the same of all that was sent on it.
        ErrorKind::Cluster => {
            tracing::warn!(%error, "the cluster of Redis is down");
            StoreError::Unknown
        }
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
