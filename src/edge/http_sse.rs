//! HTTP+SSE (2024-11-05): a GET that stays open, and a POST address that its first event names.

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::HeaderMap;
use axum::http::{StatusCode, header};
use axum::response::Response;

use super::authenticate::{Endpoint, permit};
use super::error::failed;
use super::request::{Accepts, accepts, caller, messages, server};
use super::response::{attachment, header_text, reply};
use super::streamable::{Name, negotiated, no_batches, no_sessions, refuse_with};
use super::{Edge, Who};
use crate::domain::{EventId, SessionId, Transport};
use crate::hub::{Form, SessionPolicy};
use crate::protocol::jsonrpc::{Body as Messages, codes};
use crate::protocol::version::LegacyVersion;

/// `?sessionId=…`, as the endpoint event gave it.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Named {
    #[serde(rename = "sessionId")]
    session: Option<String>,
}

pub(super) async fn get(State(edge): State<Edge>, name: Name, who: Who, headers: HeaderMap) -> Response {
    let name = name.as_ref().map(|Path(name)| name.as_str());
    handle_get(&edge, name, who, &headers).await.unwrap_or_else(|refused| refused)
}

async fn handle_get(
    edge: &Edge,
    name: Option<&str>,
    Extension(known): Who,
    headers: &HeaderMap,
) -> Result<Response, Response> {
    let server = server(edge, name)?;
    if server.sessions == SessionPolicy::Stateless {
        return Err(no_sessions(edge));
    }
    // curl and simple clients send no Accept, or */*.
    if headers.contains_key(header::ACCEPT) {
        accepts(edge, headers, Accepts::Events)?;
    }
    let position = header_text(headers, "last-event-id").and_then(|text| text.parse::<EventId>().ok());
    let prefix = &edge.config.prefix;
    let path = match name {
        Some(name) => format!("{prefix}/servers/{name}/message"),
        None => format!("{prefix}/message"),
    };
    let endpoint = move |session: &SessionId| format!("{path}?sessionId={session}");
    let caller = caller(&server, &known, headers);
    let opened = edge.hub.open_http_sse(&server, &caller, position, endpoint).await;
    opened.map(|opened| attachment(opened, &known.identity)).map_err(|error| failed(edge, &error, None))
}

pub(super) async fn post(
    State(edge): State<Edge>,
    name: Name,
    Query(named): Query<Named>,
    who: Who,
    request: Request,
) -> Response {
    let name = name.as_ref().map(|Path(name)| name.as_str());
    handle_post(&edge, name, named, who, request).await.unwrap_or_else(|refused| refused)
}

async fn handle_post(
    edge: &Edge,
    name: Option<&str>,
    named: Named,
    Extension(known): Who,
    request: Request<Body>,
) -> Result<Response, Response> {
    let server = server(edge, name)?;
    if server.sessions == SessionPolicy::Stateless {
        return Err(no_sessions(edge));
    }
    let mut caller = caller(&server, &known, request.headers());
    // Its session has those of its opening GET.
    server.passes.iter().for_each(|name| _ = caller.headers.remove(name));
    let id = named.session.as_deref().and_then(|text| SessionId::parse(text).ok()).ok_or_else(|| {
        edge.hub.note_malformed(&server, &caller);
        refuse_with(edge, codes::SERVER, "the query needs sessionId, as the endpoint event gave it")
    })?;
    let body = messages(edge, &caller.principal, request).await?;
    permit(edge, name, Endpoint::HttpSse, &known.identity, &body)?;
    let found = edge.hub.session_of(&server, &caller, &id, Transport::HttpSse).await;
    let live = found.map_err(|error| failed(edge, &error, None))?;
    let first = body.messages().first().cloned();
    let posted = match body {
        Messages::One(message) if message.is_request() && message.method() == Some("initialize") => {
            edge.hub.initialize_on_stream(&server, &live, &caller, message).await
        }
        Messages::Batch(_) if !negotiated(&live).is_some_and(LegacyVersion::allows_batches) => {
            return Err(no_batches(edge));
        }
        body => edge.hub.post(&server, &live, &caller, body, Form::OnHttpSse, false).await,
    };
    let mut response = posted.map(reply).map_err(|error| failed(edge, &error, first.as_ref()))?;
    if response.status() == StatusCode::ACCEPTED {
        // What the first servers of this transport said; some clients print it.
        *response.body_mut() = Body::from("Accepted");
    }
    Ok(response)
}
