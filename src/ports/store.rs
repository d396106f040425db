//! The session store: session existence and ownership, the replay log, bindings and running
//! records. They are atomic together, so they are one port.
//!
//! Every step is one atomic action on one session, harmless when repeated or when it runs late,
//! since a backend's client can't always tell whether a timed-out write was done
//! ([`StoreError::Unknown`]). Times are the store's own: no caller's clock decides.

use std::fmt::Debug;
use std::time::Duration;

use super::{Beat, Inspected, Lease, PortFuture, SeenNode};
use crate::domain::{
    Binding, Event, EventNumber, Fence, NodeId, Payload, Principal, RequestId, RunningRecord, ServerName,
    Session, SessionId, SessionPart, StreamId, StreamKey, Transport, UpstreamHandle,
};

/// Why there is no answer. Never taken for "gone" (P2, P7).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It did not run, and will not.
    #[error("the session store can't be reached")]
    Unavailable,
    /// It may have run, or may still run: repeat it, or treat it as both.
    #[error("the session store did not say whether it was done")]
    Unknown,
}

/// What a log keeps of each stream; what goes beyond leaves oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogBounds {
    pub events_max: usize,
    pub event_ttl: Duration,
    pub stream_bytes_max: usize,
    pub session_bytes_max: usize,
}

/// What a store keeps in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub log: LogBounds,
    /// A session untouched for this long ends.
    pub session_idle_timeout: Duration,
    pub sessions_max: usize,
    pub subscriptions_per_session_max: usize,
}

/// How long what is stored lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It ends with this process: a node that leaves ends its sessions.
    Process,
    /// It outlives nodes.
    Shared,
}

/// `open`'s answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// The session exists and this is its owner for good. Repeating one's own open is fine; if the
    /// owner is another, nothing was changed.
    Owned(Principal),
    /// As many sessions as the bounds allow.
    Full,
}

/// `update`'s answer: the session as it stands after the change, or after it was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Updated {
    Now(Box<Session>),
    Gone,
    /// More subscriptions than the bounds allow: not remembered.
    Full,
}

/// Records requests before anything is promised about them (P4): before a 202 or a priming event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    pub stream: StreamKey,
    pub requests: Vec<RequestId>,
    pub runner: NodeId,
    /// From now, by the store's clock; then the records end by themselves.
    pub lifetime: Duration,
    /// Bind the stream to the runner at once: it holds the POST's socket.
    pub bind: bool,
    /// Where the upstream's answer can be resumed, if it said so already.
    pub upstream_event: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    Recorded {
        /// The runner's fence: its appends carry it.
        fence: Fence,
        /// The stream's binding after this step, and where the stream stands: a priming event's id.
        binding: Option<Binding>,
        top: EventNumber,
    },
    /// A request with this id is running already in this session.
    Duplicate(RequestId),
    Gone,
}

/// Who appends, so that a repeated append is known: one producer's sequence numbers rise by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Producer {
    /// Random per source (one exchange, one upstream stream).
    pub id: u64,
    pub sequence: u64,
}

/// Puts one message into a stream's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    pub to: StreamKey,
    pub payload: Payload,
    pub producer: Producer,
    /// For what belongs to a recorded request: only its runner may append.
    pub request: Option<(RequestId, Fence)>,
    /// The payload is the request's result or error: its record ends.
    pub last: bool,
    /// The upstream's event id that came with it: where its stream can be resumed.
    pub upstream_event: Option<String>,
    /// For what the upstream said unasked: who reads its stream.
    pub reader: Option<Reader>,
}

/// Who reads the upstream's own stream. Refused is one that was overtaken: by a newer binding of the
/// stream, whose holder reads now, or by another reader that came further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    /// Of the binding under which it reads.
    pub fence: Fence,
    /// The last upstream event that was appended before this one, if any was.
    pub after: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    Logged {
        number: EventNumber,
        previous: EventNumber,
        /// Where the stream's socket is now: the event is to be sent there.
        binding: Option<Binding>,
        /// No record is left on this POST's stream: nothing will follow this event.
        ended: bool,
    },
    /// The request has another runner by now, or ended; or the upstream's stream has another reader.
    StaleFence,
    /// On a stream that outlives its requests: the request is not recorded, was not taken over and did
    /// not end. The store forgot it, and nobody but the caller runs it.
    Forgotten,
    /// The stream's last answer was appended before.
    Ended,
    Gone,
}

/// Remembers how far the upstream's answer was read, when no message came with its event id. Nothing
/// changes if something was appended since: the position is older.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    pub stream: StreamKey,
    pub request: RequestId,
    /// The runner's; under any other nothing changes.
    pub fence: Fence,
    /// Who appends, with the number of its last append (0: nothing yet).
    pub producer: Producer,
    pub upstream_event: String,
}

/// Takes a dead runner's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steal {
    pub stream: StreamKey,
    pub request: RequestId,
    /// The fence of the runner that is dead.
    pub from: Fence,
    pub by: NodeId,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stolen {
    /// The record is this node's, with its new fence and the upstream's position.
    Taken(RunningRecord),
    /// Somebody was faster, or it ended.
    Lost,
    Gone,
}

/// Binds a stream's socket to a node and reads what follows the client's position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    pub stream: StreamKey,
    pub node: NodeId,
    /// What the client (or the holder, when it re-asserts) saw last. Without one the tail starts
    /// with the first event appended while nobody held the stream, else at the top.
    pub position: Option<EventNumber>,
    /// Re-assert one's own binding: refused if there is a newer fence.
    pub reassert: Option<Fence>,
    /// Server time in ms after which the attempt is refused, so that a late one can't steal.
    pub not_after_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attached {
    Bound {
        fence: Fence,
        tail: Tail,
        /// What still runs towards this stream.
        running: Vec<RunningRecord>,
        previous: Option<Binding>,
        /// The newest fence that the stream was bound under before, if it ever was: about when.
        last_bound: Option<Fence>,
        /// The last upstream event id that came with an append without a request: where the
        /// upstream's own stream can be resumed.
        upstream_event: Option<String>,
    },
    /// A POST's stream whose last answer is not after the position: nothing will come.
    Ended,
    /// The log does not reach back to the position, or the position was never given out; nothing
    /// was bound. `top` is where the stream stands; from `rest` on all that is left can be had, and nothing
    /// of it was given out before the position.
    Lost {
        top: EventNumber,
        rest: EventNumber,
    },
    /// A POST's stream that the store does not know (any more).
    Unknown,
    /// The attempt's own deadline has passed.
    TooLate,
    /// Re-asserting met a newer fence.
    Superseded(Fence),
    Gone,
}

/// What follows a position, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// Where the tail starts: the first event's predecessor.
    pub after: EventNumber,
    pub events: Vec<Event>,
    /// The stream ends with the last of them.
    pub ended: bool,
}

/// On what condition a session is ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseIf {
    Always,
    /// Only if nobody holds this stream, nor has since it was bound under this fence: its client did not
    /// come back (S5).
    Abandoned(StreamId, Fence),
}

/// What a session left when it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    pub session: Session,
    /// Streams that were bound, and where.
    pub bound: Vec<(StreamId, Binding)>,
}

/// Which sessions are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query {
    pub server: Option<ServerName>,
    pub owner: Option<Principal>,
    /// A capability that the client declared, such as `elicitation`.
    pub capability: Option<String>,
    /// The last id of the page before.
    pub after: Option<SessionId>,
    pub limit: usize,
}

/// Some of the sessions asked for, ordered by id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    pub sessions: Vec<Session>,
    pub more: bool,
}

/// Shared state. An adapter is durable before it returns, as far as its [`Durability`] goes.
pub trait SessionStore: Send + Sync + Debug + 'static {
    fn durability(&self) -> Durability;

    /// How many sessions there are, as far as is known without asking: at least as new as its last `reap`.
    /// Those past their idle life count until they are reaped.
    fn known_sessions(&self) -> usize;

    /// Creates the session and claims it for its owner in one step, if absent (compare-and-set). No
    /// session without an owner is ever visible.
    fn open<'a>(
        &'a self,
        id: &'a SessionId,
        server: &'a ServerName,
        owner: &'a Principal,
        transport: Transport,
    ) -> PortFuture<'a, Result<Opened, StoreError>>;

    /// Reads a session; `None` says that it does not exist, which an error never does.
    fn load<'a>(&'a self, id: &'a SessionId) -> PortFuture<'a, Result<Option<Session>, StoreError>>;

    /// Changes one attribute, as its [`SessionPart`] says.
    fn update<'a>(
        &'a self,
        id: &'a SessionId,
        part: SessionPart,
    ) -> PortFuture<'a, Result<Updated, StoreError>>;

    /// All records or none. A POST's stream is created here, empty, with a top that no event has.
    /// Repeating it by the same runner gives the same answer.
    fn begin<'a>(&'a self, begin: &'a Begin) -> PortFuture<'a, Result<Begun, StoreError>>;

    /// Numbers, logs and trims; a repeated producer number returns the earlier number and changes
    /// nothing. Numbers rise within a stream, whatever the clock does. Serial with `attach`: every
    /// event is in attach's tail, or its append names the newly bound node.
    fn append<'a>(&'a self, append: &'a Append) -> PortFuture<'a, Result<Appended, StoreError>>;

    fn mark<'a>(&'a self, mark: &'a Mark) -> PortFuture<'a, Result<(), StoreError>>;

    fn steal<'a>(&'a self, steal: &'a Steal) -> PortFuture<'a, Result<Stolen, StoreError>>;

    /// Binds with a new fence, unless it re-asserts. A position is good if it is the top, in the
    /// log, or exactly the last trimmed; any other is [`Attached::Lost`].
    fn attach<'a>(&'a self, attach: &'a Attach) -> PortFuture<'a, Result<Attached, StoreError>>;

    /// Unbinds if the fence is still the caller's.
    fn release<'a>(&'a self, stream: &'a StreamKey, fence: Fence) -> PortFuture<'a, Result<(), StoreError>>;

    /// Prolongs sessions, and answers which of them are gone.
    fn touch<'a>(&'a self, sessions: &'a [SessionId]) -> PortFuture<'a, Result<Vec<SessionId>, StoreError>>;

    /// Ends a session and forgets its log. `None` if it was gone, or the condition does not hold:
    /// exactly one caller gets the rest.
    fn close<'a>(
        &'a self,
        id: &'a SessionId,
        condition: &'a CloseIf,
    ) -> PortFuture<'a, Result<Option<Closed>, StoreError>>;

    /// Ends at most `limit` sessions that are past their idle life; each is answered to one caller.
    fn reap<'a>(&'a self, limit: usize) -> PortFuture<'a, Result<Vec<Closed>, StoreError>>;

    /// Sessions, paged by id.
    fn find<'a>(&'a self, query: &'a Query) -> PortFuture<'a, Result<Page, StoreError>>;

    /// Shows a session without counting as use of it.
    fn inspect<'a>(&'a self, id: &'a SessionId) -> PortFuture<'a, Result<Option<Inspected>, StoreError>>;

    /// Remembers when a server last gave this hint, a notification's method such as
    /// `notifications/tools/list_changed`.
    fn hint<'a>(&'a self, server: &'a ServerName, method: &'a str) -> PortFuture<'a, Result<(), StoreError>>;

    /// Each hint of a server, with the store's time in ms at which it was last given.
    fn hints<'a>(&'a self, server: &'a ServerName) -> PortFuture<'a, Result<Vec<(String, u64)>, StoreError>>;

    /// Renews a node's lease, and answers who else has one.
    fn beat<'a>(&'a self, lease: &'a Lease) -> PortFuture<'a, Result<Beat, StoreError>>;

    /// Gives a lease back: the node counts as gone at once, and is known to have left for [`LEFT_FOR`](super::LEFT_FOR).
    /// Without a lease nothing is done: others may have found the node dead.
    fn leave<'a>(&'a self, node: &'a NodeId) -> PortFuture<'a, Result<(), StoreError>>;

    /// The nodes with a lease, in the order of their ids.
    fn nodes(&self) -> PortFuture<'_, Result<Vec<SeenNode>, StoreError>>;
}

/// The handle that `update` settled on, if the session has one.
impl Updated {
    #[must_use]
    pub fn upstream(&self) -> Option<&UpstreamHandle> {
        match self {
            Self::Now(session) => session.upstream.as_ref(),
            Self::Gone | Self::Full => None,
        }
    }
}
