//! What an upstream answers to one request, message by message, whether it came as JSON or as an
//! event stream, over one connection or, after a break, over several (`Last-Event-ID`).

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use http_body::Body as _;
use http_body_util::BodyExt as _;

use super::error::Error;
use super::long::Long;
use super::received::Received;
use super::streamable::{Listening, Streamable};
use crate::domain::UpstreamHandle;
use crate::protocol::jsonrpc::{Body, Id, Message};
use crate::protocol::sse::Decoder;

/// A stream that breaks this often in a row without a single message is given up.
const FRUITLESS_RESUMES_MAX: u32 = 8;

/// The same for a stream that another node had read.
const FRUITLESS_TAKEOVERS_MAX: u32 = 3;

/// As much of a long result is read before any of it is passed on, in bytes.
const HELD_BYTES_MAX: usize = 64 * 1024;

/// One message from the upstream.
#[derive(Debug, Clone)]
pub struct Answer {
    pub message: Message,
    /// The upstream's event id, if it gave one: where its stream can be resumed.
    pub event: Option<String>,
}

/// What was heard of an upstream.
#[derive(Debug)]
pub enum Heard {
    Message(Answer),
    /// An event id without a message: from here its stream can be resumed (L12).
    Position(String),
    /// The result, too long to be held. Nothing follows it.
    Long(Box<Long>),
}

impl Heard {
    #[must_use]
    pub fn is_response(&self) -> bool {
        match self {
            Self::Message(answer) => answer.message.is_response(),
            Self::Position(_) => false,
            Self::Long(_) => true,
        }
    }
}

/// How far an upstream's stream was read, so that another node can go on from there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    pub event: String,
    /// A message came with the event, not only its id.
    pub delivered: bool,
}

impl Position {
    /// As the shared state keeps it.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{}{}", if self.delivered { '=' } else { '~' }, self.event)
    }

    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let (delivered, event) = match text.split_at_checked(1)? {
            ("=", event) => (true, event),
            ("~", event) => (false, event),
            _ => return None,
        };
        Some(Self { event: event.to_owned(), delivered })
    }
}

/// The upstream's messages, in order. Dropping it closes the connection, which to a modern upstream
/// is the cancel (M8) and to a legacy one is not (L16).
pub struct Answers {
    upstream: Streamable,
    /// Absent where the stream can't be resumed: modern upstreams, or no session.
    handle: Option<UpstreamHandle>,
    source: Source,
    ready: VecDeque<Answer>,
    position: Option<String>,
    retry: Option<Duration>,
    /// Set until the first event after a resume.
    resumed_at: Option<String>,
    /// A message came with the position, not only a priming event.
    delivered_at_position: bool,
    fruitless: u32,
    fruitless_max: u32,
    /// An event id that came alone, not told yet.
    primed: Option<String>,
    guard: Option<Box<dyn Send + Sync>>,
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers").field("upstream", &self.upstream.name()).finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum Source {
    /// `held`: no part of it is passed on before all of it was read.
    Json {
        body: Received,
        read: BytesMut,
        held: bool,
    },
    Stream {
        body: Received,
        decoder: Decoder,
    },
    Broken,
    Done,
}

/// Whether a header can carry it back; an empty one takes the last one away. Servers refuse longer
/// heads than this, and it is kept for as long as its stream.
fn can_be_named(id: &str) -> bool {
    const BYTES_MAX: usize = 4096;
    !id.is_empty() && id.len() <= BYTES_MAX && HeaderValue::from_bytes(id.as_bytes()).is_ok()
}

impl Answers {
    pub(super) fn json(upstream: Streamable, body: Received) -> Self {
        Self::new(upstream, None, Source::Json { body, read: BytesMut::new(), held: false })
    }

    pub(super) fn stream(upstream: Streamable, handle: Option<UpstreamHandle>, body: Received) -> Self {
        let decoder = Decoder::new(upstream.message_bytes_max());
        Self::new(upstream, handle, Source::Stream { body, decoder })
    }

    fn new(upstream: Streamable, handle: Option<UpstreamHandle>, source: Source) -> Self {
        Self {
            upstream,
            handle,
            source,
            ready: VecDeque::new(),
            position: None,
            retry: None,
            resumed_at: None,
            delivered_at_position: false,
            fruitless: 0,
            fruitless_max: FRUITLESS_RESUMES_MAX,
            primed: None,
            guard: None,
        }
    }

    /// Goes on where another node stopped.
    pub(super) fn resumed(upstream: Streamable, handle: UpstreamHandle, position: Position) -> Self {
        let mut answers = Self::new(upstream, Some(handle), Source::Broken);
        answers.position = Some(position.event);
        answers.delivered_at_position = position.delivered;
        answers.retry = Some(Duration::ZERO);
        // What the upstream forgot should not be waited for as if it were only away.
        answers.fruitless_max = FRUITLESS_TAKEOVERS_MAX;
        answers
    }

    /// Drops `guard` together with the answers.
    #[must_use]
    pub fn with_guard(mut self, guard: Box<dyn Send + Sync>) -> Self {
        self.guard = Some(guard);
        self
    }

    /// The last event id that the upstream gave, and the delay it asked for before a reconnect.
    #[must_use]
    pub fn position(&self) -> (Option<&str>, Option<Duration>) {
        (self.position.as_deref(), self.retry)
    }

    /// Whether another node could go on reading.
    #[must_use]
    pub fn is_resumable(&self) -> bool {
        self.handle.is_some() && self.position.is_some()
    }

    /// The next message; `None` once the upstream ended in good order. A stream that broke after an
    /// event id is resumed by itself. Safe to drop and call again.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is not MCP or beyond the size limit, [`Error::Interrupted`] if
    /// the stream broke and can't be resumed, [`Error::SessionGone`] if resuming met a 404.
    pub async fn next(&mut self) -> Result<Option<Answer>, Error> {
        loop {
            match self.hear(None).await? {
                Some(Heard::Message(answer)) => return Ok(Some(answer)),
                Some(Heard::Position(_) | Heard::Long(_)) => {}
                None => return Ok(None),
            }
        }
    }

    /// The same, told of event ids that came without a message as well. A result in JSON for the request `passing`
    /// is not held beyond its first 64 KiB: its reader passes it on as it comes.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn hear(&mut self, passing: Option<&Id>) -> Result<Option<Heard>, Error> {
        loop {
            if let Some(position) = self.primed.take() {
                return Ok(Some(Heard::Position(position)));
            }
            if let Some(answer) = self.ready.pop_front() {
                self.fruitless = 0;
                return Ok(Some(Heard::Message(answer)));
            }
            match &mut self.source {
                Source::Done => return Ok(None),
                Source::Broken => self.resume().await?,
                Source::Json { .. } => {
                    if let Some(long) = self.read_json(passing).await? {
                        return Ok(Some(Heard::Long(Box::new(long))));
                    }
                }
                Source::Stream { .. } => self.read_stream().await?,
            }
        }
    }

    /// Reads all of it, or as much as is held of what passes.
    async fn read_json(&mut self, passing: Option<&Id>) -> Result<Option<Long>, Error> {
        let limit = self.upstream.message_bytes_max();
        let Source::Json { body, read, held } = &mut self.source else { return Ok(None) };
        let whole = loop {
            if read.len() as u64 + body.size_hint().lower() > limit as u64 {
                return Err(self.upstream.invalid(format!("an answer of more than {limit} bytes")));
            }
            if let Some(request) = passing
                && read.len() > HELD_BYTES_MAX
                && !body.is_end_stream()
                && !std::mem::replace(held, true)
                && let Some(passing) = Long::begin(read)
            {
                let Source::Json { body, read, .. } = std::mem::replace(&mut self.source, Source::Done)
                else {
                    return Ok(None);
                };
                let (upstream, guard) = (self.upstream.clone(), self.guard.take());
                let long = Long::new(upstream, request.clone(), passing, read.freeze(), body, guard);
                return long.check().map(|()| Some(long));
            }
            match body.frame().await {
                None => break std::mem::take(read).freeze(),
                Some(Err(err)) => return Err(self.upstream.unreachable(err)),
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    if read.is_empty() && data.len() <= limit && body.is_end_stream() {
                        break data;
                    }
                    read.extend_from_slice(&data);
                }
            }
        };
        self.source = Source::Done;
        self.take(whole, None).map(|()| None)
    }

    async fn read_stream(&mut self) -> Result<(), Error> {
        let Source::Stream { body, decoder } = &mut self.source else { return Ok(()) };
        loop {
            match decoder.next() {
                Ok(Some(event)) => {
                    // Some servers repeat the very event that the position named.
                    let repeated = self.resumed_at.take().is_some_and(|at| event.id.as_deref() == Some(&*at));
                    if let Some(id) = event.id {
                        self.position = Some(id).filter(|id| can_be_named(id));
                        self.delivered_at_position = event.data.as_ref().is_some_and(|data| !data.is_empty());
                    }
                    self.retry = event.retry.or(self.retry);
                    let named_otherwise = event.event.as_deref().is_some_and(|name| name != "message");
                    match event.data {
                        Some(data) if !data.is_empty() && !named_otherwise && !repeated => {
                            let position = self.position.clone();
                            return self.take(data, position);
                        }
                        None | Some(_) if self.position.is_some() && !self.delivered_at_position => {
                            self.primed.clone_from(&self.position);
                            return Ok(());
                        }
                        None | Some(_) => continue,
                    }
                }
                Ok(None) => {}
                Err(_) => {
                    let limit = self.upstream.message_bytes_max();
                    return Err(self.upstream.invalid(format!("an event of more than {limit} bytes")));
                }
            }
            match body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        decoder.push(data);
                    }
                }
                Some(Err(_)) | None => {
                    self.source = Source::Broken;
                    return Ok(());
                }
            }
        }
    }

    fn take(&mut self, raw: Bytes, event: Option<String>) -> Result<(), Error> {
        let body =
            Body::parse(raw, usize::MAX).map_err(|malformed| self.upstream.invalid(malformed.to_string()))?;
        match body {
            Body::One(message) => self.ready.push_back(Answer { message, event }),
            Body::Batch(messages) => {
                self.ready
                    .extend(messages.into_iter().map(|message| Answer { message, event: event.clone() }));
            }
        }
        Ok(())
    }

    /// Comes back with the position after a break, as the upstream asked (`retry`) or with back-off.
    async fn resume(&mut self) -> Result<(), Error> {
        let (Some(handle), Some(position)) = (&self.handle, &self.position) else {
            return Err(self.upstream.interrupted());
        };
        if self.fruitless >= self.fruitless_max {
            return Err(self.upstream.interrupted());
        }
        let delay = self.upstream.reconnect_delay(self.fruitless, self.retry);
        self.fruitless += 1;
        tokio::time::sleep(delay).await;
        match self.upstream.open_stream(handle, Some(position)).await {
            Ok(Listening::Stream(body)) => {
                let decoder = Decoder::new(self.upstream.message_bytes_max());
                self.resumed_at = self.position.clone().filter(|_| self.delivered_at_position);
                self.source = Source::Stream { body, decoder };
                Ok(())
            }
            Ok(Listening::NotOffered) => Err(self.upstream.interrupted()),
            Err(Error::Unreachable { .. } | Error::Late { .. }) => Ok(()),
            Err(gone @ Error::SessionGone { .. }) => Err(gone),
            Err(_) => Err(self.upstream.interrupted()),
        }
    }
}
