//! What the metrics are told of requests, and what is read from its owner just before it is shown.

use std::time::Duration;

use tokio::time::Instant;

use super::body::Held;
use super::server::Server;
use super::traced::Operation;
use super::{Error, Hub};
use crate::domain::{Limit, Session, UpstreamHandle};
use crate::protocol::jsonrpc::{self, Message};
use crate::protocol::legacy;
use crate::telemetry::{Eras, ExchangeEnd, Measured, Method, Outcome, Queue, Said, UpstreamFault};
use crate::upstream;

const CALL: &str = "tools/call";

/// A request from its arrival on; dropped without having been told its end, it ended as `unless_told`.
pub(super) fn measured(server: &Server, eras: Eras, request: &Message, unless_told: ExchangeEnd) -> Measured {
    let method = request.method().unwrap_or_default();
    let tool = request.params().filter(|_| method == CALL).and_then(legacy::tool_name);
    server.metrics.call(eras, Method::of(method), tool.as_deref(), unless_told)
}

/// What an answer to a request says.
pub(super) fn said(method: &str, answer: &Message) -> Said {
    match (answer.error(), answer.result()) {
        (Some(error), _) => Said::Code(jsonrpc::error_code(error).unwrap_or_default()),
        (None, Some(result)) if method == CALL && legacy::is_tool_error(result) => Said::ToolError,
        (None, _) => Said::Fine,
    }
}

impl Server {
    /// It gave no answer.
    pub(super) fn failed(&self, error: &upstream::Error) {
        self.metrics.failed(match error {
            upstream::Error::Unreachable { .. } => UpstreamFault::Unreachable,
            upstream::Error::Invalid { .. } => UpstreamFault::Invalid,
            upstream::Error::Interrupted { .. } => UpstreamFault::Interrupted,
            upstream::Error::Late { .. } => UpstreamFault::Late,
            upstream::Error::SessionGone { .. } => UpstreamFault::SessionGone,
            upstream::Error::Refused { .. } => UpstreamFault::Refused,
        });
    }

    /// It was told what a client said, or could not be. An answer of a client's has no method, and is not measured.
    pub(super) fn notified(
        &self,
        message: &Message,
        failed: Option<&upstream::Error>,
        since: Instant,
        operation: &mut Operation,
    ) {
        if let Some(error) = failed {
            self.failed(error);
        }
        operation.ended(if failed.is_some() { ExchangeEnd::UpstreamFailed } else { ExchangeEnd::Answered });
        if let Some(method) = message.method() {
            let outcome = if failed.is_some() { Outcome::Error } else { Outcome::Ok };
            self.metrics.notified(Method::of(method), outcome, since.elapsed());
        }
    }
}

impl Error {
    /// The upstream's failure, if it is one.
    pub(super) const fn of_upstream(&self) -> Option<&upstream::Error> {
        match self {
            Self::Upstream(error) => Some(error),
            Self::NoSession
            | Self::Store(_)
            | Self::Limit(_)
            | Self::Exceeded(_)
            | Self::Duplicate(_)
            | Self::Refused(_)
            | Self::Cancelled
            | Self::Abandoned(_) => None,
        }
    }
}

impl Hub {
    /// Reads into the metrics what nobody tells them.
    pub fn measure(&self) {
        let (inner, metrics) = (&self.inner, &self.inner.metrics);
        let sessions = inner.store.known_sessions();
        metrics.sessions(sessions);
        metrics.lease_age(inner.nodes.lease_age());
        let (mut frames, mut bytes, mut longest) = (0, 0, 0);
        for (_, held) in inner.outlets.all() {
            let (queued, queued_bytes) = held.outlet().queued();
            (frames, bytes) = (frames + queued, bytes + queued_bytes);
            if let Held::Session(_) = held {
                longest = longest.max(queued);
            }
        }
        metrics.stream_bytes_queued(bytes);
        metrics.queued(Queue::StreamEvents, frames);
        metrics.queued(Queue::Releases, inner.releases.len());
        metrics.queued(Queue::Farewells, inner.farewells.under_way());
        let (mut streams, mut requests) = (0, 0);
        inner.registry.each(|live| {
            let (open, running) = live.uses();
            (streams, requests) = (streams.max(open), requests.max(running));
        });
        metrics.limit_used(Limit::Sessions, sessions);
        metrics.limit_used(Limit::Streams, self.stream_count());
        metrics.limit_used(Limit::StreamsPerSession, streams);
        metrics.limit_used(Limit::RequestsPerSession, requests);
        metrics.limit_used(Limit::SlowReader, longest);
        metrics.limit_used(Limit::Connections, metrics.connections());
        let attaching = inner.config.attaches_max.saturating_sub(inner.attaches.available_permits());
        metrics.limit_used(Limit::Attaches, attaching);
        for (limit, used) in inner.limits.used() {
            metrics.limit_used(limit, used);
        }
    }

    /// An event that was appended then is on its way out.
    pub(super) fn reached_socket(&self, appended_ms: u64) {
        if let Some(after) = self.inner.nodes.since_store_time(appended_ms) {
            self.inner.metrics.reached_socket(after);
        }
    }

    /// How long ago a session was opened, if that is known.
    pub(super) fn age_of(&self, session: &Session) -> Option<Duration> {
        self.inner.nodes.since_store_time(session.opened_ms?)
    }

    /// The first session at its server is over. Nobody knows when a later one was opened.
    pub(super) fn note_upstream_end(&self, server: &Server, session: &Session, handle: &UpstreamHandle) {
        if handle.session.is_some()
            && handle.generation == 1
            && let Some(age) = self.age_of(session)
        {
            server.metrics.session_lasted(age);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(method: &str, answer: &'static str, expected: Said) {
        let answer = Message::parse(answer.as_bytes().into()).unwrap();
        assert_eq!(said(method, &answer), expected);
    }

    #[test]
    fn what_answers_say() {
        let tool = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":true}}"#;
        check(CALL, tool, Said::ToolError);
        check("tools/list", tool, Said::Fine);
        check(CALL, r#"{"jsonrpc":"2.0","id":1,"result":{"isError":false}}"#, Said::Fine);
        check(CALL, r#"{"jsonrpc":"2.0","id":1,"result":{"x":{"isError":true}}}"#, Said::Fine);
        check(CALL, r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":""}}"#, Said::Code(-32602));
        check(CALL, r#"{"jsonrpc":"2.0","id":1,"error":{"code":"x","message":""}}"#, Said::Code(0));
    }
}
