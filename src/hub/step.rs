//! What a running call comes to, piece by piece.

use bytes::Bytes;
use http::StatusCode;

use super::Error;
use super::passing::Passage;
use crate::upstream::Answer;

/// What comes back from a running call.
#[derive(Debug)]
pub(super) enum Step {
    /// A notification, or a question to the client.
    Message(Answer),
    /// Where the upstream's answer can be resumed, before any message of it.
    Position(String),
    /// The call's result is too long to be held; nothing follows.
    Long(Box<Passage>),
    /// The call is over.
    Final(Final),
}

/// A call's end: exactly one for each call (P5).
#[derive(Debug)]
pub(super) struct Final {
    /// A JSON-RPC response with the request's id.
    pub payload: Bytes,
    /// What an HTTP answer that consists of it says.
    pub outcome: Result<StatusCode, Error>,
    pub event: Option<String>,
}
