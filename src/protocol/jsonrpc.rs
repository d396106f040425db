//! JSON-RPC 2.0 as MCP uses it: one message or a batch of them, read without copying and without a tree. Only the
//! envelope is judged here; what `params`, `result` and `error` hold is for the reader of each method.

mod build;
mod id;
mod malformed;
mod passing;

#[cfg(test)]
mod tests;

use std::{fmt, ops::Range, sync::Arc};

use bytes::Bytes;

pub use self::{
    build::{batch, error, notification, request, result},
    id::Id,
    malformed::Malformed,
    passing::Passing,
};
use super::peek::{self, NotAnObject};

/// The code of an error, which is given as the JSON text of its object.
#[must_use]
pub fn error_code(error: &str) -> Option<i64> {
    let [code] = super::peek::object(error, &["code"])?;
    code?.parse().ok()
}

/// Error codes that Holdfast answers with.
pub mod codes {
    /// The text is not JSON (JSON-RPC 2.0, section 5.1).
    pub const PARSE_ERROR: i64 = -32700;
    /// JSON, but no JSON-RPC message, or not one allowed here.
    pub const INVALID_REQUEST: i64 = -32600;
    /// The receiver has no such method.
    pub const METHOD_NOT_FOUND: i64 = -32601;
    /// The method exists, its parameters don't fit; also an incomplete `_meta` (M16).
    pub const INVALID_PARAMS: i64 = -32602;
    /// A fault of ours.
    pub const INTERNAL: i64 = -32603;
    /// A condition of the gateway that passes: a limit reached, shared state away.
    pub const SERVER: i64 = -32000;
    /// A request ran out of time; the official SDKs use the same number.
    pub const TIMEOUT: i64 = -32001;
    /// Header and body contradict each other, or a required header is missing (2026-07-28).
    pub const HEADER_MISMATCH: i64 = -32020;
    /// The request needs a capability that the client did not declare (2026-07-28).
    pub const MISSING_CAPABILITY: i64 = -32021;
    /// The protocol version is not implemented (2026-07-28).
    pub const UNSUPPORTED_VERSION: i64 = -32022;
}

const MEMBERS: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];

/// One JSON-RPC message: its own bytes, and where its parts lie in them.
///
/// Cloning is cheap. The text is exactly what was received, without a byte order mark and surrounding white space.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    raw: Bytes,
    kind: Kind,
    params: Option<Range<usize>>,
    result: Option<Range<usize>>,
    error: Option<Range<usize>>,
}

/// What a message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Expects a response with the same id.
    Request { id: Id, method: Arc<str> },
    /// Expects nothing.
    Notification { method: Arc<str> },
    /// A result or an error. `id` is `None` only for an error whose sender could not read the id.
    Response { id: Option<Id>, is_error: bool },
}

/// What one HTTP body, or one event, carries.
#[derive(Clone, Debug)]
pub enum Body {
    /// A single message.
    One(Message),
    /// A JSON-RPC batch, never empty (L6).
    Batch(Vec<Message>),
}

impl Body {
    /// Reads a message, or an array of at most `batch_max` of them.
    ///
    /// # Errors
    /// As [`Message::parse`], for the first element at fault; an empty batch and one that is too long are malformed.
    #[expect(clippy::needless_pass_by_value, reason = "the message goes on holding the buffer")]
    pub fn parse(raw: Bytes, batch_max: usize) -> Result<Self, Malformed> {
        let text = text_of(&raw)?;
        if !text.starts_with('[') {
            return Message::read(&raw, text).map(Self::One);
        }
        let elements = peek::elements(text, batch_max).map_err(|_| Malformed::NotJson)?;
        if elements.more {
            return Err(Malformed::new("the batch has too many messages"));
        }
        if elements.values.is_empty() {
            return Err(Malformed::new("the batch is empty"));
        }
        elements
            .values
            .iter()
            .map(|element| Message::read(&raw, element))
            .collect::<Result<_, _>>()
            .map(Self::Batch)
    }

    /// The messages, whichever way they came.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        match self {
            Self::One(message) => std::slice::from_ref(message),
            Self::Batch(messages) => messages,
        }
    }
}

impl Message {
    /// Reads one message. Members that JSON-RPC doesn't know are kept and ignored; a byte order mark is skipped.
    ///
    /// # Errors
    /// [`Malformed::NotJson`] for anything but one JSON text in UTF-8, else [`Malformed::NotJsonRpc`] when the
    /// envelope breaks JSON-RPC 2.0, section 4 or 5, has a member twice, or is an array.
    #[expect(clippy::needless_pass_by_value, reason = "the message goes on holding the buffer")]
    pub fn parse(raw: Bytes) -> Result<Self, Malformed> {
        Self::read(&raw, text_of(&raw)?)
    }

    /// The message as received.
    #[must_use]
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The id of a request or a response.
    #[must_use]
    pub fn id(&self) -> Option<&Id> {
        match &self.kind {
            Kind::Request { id, .. } => Some(id),
            Kind::Response { id, .. } => id.as_ref(),
            Kind::Notification { .. } => None,
        }
    }

    /// The method of a request or a notification.
    #[must_use]
    pub fn method(&self) -> Option<&str> {
        match &self.kind {
            Kind::Request { method, .. } | Kind::Notification { method } => Some(method),
            Kind::Response { .. } => None,
        }
    }

    /// The JSON text of `params`, an object or an array; `null` counts as absent.
    #[must_use]
    pub fn params(&self) -> Option<&str> {
        self.part(self.params.as_ref())
    }

    /// The JSON text of `result`.
    #[must_use]
    pub fn result(&self) -> Option<&str> {
        self.part(self.result.as_ref())
    }

    /// The JSON text of `error`, an object.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.part(self.error.as_ref())
    }

    /// Whether it wants a response.
    #[must_use]
    pub fn is_request(&self) -> bool {
        matches!(self.kind, Kind::Request { .. })
    }

    /// Whether it is one.
    #[must_use]
    pub fn is_response(&self) -> bool {
        matches!(self.kind, Kind::Response { .. })
    }

    /// Whether it is a notification.
    #[must_use]
    pub fn is_notification(&self) -> bool {
        matches!(self.kind, Kind::Notification { .. })
    }

    /// Whether it has a member that another parser may take for one that means something, such as `Method`.
    #[must_use]
    pub fn has_lookalikes(&self) -> bool {
        std::str::from_utf8(&self.raw).is_ok_and(|text| peek::has_lookalikes(text, &MEMBERS))
    }

    /// The message without line breaks, as the stdio transport needs it. JSON has them only between tokens, so each
    /// becomes a space; without any this is [`Message::raw`].
    #[must_use]
    pub fn one_line(&self) -> Bytes {
        if memchr::memchr2(b'\n', b'\r', &self.raw).is_none() {
            return self.raw.clone();
        }
        self.raw.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect()
    }

    /// `text` lies inside `whole`.
    fn read(whole: &Bytes, text: &str) -> Result<Self, Malformed> {
        let members = peek::members(text, &MEMBERS);
        let members = members.map_err(|err| match err {
            NotAnObject::NotJson => Malformed::NotJson,
            NotAnObject::OtherValue => Malformed::new("a message is an object"),
        })?;
        if members.duplicate {
            return Err(Malformed::new("a member occurs twice"));
        }
        let [jsonrpc, id, method, params, result, error] = members.values;
        let id = match id {
            None | Some("null") => id.map(|_| None),
            Some(id) => Some(Some(Id::read(id)?)),
        };
        let fault = |reason| Malformed::NotJsonRpc { reason, id: id.clone().flatten() };
        if jsonrpc.and_then(peek::string).as_deref() != Some("2.0") {
            return Err(fault("`jsonrpc` has to be \"2.0\""));
        }
        let params = params.filter(|params| *params != "null");
        if params.is_some_and(|params| !params.starts_with(['{', '['])) {
            return Err(fault("`params` has to be an object"));
        }
        if error.is_some_and(|error| !peek::is_object(error)) {
            return Err(fault("`error` has to be an object"));
        }
        let kind = match (method, result, error) {
            (Some(method), None, None) => {
                let method = peek::string(method).ok_or_else(|| fault("`method` has to be a string"))?.into();
                match id.clone() {
                    None => Kind::Notification { method },
                    Some(Some(id)) => Kind::Request { id, method },
                    Some(None) => return Err(fault("the id of a request can't be null")),
                }
            }
            (Some(_), _, _) => return Err(fault("a message is a call or a response, not both")),
            (None, Some(_), Some(_)) => return Err(fault("a response has a result or an error, not both")),
            (None, None, None) => return Err(fault("neither `method` nor `result` nor `error`")),
            (None, result, _) => match id.clone().flatten() {
                None if result.is_some() => return Err(fault("a result names the id of its request")),
                id => Kind::Response { id, is_error: result.is_none() },
            },
        };
        let range = |part: &str| {
            let start = peek::offset(text, part);
            start..start + part.len()
        };
        Ok(Self {
            raw: whole.slice_ref(text.as_bytes()),
            kind,
            params: params.map(range),
            result: result.map(range),
            error: error.map(range),
        })
    }

    fn part(&self, range: Option<&Range<usize>>) -> Option<&str> {
        let bytes = &self.raw[range?.clone()];
        Some(std::str::from_utf8(bytes).expect("the whole text was checked when it was read"))
    }
}

/// Shows kind and size; contents may be confidential.
impl fmt::Debug for Message {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Message")
            .field("kind", &self.kind)
            .field("bytes", &self.raw.len())
            .finish_non_exhaustive()
    }
}

/// The text of a body, without byte order mark (RFC 8259, section 8.1 lets a reader skip it) and outer white space.
fn text_of(raw: &Bytes) -> Result<&str, Malformed> {
    let text = std::str::from_utf8(raw).map_err(|_| Malformed::NotJson)?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text).trim_matches([' ', '\t', '\n', '\r']))
}
