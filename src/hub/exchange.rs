//! A legacy client's requests from their arrival to their results. An exchange outlives the
//! connection it came on (L16): it is a task of its own, and what it has to say is logged once the
//! client may come back for it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{SelectAll, Stream, StreamExt as _, unfold};
use http::StatusCode;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::attach::empty_tail;
use super::call::Call;
use super::deadline::reached;
use super::live::{Live, Running};
use super::passing::Passage;
use super::post::{Form, Reply};
use super::step::{Final, Step};
use super::stream::Opening;
use super::{Error, Hub, RequestsConfig};
use crate::domain::{Fence, RequestId, StreamId, StreamKey, StreamKind};
use crate::ports::{Append, Appended, Begin, Begun, Mark, Producer};
use crate::protocol::jsonrpc;
use crate::upstream::Position;

type Steps = SelectAll<Pin<Box<dyn Stream<Item = (usize, Step)> + Send>>>;

/// How long a message may hold up its answer when there is no stream to say it on.
const PATIENCE: Duration = Duration::from_secs(2);

/// The requests of one POST.
pub(super) struct Exchange {
    hub: Hub,
    live: Arc<Live>,
    requests: Vec<RequestId>,
    steps: Steps,
    form: Form,
    batch: bool,
    primes: bool,
    times: RequestsConfig,
    /// Where the POST waits; gone once it was answered.
    reply: Option<oneshot::Sender<Result<Reply, Error>>>,
    /// Where the upstream's answers can be resumed before anything of them was logged.
    positions: Vec<Option<String>>,
    /// Tells each call that it stands in the shared state.
    recorded: Vec<Arc<AtomicBool>>,
    /// Each of the requests, until it has its answer.
    entered: Vec<Option<Running>>,
    /// For how long the shared state keeps them, and until when that is.
    lifetime: Duration,
    recorded_until: Instant,
    outbound: Outbound,
    /// The last message that had no stream to be said on could not be logged.
    unlogged: bool,
    producer: Producer,
}

/// What one POST asks for.
pub(super) struct Asked {
    pub requests: Vec<RequestId>,
    pub calls: Vec<Call>,
    pub entered: Vec<Option<Running>>,
    pub form: Form,
    pub batch: bool,
    pub primes: bool,
    pub times: RequestsConfig,
    /// How long the shared state is to remember that they run.
    pub lifetime: Duration,
}

/// Where answers go.
enum Outbound {
    /// Nothing was said yet; final answers wait to be said in JSON.
    Quiet(Vec<Final>),
    /// Onto a stream of the session, recorded.
    Stream { key: StreamKey, fence: Fence },
    /// The session is gone: nobody is left to hear.
    Nowhere,
}

impl Exchange {
    pub(super) fn new(
        hub: &Hub,
        live: &Arc<Live>,
        asked: Asked,
        reply: oneshot::Sender<Result<Reply, Error>>,
    ) -> Self {
        let mut exchange = Self::with(hub, live, asked);
        exchange.reply = Some(reply);
        exchange
    }

    /// One that another node began: its answer goes onto the same stream.
    pub(super) fn taken_over(
        hub: &Hub,
        live: &Arc<Live>,
        asked: Asked,
        key: StreamKey,
        fence: Fence,
    ) -> Self {
        let mut exchange = Self::with(hub, live, asked);
        exchange.outbound = Outbound::Stream { key, fence };
        exchange.is_recorded();
        exchange
    }

    fn with(hub: &Hub, live: &Arc<Live>, asked: Asked) -> Self {
        let Asked { requests, calls, entered, form, batch, primes, times, lifetime } = asked;
        let requests_len = requests.len();
        let recorded = calls.iter().map(Call::recorded).collect();
        let mut steps = SelectAll::new();
        for (index, call) in calls.into_iter().enumerate() {
            let stream: Pin<Box<dyn Stream<Item = (usize, Step)> + Send>> =
                Box::pin(unfold(call, move |mut call| async move {
                    let step = call.step().await?;
                    Some(((index, step), call))
                }));
            steps.push(stream);
        }
        Self {
            hub: hub.clone(),
            live: live.clone(),
            requests,
            steps,
            form,
            batch,
            primes,
            times,
            reply: None,
            positions: vec![None; requests_len],
            recorded,
            entered,
            lifetime,
            recorded_until: Instant::now() + lifetime,
            outbound: Outbound::Quiet(Vec::new()),
            unlogged: false,
            producer: Producer { id: fastrand::u64(..), sequence: 0 },
        }
    }

    /// Runs to the last answer, whatever becomes of the client.
    pub(super) async fn run(mut self) {
        let _gauge = self.hub.inner.metrics.exchange();
        if self.form == Form::OnHttpSse && !self.begin_on_session_stream().await {
            return;
        }
        let wait = match self.form {
            Form::Auto => Some(self.times.json_wait),
            Form::Sse => Some(Duration::ZERO),
            Form::Json | Form::OnHttpSse => None,
        };
        let mut stream_at = wait.map(|wait| Instant::now() + wait);
        loop {
            let step = tokio::select! {
                biased;
                step = self.steps.next() => step,
                () = reached(stream_at) => {
                    stream_at = None;
                    self.open_stream().await;
                    continue;
                }
            };
            match step {
                None => break,
                Some((index, Step::Message(answer))) => {
                    stream_at = None;
                    self.message(index, answer).await;
                }
                Some((index, Step::Position(event))) => self.position(index, event).await,
                Some((index, Step::Long(passage))) => self.long(index, *passage).await,
                Some((index, Step::Final(last))) => self.finish(index, last).await,
            }
        }
        if let Outbound::Quiet(finals) = std::mem::replace(&mut self.outbound, Outbound::Nowhere) {
            self.answer_in_json(finals);
        }
    }

    /// The upstream says where its answer can be resumed: kept for whoever may have to take over.
    async fn position(&mut self, index: usize, event: String) {
        let text = Position { event, delivered: false }.to_text();
        match &self.outbound {
            Outbound::Quiet(_) => self.positions[index] = Some(text),
            Outbound::Stream { key, fence } => {
                let (stream, fence, request) = (key.clone(), *fence, self.requests[index].clone());
                let mark = Mark { stream, request, fence, producer: self.producer, upstream_event: text };
                if let Err(error) = self.hub.store().mark(&mark).await {
                    tracing::debug!(stream = %mark.stream, %error, "an answer's position is not remembered");
                }
            }
            Outbound::Nowhere => {}
        }
    }

    async fn message(&mut self, index: usize, answer: crate::upstream::Answer) {
        if matches!(self.outbound, Outbound::Quiet(_)) && self.form != Form::Json {
            self.open_stream().await;
        }
        let raw = answer.message.raw().clone();
        match &self.outbound {
            Outbound::Stream { .. } => self.append(index, raw, false, answer.event).await,
            // Its own answer will be JSON: the session's GET stream takes what can't wait.
            Outbound::Quiet(_) => {
                let to = StreamKey { session: self.live.id.clone(), stream: StreamId::get() };
                // The answer waits for one message that can't be logged, not for each.
                let patience = if self.unlogged { Duration::ZERO } else { PATIENCE };
                self.unlogged = !self.hub.append_within(patience, to, raw, None).await;
            }
            Outbound::Nowhere => {}
        }
    }

    /// The one request's result passes if it is to be answered in JSON.
    async fn long(&mut self, index: usize, passage: Passage) {
        let quiet = matches!(self.outbound, Outbound::Quiet(_)) && self.form != Form::Sse;
        let Some(reply) = self.reply.take_if(|_| quiet) else {
            return self.finish(index, passage.whole().await).await;
        };
        self.hub.inner.metrics.answered_in_json();
        let running = self.entered.get_mut(index).and_then(Option::take);
        let _ = reply.send(Ok(Reply::Passing(passage.begin(running))));
    }

    async fn finish(&mut self, index: usize, last: Final) {
        // First: a client that has its answer may send the next request at once.
        if let Some(entered) = self.entered.get_mut(index) {
            *entered = None;
        }
        // An answer that is there before the stream was opened: a refusal keeps its status.
        if self.form == Form::Sse && last.outcome.is_ok() {
            self.open_stream().await;
        }
        match &mut self.outbound {
            Outbound::Quiet(finals) => finals.push(last),
            Outbound::Stream { .. } => self.append(index, last.payload, true, last.event).await,
            Outbound::Nowhere => {}
        }
    }

    /// The POST's answer becomes a stream: recorded first, then said (P4).
    async fn open_stream(&mut self) {
        let Outbound::Quiet(finals) = &mut self.outbound else { return };
        let finals = std::mem::take(finals);
        let key = StreamKey { session: self.live.id.clone(), stream: self.hub.post_stream(&self.requests) };
        let local = match self.hub.local_stream(&self.live, &key, self.primes, false) {
            Ok(local) => local,
            Err(error) => {
                return self.stay_quiet(finals, &error);
            }
        };
        match self.begin(&key, true).await {
            Ok(Begun::Recorded { fence, top, .. }) => {
                let (stream, body) = local;
                stream.bound(fence, &empty_tail(top), &Opening::default());
                stream.answer_by(Instant::now() + self.lifetime);
                self.outbound = Outbound::Stream { key, fence };
                self.is_recorded();
                if let Some(reply) = self.reply.take() {
                    // A client that went away meanwhile drops the body, which releases the stream.
                    let _ = reply.send(Ok(Reply::Stream(body)));
                }
                for last in finals {
                    let index = self.position_of(&last.payload);
                    self.append(index, last.payload, true, last.event).await;
                }
            }
            Ok(Begun::Gone) => self.give_up(Error::NoSession),
            Ok(Begun::Duplicate(request)) => self.give_up(Error::Duplicate(request)),
            // It runs already. Its client still waits: what needs no record goes on without one.
            Err(error) => self.stay_quiet(finals, &error),
        }
    }

    /// The answer waits to be said in JSON.
    fn stay_quiet(&mut self, finals: Vec<Final>, error: &Error) {
        tracing::debug!(session = ?self.live.id, %error, "a request is answered in JSON for want of a stream");
        self.form = Form::Json;
        self.outbound = Outbound::Quiet(finals);
    }

    /// Which request of a batch an early final answer belongs to.
    fn position_of(&self, payload: &Bytes) -> usize {
        let id = jsonrpc::Message::parse(payload.clone()).ok().and_then(|message| message.id().cloned());
        let is = |request: &RequestId| id.as_ref().is_some_and(|id| id.as_json() == request.as_json());
        self.requests.iter().position(is).unwrap_or(0)
    }

    /// HTTP+SSE: the answer goes onto the session's one stream; 202 once it is recorded (P4).
    async fn begin_on_session_stream(&mut self) -> bool {
        let key = StreamKey { session: self.live.id.clone(), stream: StreamId::http_sse() };
        let begun = self.begin(&key, false).await;
        let (reply, begun) = match begun {
            Ok(Begun::Recorded { fence, .. }) => {
                self.outbound = Outbound::Stream { key, fence };
                self.is_recorded();
                (Ok(Reply::Accepted), true)
            }
            Ok(Begun::Gone) => (Err(Error::NoSession), false),
            Ok(Begun::Duplicate(request)) => (Err(Error::Duplicate(request)), false),
            Err(error) => (Err(error), false),
        };
        if !begun {
            self.entered.clear();
        }
        if let Some(waiting) = self.reply.take() {
            let _ = waiting.send(reply);
        }
        begun
    }

    fn is_recorded(&mut self) {
        self.recorded_until = Instant::now() + self.lifetime;
        self.recorded.iter().for_each(|recorded| recorded.store(true, Ordering::Relaxed));
    }

    async fn begin(&mut self, key: &StreamKey, bind: bool) -> Result<Begun, Error> {
        let begin = Begin {
            stream: key.clone(),
            requests: self.requests.clone(),
            runner: self.hub.inner.node.clone(),
            lifetime: self.lifetime,
            bind,
            // Of several, each is marked.
            upstream_event: self.positions.first().filter(|_| self.positions.len() == 1).cloned().flatten(),
        };
        Ok(self.hub.store().begin(&begin).await?)
    }

    async fn append(&mut self, index: usize, payload: Bytes, last: bool, upstream_event: Option<String>) {
        let Outbound::Stream { key, fence } = &self.outbound else { return };
        self.producer.sequence += 1;
        let append = Append {
            to: key.clone(),
            payload,
            producer: self.producer,
            request: Some((self.requests[index].clone(), *fence)),
            last,
            upstream_event: upstream_event.map(|event| Position { event, delivered: true }.to_text()),
            reader: None,
        };
        // Nobody else has what it says: a store that is away is asked for as long as it would remember.
        match self.hub.append(&append, self.recorded_until).await {
            Ok(Appended::Logged { .. }) => {}
            Ok(Appended::Gone) => {
                self.hub.end_locally(&self.live);
                self.outbound = Outbound::Nowhere;
            }
            Ok(Appended::StaleFence | Appended::Ended | Appended::Forgotten) => {
                tracing::info!(stream = %append.to, "another node runs this request by now, or its time is over");
                self.outbound = Outbound::Nowhere;
                // Nothing more is read for it here, and should its next runner die, this node may be asked.
                self.steps.clear();
                self.entered.iter_mut().for_each(|entered| *entered = None);
                // Whichever it is, a client that waits here is told by what the log says.
                if append.to.stream.kind() == StreamKind::Post {
                    for stream in self.live.streams_named(&append.to.stream) {
                        self.hub.resync(&self.live, &stream).await;
                    }
                }
            }
            Err(error) => {
                tracing::error!(stream = %append.to, %error, "an answer could not be logged");
                for stream in self.live.streams_named(&append.to.stream) {
                    stream.end_with_retry(crate::telemetry::StreamEnd::Failed, self.hub.retry());
                }
                self.outbound = Outbound::Nowhere;
            }
        }
    }

    /// Nothing was said yet, and nothing can be: the client hears why, the upstream is let go.
    fn give_up(&mut self, error: Error) {
        self.entered.clear();
        self.steps.clear();
        self.outbound = Outbound::Nowhere;
        if let Some(reply) = self.reply.take() {
            let _ = reply.send(Err(error));
        }
    }

    fn answer_in_json(&mut self, mut finals: Vec<Final>) {
        let Some(reply) = self.reply.take() else { return };
        self.hub.inner.metrics.answered_in_json();
        let answer = if self.batch {
            let payloads: Vec<_> = finals.into_iter().map(|last| last.payload).collect();
            Ok(Reply::Json { status: StatusCode::OK, body: jsonrpc::batch(&payloads) })
        } else {
            match finals.pop() {
                Some(Final { outcome: Ok(status), payload, .. }) => Ok(Reply::Json { status, body: payload }),
                Some(Final { outcome: Err(error), .. }) => Err(error),
                None => Err(Error::Abandoned("it ended without an answer")),
            }
        };
        let _ = reply.send(answer);
    }
}
