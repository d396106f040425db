//! The bus between nodes. It may lose, delay, repeat and reorder: what must not be lost stands in
//! the store, and the bus only says that it is there.

use std::fmt::Debug;
use std::time::Duration;

use tokio::sync::mpsc;

use super::{PortFuture, Refusals, RelayAnswer, RelayAsk, Relayed};
use crate::domain::{
    Event, Fence, NodeId, Payload, RequestId, ServerName, SessionId, StreamKey, TraceContext, UpstreamHandle,
};

/// An envelope on its way. Its number shows the receiver what it missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    pub from: NodeId,
    pub lane: Lane,
    /// Counts what `from` sent on this lane, from 1; a [`Envelope::Tally`] repeats the last one.
    pub number: u64,
    pub envelope: Envelope,
    /// What the sender did when it had to say this, if somebody traces it.
    pub trace: Option<TraceContext>,
}

/// Numbers are counted apart for each receiver, and for what goes to all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    Direct,
    All,
}

/// What one node tells another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Envelope {
    /// An event was appended to a stream that the receiver holds.
    Appended { to: StreamKey, fence: Fence, event: Event, last: bool },
    /// The same for an event that is too large to travel: the receiver reads the log.
    Doorbell { to: StreamKey, fence: Fence },
    /// The stream was bound to another socket under this fence: whoever holds it under an older one
    /// lets go.
    Rebound { stream: StreamKey, fence: Fence, takeover: Takeover },
    /// The newest socket of this stream is gone: whoever holds an older, silent one binds it anew (L19).
    Released { stream: StreamKey },
    /// The session is over: its streams end, and nothing of it may be served from a cache.
    SessionEnded { session: SessionId },
    /// The session was initialized: whoever holds its stream reads the upstream's own stream for it.
    Initialized { session: SessionId },
    /// The session has another session at its server in place of `lost`, which its node may know to be alive
    /// all the same: whoever reads the lost one's stream reads the new one's.
    Moved { session: SessionId, server: ServerName, lost: UpstreamHandle },
    /// The client no longer waits for this request: whoever runs it may end it.
    Cancelled { session: SessionId, request: RequestId },
    /// A session's streams are to be closed; their clients come back.
    CloseStreams { session: SessionId },
    /// A hint to every session of a server, or of all: a notification without id, not logged.
    Hint { server: Option<ServerName>, notification: Payload },
    /// The receiver has no lease, though it answers, and the sender renews its own.
    NoLease,
    /// Nothing new: the number of the last parcel.
    Tally,
}

/// How a stream came to another socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takeover {
    /// The client came back with its position: the old socket is dead, and is closed.
    Resumed,
    /// A second stream beside the first: both stay open, messages go to the newer (L19).
    Second,
}

/// Why a message was not handed over. None of these tells that it did not arrive, but the last.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    #[error("the bus can't be reached")]
    Unavailable,
    /// The one hint that a node is gone; never the proof.
    #[error("nobody listens on that node's inbox")]
    NoResponders,
    #[error("the receiver's inbox is full")]
    Full,
    #[error("the message is larger than the bus takes")]
    TooLarge,
}

/// What arrives at a node, in no promised order. It is bounded; a message that found it full is
/// lost, and the receiver is told by [`Inbox::missed`].
#[derive(Debug)]
pub struct Inbox {
    pub messages: mpsc::Receiver<Parcel>,
    /// Steps of relays, which wait for an answer. One that finds it full is lost, and asked again.
    pub relays: mpsc::Receiver<Relayed>,
    /// Changes whenever messages may have been lost: drop caches, re-read what is held (resync).
    pub missed: tokio::sync::watch::Receiver<u64>,
}

/// Between nodes: to one, or to all.
pub trait Bus: Send + Sync + Debug + 'static {
    /// Opens this node's inbox: what is sent from now on arrives, if nothing is lost. Once per
    /// incarnation; dropping it closes it.
    fn open_inbox<'a>(&'a self, node: &'a NodeId) -> PortFuture<'a, Result<Inbox, BusError>>;

    /// Hands a parcel to one node, at most once.
    fn send<'a>(&'a self, to: &'a NodeId, parcel: Parcel) -> PortFuture<'a, Result<(), BusError>>;

    /// Hands a parcel to every node but the sender, at most once each.
    fn announce(&self, parcel: Parcel) -> PortFuture<'_, Result<(), BusError>>;

    /// Asks whether a node's process answers, for at most `patience`. It tells of the process and
    /// of the way to it, not of what its inbox holds.
    fn ping<'a>(&'a self, node: &'a NodeId, patience: Duration) -> PortFuture<'a, Result<(), BusError>>;

    /// Asks a node for one step of a relay, and returns its answer, at most `patience` later. Without an
    /// answer the step may have been taken all the same, but for [`BusError::NoResponders`], which is a hint, and
    /// [`BusError::TooLarge`]. A payload of 48 KiB is never too large.
    fn relay<'a>(
        &'a self,
        to: &'a NodeId,
        ask: RelayAsk,
        patience: Duration,
    ) -> PortFuture<'a, Result<RelayAnswer, BusError>>;

    /// What it refused so far, because nothing shows that a node of this cluster sent it. Within one process
    /// there is nobody else.
    fn refusals(&self) -> Refusals {
        Refusals::default()
    }
}
