//! Labels of sessions and their streams.

use super::Label;

labels! {
    /// Why an open stream ended.
    pub enum StreamEnd {
        /// Its last answer was sent.
        Finished = "finished",
        ClientGone = "client_gone",
        /// The reader was slower than its buffer is long.
        Lagged = "lagged",
        /// Nothing happened for `streams.idle_timeout`.
        Idle = "idle",
        /// It lived for `streams.life_max`.
        Aged = "aged",
        /// The token that opened it is good no longer.
        Expired = "expired",
        /// This node is about to end.
        Draining = "draining",
        /// The client came back on another connection.
        Replaced = "replaced",
        SessionEnded = "session_ended",
        /// An operator closed it.
        Closed = "closed",
        /// What feeds it failed.
        Failed = "failed",
    }

    /// Why a session ended.
    pub enum SessionEnd {
        /// The client said so (L26).
        Deleted = "deleted",
        Idle = "idle",
        /// Its HTTP+SSE stream did not come back within the grace (S5).
        StreamGone = "stream_gone",
        /// The state lived in this process, which ends.
        Shutdown = "shutdown",
        /// An operator ended it.
        Operator = "operator",
    }

    /// How a resume with `Last-Event-ID` went.
    pub enum ResumeEnd {
        Resumed = "resumed",
        /// The log no longer reaches back; the client was told.
        Lost = "lost",
        Ended = "ended",
        Gone = "gone",
        /// The store was away; the client was told to come again.
        Postponed = "postponed",
    }

    /// What came of claiming a new session for its owner.
    pub(in crate::telemetry) enum Claim {
        Claimed = "claimed",
        /// It is another's: 122 random bits met somebody else's, or somebody knew them.
        Foreign = "foreign",
        /// There are as many sessions as there may be.
        Full = "full",
        /// The store did not say.
        Unavailable = "unavailable",
    }

    /// What was found of a session that a request named.
    pub enum Lookup {
        /// It is known here: nobody was asked.
        Cached = "cached",
        Loaded = "loaded",
        Absent = "absent",
        /// It is another principal's, or another server's (P2).
        Foreign = "foreign",
        /// What its client sent when it opened it can't be read here.
        Unreadable = "unreadable",
        /// It was opened over the other transport.
        Transport = "transport",
        /// The store did not say.
        Unavailable = "unavailable",
    }
}
