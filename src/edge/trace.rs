//! The span of each request, from its head to that of its response: what is done for it is a part of it, and it is
//! a part of whatever its client says.

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument as _;

use super::response::header_text;
use crate::domain::TraceContext;
use crate::telemetry;

pub(super) async fn trace(request: Request, next: Next) -> Response {
    if !telemetry::is_traced() {
        return next.run(request).await;
    }
    let headers = request.headers();
    let parent = header_text(headers, "traceparent");
    let parent = parent.and_then(|parent| TraceContext::parse(parent, header_text(headers, "tracestate")));
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let span =
        telemetry::http_request(request.method().as_str(), route, request.uri().path(), parent.as_ref());
    let response = next.run(request).instrument(span.clone()).await;
    telemetry::http_answered(&span, response.status().as_u16());
    response
}
