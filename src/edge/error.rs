//! The one table: which status a failure gets. Code and text come with the failure.

use axum::http::header::{self, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::Bytes;

use super::Edge;
use super::audit::Refusal;
use super::response::json;
use crate::hub::{Blame, Error};
use crate::limits::Exceeded;
use crate::protocol::jsonrpc::{Id, Kind, Message};
use crate::telemetry::chain;
use crate::upstream;

fn status(error: &Error) -> StatusCode {
    match error {
        Error::NoSession => StatusCode::NOT_FOUND,
        Error::Store(_) | Error::Limit(_) | Error::Abandoned(_) => StatusCode::SERVICE_UNAVAILABLE,
        // Not 503: a balancer would take a node for sick that does what it is told.
        Error::Exceeded(_) => StatusCode::TOO_MANY_REQUESTS,
        Error::Duplicate(_) => StatusCode::BAD_REQUEST,
        Error::Cancelled => StatusCode::OK,
        Error::Refused(refusal) => StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST),
        Error::Upstream(upstream::Error::Late { .. }) => StatusCode::GATEWAY_TIMEOUT,
        Error::Upstream(_) => StatusCode::BAD_GATEWAY,
    }
}

/// The answer to a message that failed. A notification's or an answer's refusal by the upstream is
/// passed on as it came.
pub(super) fn failed(edge: &Edge, error: &Error, message: Option<&Message>) -> Response {
    if error.blame() != Blame::Client {
        tracing::warn!(error = %chain(error), "a request failed");
    }
    if let Error::Upstream(upstream::Error::Refused { status, content_type, body, .. }) = error
        && !message.is_some_and(|message| matches!(message.kind(), Kind::Request { .. }))
        && !matches!(*status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
    {
        return passed_on(*status, content_type.as_deref(), body.clone());
    }
    let id: Option<&Id> = message.filter(|message| message.is_request()).and_then(Message::id);
    let status = status(error);
    edge.hub.metrics().refused(status.as_u16());
    let mut response = json(status, error.body(id));
    if let Error::Exceeded(Exceeded { limit, .. }) | Error::Limit(limit) = error {
        response.extensions_mut().insert(Refusal::limit(*limit));
    }
    if let Some(retry_after) = retry_after(edge, error) {
        response.headers_mut().insert(header::RETRY_AFTER, retry_after);
    }
    response
}

/// Whole seconds: as long as it takes where that is known, jittered up to half as much again.
fn retry_after(edge: &Edge, error: &Error) -> Option<HeaderValue> {
    if let Error::Exceeded(Exceeded { wait: Some(wait), .. }) = error {
        let seconds = (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1);
        return Some(HeaderValue::from(seconds + fastrand::u64(..=seconds.div_ceil(2))));
    }
    error.retry().then(|| later(edge))
}

/// Whole seconds, jittered up to twice the configured time.
pub(super) fn later(edge: &Edge) -> HeaderValue {
    let seconds = edge.config.retry_after.as_secs().max(1);
    HeaderValue::from(seconds + fastrand::u64(..=seconds))
}

fn passed_on(status: StatusCode, content_type: Option<&str>, body: Bytes) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers: &mut HeaderMap = response.headers_mut();
    if let Some(value) = content_type.and_then(|value| HeaderValue::from_str(value).ok()) {
        headers.insert(header::CONTENT_TYPE, value);
    }
    response
}
