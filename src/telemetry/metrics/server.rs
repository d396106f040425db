//! What concerns one server, under its name: resolved once, when the server is built.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use tokio::time::Instant;

use super::super::buckets::{REQUEST, SESSION};
use super::super::catalogue::{Catalogue, Counters, Gauges, Histograms, SERVER, Table, behind};
use super::super::labels::{
    Era, Eras, ErrorType, ExchangeEnd, HttpStatus, Method, Outcome, ToolOutcome, UpstreamFault,
};
use super::exchanges::Measured;
use super::tools::{self, Tool};
use super::{Gauged, Metrics};
use crate::domain::{ServerName, StreamKind, Transport};

/// Of all servers.
#[derive(Debug)]
pub(super) struct Servers {
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    first_message_seconds: HistogramVec,
    faults: IntCounterVec,
    calls: IntGaugeVec,
    opened: IntCounterVec,
    closed: IntCounterVec,
    lost: IntCounterVec,
    lasted: HistogramVec,
}

impl Servers {
    pub(super) fn new(catalogue: &mut Catalogue) -> Self {
        catalogue.section("Upstreams");
        let outcomes = || behind::<Outcome, 1>([SERVER], &["outcome"]);
        Self {
            requests: catalogue.counter_vec(
                "holdfast_upstream_requests_total",
                behind::<HttpStatus, 1>([SERVER], &["status"]),
                "HTTP requests to servers, by what came back: `none` if nothing did, `dropped` if nobody waited any \
                 more. A 404 is how a server says that it forgot a session, a 405 that it has no stream of its own.",
            ),
            request_seconds: catalogue.histogram_vec(
                "holdfast_upstream_request_duration_seconds",
                vec![SERVER],
                "From sending an HTTP request to the head of its response, or to giving up.",
                REQUEST,
            ),
            first_message_seconds: catalogue.histogram_vec(
                "holdfast_upstream_first_message_seconds",
                vec![SERVER],
                "From a client's request to the server's first message for it.",
                REQUEST,
            ),
            faults: catalogue.counter_vec(
                "holdfast_upstream_errors_total",
                behind::<UpstreamFault, 1>([SERVER], &["error"]),
                "Requests and notifications of clients that a server failed.",
            ),
            calls: catalogue.gauge_vec(
                "holdfast_upstream_calls",
                vec![SERVER],
                "Requests of clients whose answer a server owes.",
            ),
            opened: catalogue.counter_vec(
                "holdfast_upstream_sessions_opened_total",
                outcomes(),
                "Attempts to open a session at a server.",
            ),
            closed: catalogue.counter_vec(
                "holdfast_upstream_sessions_closed_total",
                outcomes(),
                "Sessions that a server was told to end.",
            ),
            lost: catalogue.counter_vec(
                "holdfast_upstream_sessions_lost_total",
                vec![SERVER],
                "Sessions that a server forgot; each was opened anew.",
            ),
            lasted: catalogue.histogram_vec(
                "mcp_client_session_duration_seconds",
                vec![SERVER],
                "How long the first session of each client's session at its server lasted, until it was ended or \
                 found lost: OpenTelemetry's `mcp.client.session.duration`. Of those opened in place of a lost one it \
                 is not known.",
                SESSION,
            ),
        }
    }
}

/// One server's metrics; a cheap handle.
#[derive(Debug, Clone)]
pub struct ServerMetrics {
    pub(super) inner: Arc<OfServer>,
}

#[derive(Debug)]
pub(super) struct OfServer {
    pub(super) metrics: Metrics,
    name: String,
    streams: Gauges<(Transport, Era, StreamKind)>,
    requests: Counters<HttpStatus>,
    request_seconds: Histogram,
    first_message_seconds: Histogram,
    faults: Counters<UpstreamFault>,
    calls: IntGauge,
    opened: Counters<Outcome>,
    closed: Counters<Outcome>,
    lost: IntCounter,
    lasted: Histogram,
    asked: Histograms<(Method, ErrorType)>,
    tools: tools::OfServer,
}

impl Metrics {
    /// What is counted under a server's name. `name` comes from the configuration: there are no more of them.
    #[must_use]
    pub fn server(&self, name: &ServerName) -> ServerMetrics {
        let (name, of, later) = (name.as_str(), &self.inner.servers, &self.inner.later);
        let can_be = |(transport, era, kind): (Transport, Era, StreamKind)| match (transport, era) {
            (Transport::HttpSse, Era::Legacy) => kind == StreamKind::HttpSse,
            (Transport::HttpSse, Era::Modern) => false,
            (Transport::Streamable, Era::Legacy) => kind != StreamKind::HttpSse,
            (Transport::Streamable, Era::Modern) => kind == StreamKind::Post,
        };
        let inner = OfServer {
            metrics: self.clone(),
            name: name.to_owned(),
            streams: Table::of_some(&self.inner.streams.open, &[name]).shown(later, can_be),
            requests: Table::of_some(&of.requests, &[name]).shown(later, |_| true),
            request_seconds: of.request_seconds.with_label_values(&[name]),
            first_message_seconds: of.first_message_seconds.with_label_values(&[name]),
            faults: Table::of_some(&of.faults, &[name]).shown(later, |_| true),
            calls: of.calls.with_label_values(&[name]),
            opened: Table::of_some(&of.opened, &[name]).shown(later, |_| true),
            closed: Table::of_some(&of.closed, &[name]).shown(later, |_| true),
            lost: of.lost.with_label_values(&[name]),
            lasted: of.lasted.with_label_values(&[name]),
            asked: self.inner.operations.of_server(name),
            tools: tools::OfServer::new(&self.inner.tools, &self.inner.operations, name),
        };
        ServerMetrics { inner: Arc::new(inner) }
    }
}

impl ServerMetrics {
    /// An open stream, until it is dropped.
    #[must_use]
    pub fn stream(&self, era: Era, kind: StreamKind) -> Gauged {
        let transport = if kind == StreamKind::HttpSse { Transport::HttpSse } else { Transport::Streamable };
        Gauged::new(self.inner.streams.of((transport, era, kind)).clone())
    }

    /// A request that runs from now on. `tool` is the name that it calls; dropped without having been told its end,
    /// it ended as `unless_told`.
    #[must_use]
    pub fn call(&self, eras: Eras, method: Method, tool: Option<&str>, unless_told: ExchangeEnd) -> Measured {
        Measured::new(self.clone(), eras, method, tool, unless_told)
    }

    /// A client's notification was passed on, or not, within that time.
    pub fn notified(&self, method: Method, outcome: Outcome, took: Duration) {
        let error = match outcome {
            Outcome::Ok => ErrorType::None,
            Outcome::Error => ErrorType::UpstreamFailed,
        };
        self.inner.metrics.served(method, error, took.as_secs_f64());
        self.asked_for(method, error, took.as_secs_f64());
    }

    /// The server was asked for something that no client had asked for.
    pub fn asked(&self, method: Method, outcome: Outcome, took: Duration) {
        let error = match outcome {
            Outcome::Ok => ErrorType::None,
            Outcome::Error => ErrorType::UpstreamFailed,
        };
        self.asked_for(method, error, took.as_secs_f64());
    }

    pub fn failed(&self, fault: UpstreamFault) {
        self.inner.faults.of(fault).inc();
    }

    /// A session was opened there, or could not be.
    pub fn session_opened(&self, outcome: Outcome) {
        self.inner.opened.of(outcome).inc();
    }

    /// It was told that a session is over.
    pub fn session_closed(&self, outcome: Outcome) {
        self.inner.closed.of(outcome).inc();
    }

    pub fn session_lost(&self) {
        self.inner.lost.inc();
    }

    pub fn session_lasted(&self, lasted: Duration) {
        self.inner.lasted.observe(lasted.as_secs_f64());
    }

    /// An HTTP request on its way to it.
    #[must_use]
    pub fn request(&self) -> Requested {
        Requested { server: self.clone(), since: Instant::now(), status: HttpStatus::Dropped }
    }

    pub(super) fn awaited(&self) -> Gauged {
        Gauged::new(self.inner.calls.clone())
    }

    pub(super) fn first_message(&self, after: Duration) {
        self.inner.first_message_seconds.observe(after.as_secs_f64());
    }

    pub(super) fn asked_for(&self, method: Method, error: ErrorType, seconds: f64) {
        self.inner.asked.of((method, error)).observe(seconds);
    }

    pub(super) fn tool(&self, name: &str, outcome: ToolOutcome, count: impl Fn(&Tool)) {
        let of = &self.inner.metrics.inner;
        self.inner.tools.called((&of.tools, &of.operations, &self.inner.name), name, outcome, count);
    }
}

/// Until the head of its response is there, or nobody waits for it any more.
#[derive(Debug)]
pub struct Requested {
    server: ServerMetrics,
    since: Instant,
    status: HttpStatus,
}

impl Requested {
    /// `None` if there was none.
    pub fn ended(mut self, status: Option<u16>) {
        self.status = status.map_or(HttpStatus::None, HttpStatus::of);
    }
}

impl Drop for Requested {
    fn drop(&mut self) {
        self.server.inner.requests.of(self.status).inc();
        self.server.inner.request_seconds.observe(self.since.elapsed().as_secs_f64());
    }
}
