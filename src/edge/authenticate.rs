//! Who calls, and what they may, asked before anything else of a request is looked at but where it comes from.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::middleware::Next;
use axum::response::Response;

use super::audit::{Asked, Refusal};
use super::error::later;
use super::response::{json, refuse};
use super::streamable::Name;
use super::{Edge, Known};
use crate::auth::{Denied, Flaw, Identity, Lacking};
use crate::protocol::jsonrpc::{self, Body as Messages, Message, codes};
use crate::protocol::legacy;

/// Each has an address, and metadata, of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    Streamable,
    HttpSse,
}

/// Leaves the principal with the request, or answers itself (A2, RFC 6750 section 3).
pub(super) async fn authenticate(
    State(edge): State<Edge>,
    name: Name,
    mut request: Request,
    next: Next,
) -> Response {
    let server = name.as_ref().map(|name| name.as_str());
    let path = request.uri().path().trim_end_matches('/');
    let endpoint = if path.ends_with("/mcp") { Endpoint::Streamable } else { Endpoint::HttpSse };
    let asked = Asked::of(&request, &edge, server);
    // Boxed: most of its state is for issuers that are waited for.
    match Box::pin(edge.config.authenticator.authenticate(server, request.headers())).await {
        Ok(identity) => {
            let principal = identity.principal.clone();
            request.extensions_mut().insert(Known { identity, address: asked.address });
            let response = next.run(request).await;
            asked.answered(&edge, &principal, response)
        }
        Err(denied) => {
            asked.denied(&edge, &denied);
            let response = refuse(&edge.hub, status(&denied), &denied.to_string());
            challenged(&edge, server, endpoint, response, &denied)
        }
    }
}

/// Refuses tools that the caller may not call, in whichever message of the body.
#[expect(clippy::result_large_err, reason = "the error is the response itself")]
pub(super) fn permit(
    edge: &Edge,
    server: Option<&str>,
    endpoint: Endpoint,
    identity: &Identity,
    body: &Messages,
) -> Result<(), Response> {
    if !edge.config.authenticator.has_tool_rules(server) {
        return Ok(());
    }
    for message in body.messages() {
        // A server may read such a name as another, and call a tool that nobody asked about here.
        if message.has_lookalikes() {
            let why =
                "a member's name differs from one that means something by case or by what can't be seen";
            return Err(answer(edge, StatusCode::BAD_REQUEST, codes::INVALID_REQUEST, why, message));
        }
        if message.method() != Some("tools/call") {
            continue;
        }
        let Some(tool) = message.params().and_then(legacy::tool_name) else {
            let why = "tools/call needs params.name, once";
            return Err(answer(edge, StatusCode::BAD_REQUEST, codes::INVALID_PARAMS, why, message));
        };
        if let Err(denied) = edge.config.authenticator.permit(server, identity, &tool) {
            let mut response = answer(edge, status(&denied), codes::SERVER, &denied.to_string(), message);
            response.extensions_mut().insert(Refusal::call(&denied, &tool));
            return Err(challenged(edge, server, endpoint, response, &denied));
        }
    }
    Ok(())
}

fn answer(edge: &Edge, status: StatusCode, code: i64, why: &str, message: &Message) -> Response {
    edge.hub.metrics().refused(status.as_u16());
    json(status, jsonrpc::error(message.id(), code, why, None))
}

const fn status(denied: &Denied) -> StatusCode {
    match denied {
        Denied::Missing | Denied::Scheme | Denied::Anonymous(_) | Denied::Invalid(_) => {
            StatusCode::UNAUTHORIZED
        }
        Denied::Malformed => StatusCode::BAD_REQUEST,
        Denied::Insufficient(..) => StatusCode::FORBIDDEN,
        Denied::Unverifiable => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Says what would help: RFC 6750, section 3, and where to log in (RFC 9728, section 5.1).
fn challenged(
    edge: &Edge,
    server: Option<&str>,
    endpoint: Endpoint,
    mut response: Response,
    denied: &Denied,
) -> Response {
    let error = match denied {
        Denied::Missing | Denied::Scheme | Denied::Anonymous(_) => None,
        Denied::Malformed => Some("invalid_request"),
        Denied::Invalid(_) => Some("invalid_token"),
        Denied::Insufficient(..) => Some("insufficient_scope"),
        Denied::Unverifiable => {
            response.headers_mut().insert(RETRY_AFTER, later(edge));
            return response;
        }
    };
    let endpoint = match endpoint {
        Endpoint::Streamable => "mcp",
        Endpoint::HttpSse => "sse",
    };
    let path = server.map_or_else(|| format!("/{endpoint}"), |name| format!("/servers/{name}/{endpoint}"));
    let metadata = edge.config.authenticator.metadata_of(&path);
    let mut parts: Vec<String> = error.iter().map(|error| format!(r#"error="{error}""#)).collect();
    if matches!(denied, Denied::Invalid(flaw) if *flaw != Flaw::Unknown)
        || matches!(denied, Denied::Insufficient(..))
    {
        parts.push(format!(r#"error_description="{denied}""#));
    }
    let scopes = match (denied, &metadata) {
        (Denied::Insufficient(_, Lacking::Scopes(scopes)) | Denied::Anonymous(scopes), _) => &**scopes,
        (Denied::Missing | Denied::Scheme | Denied::Invalid(_), Some(metadata)) => metadata.scopes,
        _ => &[],
    };
    if !scopes.is_empty() {
        parts.push(format!(r#"scope="{}""#, scopes.join(" ")));
    }
    parts.extend(metadata.map(|metadata| format!(r#"resource_metadata="{}""#, metadata.address)));
    let challenge = format!("Bearer {}", parts.join(", "));
    let challenge = HeaderValue::from_str(challenge.trim_end());
    response
        .headers_mut()
        .insert(WWW_AUTHENTICATE, challenge.expect("names, scopes and URLs are visible ASCII"));
    response
}
