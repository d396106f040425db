//! What a POST must look like before anybody asks what it says, and what of its headers goes on.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{self, HeaderMap, HeaderName};
use axum::http::{Request, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use super::error::failed;
use super::limits::Counted;
use super::response::{json, refuse};
use super::{Edge, Known};
use crate::domain::{Limit, Principal};
use crate::hub::{Caller, Server};
use crate::protocol::jsonrpc::{self, Body as Messages, Malformed};

/// Messages in one batch; more are refused as malformed.
const BATCH_MAX: usize = 128;

/// Headers that mean something to the upstream and can't stand for a credential.
const PASSED: [&str; 6] =
    ["traceparent", "tracestate", "baggage", "mcp-method", "mcp-name", "accept-language"];

/// What a client has to accept (L5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accepts {
    Events,
    Json,
    /// Either may come back.
    Both,
}

/// Who calls a server, and what of their headers goes on to it: by their own names, or because its owner says so
/// (`passes`). An issuer's token goes along where it is to be exchanged; any other means nothing elsewhere.
pub(super) fn caller(server: &Server, known: &Known, headers: &HeaderMap) -> Caller {
    let exchanges = server.upstream.exchanges() && known.identity.is_of_an_issuer();
    let passes = |name: &HeaderName| {
        PASSED.contains(&name.as_str())
            || name.as_str().starts_with("mcp-param-")
            || server.passes.contains(name)
            || (exchanges && *name == header::AUTHORIZATION)
    };
    let passed = headers.iter().filter(|(name, _)| passes(name));
    let mut headers: HeaderMap = passed.map(|(name, value)| (name.clone(), value.clone())).collect();
    if let Some(credential) = headers.get_mut(header::AUTHORIZATION) {
        credential.set_sensitive(true);
    }
    Caller { principal: known.identity.principal.clone(), address: known.address, headers }
}

/// The server that a path names.
#[expect(clippy::result_large_err, reason = "the error is the response itself")]
pub(super) fn server(edge: &Edge, name: Option<&str>) -> Result<Arc<Server>, Response> {
    edge.hub.server(name).ok_or_else(|| {
        let why = match name {
            Some(_) => "no server of this name is configured",
            None => "no default server is configured: use /servers/{name}/mcp",
        };
        refuse(&edge.hub, StatusCode::NOT_FOUND, why)
    })
}

/// 406 unless the client takes what may come.
#[expect(clippy::result_large_err, reason = "the error is the response itself")]
pub(super) fn accepts(edge: &Edge, headers: &HeaderMap, wanted: Accepts) -> Result<(), Response> {
    let ranges: Vec<_> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next()?.to_ascii_lowercase();
            let refused = parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
            (!refused).then_some(media)
        })
        .collect();
    let takes = |media: &str, group: &str| {
        ranges.iter().any(|range| range == media || range == group || range == "*/*")
    };
    let events = takes("text/event-stream", "text/*");
    let json = takes("application/json", "application/*");
    let (fits, why) = match wanted {
        Accepts::Events => (events, "Accept must name text/event-stream"),
        Accepts::Json => (json, "Accept must name application/json"),
        Accepts::Both => (events && json, "Accept must name both application/json and text/event-stream"),
    };
    if fits { Ok(()) } else { Err(refuse(&edge.hub, StatusCode::NOT_ACCEPTABLE, why)) }
}

/// Reads a POST's JSON-RPC body, within its limits of size and time.
pub(super) async fn messages(
    edge: &Edge,
    principal: &Principal,
    request: Request<Body>,
) -> Result<Messages, Response> {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        let why = "Content-Type must be application/json";
        return Err(refuse(&edge.hub, StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
    }
    let raw = read(edge, principal, request).await?;
    let body = Messages::parse(raw, BATCH_MAX).map_err(|malformed| unreadable(edge, &malformed))?;
    // Each message of a batch is a request to its principal; one came with the head.
    let more = body.messages().len().saturating_sub(1);
    if more > 0 {
        let admitted = edge.hub.admit(principal, more).await;
        admitted.map_err(|error| failed(edge, &error, body.messages().first()))?;
    }
    Ok(body)
}

async fn read(edge: &Edge, principal: &Principal, request: Request<Body>) -> Result<Bytes, Response> {
    let limit = edge.config.body_bytes_max;
    let too_large = || {
        edge.hub.metrics().limit_hit(Limit::BodyBytes);
        let why = format!("the body is larger than {limit} bytes (http.body_bytes_max)");
        refuse(&edge.hub, StatusCode::PAYLOAD_TOO_LARGE, &why)
    };
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if declared.and_then(|length| length.parse::<u64>().ok()).is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let body = request.into_body();
    let intake = edge.hub.intake(principal, body.size_hint().exact());
    let intake = intake.map_err(|error| failed(edge, &error, None))?;
    let collected = Limited::new(Counted { body, intake }, limit).collect();
    match tokio::time::timeout(edge.config.body_timeout, collected).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => match error.downcast_ref() {
            Some(exceeded) => Err(failed(edge, &edge.hub.exceeded(*exceeded), None)),
            None => Err(refuse(&edge.hub, StatusCode::BAD_REQUEST, "the body broke off")),
        },
        Err(_) => {
            let why = "the body did not arrive in time (http.body_timeout)";
            Err(refuse(&edge.hub, StatusCode::REQUEST_TIMEOUT, why))
        }
    }
}

pub(super) fn unreadable(edge: &Edge, malformed: &Malformed) -> Response {
    edge.hub.metrics().refused(400);
    let body = jsonrpc::error(malformed.id(), malformed.code(), &malformed.to_string(), None);
    json(StatusCode::BAD_REQUEST, body)
}
