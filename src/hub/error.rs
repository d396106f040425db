//! Why a use case did not succeed. It answers two questions: whose fault, and may it be tried again.
//! What status and text a client sees is the edge's table.

use bytes::Bytes;

use crate::domain::{Limit, RequestId};
use crate::limits::Exceeded;
use crate::ports::StoreError;
use crate::protocol::era::Refusal;
use crate::protocol::jsonrpc::{self, Id, codes};
use crate::upstream;

/// A use case's failure.
/// Of what ran in a task of its own, which ended before it was done.
pub(super) const UNFINISHED: &str = "the gateway could not finish it";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Absent, ended, or somebody else's: they look the same (P2, A12).
    #[error("no such session")]
    NoSession,
    /// The session store gave no answer; nothing is assumed (P7).
    #[error("the session store gave no answer")]
    Store(#[from] StoreError),
    #[error("the limit {} is reached", .0.key())]
    Limit(Limit),
    /// A principal's limit, or a rate.
    #[error(transparent)]
    Exceeded(Exceeded),
    #[error("a request with the id {} is running already", .0.as_json())]
    Duplicate(RequestId),
    /// The protocol's own refusal, with its status.
    #[error("{}", .0.message)]
    Refused(Refusal),
    #[error("the upstream failed")]
    Upstream(#[from] upstream::Error),
    /// The client cancelled the request and the upstream gave no answer to it.
    #[error("the request was cancelled")]
    Cancelled,
    /// This node is ending, or the session did while the request ran.
    #[error("the request was abandoned: {0}")]
    Abandoned(&'static str),
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    Client,
    Gateway,
    Upstream,
}

impl Error {
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Self::NoSession | Self::Exceeded(_) | Self::Duplicate(_) | Self::Refused(_) | Self::Cancelled => {
                Blame::Client
            }
            Self::Store(_) | Self::Limit(_) | Self::Abandoned(_) => Blame::Gateway,
            Self::Upstream(_) => Blame::Upstream,
        }
    }

    /// The JSON-RPC code that the client is given.
    #[must_use]
    pub const fn code(&self) -> i64 {
        match self {
            Self::NoSession
            | Self::Store(_)
            | Self::Limit(_)
            | Self::Exceeded(_)
            | Self::Cancelled
            | Self::Abandoned(_) => codes::SERVER,
            Self::Duplicate(_) => codes::INVALID_REQUEST,
            Self::Refused(refusal) => refusal.code,
            Self::Upstream(upstream::Error::Late { .. }) => codes::TIMEOUT,
            Self::Upstream(_) => codes::SERVER,
        }
    }

    /// What the client is told. Inner wording stays in the log; an upstream's failure names it.
    #[must_use]
    pub fn public(&self) -> String {
        match self {
            Self::NoSession => "Session not found".to_owned(),
            Self::Store(_) => "The session store is not available; try again".to_owned(),
            Self::Limit(limit) => format!("The gateway's limit {} is reached; try again later", limit.key()),
            Self::Exceeded(exceeded) => {
                format!("Too many requests: the limit {} is reached; try again later", exceeded.limit.key())
            }
            Self::Duplicate(request) => {
                format!("A request with the id {} is running already in this session", request.as_json())
            }
            Self::Refused(refusal) => refusal.message.clone(),
            Self::Upstream(error) => error.to_string(),
            Self::Cancelled => "The request was cancelled".to_owned(),
            Self::Abandoned(why) => format!("The request was abandoned: {why}"),
        }
    }

    /// A JSON-RPC error that says so.
    #[must_use]
    pub fn body(&self, id: Option<&Id>) -> Bytes {
        match self {
            Self::Refused(refusal) => refusal.body(id),
            other => jsonrpc::error(id, other.code(), &other.public(), None),
        }
    }

    /// Whether the same request may succeed a little later, unchanged.
    #[must_use]
    pub const fn retry(&self) -> bool {
        matches!(self, Self::Store(_) | Self::Limit(_) | Self::Exceeded(_) | Self::Abandoned(_))
    }
}
