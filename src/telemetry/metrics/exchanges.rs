//! Requests, from their arrival to their ends.

use std::time::Duration;

use prometheus::{IntCounter, IntCounterVec, IntGauge};
use tokio::time::Instant;

use super::super::buckets::REQUEST;
use super::super::catalogue::{Catalogue, Counters, Histograms, Table, closed};
use super::super::labels::{Era, Eras, ErrorType, ExchangeEnd, Label as _, Method, Said, ToolOutcome};
use super::tools::Tool;
use super::{Gauged, Metrics, ServerMetrics};

#[derive(Debug)]
pub(super) struct Exchanges {
    now: IntGauge,
    ended: Counters<(Method, Era, Era, ExchangeEnd)>,
    seconds: Histograms<(Method, Era, Era)>,
    json_answers: IntCounter,
    answers_dropped: IntCounter,
}

impl Exchanges {
    pub(super) fn new(catalogue: &mut Catalogue) -> Self {
        catalogue.section("Exchanges");
        let labels =
            closed::<(Method, Era, Era, ExchangeEnd)>(&["method", "client_era", "server_era", "outcome"]);
        let now = catalogue.gauge("holdfast_exchanges", "Requests running at this node.");
        let ended: IntCounterVec = catalogue.counter_vec(
            "holdfast_exchanges_ended_total",
            labels,
            "Requests that ended here. Each outcome of a method is there from its first request on, those of \
             `tools/call` from the beginning.",
        );
        let of_calls = |(method, client, server, _): (Method, Era, Era, ExchangeEnd)| {
            method == Method::ToolsCall && client == server
        };
        Self {
            now,
            ended: Table::of_some(&ended, &[]).shown(&catalogue.later, of_calls),
            seconds: catalogue.histograms(
                "holdfast_exchange_duration_seconds",
                &["method", "client_era", "server_era"],
                "From a request to its end, whatever that is.",
                REQUEST,
            ),
            json_answers: catalogue
                .counter("holdfast_json_answers_total", "Requests answered in plain JSON, without a stream."),
            answers_dropped: catalogue.counter(
                "holdfast_answers_dropped_total",
                "Answers and notifications that nobody awaited any more.",
            ),
        }
    }
}

/// A request that runs. Its end is told once; one that is dropped without having been told ended as it was told
/// in advance.
#[derive(Debug)]
pub struct Measured {
    server: ServerMetrics,
    eras: Eras,
    method: Method,
    tool: Option<Box<str>>,
    since: Instant,
    /// Unless it is told otherwise.
    end: ExchangeEnd,
    said: Said,
    /// Among the calls that its server has not answered.
    awaited: Option<Gauged>,
}

impl Measured {
    pub(super) fn new(
        server: ServerMetrics,
        eras: Eras,
        method: Method,
        tool: Option<&str>,
        unless_told: ExchangeEnd,
    ) -> Self {
        let awaited = Some(server.awaited());
        let (tool, since) = (tool.map(Box::from), Instant::now());
        Self { server, eras, method, tool, since, end: unless_told, said: Said::Fine, awaited }
    }

    /// How long it has run.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }

    /// Its server said something for the first time.
    pub fn was_heard(&self) {
        self.server.first_message(self.elapsed());
    }

    /// It is over.
    pub fn ended(mut self, end: ExchangeEnd) {
        self.end = end;
    }

    /// It has its server's answer.
    pub fn answered(mut self, said: Said) {
        (self.end, self.said) = (ExchangeEnd::Answered, said);
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        let took = self.since.elapsed().as_secs_f64();
        let metrics = &self.server.inner.metrics;
        let Eras { client, server } = self.eras;
        let exchanges = &metrics.inner.exchanges;
        let of = |end| (self.method, client, server, end);
        if !exchanges.ended.is_shown(of(self.end)) {
            ExchangeEnd::ALL.iter().for_each(|end| _ = exchanges.ended.of(of(*end)));
        }
        exchanges.ended.of(of(self.end)).inc();
        exchanges.seconds.of((self.method, client, server)).observe(took);
        let error = ErrorType::of(self.end, self.said);
        match &self.tool {
            Some(name) => {
                let outcome = ToolOutcome::of(self.end, self.said);
                self.server.tool(name, outcome, |tool: &Tool| tool.called(outcome, error, took));
            }
            None => {
                metrics.served(self.method, error, took);
                self.server.asked_for(self.method, error, took);
            }
        }
        drop(self.awaited.take());
    }
}

impl Metrics {
    #[must_use]
    pub fn exchange(&self) -> Gauged {
        Gauged::new(self.inner.exchanges.now.clone())
    }

    /// Requests running now.
    #[must_use]
    pub fn exchanges(&self) -> i64 {
        self.inner.exchanges.now.get()
    }

    pub fn answered_in_json(&self) {
        self.inner.exchanges.json_answers.inc();
    }

    pub fn answer_dropped(&self) {
        self.inner.exchanges.answers_dropped.inc();
    }
}
