//! The spans that a trace is made of, with the names of OpenTelemetry's semantic conventions for MCP, HTTP and
//! databases. Without an exporter there are none, and they cost a look at a flag.

use std::borrow::Cow;
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry::trace::{
    SpanContext, SpanId, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Context, Value};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::labels::{ExchangeEnd, Label as _, Message, Said};
use crate::domain::{ServerName, TraceContext};
use crate::ports::Envelope;

/// Of every span; it keeps them out of the log.
pub(super) const TARGET: &str = "holdfast::trace";

/// What clients say is cut to this many bytes: spans wait in memory for their export.
const TEXT_BYTES_MAX: usize = 256;

/// Which side of an exchange a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Server,
    Client,
    Producer,
    Consumer,
}

/// What is asked of an MCP server.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub method: &'a str,
    /// The tool or prompt that is named.
    pub name: Option<&'a str>,
    /// The resource that is named.
    pub resource: Option<&'a str>,
    /// The request's, as JSON; a notification has none.
    pub id: Option<&'a str>,
    /// How it is known in the log.
    pub session: Option<&'a str>,
    pub version: Option<&'a str>,
    pub server: &'a ServerName,
}

/// Set once spans are exported. `tracing` is not asked: a question that no span follows makes filters of single layers
/// drop the thread's next event.
static TRACED: AtomicBool = AtomicBool::new(false);

pub(super) fn begin() {
    TRACED.store(true, Ordering::Relaxed);
}

/// Whether anybody looks at spans.
#[must_use]
pub fn is_traced() -> bool {
    TRACED.load(Ordering::Relaxed)
}

/// A request of a client, as HTTP has it: from its head to that of its response.
#[must_use]
pub fn http_request(method: &str, route: Option<&str>, path: &str, parent: Option<&TraceContext>) -> Span {
    let method =
        if ["GET", "POST", "DELETE", "HEAD", "OPTIONS"].contains(&method) { method } else { "_OTHER" };
    let span = open(Side::Server, Within::Nothing, || match route {
        Some(route) => format!("{method} {route}"),
        None => method.to_owned(),
    });
    if !span.is_disabled() {
        span.set_attribute("http.request.method", method.to_owned());
        span.set_attribute("url.path", short(path).into_owned());
        if let Some(route) = route {
            span.set_attribute("http.route", route.to_owned());
        }
        adopt(&span, parent);
    }
    span
}

/// How an HTTP request was answered.
pub fn http_answered(span: &Span, status: u16) {
    if span.is_disabled() {
        return;
    }
    span.set_attribute("http.response.status_code", i64::from(status));
    if status >= 500 {
        fail(span, status);
    }
}

/// One operation of a client at this node, whose end is told by [`operation_answered`] or [`operation_unanswered`]. Where
/// the message itself names its parent, that is it, and the HTTP request around it is linked. It keeps nothing of that
/// request, which may be over, and exported, long before it.
#[must_use]
pub fn operation(asked: &Asked<'_>, parent: Option<&TraceContext>) -> Span {
    let span = operation_on(Side::Server, Within::Nothing, asked);
    if !span.is_disabled() {
        match parent {
            Some(parent) => {
                link(&span, reader().as_ref());
                adopt(&span, Some(parent));
            }
            None => adopt(&span, context_of(&Span::current()).as_ref()),
        }
    }
    span
}

/// The same operation at the server that it is passed to.
#[must_use]
pub fn upstream_operation(of: &Span, asked: &Asked<'_>) -> Span {
    operation_on(Side::Client, Within::Span(of), asked)
}

fn operation_on(side: Side, within: Within<'_>, asked: &Asked<'_>) -> Span {
    let method = short(asked.method);
    let span = open(side, within, || match asked.name {
        Some(name) => format!("{method} {}", short(name)),
        None => method.clone().into_owned(),
    });
    if span.is_disabled() {
        return span;
    }
    span.set_attribute("mcp.method.name", method.into_owned());
    span.set_attribute("holdfast.server", asked.server.as_str().to_owned());
    span.set_attribute("network.transport", "tcp");
    let is_tool = asked.method == "tools/call";
    let name = if is_tool { "gen_ai.tool.name" } else { "gen_ai.prompt.name" };
    // What follows may be a credential.
    let resource = asked.resource.map(|uri| uri.split(['?', '#']).next().unwrap_or_default());
    for (key, value) in [
        (name, asked.name),
        ("gen_ai.operation.name", is_tool.then_some("execute_tool")),
        ("mcp.resource.uri", resource),
        ("jsonrpc.request.id", asked.id.map(|id| id.trim_matches('"'))),
        ("mcp.session.id", asked.session),
        ("mcp.protocol.version", asked.version),
    ] {
        if let Some(value) = value {
            span.set_attribute(key, short(value).into_owned());
        }
    }
    span
}

/// The text, or what there is room for of it.
fn short(text: &str) -> Cow<'_, str> {
    if text.len() <= TEXT_BYTES_MAX {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{}…", &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]))
}

/// Notes what the answer to an operation says.
pub fn operation_answered(span: &Span, said: Said) {
    if span.is_disabled() {
        return;
    }
    match said {
        Said::Fine => {}
        Said::ToolError => fail(span, "tool_error"),
        Said::Code(code) => {
            span.set_attribute("rpc.response.status_code", code.to_string());
            fail(span, code);
        }
    }
}

/// Notes why an operation has no answer.
pub fn operation_unanswered(span: &Span, end: ExchangeEnd) {
    if !span.is_disabled() {
        fail(span, end.text());
    }
}

/// One question to the shared state, for whatever is traced at the moment; none for what nodes do by themselves.
#[must_use]
pub(super) fn store_call(system: &'static str, operation: &'static str) -> Span {
    let span = open_within(Side::Client, || operation.to_owned());
    if !span.is_disabled() {
        span.set_attribute("db.system.name", system);
        span.set_attribute("db.operation.name", operation);
    }
    span
}

/// One message to another node, or to all; as above.
#[must_use]
pub(super) fn message_sent(system: &'static str, envelope: &Envelope) -> Span {
    let what = Message::of(envelope).text();
    let span = open_within(Side::Producer, || format!("send {what}"));
    describe_message(&span, "send", what);
    if !span.is_disabled() {
        span.set_attribute("messaging.system", system);
    }
    span
}

/// What another node said, and what is done about it here, as part of what that node did.
#[must_use]
pub fn message_received(envelope: &Envelope, from: Option<&TraceContext>) -> Span {
    received(Message::of(envelope).text(), from)
}

/// What another node asks this one's own server for, as part of what that node does.
#[must_use]
pub fn relay_received(from: Option<&TraceContext>) -> Span {
    received("relay", from)
}

fn received(what: &'static str, from: Option<&TraceContext>) -> Span {
    let Some(from) = from else { return Span::none() };
    let span = open(Side::Consumer, Within::Nothing, || format!("process {what}"));
    describe_message(&span, "process", what);
    adopt(&span, Some(from));
    span
}

fn describe_message(span: &Span, operation: &'static str, what: &'static str) {
    if !span.is_disabled() {
        span.set_attribute("messaging.operation.name", operation);
        span.set_attribute("messaging.message.type", what);
    }
}

/// Something failed: `what` says how, in a word of a closed set.
pub(super) fn failed(span: &Span, what: &'static str) {
    if !span.is_disabled() {
        fail(span, what);
    }
}

fn fail(span: &Span, what: impl Display) {
    let what = what.to_string();
    span.set_attribute("error.type", Value::from(what.clone()));
    span.set_status(Status::error(what));
}

/// Who is to be named to others as what is done here is part of; none if nobody traces.
#[must_use]
pub fn context_of(span: &Span) -> Option<TraceContext> {
    if !is_traced() {
        return None;
    }
    let context = span.context();
    let span = context.span();
    let own = span.span_context();
    let parent =
        format!("00-{}-{}-{:02x}", own.trace_id(), own.span_id(), own.trace_flags() & TraceFlags::SAMPLED);
    own.is_valid().then(|| TraceContext::parse(&parent, Some(&own.trace_state().header())))?
}

/// Which span reads a stream: the one that waits, and outlasts what is written to it.
pub type Reader = Option<SpanContext>;

/// The present span, to be linked to later.
#[must_use]
pub fn reader() -> Reader {
    if !is_traced() {
        return None;
    }
    let context = Span::current().context();
    let own = context.span().span_context().clone();
    own.is_valid().then_some(own)
}

/// Says of the present span that what it does is for `reader`.
pub fn link_reader(reader: &Reader) {
    link(&Span::current(), reader.as_ref());
}

fn link(span: &Span, other: Option<&SpanContext>) {
    if let Some(other) = other.filter(|other| other.is_valid() && !span.is_disabled()) {
        span.add_link(other.clone());
    }
}

fn adopt(span: &Span, parent: Option<&TraceContext>) {
    if let Some(parent) = parent.and_then(remote) {
        // It was opened just now, and nobody has been in it.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    }
}

fn remote(parent: &TraceContext) -> Option<SpanContext> {
    let mut fields = parent.parent().split('-').skip(1);
    let trace = TraceId::from_hex(fields.next()?).ok()?;
    let span = SpanId::from_hex(fields.next()?).ok()?;
    let flags = TraceFlags::new(u8::from_str_radix(fields.next()?, 16).ok()?) & TraceFlags::SAMPLED;
    let state = parent.state().and_then(|state| state.parse::<TraceState>().ok()).unwrap_or_default();
    Some(SpanContext::new(trace, span, flags, true, state))
}

/// What a span is part of, until it is told that it is part of something else.
#[derive(Debug, Clone, Copy)]
enum Within<'a> {
    Current,
    Span(&'a Span),
    Nothing,
}

fn open_within(side: Side, name: impl FnOnce() -> String) -> Span {
    if is_traced() && ids().is_some() { open(side, Within::Current, name) } else { Span::none() }
}

fn open(side: Side, within: Within<'_>, name: impl FnOnce() -> String) -> Span {
    if !is_traced() {
        return Span::none();
    }
    let kind = match side {
        Side::Server => "server",
        Side::Client => "client",
        Side::Producer => "producer",
        Side::Consumer => "consumer",
    };
    match within {
        Within::Current => tracing::info_span!(target: TARGET, "span", otel.name = name(), otel.kind = kind),
        Within::Span(of) => {
            tracing::info_span!(target: TARGET, parent: of, "span", otel.name = name(), otel.kind = kind)
        }
        Within::Nothing => {
            tracing::info_span!(target: TARGET, parent: None, "span", otel.name = name(), otel.kind = kind)
        }
    }
}

/// The trace and the span that a log line is written in, in hexadecimal.
pub(super) fn ids() -> Option<(TraceId, SpanId)> {
    let context = Context::current();
    let span = context.span();
    let own = span.span_context();
    own.is_valid().then(|| (own.trace_id(), own.span_id()))
}
