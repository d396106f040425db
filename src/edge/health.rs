//! What operators and balancers ask.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Edge;
use crate::hub::Hub;
use crate::lifecycle::{Lifecycle, Phase};
use crate::telemetry::NodePhase;

/// `/health` on the client port: status, version, counts, paths, limits. Nothing of any client's.
pub(super) async fn health(State(edge): State<Edge>) -> Response {
    let phase = edge.lifecycle.phase();
    let (status, text) = match phase {
        Phase::Ready => (StatusCode::OK, "ok"),
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
        Phase::Leaving | Phase::Draining | Phase::Stopped => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
    };
    let prefix = &edge.config.prefix;
    let body = json!({
        "status": text,
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": edge.lifecycle.uptime_seconds(),
        "sessions": edge.hub.session_count(),
        "streams": edge.hub.stream_count(),
        "paths": {
            "streamable_http": format!("{prefix}/mcp"),
            "http_sse": edge.config.sessions.then(|| format!("{prefix}/sse")),
            "servers": format!("{prefix}/servers/{{name}}/mcp"),
        },
        "limits": {
            "body_bytes_max": edge.config.body_bytes_max,
            "sessions_max": edge.hub.limits().0,
            "streams_max": edge.hub.limits().1,
        },
    });
    (status, Json(body)).into_response()
}

pub(super) async fn live() -> &'static str {
    "ok\n"
}

pub(super) fn waiting(awaited: &str) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {awaited}\n"))
}

/// How a balancer wants to hear that it should leave this node.
#[derive(serde::Deserialize)]
pub(super) struct Probe {
    /// 404 instead of 503: what HAProxy's `http-check disable-on-404` takes as "nothing new, and leave
    /// what is open".
    leaving: Option<u16>,
}

pub(super) async fn ready(
    State((hub, lifecycle)): State<(Hub, Lifecycle)>,
    Query(probe): Query<Probe>,
) -> Response {
    let leaving = match probe.leaving {
        Some(404) => StatusCode::NOT_FOUND,
        Some(_) | None => StatusCode::SERVICE_UNAVAILABLE,
    };
    match lifecycle.phase() {
        Phase::Ready if hub.is_alone() => {
            (leaving, "others reach the state or the bus, this node does not\n").into_response()
        }
        Phase::Ready => "ready\n".into_response(),
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response(),
        Phase::Leaving | Phase::Draining | Phase::Stopped => (leaving, "draining\n").into_response(),
    }
}

pub(super) async fn metrics(State((hub, lifecycle)): State<(Hub, Lifecycle)>) -> Response {
    let phase = lifecycle.phase();
    hub.metrics().ready(phase == Phase::Ready && !hub.is_alone());
    hub.metrics().phase(match phase {
        Phase::Starting => NodePhase::Starting,
        Phase::Ready => NodePhase::Ready,
        Phase::Leaving => NodePhase::Leaving,
        Phase::Draining => NodePhase::Draining,
        Phase::Stopped => NodePhase::Stopped,
    });
    hub.measure();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], hub.metrics().render())
        .into_response()
}
