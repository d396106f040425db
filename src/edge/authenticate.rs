//! Who calls, asked before anything else of a request is looked at but where it comes from.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, WWW_AUTHENTICATE};
use axum::middleware::Next;
use axum::response::Response;

use super::Edge;
use super::response::refuse;
use crate::auth::Denied;

/// Leaves the principal with the request, or answers itself (A2, RFC 6750 section 3).
pub(super) async fn authenticate(State(edge): State<Edge>, mut request: Request, next: Next) -> Response {
    match edge.config.authenticator.authenticate(request.headers()) {
        Ok(principal) => {
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        Err(denied) => refused(&edge, denied),
    }
}

fn refused(edge: &Edge, denied: Denied) -> Response {
    let (status, challenge) = match denied {
        Denied::Missing => (StatusCode::UNAUTHORIZED, "Bearer"),
        Denied::Malformed => (StatusCode::BAD_REQUEST, r#"Bearer error="invalid_request""#),
        Denied::Invalid => (StatusCode::UNAUTHORIZED, r#"Bearer error="invalid_token""#),
    };
    let mut response = refuse(&edge.hub, status, &denied.to_string());
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    response
}
