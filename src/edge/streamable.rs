//! Streamable HTTP, both eras at one URL: POST, GET, DELETE on `/mcp`.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use tokio::time::Instant;

use super::authenticate::{Endpoint, permit};
use super::error::failed;
use super::request::{Accepts, accepts, caller, messages, server};
use super::response::{SESSION_ID, attachment, header_text, header_whole, json, no_get, refuse, reply};
use super::{Edge, Who, stateless};
use crate::domain::{EventId, SessionId, StreamId, Transport};
use crate::hub::{AnswerPolicy, Caller, Error, Hub, Live, Reply, Server, SessionPolicy, Wanted};
use crate::protocol::era::{self, Era, HeaderEra, Refusal};
use crate::protocol::jsonrpc::{Body as Messages, Message, codes};
use crate::protocol::modern;
use crate::protocol::version::LegacyVersion;

const VERSION: &str = "mcp-protocol-version";
const LAST_EVENT_ID: &str = "last-event-id";

/// The optional `{name}` of the path.
pub(super) type Name = Option<Path<String>>;

pub(super) async fn post(State(edge): State<Edge>, name: Name, who: Who, request: Request) -> Response {
    handle_post(&edge, name.as_ref().map(|name| name.as_str()), who, request)
        .await
        .unwrap_or_else(|refused| refused)
}

async fn handle_post(
    edge: &Edge,
    name: Option<&str>,
    Extension(known): Who,
    request: Request<Body>,
) -> Result<Response, Response> {
    let server = server(edge, name)?;
    let headers = request.headers().clone();
    let wanted = if server.answers == AnswerPolicy::Json { Accepts::Json } else { Accepts::Both };
    accepts(edge, &headers, wanted)?;
    let caller = caller(&server, &known, &headers);
    let body = messages(edge, &caller.principal, request).await?;
    permit(edge, name, Endpoint::Streamable, &known.identity, &body)?;
    match body {
        Messages::One(message) => {
            let era = era::classify(&message, header_whole(&headers, VERSION).as_deref());
            match era.map_err(|refusal| refused(edge, refusal, &message))? {
                Era::Modern(modern) => {
                    post_modern(
                        edge,
                        &server,
                        (caller, known.identity.until),
                        &headers,
                        &message,
                        &modern.version,
                    )
                    .await
                }
                Era::Legacy(version) => {
                    post_legacy(edge, &server, &caller, &headers, Messages::One(message), version).await
                }
            }
        }
        Messages::Batch(_) => {
            let version = match era::classify_headers(header_whole(&headers, VERSION).as_deref()) {
                HeaderEra::Legacy(version) => version,
                HeaderEra::Modern | HeaderEra::Unknown(_) => return Err(no_batches(edge)),
            };
            post_legacy(edge, &server, &caller, &headers, body, version).await
        }
    }
}

async fn post_modern(
    edge: &Edge,
    server: &Arc<Server>,
    (mut caller, until): (Caller, Option<Instant>),
    headers: &HeaderMap,
    message: &Message,
    version: &str,
) -> Result<Response, Response> {
    // What is validated has to be what goes up: a header that comes twice could be two things.
    if let Some(twice) =
        ["mcp-method", "mcp-name", VERSION].iter().find(|name| headers.get_all(**name).iter().count() > 1)
    {
        let refusal = modern::header_mismatch(twice, Some("more than one value"), None);
        return Err(refused(edge, refusal, message));
    }
    modern::validate_headers(message, |name| header_text(headers, name))
        .map_err(|refusal| refused(edge, refusal, message))?;
    // Notifications may come without; what goes up is complete (M13).
    if let Some(method) = message.method().and_then(|method| HeaderValue::from_str(method).ok()) {
        caller.headers.entry("mcp-method").or_insert(method);
    }
    if let Ok(version) = HeaderValue::from_str(version) {
        caller.headers.insert(VERSION, version);
    }
    let passed = edge.hub.pass(server, &caller, message, version).await;
    let passed = passed.map(|passed| match passed {
        // Others end with their answer.
        Reply::Stream(body) if message.method() == Some("subscriptions/listen") => {
            Reply::Stream(body.until(until))
        }
        passed => passed,
    });
    passed.map(reply).map_err(|error| failed(edge, &error, Some(message)))
}

async fn post_legacy(
    edge: &Edge,
    server: &Arc<Server>,
    caller: &Caller,
    headers: &HeaderMap,
    body: Messages,
    version: Option<LegacyVersion>,
) -> Result<Response, Response> {
    if let Messages::One(message) = &body
        && message.method() == Some("initialize")
        && message.is_request()
    {
        return initialize(edge, server, caller, message).await;
    }
    if body.messages().iter().any(|message| message.method() == Some("initialize")) {
        return Err(refuse_with(edge, codes::INVALID_REQUEST, "initialize can't be part of a batch"));
    }
    if server.sessions == SessionPolicy::Stateless {
        let version = version.unwrap_or(LegacyVersion::DEFAULT);
        return stateless::post(edge, server, caller, body, version).await;
    }
    let live = session(edge, server, caller, headers).await?;
    let version = version.or_else(|| negotiated(&live)).unwrap_or(LegacyVersion::DEFAULT);
    if matches!(body, Messages::Batch(_)) && !version.allows_batches() {
        return Err(no_batches(edge));
    }
    let first = body.messages().first().cloned();
    let form = Hub::form(server, &live);
    let posted = edge.hub.post(server, &live, caller, body, form, primes(&live)).await;
    posted.map(reply).map_err(|error| failed(edge, &error, first.as_ref()))
}

async fn initialize(
    edge: &Edge,
    server: &Arc<Server>,
    caller: &Caller,
    message: &Message,
) -> Result<Response, Response> {
    let opened = edge.hub.initialize(server, caller, message).await;
    let opening = opened.map_err(|error| failed(edge, &error, Some(message)))?;
    let mut response = json(opening.status, opening.body);
    if let Some(session) = opening.session {
        let value = HeaderValue::from_str(session.as_str()).expect("a session id is visible ASCII");
        response.headers_mut().insert(SESSION_ID, value);
    }
    Ok(response)
}

pub(super) async fn get(State(edge): State<Edge>, name: Name, who: Who, headers: HeaderMap) -> Response {
    handle_get(&edge, name.as_ref().map(|name| name.as_str()), who, &headers)
        .await
        .unwrap_or_else(|refused| refused)
}

async fn handle_get(
    edge: &Edge,
    name: Option<&str>,
    Extension(known): Who,
    headers: &HeaderMap,
) -> Result<Response, Response> {
    let server = server(edge, name)?;
    legacy_headers(edge, headers, "GET")?;
    if server.sessions == SessionPolicy::Stateless {
        return Err(no_get("this server keeps no sessions, and has nothing to say unasked"));
    }
    accepts(edge, headers, Accepts::Events)?;
    let caller = caller(&server, &known, headers);
    let live = session(edge, &server, &caller, headers).await?;
    // A position that was never given out here is a lost one: the client is told, and gets a stream.
    let position = header_text(headers, LAST_EVENT_ID).filter(|text| !text.is_empty()).map(|text| {
        text.parse::<EventId>().ok().filter(|event_id| event_id.session.is_none()).unwrap_or_else(|| {
            EventId {
                session: None,
                stream: StreamId::http_sse(),
                number: crate::domain::EventNumber::default(),
            }
        })
    });
    let wanted =
        Wanted { endpoint: None, primes: primes(&live), position: position.as_ref(), address: known.address };
    let attached = edge.hub.attach(&server, &live, wanted).await;
    attached.map(|attached| attachment(attached, &known.identity)).map_err(|error| failed(edge, &error, None))
}

pub(super) async fn delete(State(edge): State<Edge>, name: Name, who: Who, headers: HeaderMap) -> Response {
    handle_delete(&edge, name.as_ref().map(|name| name.as_str()), who, &headers)
        .await
        .unwrap_or_else(|refused| refused)
}

async fn handle_delete(
    edge: &Edge,
    name: Option<&str>,
    Extension(known): Who,
    headers: &HeaderMap,
) -> Result<Response, Response> {
    let server = server(edge, name)?;
    legacy_headers(edge, headers, "DELETE")?;
    if server.sessions == SessionPolicy::Stateless {
        return Err(no_get("this server keeps no sessions"));
    }
    let caller = caller(&server, &known, headers);
    let live = session(edge, &server, &caller, headers).await?;
    edge.hub.close(&live, &caller).await.map_err(|error| failed(edge, &error, None))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// GET and DELETE belong to the legacy era (M1); a version that nobody knows is a bad one (L27).
#[expect(clippy::result_large_err, reason = "the error is the response itself")]
fn legacy_headers(edge: &Edge, headers: &HeaderMap, method: &str) -> Result<(), Response> {
    match era::classify_headers(header_whole(headers, VERSION).as_deref()) {
        HeaderEra::Legacy(_) => Ok(()),
        HeaderEra::Modern => Err(no_get(&format!("{method} is not part of this version of the protocol"))),
        HeaderEra::Unknown(version) => {
            let why = format!("the MCP-Protocol-Version {version} is not supported");
            Err(refuse_with(edge, codes::INVALID_REQUEST, &why))
        }
    }
}

/// The session that the header names (L24, L25).
async fn session(
    edge: &Edge,
    server: &Arc<Server>,
    caller: &Caller,
    headers: &HeaderMap,
) -> Result<Arc<Live>, Response> {
    let Some(value) = header_whole(headers, SESSION_ID.as_str()) else {
        let why = "the header Mcp-Session-Id is missing: initialize first";
        return Err(refuse_with(edge, codes::SERVER, why));
    };
    // What can't be an id names no session: 404, as for one that ended.
    let found = match SessionId::parse(&value) {
        Ok(id) => edge.hub.session_of(server, caller, &id, Transport::Streamable).await,
        Err(_) => {
            edge.hub.note_malformed(server, caller);
            Err(Error::NoSession)
        }
    };
    found.map_err(|error| failed(edge, &error, None))
}

pub(super) fn negotiated(live: &Live) -> Option<LegacyVersion> {
    live.session().client.as_ref().and_then(|client| LegacyVersion::parse(&client.protocol_version))
}

/// Whether the session's client understands events without data (L12).
fn primes(live: &Live) -> bool {
    negotiated(live).is_some_and(LegacyVersion::primes)
}

pub(super) fn refused(edge: &Edge, refusal: Refusal, message: &Message) -> Response {
    failed(edge, &Error::Refused(refusal), Some(message))
}

pub(super) fn refuse_with(edge: &Edge, code: i64, why: &str) -> Response {
    edge.hub.metrics().refused(400);
    super::response::error(StatusCode::BAD_REQUEST, code, why)
}

pub(super) fn no_batches(edge: &Edge) -> Response {
    refuse_with(edge, codes::INVALID_REQUEST, "batches are not part of this version of the protocol")
}

/// Not offered at all.
pub(super) fn no_sessions(edge: &Edge) -> Response {
    refuse(&edge.hub, StatusCode::METHOD_NOT_ALLOWED, "this server keeps no sessions: use POST on /mcp")
}
