//! The near end of a relay, at the node that the client reached: hands the request over piece by piece,
//! asks for the response part by part, and gives it out as if it came from the server itself.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Empty, Full};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    NOT_YET_AFTER, NOT_YET_AFTER_MAX, PATIENCE, PIECE_BYTES_MAX, RelayError, Relays, SILENT_AT_FIRST_FOR,
    SILENT_FOR,
};
use crate::domain::{NodeId, ServerName};
use crate::hub::head;
use crate::hub::nodes::{Health, Nodes};
use crate::ports::{BusError, RelayAnswer, RelayAsk, RelayId, RelayRefusal, RelayStep};
use crate::telemetry::{RelayEnd, RelaySide};
use crate::upstream::{BoxError, Received};

/// Parts that may wait for their reader.
const PARTS_MAX: usize = 2;

/// How often the far end is told that somebody waits, while there is no room for its next part.
const HOLD_EVERY: Duration = Duration::from_secs(3);

/// How long letting go of the far end may take.
const DROP_PATIENCE: Duration = Duration::from_millis(500);

/// Over which those who doubt ask again.
const DOUBT_SPREAD: Duration = Duration::from_millis(500);

/// Between two attempts to reach it.
const AGAIN: Duration = Duration::from_millis(50);

/// A part of the response, and whether it is the last.
type Part = (Bytes, bool);

/// Sends a request through the node `holder`, to its own server of that name, and answers once the
/// response's head is there. Dropping the future, or the response's body, ends the far request.
pub(super) async fn carry(
    relays: &Relays,
    server: &ServerName,
    holder: NodeId,
    lifetime: Option<Duration>,
    moves: bool,
    request: Request<Full<Bytes>>,
) -> Result<Response<Received>, BoxError> {
    let (request, body) = request.into_parts();
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(never) => match never {},
    };
    let head = head::encode(request.method.as_str(), &request.headers);
    let number = relays.inner.begun.fetch_add(1, Ordering::Relaxed);
    let relay = RelayId { from: relays.inner.node.clone(), number };
    let near = Near { relays: relays.clone(), holder, relay };
    let unwanted = CancellationToken::new();
    let wanted = unwanted.clone().drop_guard();
    let (send_head, first) = oneshot::channel();
    let (send_parts, parts) = mpsc::channel(PARTS_MAX);
    let pieces = body.chunks(PIECE_BYTES_MAX).len() as u64;
    let open = RelayStep::Open { server: server.clone(), lifetime, moves, pieces, head };
    let ended = relays.inner.tasks.stopped();
    relays.inner.tasks.spawn(async move {
        let _gauge = near.relays.inner.metrics.relay(RelaySide::Asked);
        let end = tokio::select! {
            biased;
            () = unwanted.cancelled() => RelayEnd::Dropped,
            () = ended.cancelled() => RelayEnd::Dropped,
            end = near.run(open, body, send_head, send_parts) => end,
        };
        near.relays.inner.metrics.relayed(end);
        near.let_go().await;
    });
    let (head, last) = match first.await {
        Ok(Ok(part)) => part,
        Ok(Err(RelayError::Gone)) => return Ok(forgotten()),
        Ok(Err(error)) => return Err(error.into()),
        Err(_) => return Err(RelayError::Ended.into()),
    };
    let (status, headers) = head::decode(&head).ok_or(RelayError::Damaged)?;
    let status = StatusCode::from_bytes(status.as_bytes()).map_err(|_| RelayError::Damaged)?;
    let mut response = Response::new(Received::within(Arriving { parts, over: last, _wanted: wanted }));
    (*response.status_mut(), *response.headers_mut()) = (status, headers);
    Ok(response)
}

/// What a server answers that knows the session no longer.
fn forgotten() -> Response<Received> {
    let nothing = Empty::new().map_err(|never: std::convert::Infallible| match never {});
    let mut response = Response::new(Received::within(nothing));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

struct Near {
    relays: Relays,
    holder: NodeId,
    relay: RelayId,
}

impl Near {
    async fn run(
        &self,
        open: RelayStep,
        body: Bytes,
        first: oneshot::Sender<Result<Part, RelayError>>,
        parts: mpsc::Sender<Result<Part, RelayError>>,
    ) -> RelayEnd {
        let mut last = match self.begin(open, body).await {
            Ok(part) => {
                let last = part.1;
                let _ = first.send(Ok(part));
                last
            }
            Err(error) => {
                let gone = matches!(error, RelayError::Gone);
                tracing::info!(holder = %self.holder, %error, "a request could not be relayed");
                let _ = first.send(Err(error));
                return if gone { RelayEnd::NodeGone } else { RelayEnd::Failed };
            }
        };
        let mut number = 1;
        while !last {
            let Ok(room) = self.room(&parts).await else { return RelayEnd::Failed };
            number += 1;
            match self.part(number).await {
                Ok(part) => {
                    last = part.1;
                    room.send(Ok(part));
                }
                Err(error) => {
                    tracing::info!(holder = %self.holder, %error, "a relayed response broke");
                    room.send(Err(error));
                    return RelayEnd::Failed;
                }
            }
        }
        RelayEnd::Finished
    }

    /// Hands the request over, and has it run: the response's head.
    async fn begin(&self, open: RelayStep, body: Bytes) -> Result<Part, RelayError> {
        if self.relays.inner.nodes.health(&self.holder) == Health::Dead {
            return Err(RelayError::Gone);
        }
        if let RelayStep::Open { head, .. } = &open
            && head.len() > PIECE_BYTES_MAX
        {
            return Err(RelayError::TooLarge);
        }
        self.hand_over(open).await?;
        for (index, piece) in body.chunks(PIECE_BYTES_MAX).enumerate() {
            let number = index as u64 + 1;
            self.hand_over(RelayStep::Piece { number, bytes: body.slice_ref(piece) }).await?;
        }
        self.part(1).await
    }

    /// A step before the request runs: whatever happens to it, the request has not.
    async fn hand_over(&self, step: RelayStep) -> Result<(), RelayError> {
        let answer = self.ask(step).await.map_err(|error| match error {
            RelayError::Lost => RelayError::Gone,
            other => other,
        })?;
        taken(&answer)
    }

    /// Asks for a part of the response until it is there.
    async fn part(&self, number: u64) -> Result<Part, RelayError> {
        let mut within = NOT_YET_AFTER;
        // Whoever was heard once has the request running.
        let mut runs = number > 1;
        loop {
            let answer = self.ask(RelayStep::Want { number, within }).await;
            match answer.map_err(|error| if runs { error.after_all() } else { error })? {
                RelayAnswer::Part { number: told, last, bytes } if told == number => {
                    return Ok((bytes, last));
                }
                RelayAnswer::NotYet => (runs, within) = (true, (within * 2).min(NOT_YET_AFTER_MAX)),
                RelayAnswer::Part { .. } | RelayAnswer::Taken => return Err(RelayError::Damaged),
                RelayAnswer::Failed(why) => return Err(RelayError::Failed(why)),
                RelayAnswer::Refused(refusal) => return Err(RelayError::Refused(refusal)),
            }
        }
    }

    /// Waits until the reader has room for a part, and meanwhile says that somebody waits.
    async fn room<'p>(
        &self,
        parts: &'p mpsc::Sender<Result<Part, RelayError>>,
    ) -> Result<mpsc::Permit<'p, Result<Part, RelayError>>, RelayError> {
        loop {
            match tokio::time::timeout(HOLD_EVERY, parts.reserve()).await {
                Ok(room) => return room.map_err(|_| RelayError::Ended),
                Err(_) => taken(&self.ask(RelayStep::Hold).await?)?,
            }
        }
    }

    /// Asks until there is an answer, or none is to be expected. A long wait is cut short by what makes it
    /// doubtful that the question or its answer is still on its way: a node that is missing, or messages
    /// that may have been lost.
    async fn ask(&self, step: RelayStep) -> Result<RelayAnswer, RelayError> {
        let inner = &self.relays.inner;
        let mut ask = RelayAsk { relay: self.relay.clone(), step };
        let mut since = Instant::now();
        let mut may_be_heard = false;
        loop {
            let (within, silent_for) = match &ask.step {
                RelayStep::Open { .. } | RelayStep::Piece { .. } => (Duration::ZERO, SILENT_AT_FIRST_FOR),
                RelayStep::Want { within, .. } => (*within, SILENT_FOR),
                RelayStep::Hold | RelayStep::Drop => (Duration::ZERO, SILENT_FOR),
            };
            let is_long = within > NOT_YET_AFTER;
            let answered = tokio::select! {
                biased;
                answered = inner.bus.relay(&self.holder, ask.clone(), within + PATIENCE) => answered,
                () = doubted(&inner.nodes), if is_long => Err(BusError::Unavailable),
            };
            let error = match answered {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            may_be_heard |= match error {
                BusError::Unavailable => true,
                // On it the request runs: that nobody heard it may be a lie, or it may come late.
                BusError::NoResponders => matches!(ask.step, RelayStep::Want { .. }),
                BusError::Full | BusError::TooLarge => false,
            };
            let gone = if may_be_heard { RelayError::Lost } else { RelayError::Gone };
            // A node with a lease may be on its way back to the bus.
            let silent_for = if error == BusError::NoResponders { SILENT_FOR } else { silent_for };
            match (error, inner.nodes.health(&self.holder)) {
                (BusError::TooLarge, _) => return Err(RelayError::TooLarge),
                (_, Health::Dead) | (BusError::NoResponders, Health::Missing) => return Err(gone),
                (_, Health::Alive | Health::Missing) => match &mut ask.step {
                    RelayStep::Want { within, .. } if is_long => {
                        (*within, since) = (NOT_YET_AFTER, Instant::now());
                    }
                    _ if since.elapsed() >= silent_for && may_be_heard => return Err(RelayError::Silent),
                    _ if since.elapsed() >= silent_for => return Err(gone),
                    _ => {}
                },
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Says that nobody waits; a far end that does not hear it finds out from the silence.
    async fn let_go(&self) {
        let ask = RelayAsk { relay: self.relay.clone(), step: RelayStep::Drop };
        let _ = self.relays.inner.bus.relay(&self.holder, ask, DROP_PATIENCE).await;
    }
}

/// Returns a little after there is a doubt: not all ask again at the same moment.
async fn doubted(nodes: &Nodes) {
    nodes.doubted().await;
    tokio::time::sleep(DOUBT_SPREAD.mul_f64(fastrand::f64())).await;
}

fn taken(answer: &RelayAnswer) -> Result<(), RelayError> {
    match answer {
        RelayAnswer::Taken => Ok(()),
        RelayAnswer::Refused(RelayRefusal::Leaving) => Err(RelayError::Gone),
        RelayAnswer::Refused(refusal) => Err(RelayError::Refused(*refusal)),
        RelayAnswer::NotYet | RelayAnswer::Part { .. } | RelayAnswer::Failed(_) => Err(RelayError::Damaged),
    }
}

/// The response's body, as it arrives.
struct Arriving {
    parts: mpsc::Receiver<Result<Part, RelayError>>,
    over: bool,
    _wanted: DropGuard,
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let part = ready!(self.parts.poll_recv(context)).unwrap_or(Err(RelayError::Ended));
        Poll::Ready(Some(match part {
            Ok((bytes, last)) => {
                self.over = last;
                Ok(Frame::data(bytes))
            }
            Err(error) => {
                self.over = true;
                Err(error.into())
            }
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }
}
