//! An HTTP exchange with an upstream that is carried to the node whose own server holds the session: what
//! that node is asked, step by step, and what it answers. A step that stays without an answer is asked
//! again; steps and parts are numbered, so that a repeated one does no harm and a missing one is noticed.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::domain::{NodeId, Payload, ServerName};

/// Which exchange a step belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayId {
    /// Who asks.
    pub from: NodeId,
    /// Never given twice by that incarnation.
    pub number: u64,
}

/// One step, as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayAsk {
    pub relay: RelayId,
    pub step: RelayStep,
}

/// What the far end is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayStep {
    /// A request for that server, all but its body, which comes in so many pieces. Whatever happens, it is
    /// over after `lifetime`. It does not run yet. `moves` if it may as well be made in a new session at
    /// another node's server, where this one is about to end.
    Open { server: ServerName, lifetime: Option<Duration>, moves: bool, pieces: u64, head: Payload },
    /// A piece of the request's body, counted from 1.
    Piece { number: u64, bytes: Payload },
    /// The next part of the response, counted from 1, which is its head. Asking for the first one runs the
    /// request; asking for the next one says that the part before it has arrived. It is there `within`
    /// that time, or the answer is [`RelayAnswer::NotYet`].
    Want { number: u64, within: Duration },
    /// Somebody still waits, and has no room for the next part now.
    Hold,
    /// Nobody waits any more.
    Drop,
}

/// What the far end says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayAnswer {
    /// The step was taken.
    Taken,
    /// There is no such part yet: it may be asked for again at once.
    NotYet,
    /// Part `number` of the response; after the last one there is nothing more.
    Part { number: u64, last: bool, bytes: Payload },
    /// The server there failed, in words for the log.
    Failed(String),
    /// The relay is over.
    Refused(RelayRefusal),
}

/// Why the far end does not take a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RelayRefusal {
    #[error("it knows no such relay, or no longer")]
    Unknown,
    #[error("a piece is missing")]
    OutOfOrder,
    #[error("it has no such server of its own")]
    NoServer,
    #[error("it is about to end")]
    Leaving,
    #[error("it carries as much as it can")]
    Full,
    #[error("what it was told can't be read there, or its answer not here: another version is at work")]
    Unreadable,
}

/// A step that arrived, and where its answer goes. Dropping it leaves it without an answer.
#[derive(Debug)]
pub struct Relayed {
    pub ask: RelayAsk,
    pub answer: oneshot::Sender<RelayAnswer>,
}
