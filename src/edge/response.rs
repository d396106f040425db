//! How answers look on the wire.

use axum::body::Body;
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;

use crate::auth::Identity;
use crate::hub::{Attachment, Hub, Reply, StreamBody};
use crate::protocol::jsonrpc::{self, codes};

pub(super) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");

/// Proxies are told not to buffer (M6), not to keep, and not to compress.
fn event_stream(body: Body) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform")),
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, body).into_response()
}

pub(super) fn stream(body: StreamBody) -> Response {
    event_stream(Body::new(body))
}

pub(super) fn json(status: StatusCode, body: Bytes) -> Response {
    as_json(status, Body::from(body))
}

fn as_json(status: StatusCode, body: Body) -> Response {
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

pub(super) fn reply(reply: Reply) -> Response {
    match reply {
        Reply::Accepted => StatusCode::ACCEPTED.into_response(),
        Reply::Json { status, body } => json(status, body),
        Reply::Passing(body) => as_json(StatusCode::OK, Body::new(body)),
        Reply::Stream(body) => stream(body),
    }
}

/// A stream lives no longer than what let its reader in.
pub(super) fn attachment(attachment: Attachment, identity: &Identity) -> Response {
    match attachment {
        Attachment::Stream(body) => stream(body.until(identity.until)),
        Attachment::Once(frames) => event_stream(Body::from(frames)),
        Attachment::Ended => no_get("nothing is left of this stream"),
    }
}

/// 405 to a GET: every client knows it as "there is no such stream".
pub(super) fn no_get(why: &str) -> Response {
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, codes::SERVER, why);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST, DELETE"));
    response
}

pub(super) fn error(status: StatusCode, code: i64, message: &str) -> Response {
    json(status, jsonrpc::error(None, code, message, None))
}

/// A refusal of the HTTP request itself, counted.
pub(super) fn refuse(hub: &Hub, status: StatusCode, why: &str) -> Response {
    hub.metrics().refused(status.as_u16());
    error(status, codes::SERVER, why)
}

pub(super) async fn not_found(uri: Uri) -> Response {
    let message =
        format!("nothing is served at {}; MCP is at /mcp, /sse and /servers/{{name}}/mcp", uri.path());
    error(StatusCode::NOT_FOUND, codes::SERVER, &message)
}

/// A GET here opens a stream: HEAD would open one for nothing.
pub(super) async fn no_head() -> Response {
    let mut response = StatusCode::METHOD_NOT_ALLOWED.into_response();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
    response
}

/// The router adds `Allow`.
pub(super) async fn method_not_allowed(method: Method) -> Response {
    error(StatusCode::METHOD_NOT_ALLOWED, codes::SERVER, &format!("{method} is not allowed here"))
}

/// The value of a header that comes once. Several lines are a list (RFC 9110, 5.3), and what is no text
/// is made some: neither is taken for absent, and neither is a version or an id.
pub(super) fn header_whole(headers: &HeaderMap, name: &str) -> Option<String> {
    let values: Vec<_> =
        headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

pub(super) fn header_text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
