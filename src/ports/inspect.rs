//! What operators may see of a session: everything but what its messages say.

use crate::domain::{Binding, EventNumber, RunningRecord, Session, StreamId};

/// How many of a stream's last events `inspect` shows.
pub const SEEN_EVENTS: usize = 10;

/// A session as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    pub session: Session,
    /// In the order of their ids.
    pub streams: Vec<SeenStream>,
    /// Requests that must survive their runner.
    pub running: Vec<RunningRecord>,
}

/// A stream of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenStream {
    pub stream: StreamId,
    pub binding: Option<Binding>,
    pub top: EventNumber,
    /// How many events its log holds.
    pub events: usize,
    /// The last [`SEEN_EVENTS`] of them, oldest first, with the size of their payloads in bytes.
    pub last: Vec<(EventNumber, usize)>,
}
