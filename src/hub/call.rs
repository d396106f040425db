//! One request at the upstream, from its sending to its final answer: time limits, cancellation,
//! and an upstream that has forgotten the session.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderMap, StatusCode};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use super::deadline::{Deadline, cancelled, reached};
use super::handshake::is_login;
use super::live::Live;
use super::measures::{measured, said};
use super::passing::{Limits, Passage};
use super::progress::{Calling, Progress};
use super::reopen::remembered;
use super::server::Server;
use super::step::{Final, Step};
use super::stopping::{SESSION_ENDED, SHUTTING_DOWN, TOO_LATE, Told};
use super::traced::{Operation, Outgoing};
use super::{Error, Hub, RequestsConfig};
use crate::domain::{Limit, RunningRecord};
use crate::limits::Place;
use crate::protocol::jsonrpc::{self, Id, Message};
use crate::telemetry::{Eras, ExchangeEnd, Measured, Method, chain};
use crate::upstream::{self, Answer, Heard, Long, Position};

/// Why a request of a dead node can't be answered.
const RUNNER_DIED: &str =
    "the gateway node that ran it is gone and its server can't resume the answer; it may have run";

/// A running call. Dropping it drops the upstream connection.
pub(super) struct Call {
    hub: Hub,
    server: Arc<Server>,
    live: Option<Arc<Live>>,
    id: Id,
    method: Arc<str>,
    params: Option<String>,
    progress: Progress,
    deadline: Option<Deadline>,
    cancel: Option<Arc<Notify>>,
    cancelled: bool,
    ended: CancellationToken,
    /// Until its end was told.
    measured: Option<Measured>,
    answered: bool,
    /// Its result may be longer than what is held.
    passes: bool,
    /// Set once the request stands in the shared state.
    recorded: Arc<AtomicBool>,
    /// Among the running requests of its principal.
    place: Option<Place>,
    operation: Operation,
}

impl Call {
    /// A legacy session's request; `passes` if its answer may pass in JSON, and nothing else with it.
    pub(super) fn in_session(
        hub: &Hub,
        server: &Arc<Server>,
        live: &Arc<Live>,
        request: &Message,
        headers: &HeaderMap,
        cancel: Arc<Notify>,
        passes: bool,
    ) -> Self {
        let (operation, Outgoing { raw, headers }) = Hub::operation(server, Some(live), request, headers);
        let calling: Calling = {
            let (hub, server, live) = (hub.clone(), server.clone(), live.clone());
            Box::pin(async move { hub.call_in_session(&server, &live, raw, &headers).await })
        };
        let measured = measured(server, Eras::LEGACY, request, ExchangeEnd::Abandoned);
        let mut call = Self::new(hub, server, request, calling, (measured, operation));
        call.deadline = Some(Deadline::new(&server.requests));
        call.cancel = Some(cancel);
        call.ended = live.ended.clone();
        call.live = Some(live.clone());
        call.passes = passes;
        call
    }

    /// A request that another node began: the rest of its answer is read, for what is left of its time.
    pub(super) fn taken_over(
        hub: &Hub,
        server: &Arc<Server>,
        live: &Arc<Live>,
        request: &RunningRecord,
        id: Id,
        cancel: Arc<Notify>,
    ) -> Self {
        let upstream = server.reached_from(live);
        let position = request.upstream_event.as_deref().and_then(Position::from_text);
        let resumable = live.upstream().filter(|handle| handle.session.is_some()).zip(position);
        let calling = Box::pin(async move {
            let (handle, position) = resumable.ok_or(Error::Abandoned(RUNNER_DIED))?;
            Ok(upstream.resume(&handle, position))
        });
        let requests = RequestsConfig { timeout_max: request.time_left(), ..server.requests.clone() };
        // What it asked for is not remembered.
        let measured = server.metrics.call(Eras::LEGACY, Method::Other, None, ExchangeEnd::Abandoned);
        let mut call = Self::with(hub, server, id, calling, measured);
        call.deadline = Some(Deadline::new(&requests));
        call.cancel = Some(cancel);
        call.ended = live.ended.clone();
        call.live = Some(live.clone());
        call
    }

    /// A request that stands alone. `calling` sends what goes up; `passes` as above.
    pub(super) fn alone(
        hub: &Hub,
        server: &Arc<Server>,
        (request, headers): (&Message, &HeaderMap),
        calling: impl FnOnce(Outgoing) -> Calling,
        limited: bool,
        passes: bool,
        eras: Eras,
    ) -> Self {
        // Its connection is its life.
        let measured = measured(server, eras, request, ExchangeEnd::ClientGone);
        let (operation, outgoing) = Hub::operation(server, None, request, headers);
        let mut call = Self::new(hub, server, request, calling(outgoing), (measured, operation));
        call.deadline = limited.then(|| Deadline::new(&server.requests));
        call.passes = passes;
        call
    }

    fn new(
        hub: &Hub,
        server: &Arc<Server>,
        request: &Message,
        calling: Calling,
        (measured, operation): (Measured, Operation),
    ) -> Self {
        let id = request.id().cloned().unwrap_or_else(|| Id::number(0));
        let mut call = Self::with(hub, server, id, calling, measured);
        call.method = Arc::from(request.method().unwrap_or_default());
        call.params = remembered(request);
        call.operation = operation;
        call
    }

    fn with(hub: &Hub, server: &Arc<Server>, id: Id, calling: Calling, measured: Measured) -> Self {
        Self {
            hub: hub.clone(),
            server: server.clone(),
            live: None,
            id,
            method: Arc::from(""),
            params: None,
            progress: Progress::Calling(calling),
            deadline: None,
            cancel: None,
            cancelled: false,
            ended: CancellationToken::new(),
            measured: Some(measured),
            answered: false,
            passes: false,
            recorded: Arc::default(),
            place: None,
            operation: Operation::none(),
        }
    }

    /// What it is a part of, in which its answer is dealt with too.
    pub(super) fn span(&self) -> &Span {
        &self.operation.span
    }

    /// Counts as running until it has its answer.
    pub(super) fn counted(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// To be set once the request stands in the shared state.
    pub(super) fn recorded(&self) -> Arc<AtomicBool> {
        self.recorded.clone()
    }

    /// The next message; after the final one, `None`. Safe to drop and call again. What is there is taken
    /// first, but a server that never pauses does not get around the limits by that.
    pub(super) async fn step(&mut self) -> Option<Step> {
        loop {
            if matches!(self.progress, Progress::Done) {
                return None;
            }
            let abandon = self.hub.inner.abandon.clone();
            let at = self.deadline.as_ref().map(Deadline::at);
            let cancel = self.cancel.clone();
            // What is remembered of a session hangs on the whole of its answer.
            let passing = (self.passes && self.params.is_none()).then(|| self.id.clone());
            let happened = tokio::select! {
                biased;
                () = cancelled(cancel), if !self.cancelled => Happened::Cancelled,
                next = self.progress.next(passing.as_ref(), &self.operation.upstream) => Happened::Next(next),
                () = reached(at) => Happened::Late,
                () = self.ended.cancelled() => Happened::Ended(SESSION_ENDED),
                () = abandon.cancelled() => Happened::Left,
            };
            let step = match happened {
                // It is not the answer, and there is no time left for one.
                Happened::Next(Ok(Some(heard))) if !heard.is_response() => match self.over(&heard) {
                    Some(over) => self.apply(over).await,
                    None => self.apply(Happened::Next(Ok(Some(heard)))).await,
                },
                other => self.apply(other).await,
            };
            if let Some(step) = step {
                return Some(step);
            }
        }
    }

    /// Whether something has ended the call that was not looked at while its server spoke.
    fn over(&mut self, heard: &Heard) -> Option<Happened> {
        if let (Some(deadline), Heard::Message(answer), false) = (&mut self.deadline, heard, self.cancelled) {
            deadline.sign_of_life(&answer.message);
        }
        if self.ended.is_cancelled() {
            return Some(Happened::Ended(SESSION_ENDED));
        }
        if self.hub.inner.abandon.is_cancelled() {
            return Some(Happened::Left);
        }
        let late = self.deadline.as_ref().is_some_and(|deadline| deadline.at() <= Instant::now());
        late.then_some(Happened::Late)
    }

    async fn apply(&mut self, happened: Happened) -> Option<Step> {
        match happened {
            Happened::Next(Ok(Some(Heard::Position(event)))) => Some(Step::Position(event)),
            Happened::Next(Ok(Some(Heard::Long(long)))) => {
                self.has_answered();
                Some(Step::Long(Box::new(self.passage(*long))))
            }
            Happened::Next(Ok(Some(Heard::Message(answer)))) => {
                self.has_answered();
                if !answer.message.is_response() {
                    return Some(Step::Message(answer));
                }
                Some(self.answer(answer).await)
            }
            Happened::Next(Ok(None)) => {
                let error = upstream::Error::Interrupted { upstream: self.server.upstream.name().to_owned() };
                Some(self.fail(error.into(), ExchangeEnd::UpstreamFailed))
            }
            Happened::Next(Err(error)) => Some(self.refused(error)),
            Happened::Cancelled => {
                self.cancelled = true;
                let grace = Instant::now() + self.server.requests.cancel_grace;
                if let Some(deadline) = &mut self.deadline {
                    deadline.shorten(grace);
                }
                None
            }
            Happened::Late if self.cancelled => Some(self.fail(Error::Cancelled, ExchangeEnd::Cancelled)),
            Happened::Late => {
                self.hub.inner.metrics.limit_hit(Limit::RequestTime);
                self.told().to_stop(&self.hub, TOO_LATE);
                let late = self.server.upstream.late();
                Some(self.fail(late.into(), ExchangeEnd::TimedOut))
            }
            Happened::Left if self.can_be_taken_over() => {
                self.end(ExchangeEnd::LeftBehind);
                None
            }
            Happened::Left => {
                self.told().to_stop(&self.hub, SHUTTING_DOWN);
                Some(self.fail(Error::Abandoned(SHUTTING_DOWN), ExchangeEnd::Abandoned))
            }
            Happened::Ended(why) => {
                self.told().to_stop(&self.hub, why);
                self.end(ExchangeEnd::Abandoned);
                let payload = Error::Abandoned(why).body(Some(&self.id));
                // Who has no answer yet is told what anybody is who comes later (L25).
                Some(Step::Final(Final { payload, outcome: Err(Error::NoSession), event: None }))
            }
        }
    }

    fn has_answered(&mut self) {
        if !std::mem::replace(&mut self.answered, true) {
            self.measured.iter().for_each(Measured::was_heard);
        }
    }

    fn told(&self) -> Told {
        let (server, live) = (self.server.clone(), self.live.clone());
        Told { server, live, id: self.id.clone(), method: self.method.clone() }
    }

    /// The rest of the call is the rest of its result.
    fn passage(&mut self, long: Long) -> Passage {
        self.progress = Progress::Done;
        let operation = std::mem::replace(&mut self.operation, Operation::none());
        let limits = Limits {
            hub: self.hub.clone(),
            told: self.told(),
            left: self.deadline.as_ref().map(|deadline| deadline.at() - Instant::now()),
            until: self.deadline.as_ref().map(Deadline::last),
            cancel: self.cancel.clone(),
            cancelled: self.cancelled,
            ended: self.ended.clone(),
        };
        Passage { long, limits, measured: self.measured.take(), operation, place: self.place.take() }
    }

    /// It stands in the shared state, and its upstream can resume the answer.
    fn can_be_taken_over(&self) -> bool {
        let resumable = matches!(&self.progress, Progress::Reading(answers) if answers.is_resumable());
        resumable && self.recorded.load(Ordering::Relaxed) && self.hub.is_shared()
    }

    async fn answer(&mut self, answer: Answer) -> Step {
        let payload = match answer.message.id() {
            Some(id) if *id == self.id => answer.message.raw().clone(),
            // An error that could not name its request: here it is known which one was meant.
            None => jsonrpc::failure(&self.id, answer.message.error().unwrap_or("null")),
            Some(other) => {
                let what = format!("a response to {other}, which was not asked");
                let upstream = self.server.upstream.name().to_owned();
                return self
                    .fail(upstream::Error::Invalid { upstream, what }.into(), ExchangeEnd::UpstreamFailed);
            }
        };
        if answer.message.result().is_some()
            && let (Some(live), Some(value)) = (&self.live, &self.params)
        {
            self.hub.remember(live, &self.method, value).await;
        }
        self.answered(&answer.message);
        Step::Final(Final { payload, outcome: Ok(StatusCode::OK), event: answer.event })
    }

    /// A refusal that is a JSON-RPC error goes to the client with its status.
    fn refused(&mut self, error: Error) -> Step {
        if let Error::Upstream(upstream::Error::Refused { status, body, .. }) = &error
            && !is_login(*status)
            && let Ok(message) = Message::parse(body.clone())
            && let Some(details) = message.error()
        {
            let payload = if message.id() == Some(&self.id) {
                body.clone()
            } else {
                jsonrpc::failure(&self.id, details)
            };
            let outcome = Ok(*status);
            self.answered(&message);
            return Step::Final(Final { payload, outcome, event: None });
        }
        let error = match error {
            // It was lost while it answered: the request ran, and can't be sent again.
            Error::Upstream(upstream::Error::SessionGone { upstream }) => {
                Error::Upstream(upstream::Error::Interrupted { upstream })
            }
            other => other,
        };
        tracing::warn!(method = %self.method, error = %chain(&error), "an upstream gave no answer");
        self.fail(error, ExchangeEnd::UpstreamFailed)
    }

    fn fail(&mut self, error: Error, end: ExchangeEnd) -> Step {
        if let Error::Upstream(error) = &error {
            self.server.failed(error);
        }
        self.end(end);
        Step::Final(Final { payload: error.body(Some(&self.id)), outcome: Err(error), event: None })
    }

    fn end(&mut self, end: ExchangeEnd) {
        self.operation.ended(end);
        self.over_with(|measured| measured.ended(end));
    }

    fn answered(&mut self, answer: &Message) {
        let said = said(&self.method, answer);
        self.operation.answered(said);
        self.over_with(|measured| measured.answered(said));
    }

    fn over_with(&mut self, told: impl FnOnce(Measured)) {
        self.progress = Progress::Done;
        self.place = None;
        self.measured.take().map(told);
    }
}

enum Happened {
    Next(Result<Option<Heard>, Error>),
    Cancelled,
    Late,
    Ended(&'static str),
    /// This node ends.
    Left,
}
