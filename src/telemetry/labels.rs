//! The closed sets that label metrics: never ids, never paths.

use crate::domain::{StreamKind, Transport};

/// Why an open stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// Its last answer was sent.
    Finished,
    ClientGone,
    /// The reader was slower than its buffer is long.
    Lagged,
    /// Nothing happened for `streams.idle_timeout`.
    Idle,
    /// It lived for `streams.life_max`.
    Aged,
    /// The token that opened it is good no longer.
    Expired,
    /// This node is about to end.
    Draining,
    /// The client came back on another connection.
    Replaced,
    SessionEnded,
    /// An operator closed it.
    Closed,
    /// What feeds it failed.
    Failed,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// The client said so (L26).
    Deleted,
    Idle,
    /// Its HTTP+SSE stream did not come back within the grace (S5).
    StreamGone,
    /// The state lived in this process, which ends.
    Shutdown,
    /// An operator ended it.
    Operator,
}

/// How a resume with `Last-Event-ID` went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResumeEnd {
    Resumed,
    /// The log no longer reaches back; the client was told.
    Lost,
    Ended,
    Gone,
    /// The store was away; the client was told to come again.
    Postponed,
}

/// What became of a dead node's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakeoverEnd {
    /// The upstream is asked for the rest of the answer.
    Resumed,
    /// The client is told that its answer is lost.
    Error,
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeEnd {
    /// A result or error of the server's.
    Answered,
    UpstreamFailed,
    TimedOut,
    Cancelled,
    /// The session or the gateway ended first.
    Abandoned,
    /// Left to another node by one that ended.
    LeftBehind,
    /// Its client left while a long answer passed.
    ClientGone,
}

/// Which end of a relay this node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelaySide {
    /// It asks: another node holds the session.
    Asked,
    /// It holds the session, and speaks with its own server for another node.
    Served,
}

/// How a relay ended, as the node saw it that asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayEnd {
    /// The whole response arrived.
    Finished,
    /// Nobody waited for the rest.
    Dropped,
    /// The node that holds the session is gone; the request did not run.
    NodeGone,
    /// No answer, no order, or no server there; the request may have run.
    Failed,
}

/// How a rate that all nodes keep together was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedRate {
    Taken,
    Refused,
    /// Nobody answered: the node decided by its own account.
    Alone,
}

/// Well or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    Error,
}

macro_rules! label {
    ($type:ident { $($variant:ident => $text:literal),+ $(,)? }) => {
        impl $type {
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

label!(StreamEnd {
    Finished => "finished", ClientGone => "client_gone", Lagged => "lagged", Idle => "idle", Aged => "aged", Expired => "expired",
    Draining => "draining", Replaced => "replaced", SessionEnded => "session_ended", Closed => "closed", Failed => "failed",
});
label!(SessionEnd { Deleted => "deleted", Idle => "idle", StreamGone => "stream_gone", Shutdown => "shutdown", Operator => "operator" });
label!(ResumeEnd {
    Resumed => "resumed", Lost => "lost", Ended => "ended", Gone => "gone", Postponed => "postponed",
});
label!(ExchangeEnd {
    Answered => "answered", UpstreamFailed => "upstream_failed", TimedOut => "timed_out",
    Cancelled => "cancelled", Abandoned => "abandoned", LeftBehind => "left_behind",
    ClientGone => "client_gone",
});
label!(TakeoverEnd { Resumed => "resumed", Error => "error" });
label!(RelaySide { Asked => "asked", Served => "served" });
label!(RelayEnd { Finished => "finished", Dropped => "dropped", NodeGone => "node_gone", Failed => "failed" });
label!(SharedRate { Taken => "taken", Refused => "refused", Alone => "alone" });
label!(Outcome { Ok => "ok", Error => "error" });

pub(super) const fn kind_label(kind: StreamKind) -> &'static str {
    match kind {
        StreamKind::Get => "get",
        StreamKind::Post => "post",
        StreamKind::HttpSse => "http_sse",
    }
}

pub(super) const fn transport_label(transport: Transport) -> &'static str {
    match transport {
        Transport::Streamable => "streamable",
        Transport::HttpSse => "http_sse",
    }
}
