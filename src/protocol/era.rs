//! Which era a request belongs to, and how one is refused that belongs to none (MCP-RULES, "Which era is a request?").
//! `Mcp-Method` says nothing about it: legacy clients send it as well.

#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde_json::Value;

use super::{
    jsonrpc::{self, Id, Kind, Message, codes},
    modern::{self, Declared, RequestMeta, trimmed},
    version::{LegacyVersion, SUPPORTED_MODERN},
};

/// An answer to a request that can't be served: the HTTP status, and the JSON-RPC error for the body.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// HTTP status code.
    pub status: u16,
    /// JSON-RPC error code, one of [`codes`].
    pub code: i64,
    /// For people.
    pub message: String,
    /// The error's `data`.
    pub data: Option<Value>,
}

impl Refusal {
    /// The body of the answer to the request `id`.
    #[must_use]
    pub fn body(&self, id: Option<&Id>) -> Bytes {
        jsonrpc::error(id, self.code, &self.message, self.data.as_ref())
    }
}

/// The rules a message is served by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Era {
    /// Sessions and the `initialize` handshake; the version if the header named one that is known (L27).
    Legacy(Option<LegacyVersion>),
    /// Everything is in the message.
    Modern(Modern),
}

/// What a modern message says about its client, every time anew (M16, M21).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Modern {
    /// One of [`SUPPORTED_MODERN`].
    pub version: String,
    /// The client's capabilities, the JSON text of an object; `{}` for a notification without any.
    pub capabilities: String,
    /// Name and version of the client, JSON text as received. Never a ground for a decision.
    pub client_info: Option<String>,
    /// The least level of log messages wanted; none are without it (M20).
    pub log_level: Option<String>,
}

/// The era of a request without a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderEra {
    /// A known legacy version, or none named.
    Legacy(Option<LegacyVersion>),
    /// A modern version that is supported.
    Modern,
    /// Neither.
    Unknown(String),
}

/// The era of a message, by its `_meta` and the value of `MCP-Protocol-Version`.
///
/// Notifications need no `_meta`: without it the header decides. Responses belong to legacy clients only (M3).
///
/// # Errors
/// The modern ladder, in this order: `_meta` incomplete (-32602), header and `_meta` differ (-32020), version not
/// supported (-32022), a method that the modern era removed (404, -32601).
pub fn classify(message: &Message, version_header: Option<&str>) -> Result<Era, Refusal> {
    let header = version_header.map(trimmed);
    let (method, is_request) = match message.kind() {
        Kind::Request { method, .. } => (&**method, true),
        Kind::Notification { method } => (&**method, false),
        Kind::Response { .. } => return classify_response(header),
    };
    let meta = RequestMeta::of(message.params());
    let from_header = header.and_then(LegacyVersion::parse);
    let declared_legacy = match &meta.version {
        Declared::Absent => method == "initialize" || header.is_none() || from_header.is_some(),
        Declared::Text(version) => LegacyVersion::parse(version).is_some(),
        Declared::Unreadable => false,
    };
    if declared_legacy {
        // A modern header over a legacy body would let a router and us see different things; the handshake names
        // its version in its own parameters.
        let contradicts = header.is_some() && from_header.is_none() && method != "initialize";
        return if contradicts { Err(version_mismatch(header, &meta)) } else { Ok(Era::Legacy(from_header)) };
    }
    classify_modern(&meta, header, method, is_request).map(Era::Modern)
}

/// The era of a GET or DELETE, which only the header can tell.
#[must_use]
pub fn classify_headers(version_header: Option<&str>) -> HeaderEra {
    let Some(version) = version_header.map(trimmed) else {
        return HeaderEra::Legacy(None);
    };
    match LegacyVersion::parse(version) {
        Some(version) => HeaderEra::Legacy(Some(version)),
        None if SUPPORTED_MODERN.contains(&version) => HeaderEra::Modern,
        None => HeaderEra::Unknown(version.to_owned()),
    }
}

fn classify_modern(
    meta: &RequestMeta<'_>,
    header: Option<&str>,
    method: &str,
    is_request: bool,
) -> Result<Modern, Refusal> {
    let unreadable = meta.ambiguous || matches!(meta.version, Declared::Unreadable);
    if unreadable || is_request && !meta.missing().is_empty() {
        return Err(modern::incomplete_meta(meta));
    }
    let version = match &meta.version {
        Declared::Text(version) => version,
        Declared::Absent | Declared::Unreadable => header.unwrap_or_default(),
    };
    if header != Some(version) {
        return Err(version_mismatch(header, meta));
    }
    if !SUPPORTED_MODERN.contains(&version) {
        return Err(modern::unsupported_version(version, SUPPORTED_MODERN));
    }
    if is_request && modern::REMOVED_METHODS.contains(&method) {
        return Err(modern::method_not_found(method));
    }
    Ok(Modern {
        version: version.to_owned(),
        capabilities: meta.capabilities.unwrap_or("{}").to_owned(),
        client_info: meta.client_info.map(str::to_owned),
        log_level: meta.log_level.clone(),
    })
}

fn classify_response(header: Option<&str>) -> Result<Era, Refusal> {
    match classify_headers(header) {
        HeaderEra::Legacy(version) => Ok(Era::Legacy(version)),
        HeaderEra::Modern => Err(Refusal {
            status: 400,
            code: codes::INVALID_REQUEST,
            message: "clients send no responses in this version of the protocol".to_owned(),
            data: None,
        }),
        HeaderEra::Unknown(version) => Err(modern::unsupported_version(&version, SUPPORTED_MODERN)),
    }
}

fn version_mismatch(header: Option<&str>, meta: &RequestMeta<'_>) -> Refusal {
    let body = match &meta.version {
        Declared::Text(version) => Some(&**version),
        Declared::Absent | Declared::Unreadable => None,
    };
    modern::header_mismatch("MCP-Protocol-Version", header, body)
}
