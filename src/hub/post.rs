//! POST on a legacy session: requests become exchanges, notifications and answers go to the
//! upstream and are acknowledged once it has (P4).

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use super::body::StreamBody;
use super::call::Call;
use super::error::UNFINISHED;
use super::exchange::{Asked, Exchange};
use super::live::{Live, Refused};
use super::passing::PassingBody;
use super::server::{AnswerPolicy, Server, SessionPolicy};
use super::traced::Outgoing;
use super::{Caller, Error, Hub};
use crate::domain::{Limit, RequestId, SessionId, Transport};
use crate::ports::Envelope;
use crate::protocol::jsonrpc::{Body, Message};
use crate::protocol::legacy;
use crate::telemetry::Lookup;

/// How a request's answer reaches the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// JSON if the upstream's first message is the response and comes soon; otherwise a stream.
    Auto,
    Json,
    Sse,
    /// On the HTTP+SSE stream of its session; the POST gets a 202.
    OnHttpSse,
}

impl From<AnswerPolicy> for Form {
    fn from(policy: AnswerPolicy) -> Self {
        match policy {
            AnswerPolicy::Auto => Self::Auto,
            AnswerPolicy::Json => Self::Json,
            AnswerPolicy::Sse => Self::Sse,
        }
    }
}

/// What a POST is answered with.
#[derive(Debug)]
pub enum Reply {
    /// 202: it was handled, or will be.
    Accepted,
    Json {
        status: StatusCode,
        body: Bytes,
    },
    /// 200 in JSON, too long to be held.
    Passing(PassingBody),
    Stream(StreamBody),
}

impl Hub {
    /// The caller's session at a server.
    ///
    /// # Errors
    /// [`Error::NoSession`] if it is absent, ended, another server's or another principal's, which
    /// look the same (P2); [`Error::Store`] if that can't be said.
    pub async fn session(
        &self,
        server: &Server,
        caller: &Caller,
        id: &SessionId,
    ) -> Result<Arc<Live>, Error> {
        if server.sessions == SessionPolicy::Stateless {
            return Err(Error::NoSession);
        }
        let is_callers = |live: &Live| {
            let session = live.session();
            session.owner == caller.principal && session.server == server.name
        };
        let metrics = &self.inner.metrics;
        let live = match self.inner.registry.fresh(id) {
            Some(live) if live.session().client.is_some() && is_callers(&live) => {
                metrics.looked_up(Lookup::Cached);
                live
            }
            // Also what is known to be somebody else's: what is absent is looked for as well.
            _ => match self.load(id).await {
                Err(error @ Error::NoSession) => {
                    self.note_refused(&server.name, caller, id, Lookup::Absent);
                    return Err(error);
                }
                Err(error) => {
                    metrics.looked_up(Lookup::Unavailable);
                    return Err(error);
                }
                Ok(live) if is_callers(&live) => {
                    metrics.looked_up(Lookup::Loaded);
                    live
                }
                Ok(_) => {
                    self.note_refused(&server.name, caller, id, Lookup::Foreign);
                    return Err(Error::NoSession);
                }
            },
        };
        self.carry(server, &live, caller)?;
        live.mark_used();
        Ok(live)
    }

    pub(super) async fn load(&self, id: &SessionId) -> Result<Arc<Live>, Error> {
        loop {
            let mark = self.inner.registry.mark(id);
            let Some(session) = self.store().load(id).await? else {
                if let Some(live) = self.inner.registry.known(id) {
                    self.end_locally(&live);
                }
                return Err(Error::NoSession);
            };
            // Something was forgotten while it was read: what was read may be older.
            if let Some(live) = self.inner.registry.enter(session, mark) {
                return Ok(live);
            }
        }
    }

    /// Handles one POST of a session. `batch` bodies are split: each message goes up on its own.
    ///
    /// # Errors
    /// As [`Error`] says; for a request, only while nothing was said yet.
    pub async fn post(
        &self,
        server: &Arc<Server>,
        live: &Arc<Live>,
        caller: &Caller,
        body: Body,
        form: Form,
        primes: bool,
    ) -> Result<Reply, Error> {
        let (messages, batch) = match body {
            Body::One(message) => (vec![message], false),
            Body::Batch(messages) => (messages, true),
        };
        let (requests, said): (Vec<_>, Vec<_>) = messages.into_iter().partition(Message::is_request);
        let ids: Vec<_> =
            requests.iter().filter_map(Message::id).map(|id| RequestId::from_json(id.as_json())).collect();
        let entered = live.enter_requests(&ids, self.inner.config.requests_per_session_max);
        let entered = entered.map_err(|refused| match refused {
            Refused::TooMany => self.limit(Limit::RequestsPerSession),
            Refused::Duplicate => Error::Duplicate(ids[0].clone()),
        })?;
        let passes = !batch && matches!(form, Form::Auto | Form::Json);
        let calls = requests.iter().zip(&entered).map(|(request, entered)| {
            let place = self.running_place(&caller.principal)?;
            let cancel = entered.cancel();
            let call = Call::in_session(self, server, live, request, &caller.headers, cancel, passes);
            Ok(call.counted(place))
        });
        let calls = calls.collect::<Result<Vec<_>, Error>>()?;
        // What is recorded of a batch is part of the request that it came in.
        let span = match &*calls {
            [one] => one.span().clone(),
            _ => Span::current(),
        };
        // Nothing of a batch goes further before all of it may.
        for message in &said {
            self.say(server, live, caller, message).await?;
        }
        if requests.is_empty() {
            return Ok(Reply::Accepted);
        }
        let (reply, answer) = oneshot::channel();
        let asked = Asked {
            requests: ids,
            calls,
            entered: entered.into_iter().map(Some).collect(),
            form,
            batch,
            primes,
            times: server.requests.clone(),
            lifetime: server.requests.timeout_max + server.requests.cancel_grace,
        };
        let exchange = Exchange::new(self, live, asked, reply);
        self.inner.tasks.spawn(exchange.run().instrument(span));
        answer.await.unwrap_or(Err(Error::Abandoned(UNFINISHED)))
    }

    /// A notification or an answer: 202 once the upstream has acknowledged it.
    async fn say(
        &self,
        server: &Server,
        live: &Arc<Live>,
        caller: &Caller,
        message: &Message,
    ) -> Result<(), Error> {
        // First: it ends here in time, whatever its server makes of it.
        if message.method() == Some("notifications/cancelled")
            && let Some(id) = message.params().and_then(legacy::cancelled_request)
        {
            let request = RequestId::from_json(id.as_json());
            if !live.cancel(&request) {
                // Another node may run it. Lost, it ends when its upstream does, or its time.
                let cancelled = Envelope::Cancelled { session: live.id.clone(), request };
                let _ = self.inner.mail.announce(cancelled).await;
            }
        }
        let since = Instant::now();
        let (mut operation, Outgoing { raw, headers }) =
            Self::operation(server, Some(live), message, &caller.headers);
        let told = self.notify_in_session(server, live, raw, &headers);
        let told = told.instrument(operation.upstream.clone()).await;
        let failed = told.as_ref().err().and_then(Error::of_upstream);
        server.notified(message, failed, since, &mut operation);
        match told {
            // Late or unknown to the upstream: dropped there, counted here (P4).
            Err(Error::Upstream(crate::upstream::Error::Refused { status, .. }))
                if message.is_response() && status == StatusCode::BAD_REQUEST =>
            {
                self.inner.metrics.answer_dropped();
                Ok(())
            }
            other => other,
        }
    }

    /// The form that a session's answers take.
    #[must_use]
    pub fn form(server: &Server, live: &Live) -> Form {
        match live.session().transport {
            Transport::HttpSse => Form::OnHttpSse,
            Transport::Streamable => server.answers.into(),
        }
    }
}
