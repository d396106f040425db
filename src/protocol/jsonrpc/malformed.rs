//! Why a text is not a JSON-RPC message, and how to answer it.

use std::fmt;

use super::{Id, codes};

/// A text that is no JSON-RPC message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Not JSON in UTF-8: -32700.
    NotJson,
    /// JSON, but not a message that JSON-RPC 2.0 and MCP allow: -32600.
    NotJsonRpc {
        /// What is wrong, for people.
        reason: &'static str,
        /// The id, where there was a readable one; an error response names it.
        id: Option<Id>,
    },
}

impl Malformed {
    pub(super) fn new(reason: &'static str) -> Self {
        Self::NotJsonRpc { reason, id: None }
    }

    /// The JSON-RPC error code.
    #[must_use]
    pub fn code(&self) -> i64 {
        match self {
            Self::NotJson => codes::PARSE_ERROR,
            Self::NotJsonRpc { .. } => codes::INVALID_REQUEST,
        }
    }

    /// The id of the message at fault, if it could be read.
    #[must_use]
    pub fn id(&self) -> Option<&Id> {
        match self {
            Self::NotJson => None,
            Self::NotJsonRpc { id, .. } => id.as_ref(),
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson => formatter.write_str("not JSON"),
            Self::NotJsonRpc { reason, .. } => write!(formatter, "not a JSON-RPC message: {reason}"),
        }
    }
}

impl std::error::Error for Malformed {}
