//! GET: binding a socket to a stream, and giving a client that comes back what it missed, with
//! answers that real clients survive (MCP-RULES, "A GET that resumes").

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{SemaphorePermit, oneshot};
use tokio::time::Instant;

use super::body::StreamBody;
use super::deliver::give_way;
use super::live::Live;
use super::loss::{loss_notices, lost_requests, tell_if_orphaned};
use super::server::Server;
use super::stream::{Delivered, Framing, LocalStream, Opening};
use super::{Error, Hub};
use crate::domain::{Binding, EventId, EventNumber, Fence, Limit, StreamId, StreamKey, StreamKind};
use crate::ports::{Attach, Attached, Envelope, StoreError, Tail, Takeover};
use crate::protocol::jsonrpc;
use crate::protocol::sse::{Frame, KEEP_ALIVE};
use crate::telemetry::{Era, ResumeEnd, StreamEnd};

/// An attach that the store comes to later than this is void: nobody waits for it any more.
const ATTACH_WITHIN: Duration = Duration::from_secs(4);

/// How often it is looked for what an attach without an answer left behind.
const IN_DOUBT_TRIES: usize = 20;

/// How long a resume waits for a store that is away before the client is told to come again.
const RESUME_PATIENCE: Duration = Duration::from_secs(2);

/// What a GET is answered with.
#[derive(Debug)]
pub enum Attachment {
    Stream(StreamBody),
    /// A short event stream that ends at once: come again, or an error for what was asked.
    Once(Bytes),
    /// Nothing is left of this stream, and nothing will come (405).
    Ended,
}

/// How a stream is to be opened.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Where an HTTP+SSE client posts to; absent over Streamable HTTP.
    pub endpoint: Option<&'a str>,
    /// The client understands events without data (2025-11-25 and later).
    pub primes: bool,
    pub position: Option<&'a EventId>,
    /// Where the client is.
    pub address: Option<IpAddr>,
}

impl Hub {
    /// Opens a session's GET stream, or resumes any stream of it at a position.
    ///
    /// # Errors
    /// [`Error::NoSession`], [`Error::Limit`], or, without a position, [`Error::Exceeded`], [`Error::Store`].
    pub async fn attach(
        &self,
        server: &Arc<Server>,
        live: &Arc<Live>,
        wanted: Wanted<'_>,
    ) -> Result<Attachment, Error> {
        let own = if wanted.endpoint.is_some() { StreamId::http_sse() } else { StreamId::get() };
        let stream = wanted.position.map_or_else(|| own.clone(), |position| position.stream.clone());
        let number = wanted.position.map(|position| position.number);
        let key = StreamKey { session: live.id.clone(), stream };
        // A position on the other transport's stream was never given out on this one.
        let foreign = key.stream.kind() != StreamKind::Post && key.stream != own;
        let attempt = if foreign {
            Attempt::Lost(None)
        } else {
            self.bind(live, &key, number, wanted, Vec::new()).await?
        };
        if wanted.position.is_some() {
            self.inner.metrics.resumed(attempt.resume_end());
        }
        let (body, from) = match attempt {
            Attempt::Bound(body, from) => (body, from),
            Attempt::Ended => return Ok(Attachment::Ended),
            Attempt::Postponed => return Ok(Attachment::Once(self.come_again(wanted.position))),
            Attempt::Lost(_) if key.stream.kind() == StreamKind::Post => {
                tracing::info!(stream = %key, "a stream can't be resumed; its requests are answered with errors");
                return Ok(lost_requests(&key.stream));
            }
            Attempt::Lost(rest) => {
                tracing::info!(stream = %key, ?rest, "a stream can't be resumed; the client is told and gets what is left");
                let key = StreamKey { stream: own, ..key };
                match self.bind(live, &key, rest, wanted, loss_notices(live)).await? {
                    Attempt::Bound(body, from) => (body, from),
                    Attempt::Postponed | Attempt::Lost(_) | Attempt::Ended => {
                        return Ok(Attachment::Once(self.come_again(wanted.position)));
                    }
                }
            }
        };
        if let Some(handle) = live.upstream() {
            self.start_pump(server, live, &handle, &key.stream, from);
        }
        Ok(Attachment::Stream(body))
    }

    /// Binds in a task of its own, to the end: a client that goes meanwhile drops the body, which gives
    /// back what was bound.
    async fn bind(
        &self,
        live: &Arc<Live>,
        key: &StreamKey,
        position: Option<EventNumber>,
        wanted: Wanted<'_>,
        notices: Vec<Bytes>,
    ) -> Result<Attempt, Error> {
        // It is told to come again rather than refused, if it can't come back to this stream either.
        let resumes = wanted.position.is_some();
        let binding = Bind {
            live: live.clone(),
            key: key.clone(),
            position,
            primes: wanted.primes,
            endpoint: wanted.endpoint.map(str::to_owned),
            notices,
            address: wanted.address,
        };
        let (mut send, bound) = oneshot::channel();
        let hub = self.clone();
        self.inner.tasks.spawn(async move {
            let attempt = tokio::select! {
                biased;
                // Nobody waits any more, and nothing was asked yet.
                () = send.closed() => return,
                turn = hub.turn_to_attach(resumes) => match turn {
                    Some(_turn) => hub.bind_now(binding).await,
                    None if resumes => Ok(Attempt::Postponed),
                    None => Err(hub.limit(Limit::Attaches)),
                },
            };
            let _ = send.send(attempt);
        });
        match bound.await.unwrap_or(Err(Error::Abandoned("its stream could not be bound"))) {
            Err(Error::Store(_) | Error::Exceeded(_)) if resumes => Ok(Attempt::Postponed),
            other => other,
        }
    }

    async fn bind_now(&self, binding: Bind) -> Result<Attempt, Error> {
        let Bind { live, key, position, primes, endpoint, notices, address } = binding;
        let (live, key) = (&live, &key);
        let (stream, body) = self.local_stream(live, key, primes, position.is_some())?;
        if self.inner.config.streams.keep_alive.is_some() {
            stream.outlet.push_replayed(Bytes::from_static(KEEP_ALIVE));
        }
        let attach = Attach {
            stream: key.clone(),
            node: self.inner.node.clone(),
            position,
            reassert: None,
            // Should the answer get lost and the step run later, it must not take the stream from
            // whoever holds it by then.
            not_after_ms: self.inner.nodes.store_time(ATTACH_WITHIN),
        };
        let attached = self.attach_patiently(&attach).await;
        match attached {
            Ok(Attached::Bound { fence, tail, previous, running, last_bound, upstream_event, .. }) => {
                let takeover = if position.is_some() { Takeover::Resumed } else { Takeover::Second };
                self.displace(live, &stream, fence, previous.clone(), takeover).await;
                // Over HTTP+SSE a session begins with its stream.
                if endpoint.is_none() || position.is_some() {
                    self.note_claimed(live, address, position.is_some(), previous.as_ref());
                }
                if previous.is_none()
                    && last_bound.is_some()
                    && key.stream.kind() != StreamKind::Post
                    && !live.is_pumped()
                {
                    // Whoever held it last may still read the upstream's own stream.
                    let rebound = Envelope::Rebound { stream: key.clone(), fence, takeover };
                    let _ = self.inner.mail.announce(rebound).await;
                }
                let opening = Opening { endpoint: endpoint.as_deref(), notices: &notices };
                self.inner.metrics.replayed(tail.events.len());
                if stream.bound(fence, &tail, &opening) == Delivered::Gap {
                    self.close_gap(live, &stream);
                }
                tell_if_orphaned(&stream, &tail, &running);
                self.look_after(live, &stream, running);
                self.catch_up_on_hints(live, &stream, last_bound).await;
                Ok(Attempt::Bound(body, upstream_event))
            }
            Ok(Attached::Ended) => Ok(Attempt::Ended),
            Ok(Attached::Lost { rest, .. }) => Ok(Attempt::Lost(Some(rest))),
            Ok(Attached::Unknown) => Ok(Attempt::Lost(None)),
            Ok(Attached::Gone) => {
                self.end_locally(live);
                Err(Error::NoSession)
            }
            Ok(Attached::TooLate | Attached::Superseded(_)) => Ok(Attempt::Postponed),
            Err(error) => {
                stream.outlet.end(StreamEnd::Failed);
                if error == StoreError::Unknown {
                    self.unbind_in_doubt(live.clone(), key.clone());
                }
                Err(error.into())
            }
        }
    }

    /// An attach without an answer may have bound the stream to this node, where nobody holds it: once it
    /// can't run any more, what it left is given back.
    fn unbind_in_doubt(&self, live: Arc<Live>, key: StreamKey) {
        let hub = self.clone();
        self.inner.tasks.spawn_until_stopped(async move {
            for _ in 0..IN_DOUBT_TRIES {
                tokio::time::sleep(ATTACH_WITHIN).await;
                let Ok(inspected) = hub.store().inspect(&live.id).await else { continue };
                let streams = inspected.into_iter().flat_map(|inspected| inspected.streams);
                let binding = streams.into_iter().find(|seen| seen.stream == key.stream);
                let Some(binding) = binding.and_then(|seen| seen.binding) else { return };
                // One that is being bound now may be the one.
                let held = live.streams_named(&key.stream).into_iter().map(|stream| stream.fence());
                let held = held.into_iter().any(|fence| fence.is_none_or(|fence| fence == binding.fence));
                if binding.node != hub.inner.node {
                    return;
                }
                if !held && hub.store().release(&key, binding.fence).await.is_ok() {
                    if key.stream.kind() == StreamKind::HttpSse {
                        hub.inner.graces.start(live.id.clone(), binding.fence);
                    }
                    return;
                }
            }
        });
    }

    /// So many at once: after a node's end all its clients come back. Those with a position wait a while.
    async fn turn_to_attach(&self, resumes: bool) -> Option<SemaphorePermit<'_>> {
        let turns = &self.inner.attaches;
        if resumes {
            return tokio::time::timeout(RESUME_PATIENCE, turns.acquire()).await.ok()?.ok();
        }
        turns.try_acquire().ok()
    }

    /// What a server hinted at while nobody held the stream, as far as it may have been missed.
    async fn catch_up_on_hints(&self, live: &Live, stream: &LocalStream, last_bound: Option<Fence>) {
        let Some(since) = last_bound.filter(|_| stream.hears_unasked()) else { return };
        match self.store().hints(&live.session().server).await {
            Ok(hints) => {
                for (method, _) in hints.iter().filter(|(_, at_ms)| *at_ms >= since.0) {
                    stream.hint(&jsonrpc::notification(method, None));
                }
            }
            Err(error) => tracing::debug!(stream = %stream.key, %error, "hints can't be read"),
        }
    }

    /// Older sockets of a stream that is now bound under `fence` give way, here or elsewhere.
    pub(super) async fn displace(
        &self,
        live: &Live,
        stream: &LocalStream,
        fence: Fence,
        previous: Option<Binding>,
        takeover: Takeover,
    ) {
        let key = &stream.key;
        if live.streams_named(&key.stream).iter().any(|older| older.has_older_elsewhere()) {
            stream.set_older_elsewhere();
        }
        let Some(previous) = previous.filter(|binding| binding.fence < fence) else { return };
        if previous.node == self.inner.node {
            give_way(live, key, fence, takeover);
        } else {
            stream.set_older_elsewhere();
            let rebound = Envelope::Rebound { stream: key.clone(), fence, takeover };
            // Lost, it is found by the fence at the other node's next append or resync.
            let _ = self.inner.mail.send(&previous.node, rebound).await;
        }
    }

    /// A stream's local entry, made before anything can be sent to it; `replaces` says that it ends
    /// the older ones of its name.
    pub(super) fn local_stream(
        &self,
        live: &Arc<Live>,
        key: &StreamKey,
        primes: bool,
        replaces: bool,
    ) -> Result<(Arc<LocalStream>, StreamBody), Error> {
        let replaces_one = replaces && !live.streams_named(&key.stream).is_empty();
        let session = live.session();
        let server = self.inner.servers.get(Some(session.server.as_str()));
        let what = (Era::Legacy, key.stream.kind());
        let place = self.stream_place(server.as_deref(), &session.owner, what, replaces_one)?;
        let framing = Framing { primes, retry: self.retry() };
        let stream = Arc::new(LocalStream::new(key.clone(), framing, self.inner.config.streams.buffer));
        if !live.enter_stream(&stream, self.inner.config.streams_per_session_max, replaces) {
            return Err(self.limit(Limit::StreamsPerSession));
        }
        let body = StreamBody::session(self, place, live.clone(), stream.clone());
        Ok((stream, body))
    }

    async fn attach_patiently(&self, attach: &Attach) -> Result<Attached, StoreError> {
        let until = Instant::now() + RESUME_PATIENCE;
        loop {
            match self.store().attach(attach).await {
                Err(_) if attach.position.is_some() && Instant::now() < until => {
                    tokio::time::sleep(Duration::from_millis(100 + fastrand::u64(..100))).await;
                }
                other => return other,
            }
        }
    }

    /// The client keeps its position, and comes back with it.
    fn come_again(&self, position: Option<&EventId>) -> Bytes {
        let id = position.map(ToString::to_string);
        Frame { id: id.as_deref(), retry: Some(self.retry()), data: Some(b""), ..Frame::default() }.encode()
    }
}

/// What is to be bound.
struct Bind {
    live: Arc<Live>,
    key: StreamKey,
    position: Option<EventNumber>,
    primes: bool,
    endpoint: Option<String>,
    notices: Vec<Bytes>,
    address: Option<IpAddr>,
}

enum Attempt {
    /// With the position of the upstream's own stream.
    Bound(StreamBody, Option<String>),
    Ended,
    /// The position is not in the log; where what is left begins, if the stream is known at all.
    Lost(Option<EventNumber>),
    Postponed,
}

impl Attempt {
    const fn resume_end(&self) -> ResumeEnd {
        match self {
            Self::Bound(..) => ResumeEnd::Resumed,
            Self::Ended => ResumeEnd::Ended,
            Self::Lost(_) => ResumeEnd::Lost,
            Self::Postponed => ResumeEnd::Postponed,
        }
    }
}

/// The tail of a stream that was just made: nothing, from its top on.
pub(super) fn empty_tail(top: EventNumber) -> Tail {
    Tail { after: top, events: Vec::new(), ended: false }
}
