//! The far end of a relay, at the node whose server has the session: takes the request, sends it to that
//! server, and hands out the response as it is asked for. It reads no further than that.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, Full};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::{
    Busy, NOT_YET_AFTER_MAX, Own, PIECE_BYTES_MAX, Relays, SERVED_BYTES_MAX, SERVED_MAX, SILENCE, lock,
    session_of,
};
use crate::hub::head;
use crate::hub::nodes::Health;
use crate::hub::traced::{name_parent, parent_of};
use crate::ports::{RelayAnswer, RelayAsk, RelayId, RelayRefusal, RelayStep, Relayed};
use crate::telemetry::{self, Gauged, RelaySide, chain};
use crate::upstream::{BoxError, Received};

/// Steps of one relay that may wait: one is asked after the other, unless an answer is lost.
const STEPS_MAX: usize = 4;

/// Whether something runs here in the session of this request.
fn is_busy(relays: &Relays, head: &[u8]) -> bool {
    head::decode(head).is_some_and(|(_, headers)| relays.is_busy_in(session_of(&headers)))
}

pub(super) fn serve(relays: &Relays, relayed: Relayed) {
    let id = relayed.ask.relay.clone();
    let mut served = lock(&relays.inner.served);
    if let Some(steps) = served.get(&id) {
        // One that finds no room is asked again.
        let _ = steps.try_send(relayed);
        return;
    }
    let Relayed { ask: RelayAsk { step, .. }, answer } = relayed;
    let opened = match step {
        // What runs there already may have questions, whose answers follow the session.
        RelayStep::Open { moves: true, ref head, .. } if relays.is_leaving() && !is_busy(relays, head) => {
            Err(RelayRefusal::Leaving)
        }
        RelayStep::Open { .. } if served.len() >= SERVED_MAX => Err(RelayRefusal::Full),
        RelayStep::Open { server, lifetime, pieces, head, .. } => {
            let own = lock(&relays.inner.pinned).get(&server).cloned().ok_or(RelayRefusal::NoServer);
            let deadline = lifetime.map(|lifetime| Instant::now() + lifetime);
            own.and_then(|own| Far::open(relays, id, own, pieces, deadline, &head))
        }
        RelayStep::Drop => {
            let _ = answer.send(RelayAnswer::Taken);
            return;
        }
        RelayStep::Piece { .. } | RelayStep::Want { .. } | RelayStep::Hold => Err(RelayRefusal::Unknown),
    };
    match opened {
        Ok((far, steps)) => {
            served.insert(far.seat.id.clone(), steps);
            // A runtime that ends drops the task here, and what it drops takes the lock.
            drop(served);
            relays.inner.tasks.spawn_until_stopped(far.run());
            let _ = answer.send(RelayAnswer::Taken);
        }
        Err(refusal) => {
            tracing::debug!(%refusal, "a relay of another node is refused");
            let _ = answer.send(RelayAnswer::Refused(refusal));
        }
    }
}

/// Gives back what a relay holds when it is dropped.
struct Seat {
    relays: Relays,
    id: RelayId,
    bytes: usize,
    will_end: bool,
    _busy: Option<Busy>,
    _gauge: Gauged,
}

impl Seat {
    /// Makes room for so many bytes more.
    fn take(&mut self, bytes: usize) -> Result<(), RelayRefusal> {
        self.bytes += bytes;
        let all = self.relays.inner.served_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if all > SERVED_BYTES_MAX { Err(RelayRefusal::Full) } else { Ok(()) }
    }

    fn give_back(&mut self) {
        self.relays.inner.served_bytes.fetch_sub(std::mem::take(&mut self.bytes), Ordering::Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.give_back();
        let inner = &self.relays.inner;
        lock(&inner.served).remove(&self.id);
        inner.answering.fetch_sub(usize::from(self.will_end), Ordering::Relaxed);
    }
}

struct Far {
    seat: Seat,
    own: Own,
    /// Of the request's body.
    pieces: u64,
    method: Method,
    headers: HeaderMap,
    deadline: Option<Instant>,
    steps: mpsc::Receiver<Relayed>,
}

/// A part that is asked for.
struct Wanted {
    answer: oneshot::Sender<RelayAnswer>,
    not_yet_at: Instant,
}

impl Far {
    fn open(
        relays: &Relays,
        id: RelayId,
        own: Own,
        pieces: u64,
        deadline: Option<Instant>,
        head: &[u8],
    ) -> Result<(Self, mpsc::Sender<Relayed>), RelayRefusal> {
        let (method, headers) = head::decode(head).ok_or(RelayRefusal::Unreadable)?;
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| RelayRefusal::Unreadable)?;
        let will_end = deadline.is_some();
        relays.inner.answering.fetch_add(usize::from(will_end), Ordering::Relaxed);
        let gauge = relays.inner.metrics.relay(RelaySide::Served);
        let busy = will_end.then(|| relays.enter(&headers)).flatten();
        let seat = Seat { relays: relays.clone(), id, bytes: 0, will_end, _busy: busy, _gauge: gauge };
        let (send, steps) = mpsc::channel(STEPS_MAX);
        Ok((Self { seat, own, pieces, method, headers, deadline, steps }, send))
    }

    async fn run(mut self) {
        let Some((body, first)) = self.receive().await else { return };
        let request = Request::builder().method(self.method.clone()).uri(self.own.uri.clone());
        let request = request.body(Full::new(body));
        let Ok(mut request) = request else { return };
        *request.headers_mut() = std::mem::take(&mut self.headers);
        let span = telemetry::relay_received(parent_of(request.headers()).as_ref());
        name_parent(request.headers_mut(), &span);
        let client = self.own.client.clone();
        let coming = Coming::Head(Box::pin(async move { client.send(request).await }));
        self.answer(coming, first).instrument(span).await;
    }

    /// The next step; `None` once nobody asks any more.
    async fn next_step(&mut self) -> Option<(RelayStep, oneshot::Sender<RelayAnswer>)> {
        let Relayed { ask, answer } = tokio::time::timeout(SILENCE, self.steps.recv()).await.ok()??;
        Some((ask.step, answer))
    }

    /// The request's whole body, and who asks for the first part of the response: from then on it runs.
    async fn receive(&mut self) -> Option<(Bytes, Wanted)> {
        let mut body = BytesMut::new();
        let mut taken = 0;
        loop {
            let (step, answer) = self.next_step().await?;
            let outcome = match step {
                RelayStep::Piece { number, bytes } if number == taken + 1 && number <= self.pieces => {
                    taken = number;
                    let room = self.seat.take(bytes.len());
                    body.extend_from_slice(&bytes);
                    room
                }
                RelayStep::Piece { number, .. } if number <= taken => Ok(()),
                RelayStep::Piece { .. } => Err(RelayRefusal::OutOfOrder),
                RelayStep::Open { .. } | RelayStep::Hold => Ok(()),
                RelayStep::Want { number: 1, within } if taken == self.pieces => {
                    return Some((body.freeze(), Wanted::now(answer, within)));
                }
                RelayStep::Want { .. } => Err(RelayRefusal::OutOfOrder),
                RelayStep::Drop => {
                    let _ = answer.send(RelayAnswer::Taken);
                    return None;
                }
            };
            let _ = answer.send(outcome.map_or_else(RelayAnswer::Refused, |()| RelayAnswer::Taken));
            outcome.ok()?;
        }
    }

    /// Hands out the response, until nobody asks or the time is over. A part is kept until the next one is
    /// asked for.
    async fn answer(&mut self, mut coming: Coming, first: Wanted) {
        let nodes = self.seat.relays.nodes();
        let mut wanted = Some(first);
        let mut number = 1;
        let mut told = None;
        // Since when nobody has waited here.
        let mut silent_since = Instant::now();
        loop {
            let silent_at = wanted.is_none().then(|| silent_since + SILENCE);
            let not_yet_at = wanted.as_ref().map(|wanted| wanted.not_yet_at);
            let deadline = self.deadline;
            let reads = told.is_none() && (wanted.is_some() || coming.is_head());
            tokio::select! {
                biased;
                Some(Relayed { ask, answer }) = self.steps.recv() => match ask.step {
                    RelayStep::Want { number: asked, within } => {
                        if asked == number + 1 && told.is_some() {
                            (number, told) = (asked, None);
                        }
                        if asked == number {
                            wanted = Some(Wanted::now(answer, within));
                        } else {
                            let _ = answer.send(RelayAnswer::Refused(RelayRefusal::OutOfOrder));
                            // An older one was repeated and comes late: nobody waits for its answer.
                            if asked > number {
                                return;
                            }
                        }
                    }
                    RelayStep::Drop => {
                        let _ = answer.send(RelayAnswer::Taken);
                        return;
                    }
                    // What is no hold is a repeated step, late.
                    RelayStep::Hold | RelayStep::Open { .. } | RelayStep::Piece { .. } => {
                        silent_since = Instant::now();
                        let _ = answer.send(RelayAnswer::Taken);
                    }
                },
                () = nodes.doubted() => {
                    if nodes.health(&self.seat.id.from) == Health::Dead {
                        return;
                    }
                }
                part = coming.next(), if reads => {
                    // The server has the request by now.
                    self.seat.give_back();
                    told = Some(part.map_or_else(
                        |error| RelayAnswer::Failed(chain(&*error).to_string()),
                        |(bytes, last)| RelayAnswer::Part { number, last, bytes },
                    ));
                }
                () = sleep_until(not_yet_at) => {
                    if let Some(wanted) = wanted.take() {
                        silent_since = Instant::now();
                        let _ = wanted.answer.send(RelayAnswer::NotYet);
                    }
                }
                () = sleep_until(silent_at) => {
                    tracing::debug!(from = %self.seat.id.from, "nobody waits for a relayed request any more");
                    return;
                }
                () = sleep_until(deadline) => {
                    let late = RelayAnswer::Failed("the request's time is over".to_owned());
                    let _ = wanted.map(|wanted| wanted.answer.send(late));
                    return;
                }
            }
            if let Some(told) = &told
                && let Some(wanted) = wanted.take()
            {
                silent_since = Instant::now();
                let _ = wanted.answer.send(told.clone());
            }
        }
    }
}

impl Wanted {
    fn now(answer: oneshot::Sender<RelayAnswer>, within: Duration) -> Self {
        Self { answer, not_yet_at: Instant::now() + within.min(NOT_YET_AFTER_MAX) }
    }
}

/// What the server has yet to say.
enum Coming {
    Head(BoxFuture<'static, Result<Response<Received>, BoxError>>),
    Body { body: Received, gathered: BytesMut, end: Option<Result<(), BoxError>> },
    Over,
}

impl Coming {
    const fn is_head(&self) -> bool {
        matches!(self, Self::Head(_))
    }

    /// The next part, and whether it is the last. Safe to drop and call again.
    async fn next(&mut self) -> Result<(Bytes, bool), BoxError> {
        match self {
            Self::Head(sending) => {
                let response = match sending.await {
                    Ok(response) => response,
                    Err(error) => {
                        *self = Self::Over;
                        return Err(error);
                    }
                };
                let (parts, body) = response.into_parts();
                let head = head::encode(parts.status.as_str(), &parts.headers);
                if head.len() > PIECE_BYTES_MAX {
                    *self = Self::Over;
                    return Err(format!("a response's head of more than {PIECE_BYTES_MAX} bytes").into());
                }
                let last = body.is_end_stream();
                *self =
                    if last { Self::Over } else { Self::Body { body, gathered: BytesMut::new(), end: None } };
                Ok((head, last))
            }
            Self::Body { body, gathered, end } => {
                while gathered.is_empty() && end.is_none() {
                    let frame = body.frame().await;
                    *end = gather(gathered, frame);
                }
                // What is there already goes along.
                while gathered.len() < PIECE_BYTES_MAX && end.is_none() {
                    let Some(frame) = body.frame().now_or_never() else { break };
                    *end = gather(gathered, frame);
                }
                if gathered.is_empty()
                    && let Some(Err(error)) = end.take_if(|end| end.is_err())
                {
                    *self = Self::Over;
                    return Err(error);
                }
                let piece = gathered.split_to(gathered.len().min(PIECE_BYTES_MAX)).freeze();
                let last = gathered.is_empty() && matches!(end, Some(Ok(())));
                if last {
                    *self = Self::Over;
                }
                Ok((piece, last))
            }
            Self::Over => Ok((Bytes::new(), true)),
        }
    }
}

/// How the body ended, if it did.
fn gather(
    gathered: &mut BytesMut,
    frame: Option<Result<Frame<Bytes>, BoxError>>,
) -> Option<Result<(), BoxError>> {
    match frame {
        None => Some(Ok(())),
        Some(Err(error)) => Some(Err(error)),
        Some(Ok(frame)) => {
            if let Some(data) = frame.data_ref() {
                gathered.extend_from_slice(data);
            }
            None
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
