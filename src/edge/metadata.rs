//! Where clients learn which authorization servers there are (A5, RFC 9728).

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::Edge;
use super::response::error;
use crate::protocol::jsonrpc::codes;

pub(super) const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// Of the gateway as a whole.
pub(super) async fn gateway(State(edge): State<Edge>) -> Response {
    of(&edge, "")
}

/// Of the endpoint at that path.
pub(super) async fn resource(State(edge): State<Edge>, Path(path): Path<String>) -> Response {
    of(&edge, &format!("/{path}"))
}

fn of(edge: &Edge, path: &str) -> Response {
    match edge.config.authenticator.metadata_at(path) {
        Some(metadata) => {
            // It changes with the configuration only.
            ([(header::CACHE_CONTROL, HeaderValue::from_static("max-age=300"))], Json(metadata))
                .into_response()
        }
        None => {
            let why = format!("{path} is no resource with an authorization server");
            error(StatusCode::NOT_FOUND, codes::SERVER, &why)
        }
    }
}
