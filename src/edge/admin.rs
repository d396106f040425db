//! The operators' API: JSON over the admin listener, for whoever has a token of `admin.tokens`; without any,
//! as long as only this machine can reach it.

use std::net::IpAddr;

use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query as UrlQuery, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{audit, origin};
use crate::auth::Operators;
use crate::domain::{Binding, Principal, RunningRecord, ServerName, Session, SessionId, Transport};
use crate::hub::{Audience, Error, Hub, Inspected, Published, Query, SeenStream};
use crate::lifecycle::Lifecycle;
use crate::protocol::jsonrpc::Message;
use crate::telemetry::{AuditEvent, Deed, Verdict};

/// Sessions on one page, unless asked otherwise, and at most.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1000;

type Shared = State<(Hub, Lifecycle)>;
type Asking = Extension<Operator>;

/// Who may use the API.
#[derive(Debug, Clone)]
pub enum Operating {
    /// Whoever has a token, from anywhere.
    Tokens(Operators),
    /// Whoever is on this machine.
    Local,
    Nobody,
}

/// Who asks, as the guard found.
#[derive(Debug, Clone)]
pub(super) struct Operator {
    /// Absent where nobody is asked for a token.
    principal: Option<Principal>,
    address: Option<IpAddr>,
}

impl Operator {
    /// Tells the audit log what they did, and how it was answered.
    fn told(&self, hub: &Hub, event: AuditEvent, response: Response) -> Response {
        let (verdict, reason) = match response.status() {
            StatusCode::NOT_FOUND => (Verdict::Refused, Some("absent")),
            status if status.is_client_error() => (Verdict::Refused, Some("invalid")),
            status if status.is_server_error() => (Verdict::Failed, None),
            _ => (Verdict::Done, None),
        };
        let (principal, address) = (self.principal.clone(), self.address);
        hub.audit().record(&AuditEvent { verdict, reason, principal, address, ..event });
        response
    }
}

/// A page of a site that a person visits must not reach it through the person's browser: it has no token,
/// and without tokens the host has to be this machine (DNS rebinding); what changes something has to be
/// JSON (preflight).
pub(super) async fn guard(
    State((hub, operating)): State<(Hub, Operating)>,
    mut request: Request,
    next: Next,
) -> Response {
    const ELSEWHERE: &str = "the admin API answers this machine's own tools only";
    let address = audit::address(&request);
    let refuse = |reason, status, why: &str| {
        let event = AuditEvent::new(Deed::AdminRefused).reason(reason);
        hub.audit().record(&AuditEvent { address, ..event });
        refuse(status, why)
    };
    if request.headers().contains_key(header::ORIGIN) {
        return refuse("origin", StatusCode::FORBIDDEN, ELSEWHERE);
    }
    let principal = match &operating {
        Operating::Tokens(operators) => match operators.identify(request.headers()) {
            Ok(principal) => Some(principal),
            Err(denied) => {
                let mut response =
                    refuse(audit::reason(&denied), StatusCode::UNAUTHORIZED, &denied.to_string());
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                return response;
            }
        },
        Operating::Local | Operating::Nobody if !origin::is_addressed_to_this_machine(&request) => {
            return refuse("host", StatusCode::FORBIDDEN, ELSEWHERE);
        }
        Operating::Local | Operating::Nobody => None,
    };
    request.extensions_mut().insert(Operator { principal, address });
    // Who leaves too early does not keep it from being done and told.
    let done = hub.to_its_end(next.run(request)).await;
    done.unwrap_or_else(|| self::refuse(StatusCode::INTERNAL_SERVER_ERROR, "it could not be finished"))
}

fn refuse(status: StatusCode, why: &str) -> Response {
    (status, Json(json!({ "error": why }))).into_response()
}

fn failed(error: &Error) -> Response {
    let status = match error {
        Error::NoSession => StatusCode::NOT_FOUND,
        Error::Refused(_) => StatusCode::BAD_REQUEST,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    refuse(status, &error.public())
}

fn is_server(hub: &Hub, name: &ServerName) -> bool {
    hub.server_names().any(|known| known == name)
}

fn no_server(hub: &Hub, name: &ServerName) -> Response {
    let known = hub.server_names().map(ServerName::as_str).collect::<Vec<_>>().join(", ");
    refuse(StatusCode::NOT_FOUND, &format!("no server is called {name}; there are: {known}"))
}

#[derive(Deserialize)]
pub(super) struct Filter {
    server: Option<String>,
    owner: Option<String>,
    capability: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

impl Filter {
    fn query(self) -> Result<Query, &'static str> {
        let limit = self.limit.unwrap_or(PAGE);
        if !(1..=PAGE_MAX).contains(&limit) {
            return Err("limit: 1 to 1000");
        }
        Ok(Query {
            server: self
                .server
                .map(|name| ServerName::parse(&name))
                .transpose()
                .map_err(|_| "server: not a name")?,
            owner: self.owner.map(|owner| Principal::named(&owner)),
            capability: self.capability,
            after: self.after.map(|id| SessionId::parse(&id)).transpose().map_err(|_| "after: not an id")?,
            limit,
        })
    }
}

pub(super) async fn list(
    State((hub, _)): Shared,
    Extension(operator): Asking,
    filter: Result<UrlQuery<Filter>, QueryRejection>,
) -> Response {
    let listed = match filter {
        Ok(UrlQuery(filter)) => listed(&hub, filter).await,
        Err(rejection) => refuse(StatusCode::BAD_REQUEST, &rejection.body_text()),
    };
    operator.told(&hub, AuditEvent::new(Deed::AdminListedSessions), listed)
}

async fn listed(hub: &Hub, filter: Filter) -> Response {
    let query = match filter.query() {
        Ok(query) => query,
        Err(why) => return refuse(StatusCode::BAD_REQUEST, why),
    };
    match hub.find(&query).await {
        Ok(page) => {
            // A server that was taken out of the configuration may have some left.
            let unknown = query.server.as_ref().filter(|name| !is_server(hub, name));
            if let (true, Some(name)) = (page.sessions.is_empty(), unknown) {
                return no_server(hub, name);
            }
            let sessions: Vec<_> = page.sessions.iter().map(session).collect();
            Json(json!({ "sessions": sessions, "more": page.more })).into_response()
        }
        Err(error) => failed(&error),
    }
}

pub(super) async fn show(State((hub, _)): Shared, operator: Asking, Path(id): Path<String>) -> Response {
    concerning(&hub, operator, Deed::AdminShowedSession, &id, async |id| match hub.inspect(&id).await {
        Ok(Some(inspected)) => Json(shown(&inspected)).into_response(),
        Ok(None) => failed(&Error::NoSession),
        Err(error) => failed(&error),
    })
    .await
}

pub(super) async fn end(State((hub, _)): Shared, operator: Asking, Path(id): Path<String>) -> Response {
    concerning(&hub, operator, Deed::AdminEndedSession, &id, async |id| done(hub.end_session(&id).await))
        .await
}

pub(super) async fn close_streams(
    State((hub, _)): Shared,
    operator: Asking,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    concerning(&hub, operator, Deed::AdminClosedStreams, &id, async |id| {
        if is_json(&headers) { done(hub.close_streams(&id).await) } else { not_json() }
    })
    .await
}

/// What an operator does to the session of this id. Text that can't be an id is nobody's.
async fn concerning(
    hub: &Hub,
    Extension(operator): Asking,
    deed: Deed,
    id: &str,
    deal: impl AsyncFnOnce(SessionId) -> Response,
) -> Response {
    let session = SessionId::parse(id).ok();
    let response = match session.clone() {
        Some(id) => deal(id).await,
        None => failed(&Error::NoSession),
    };
    operator.told(hub, AuditEvent { session, ..AuditEvent::new(deed) }, response)
}

fn done(outcome: Result<bool, Error>) -> Response {
    match outcome {
        Ok(true) => StatusCode::NO_CONTENT.into_response(),
        Ok(false) => failed(&Error::NoSession),
        Err(error) => failed(&error),
    }
}

/// Exactly one of the three says who it is for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Publish<'b> {
    session: Option<String>,
    server: Option<String>,
    #[serde(default)]
    all: bool,
    #[serde(borrow)]
    message: &'b serde_json::value::RawValue,
}

impl Publish<'_> {
    fn audience(&self) -> Result<Audience, &'static str> {
        match (&self.session, &self.server, self.all) {
            (Some(id), None, false) => {
                SessionId::parse(id).map(Audience::Session).map_err(|_| "session: not an id")
            }
            (None, Some(name), false) => {
                ServerName::parse(name).map(Audience::Server).map_err(|_| "server: not a name")
            }
            (None, None, true) => Ok(Audience::All),
            _ => Err("name exactly one of session, server and all"),
        }
    }
}

pub(super) async fn publish(
    State((hub, _)): Shared,
    Extension(operator): Asking,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let mut event = AuditEvent::new(Deed::AdminPublished);
    let response = match body {
        Ok(body) => published(&hub, &headers, &body, &mut event).await,
        Err(rejection) => refuse(rejection.status(), &rejection.body_text()),
    };
    operator.told(&hub, event, response)
}

/// Notes in `event` what is published, and to whom, once that is known.
async fn published(hub: &Hub, headers: &HeaderMap, body: &[u8], event: &mut AuditEvent) -> Response {
    if !is_json(headers) {
        return not_json();
    }
    let wanted: Publish<'_> = match serde_json::from_slice(body) {
        Ok(wanted) => wanted,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &format!("not a publication: {error}")),
    };
    let audience = match wanted.audience() {
        Ok(audience) => audience,
        Err(why) => return refuse(StatusCode::BAD_REQUEST, why),
    };
    let Ok(message) = Message::parse(Bytes::copy_from_slice(wanted.message.get().as_bytes())) else {
        return refuse(StatusCode::BAD_REQUEST, "message: not a JSON-RPC message");
    };
    match &audience {
        Audience::Session(id) => event.session = Some(id.clone()),
        Audience::Server(name) => {
            event.server = Some(name.clone());
            if !is_server(hub, name) {
                return no_server(hub, name);
            }
        }
        Audience::All => {}
    }
    if let Some(method) = message.method() {
        *event = event.clone().method(method);
    }
    match hub.publish(&audience, &message).await {
        Ok(Published::Logged(sessions)) => Json(json!({ "sessions": sessions })).into_response(),
        Ok(Published::Hinted) => Json(json!({ "hinted": true })).into_response(),
        Err(error) => failed(&error),
    }
}

pub(super) async fn nodes(State((hub, _)): Shared, Extension(operator): Asking) -> Response {
    let response = match hub.nodes().await {
        Ok(nodes) => {
            let nodes: Vec<_> = nodes
                .iter()
                .map(|seen| {
                    let facts: Value = serde_json::from_str(&seen.facts).unwrap_or_default();
                    json!({ "node": seen.node.as_str(), "self": seen.node == *hub.node(), "facts": facts })
                })
                .collect();
            Json(json!({ "nodes": nodes })).into_response()
        }
        Err(error) => failed(&error),
    };
    operator.told(&hub, AuditEvent::new(Deed::AdminListedNodes), response)
}

fn not_json() -> Response {
    refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content-Type must be application/json")
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

fn session(session: &Session) -> Value {
    let client = session.client.as_ref();
    json!({
        "id": session.id.as_str(),
        "fingerprint": session.id.fingerprint(),
        "server": session.server.as_str(),
        "owner": session.owner.as_str().strip_prefix('='),
        "transport": match session.transport {
            Transport::Streamable => "streamable_http",
            Transport::HttpSse => "http_sse",
        },
        "protocol_version": client.map(|client| &client.protocol_version),
        "capabilities": client.map(|client| &client.capabilities),
        "upstream_generation": session.upstream.as_ref().map(|upstream| upstream.generation),
    })
}

fn shown(inspected: &Inspected) -> Value {
    let mut shown = session(&inspected.session);
    shown["log_level"] = json!(inspected.session.log_level);
    shown["subscriptions"] = json!(inspected.session.subscriptions);
    shown["streams"] = inspected.streams.iter().map(stream).collect();
    shown["running"] = inspected.running.iter().map(running).collect();
    shown
}

fn stream(seen: &SeenStream) -> Value {
    let holder = |binding: &Binding| json!({ "node": binding.node.as_str(), "fence": binding.fence.0 });
    let last: Vec<_> = seen
        .last
        .iter()
        .map(|(number, bytes)| json!({ "number": number.to_string(), "bytes": bytes }))
        .collect();
    json!({
        "stream": seen.stream.as_str(),
        "holder": seen.binding.as_ref().map(holder),
        "top": seen.top.to_string(),
        "events": seen.events,
        "last": last,
    })
}

fn running(record: &RunningRecord) -> Value {
    json!({
        "request": record.request.as_json(),
        "stream": record.stream.as_str(),
        "runner": record.runner.as_str(),
        "deadline_ms": record.deadline_ms,
        "resumable": record.upstream_event.is_some(),
    })
}
