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

/// What a request came with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// Nothing that could be looked at.
    None,
    /// A token that no issuer here could know.
    Unknown,
    Static,
    Jwt,
    /// An issuer was asked about it.
    Introspected,
    /// Nothing, where that is enough.
    Anonymous,
}

/// What was found of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthOutcome {
    Accepted,
    /// There is none, or it has another scheme than Bearer.
    Missing,
    Malformed,
    /// Nobody here knows it, its signature is not good, or it is no longer active.
    Invalid,
    Expired,
    Premature,
    /// It never expires.
    Endless,
    WrongAudience,
    NoSubject,
    /// It needs a proof that is not taken here.
    Bound,
    InsufficientScope,
    /// It may be good: whoever could tell can't be reached.
    Unavailable,
}

impl AuthOutcome {
    pub(super) const ALL: [Self; 12] = [
        Self::Accepted,
        Self::Missing,
        Self::Malformed,
        Self::Invalid,
        Self::Expired,
        Self::Premature,
        Self::Endless,
        Self::WrongAudience,
        Self::NoSubject,
        Self::Bound,
        Self::InsufficientScope,
        Self::Unavailable,
    ];
}

impl Credential {
    pub(super) const ALL: [Self; 6] =
        [Self::None, Self::Unknown, Self::Static, Self::Jwt, Self::Introspected, Self::Anonymous];

    pub(super) const fn can_be(self, verdict: AuthOutcome) -> bool {
        match self {
            Self::None => matches!(verdict, AuthOutcome::Missing | AuthOutcome::Malformed),
            Self::Unknown => matches!(verdict, AuthOutcome::Invalid),
            Self::Static | Self::Anonymous => {
                matches!(verdict, AuthOutcome::Accepted | AuthOutcome::InsufficientScope)
            }
            Self::Jwt | Self::Introspected => {
                !matches!(verdict, AuthOutcome::Missing | AuthOutcome::Malformed)
            }
        }
    }
}

/// What an issuer said of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Introspected {
    Active,
    Inactive,
    /// It could not be asked, or said nothing that could be used.
    Failed,
    /// Nothing in time.
    Late,
}

impl Introspected {
    pub(super) const ALL: [Self; 4] = [Self::Active, Self::Inactive, Self::Failed, Self::Late];
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
label!(Credential {
    None => "none", Unknown => "unknown", Static => "static", Jwt => "jwt", Introspected => "introspected",
    Anonymous => "anonymous",
});
label!(AuthOutcome {
    Accepted => "accepted", Missing => "missing", Malformed => "malformed", Invalid => "invalid",
    Expired => "expired", Premature => "premature", Endless => "endless", WrongAudience => "wrong_audience",
    NoSubject => "no_subject", Bound => "bound", InsufficientScope => "insufficient_scope",
    Unavailable => "unavailable",
});
label!(Introspected { Active => "active", Inactive => "inactive", Failed => "failed", Late => "late" });
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
