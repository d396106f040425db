//! What is traced of a client's message: the operation that it asks for, and the same at its server, which is told
//! whose part it is.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use tracing::Span;

use super::Hub;
use super::live::Live;
use super::server::Server;
use crate::domain::TraceContext;
use crate::protocol::jsonrpc::{Id, Message};
use crate::protocol::{legacy, trace};
use crate::telemetry::{self, Asked, ExchangeEnd, Said};

/// One operation. It ends when this is dropped; one that was not told how it ended, ended as its client left.
#[derive(Debug)]
pub(super) struct Operation {
    pub span: Span,
    /// At the server.
    pub upstream: Span,
    told: bool,
}

/// What goes up: the message and its headers, which name [`Operation::upstream`] as their parent.
pub(super) struct Outgoing {
    pub raw: Bytes,
    pub headers: HeaderMap,
}

impl Hub {
    /// Begins the operation that a client's message asks for.
    pub(super) fn operation(
        server: &Server,
        live: Option<&Live>,
        message: &Message,
        headers: &HeaderMap,
    ) -> (Operation, Outgoing) {
        let (raw, headers) = (message.raw().clone(), headers.clone());
        let mut outgoing = Outgoing { raw, headers };
        let Some(method) = message.method().filter(|_| telemetry::is_traced()) else {
            name_parent(&mut outgoing.headers, &Span::current());
            return (Operation::none(), outgoing);
        };
        let params = message.params().unwrap_or("{}");
        let name =
            matches!(method, "tools/call" | "prompts/get").then(|| legacy::tool_name(params)).flatten();
        let session = live.map(|live| live.id.fingerprint());
        let negotiated = live.and_then(|live| Some(live.session().client.as_ref()?.protocol_version.clone()));
        let header = headers_version(&outgoing.headers);
        let resource = method.starts_with("resources/").then(|| legacy::resource_uri(params)).flatten();
        let asked = Asked {
            method,
            name: name.as_deref(),
            resource: resource.as_deref(),
            id: message.id().map(Id::as_json),
            session: session.as_deref(),
            version: negotiated.as_deref().or(header.as_deref()),
            server: &server.name,
        };
        let parent = trace::parent(params);
        let parent = parent.and_then(|(parent, state)| TraceContext::parse(&parent, state.as_deref()));
        let span = telemetry::operation(&asked, parent.as_ref());
        let upstream = telemetry::upstream_operation(&span, &asked);
        if let Some(context) = name_parent(&mut outgoing.headers, &upstream)
            && let Some(raw) = trace::with_parent(message, context.parent(), context.state())
        {
            outgoing.raw = raw;
        }
        (Operation { span, upstream, told: false }, outgoing)
    }
}

impl Operation {
    /// What nobody looks at, or what has no beginning here.
    pub(super) fn none() -> Self {
        Self { span: Span::none(), upstream: Span::none(), told: true }
    }

    /// Its answer came, and says this.
    pub(super) fn answered(&mut self, said: Said) {
        self.told = true;
        [&self.upstream, &self.span].into_iter().for_each(|span| telemetry::operation_answered(span, said));
    }

    /// It has none; or it is a notification, and none is due.
    pub(super) fn ended(&mut self, end: ExchangeEnd) {
        self.told = true;
        if end != ExchangeEnd::Answered {
            [&self.upstream, &self.span]
                .into_iter()
                .for_each(|span| telemetry::operation_unanswered(span, end));
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if !self.told {
            self.ended(ExchangeEnd::ClientGone);
        }
    }
}

/// What a request names as its parent.
pub(super) fn parent_of(headers: &HeaderMap) -> Option<TraceContext> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    TraceContext::parse(text("traceparent")?, text("tracestate"))
}

/// Names `span` as the parent of a request, in place of whatever its client named.
pub(super) fn name_parent(headers: &mut HeaderMap, span: &Span) -> Option<TraceContext> {
    let context = telemetry::context_of(span)?;
    headers.insert("traceparent", HeaderValue::from_str(context.parent()).ok()?);
    match context.state().and_then(|state| HeaderValue::from_str(state).ok()) {
        Some(state) => _ = headers.insert("tracestate", state),
        None => _ = headers.remove("tracestate"),
    }
    Some(context)
}

fn headers_version(headers: &HeaderMap) -> Option<String> {
    headers.get("mcp-protocol-version").and_then(|version| version.to_str().ok()).map(str::to_owned)
}
