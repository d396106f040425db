//! The session store's steps in Redis.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use fred::types::Value;

use super::answer::{Parts, StoredClient, StoredUpstream, Unreadable, owner};
use super::connect::{Config, ConnectError, connect};
use super::scripts::Script;
use super::steps::{Steps, flag, millis, optional, text};
use crate::domain::{
    Event, Fence, Principal, RequestId, ServerName, Session, SessionId, SessionPart, StreamKey, Transport,
};
use crate::ports::{
    Append, Appended, Attach, Attached, Begin, Begun, Bounds, CloseIf, Closed, Inspected, Opened, Page,
    Query, SEEN_EVENTS, SeenStream, StoreError, Tail, Updated,
};

/// Sessions that are read at a time when looking for some.
const PAGE: usize = 100;

/// Sessions in a Redis that nodes share.
#[derive(Debug)]
pub struct RedisSessionStore {
    pub(super) steps: Steps,
    /// Ended when their ids were opened anew; the next `reap` answers them.
    leftover: Mutex<Vec<Closed>>,
    /// As many as there were when it was looked for those that are past their life.
    pub(super) sessions: AtomicUsize,
}

impl RedisSessionStore {
    /// Connects and looks whether the server will do.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(config: &Config, bounds: Bounds) -> Result<Self, ConnectError> {
        let servers = connect(config).await?;
        Ok(Self {
            steps: Steps::new(servers, &config.prefix, bounds),
            leftover: Mutex::default(),
            sessions: AtomicUsize::new(0),
        })
    }

    pub(super) async fn update_now(&self, id: &SessionId, part: SessionPart) -> Result<Updated, StoreError> {
        let (what, value, more) = match part {
            SessionPart::Client(facts) => ("client", json(&StoredClient::from(facts)), String::new()),
            SessionPart::Upstream(handle) => {
                let generation = handle.generation.to_string();
                ("upstream", json(&StoredUpstream::from(handle)), generation)
            }
            SessionPart::LogLevel(level) => ("level", level, String::new()),
            SessionPart::Subscribed(uri) => {
                ("subscribed", uri, self.steps.bounds.subscriptions_per_session_max.to_string())
            }
            SessionPart::Unsubscribed(uri) => ("unsubscribed", uri, String::new()),
            SessionPart::Carried(sealed) => ("carried", sealed, String::new()),
        };
        let arguments = vec![text(what), text(&value), text(&more)];
        let answer = self.steps.on_session(&self.steps.scripts.update, id, None, arguments).await?;
        let Some((said, mut parts)) = answer else { return Ok(Updated::Gone) };
        if said == "full" {
            return Ok(Updated::Full);
        }
        Ok(Updated::Now(Box::new(parts.session(id)?)))
    }

    pub(super) async fn open_now(
        &self,
        id: &SessionId,
        server: &ServerName,
        by: &Principal,
        transport: Transport,
    ) -> Result<Opened, StoreError> {
        let bounds = &self.steps.bounds;
        let room = vec![
            text("enter"),
            text(id.as_str()),
            text(&bounds.sessions_max.to_string()),
            text(&millis(bounds.session_idle_timeout)),
        ];
        if self.steps.on_index(room).await?.text()? == "full" {
            return Ok(Opened::Full);
        }
        let transport = if transport == Transport::HttpSse { "s" } else { "g" };
        let arguments = vec![text(server.as_str()), text(by.as_str()), text(transport)];
        loop {
            let answer = self.steps.on_session(&self.steps.scripts.open, id, None, arguments.clone()).await?;
            let (said, mut parts) = answer.ok_or(StoreError::Unknown)?;
            if said == "owned" {
                return Ok(Opened::Owned(owner(&parts.text()?)?));
            }
            if let Reaped::Ended(closed) = self.reap_one(id).await? {
                self.leftover.lock().expect("no panic while holding it").push(*closed);
            }
        }
    }

    pub(super) async fn begin_now(&self, begin: &Begin) -> Result<Begun, StoreError> {
        let Begin { stream, requests, runner, lifetime, bind, upstream_event } = begin;
        let mut arguments = vec![
            text(stream.stream.as_str()),
            text(runner.as_str()),
            text(&millis(*lifetime)),
            flag(*bind),
            optional(upstream_event.as_ref()),
        ];
        arguments.extend(requests.iter().map(|request| text(request.as_json())));
        let Some((said, mut parts)) = self.on_stream(&self.steps.scripts.begin, stream, arguments).await?
        else {
            return Ok(Begun::Gone);
        };
        if said == "duplicate" {
            return Ok(Begun::Duplicate(RequestId::from_json(&parts.text()?)));
        }
        Ok(Begun::Recorded { fence: parts.fence()?, binding: parts.binding()?, top: parts.parsed()? })
    }

    pub(super) async fn append_now(&self, append: &Append) -> Result<Appended, StoreError> {
        let (request, fence) =
            append.request.as_ref().map_or((String::new(), String::new()), |(request, fence)| {
                (request.as_json().to_owned(), fence.to_string())
            });
        let arguments = vec![
            text(append.to.stream.as_str()),
            Value::Bytes(append.payload.clone()),
            text(&append.producer.id.to_string()),
            text(&append.producer.sequence.to_string()),
            text(&request),
            text(&fence),
            flag(append.last),
            optional(append.upstream_event.as_ref()),
            optional(append.reader.as_ref().map(|reader| reader.fence)),
            optional(append.reader.as_ref().and_then(|reader| reader.after.as_ref())),
        ];
        let answer = self.on_stream(&self.steps.scripts.append, &append.to, arguments).await?;
        let Some((said, mut parts)) = answer else { return Ok(Appended::Gone) };
        Ok(match &*said {
            "stale" => Appended::StaleFence,
            "ended" => Appended::Ended,
            "forgotten" => Appended::Forgotten,
            _ => Appended::Logged {
                number: parts.parsed()?,
                previous: parts.parsed()?,
                binding: parts.binding()?,
                ended: parts.flag()?,
            },
        })
    }

    pub(super) async fn attach_now(&self, attach: &Attach) -> Result<Attached, StoreError> {
        let arguments = vec![
            text(attach.stream.stream.as_str()),
            text(attach.node.as_str()),
            optional(attach.position),
            optional(attach.reassert),
            optional(attach.not_after_ms),
        ];
        let answer = self.on_stream(&self.steps.scripts.attach, &attach.stream, arguments).await?;
        let Some((said, mut parts)) = answer else { return Ok(Attached::Gone) };
        Ok(match &*said {
            "late" => Attached::TooLate,
            "unknown" => Attached::Unknown,
            "ended" => Attached::Ended,
            "lost" => Attached::Lost { top: parts.parsed()?, rest: parts.parsed()? },
            "superseded" => Attached::Superseded(parts.fence()?),
            _ => bound(parts)?,
        })
    }

    pub(super) async fn close_now(
        &self,
        id: &SessionId,
        condition: &CloseIf,
    ) -> Result<Option<Closed>, StoreError> {
        let condition = match condition {
            CloseIf::Always => vec![text("")],
            CloseIf::Abandoned(stream, since) => vec![text(stream.as_str()), text(&since.to_string())],
        };
        let answer = self.steps.on_session(&self.steps.scripts.close, id, None, condition).await?;
        let Some((said, parts)) = answer else { return Ok(None) };
        if said == "held" {
            return Ok(None);
        }
        let closed = closed(id, parts)?;
        // Should this get lost, whoever looks at it when it is due finds it gone.
        let _ = self.steps.on_index(vec![text("leave"), text(id.as_str())]).await;
        Ok(Some(closed))
    }

    async fn reap_one(&self, id: &SessionId) -> Result<Reaped, StoreError> {
        match self.steps.on_session(&self.steps.scripts.reap, id, None, Vec::new()).await? {
            None => Ok(Reaped::Gone),
            Some((said, mut parts)) if said == "alive" => Ok(Reaped::Alive(parts.text()?)),
            Some((_, parts)) => Ok(Reaped::Ended(Box::new(closed(id, parts)?))),
        }
    }

    pub(super) async fn reap_now(&self, limit: usize) -> Result<Vec<Closed>, StoreError> {
        let mut ended = {
            let mut leftover = self.leftover.lock().expect("no panic while holding it");
            let kept = leftover.len().saturating_sub(limit);
            leftover.split_off(kept)
        };
        let left = limit - ended.len();
        let mut due = self.steps.on_index(vec![text("due"), text(&left.to_string())]).await?;
        self.sessions.store(due.parsed()?, Ordering::Relaxed);
        let (mut gone, mut later) = (vec![text("leave")], vec![text("later")]);
        for name in due.rest(Parts::text)? {
            let Ok(id) = SessionId::parse(&name) else { continue };
            match self.reap_one(&id).await {
                Ok(Reaped::Alive(until)) => later.extend([text(&until), text(&name)]),
                Ok(Reaped::Gone) => gone.push(text(&name)),
                Ok(Reaped::Ended(closed)) => {
                    gone.push(text(&name));
                    ended.push(*closed);
                }
                // Those of other servers can be looked at.
                Err(StoreError::Unavailable) => {}
                // What was ended so far must be answered.
                Err(error) => {
                    tracing::debug!(session = ?id, %error, "an idle session is not ended yet");
                    break;
                }
            }
        }
        for change in [gone, later] {
            if change.len() > 1 {
                let _ = self.steps.on_index(change).await;
            }
        }
        Ok(ended)
    }

    pub(super) async fn find_now(&self, query: &Query) -> Result<Page, StoreError> {
        let mut page = Page::default();
        let mut after = query.after.clone();
        loop {
            let from = optional(after.as_ref());
            let names = self.steps.on_index(vec![text("page"), from, text(&PAGE.to_string())]).await?;
            let names = names.rest(Parts::text)?;
            let ids: Vec<_> = names.iter().filter_map(|name| SessionId::parse(name).ok()).collect();
            let found = futures::future::try_join_all(ids.iter().map(|id| self.load_now(id))).await?;
            for session in found.into_iter().flatten().filter(|session| matches(session, query)) {
                if page.sessions.len() == query.limit {
                    page.more = true;
                    return Ok(page);
                }
                page.sessions.push(session);
            }
            if names.len() < PAGE {
                return Ok(page);
            }
            after = ids.last().cloned();
        }
    }

    pub(super) async fn load_now(&self, id: &SessionId) -> Result<Option<Session>, StoreError> {
        match self.steps.on_session(&self.steps.scripts.load, id, None, Vec::new()).await? {
            None => Ok(None),
            Some((_, mut parts)) => Ok(Some(parts.session(id)?)),
        }
    }

    pub(super) async fn on_stream(
        &self,
        script: &Script,
        stream: &StreamKey,
        arguments: Vec<Value>,
    ) -> Result<Option<(String, Parts)>, StoreError> {
        self.steps.on_session(script, &stream.session, Some(&stream.stream), arguments).await
    }

    pub(super) async fn inspect_now(&self, id: &SessionId) -> Result<Option<Inspected>, StoreError> {
        let arguments = vec![text(""), text(&SEEN_EVENTS.to_string())];
        let answer = self.steps.on_session(&self.steps.scripts.inspect, id, None, arguments).await?;
        let Some((_, mut parts)) = answer else { return Ok(None) };
        let session = parts.session(id)?;
        let mut streams = parts.list()?.rest(|streams| {
            let mut seen = streams.list()?;
            let (stream, binding, top) = (seen.stream()?, seen.binding()?, seen.parsed()?);
            let events = seen.parsed()?;
            let mut last = seen.list()?.rest(|last| Ok((last.parsed()?, last.parsed()?)))?;
            last.reverse();
            Ok(SeenStream { stream, binding, top, events, last })
        })?;
        streams.sort_by(|one, other| one.stream.cmp(&other.stream));
        let running = parts.list()?.rest(Parts::record)?;
        Ok(Some(Inspected { session, streams, running }))
    }
}

enum Reaped {
    Gone,
    /// When to look again.
    Alive(String),
    Ended(Box<Closed>),
}

fn json(stored: &impl serde::Serialize) -> String {
    serde_json::to_string(stored).expect("texts and numbers are JSON")
}

fn closed(id: &SessionId, mut parts: Parts) -> Result<Closed, Unreadable> {
    let session = parts.session(id)?;
    let bound = parts.list()?.rest(|bound| {
        let stream = bound.stream()?;
        let binding = bound.binding()?.ok_or(Unreadable("a binding is missing"))?;
        Ok((stream, binding))
    })?;
    Ok(Closed { session, bound })
}

fn bound(mut parts: Parts) -> Result<Attached, Unreadable> {
    let (fence, after, ended) = (parts.fence()?, parts.parsed()?, parts.flag()?);
    let previous = parts.binding()?;
    let last_bound = parts.optional()?.and_then(|fence| fence.parse().ok()).map(Fence);
    let upstream_event = parts.optional()?;
    let mut before = after;
    let events = parts.list()?.rest(|events| {
        let number = events.parsed()?;
        let previous = std::mem::replace(&mut before, number);
        Ok(Event { number, previous, payload: events.bytes()? })
    })?;
    let running = parts.list()?.rest(Parts::record)?;
    let tail = Tail { after, events, ended };
    Ok(Attached::Bound { fence, tail, running, previous, last_bound, upstream_event })
}

fn matches(session: &Session, query: &Query) -> bool {
    let declares = |name: &String| session.client.as_ref().is_some_and(|c| c.capabilities.contains(name));
    query.server.as_ref().is_none_or(|server| session.server == *server)
        && query.owner.as_ref().is_none_or(|owner| session.owner == *owner)
        && query.capability.as_ref().is_none_or(declares)
}
