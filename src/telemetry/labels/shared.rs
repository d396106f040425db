//! Labels of what nodes share, and of what they do for each other.

use super::Label;
use crate::ports::Envelope;

labels! {
    /// What became of a dead node's request.
    pub enum TakeoverEnd {
        /// The upstream is asked for the rest of the answer.
        Resumed = "resumed",
        /// The client is told that its answer is lost.
        Error = "error",
    }

    /// What became of spans on their way to the collector.
    pub(in crate::telemetry) enum SpanEnd {
        Exported = "exported",
        /// The collector was away, too slow, or refused them.
        Failed = "failed",
    }

    /// Which end of a relay this node is.
    pub enum RelaySide {
        /// It asks: another node holds the session.
        Asked = "asked",
        /// It holds the session, and speaks with its own server for another node.
        Served = "served",
    }

    /// How a relay ended, as the node saw it that asked.
    pub enum RelayEnd {
        /// The whole response arrived.
        Finished = "finished",
        /// Nobody waited for the rest.
        Dropped = "dropped",
        /// The node that holds the session is gone; the request did not run.
        NodeGone = "node_gone",
        /// No answer, no order, or no server there; the request may have run.
        Failed = "failed",
    }

    /// How a rate that all nodes keep together was asked for.
    pub enum SharedRate {
        Taken = "taken",
        Refused = "refused",
        /// Nobody answered: the node decided by its own account.
        Alone = "alone",
    }

    /// A step of the session store, or of the rates beside it.
    pub(in crate::telemetry) enum StoreStep {
        Open = "open",
        Load = "load",
        Update = "update",
        Begin = "begin",
        Append = "append",
        Mark = "mark",
        Steal = "steal",
        Attach = "attach",
        Release = "release",
        Touch = "touch",
        Close = "close",
        Reap = "reap",
        Find = "find",
        Inspect = "inspect",
        Hint = "hint",
        Hints = "hints",
        Beat = "beat",
        Leave = "leave",
        Nodes = "nodes",
        Rate = "rate",
    }

    /// How a step of the store ended.
    pub(in crate::telemetry) enum StoreOutcome {
        Ok = "ok",
        /// It did not run.
        Unavailable = "unavailable",
        /// It may have run.
        Unknown = "unknown",
        /// Nobody waited for its answer any more.
        Dropped = "dropped",
    }

    /// What the bus is asked for.
    pub(in crate::telemetry) enum BusStep {
        OpenInbox = "open_inbox",
        Send = "send",
        Announce = "announce",
        Ping = "ping",
        Relay = "relay",
    }

    /// How that ended.
    pub(in crate::telemetry) enum BusOutcome {
        Ok = "ok",
        Unavailable = "unavailable",
        NoResponders = "no_responders",
        Full = "full",
        TooLarge = "too_large",
        /// Nobody waited for it any more.
        Dropped = "dropped",
    }

    /// A step that draws a fence or shows one.
    pub(in crate::telemetry) enum FenceStep {
        Begin = "begin",
        Append = "append",
        Attach = "attach",
        Reassert = "reassert",
        Steal = "steal",
    }

    /// What came of a fence.
    pub(in crate::telemetry) enum FenceOutcome {
        /// A new one was given out.
        Granted = "granted",
        /// The one that was shown is the newest.
        Held = "held",
        /// There is a newer one, or the step came too late for one.
        Refused = "refused",
    }

    /// What another node said.
    pub(in crate::telemetry) enum Message {
        Appended = "appended",
        Doorbell = "doorbell",
        Rebound = "rebound",
        Released = "released",
        SessionEnded = "session_ended",
        Initialized = "initialized",
        Moved = "moved",
        Cancelled = "cancelled",
        CloseStreams = "close_streams",
        Hint = "hint",
        NoLease = "no_lease",
        Tally = "tally",
    }
}

impl FenceStep {
    /// A step either draws a fence or shows one.
    pub(in crate::telemetry) const fn can(self, outcome: FenceOutcome) -> bool {
        match outcome {
            FenceOutcome::Granted => matches!(self, Self::Begin | Self::Attach | Self::Steal),
            FenceOutcome::Held => matches!(self, Self::Append | Self::Reassert),
            FenceOutcome::Refused => !matches!(self, Self::Begin),
        }
    }
}

impl Message {
    pub(in crate::telemetry) const fn of(envelope: &Envelope) -> Self {
        match envelope {
            Envelope::Appended { .. } => Self::Appended,
            Envelope::Doorbell { .. } => Self::Doorbell,
            Envelope::Rebound { .. } => Self::Rebound,
            Envelope::Released { .. } => Self::Released,
            Envelope::SessionEnded { .. } => Self::SessionEnded,
            Envelope::Initialized { .. } => Self::Initialized,
            Envelope::Moved { .. } => Self::Moved,
            Envelope::Cancelled { .. } => Self::Cancelled,
            Envelope::CloseStreams { .. } => Self::CloseStreams,
            Envelope::Hint { .. } => Self::Hint,
            Envelope::NoLease => Self::NoLease,
            Envelope::Tally => Self::Tally,
        }
    }
}
