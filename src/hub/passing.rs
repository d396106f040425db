//! A long result on its way from the server to the client, within the time limits of its call. It is not resumable,
//! as no answer in JSON is: its client's connection is its life.

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::deadline::{cancelled, reached};
use super::live::Running;
use super::step::Final;
use super::stopping::{SESSION_ENDED, SHUTTING_DOWN, TOO_LATE, Told};
use super::traced::Operation;
use super::{Error, Hub};
use crate::domain::Limit;
use crate::limits::Place;
use crate::protocol::jsonrpc::Message;
use crate::telemetry::{ExchangeEnd, Measured, chain};
use crate::upstream::{self, Long};

/// What is left of a call whose answer passes.
pub(super) struct Passage {
    pub long: Long,
    pub limits: Limits,
    pub measured: Option<Measured>,
    pub operation: Operation,
    pub place: Option<Place>,
}

/// What may end it before its end.
pub(super) struct Limits {
    pub hub: Hub,
    pub told: Told,
    /// For how long its server may still be waited for. The time that its client takes to read is not counted.
    pub left: Option<Duration>,
    /// Until when all of it must be over, however slow its client is.
    pub until: Option<Instant>,
    pub cancel: Option<Arc<Notify>>,
    pub cancelled: bool,
    pub ended: CancellationToken,
}

/// Whom is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Server,
    Client,
}

/// Why it ended before its end.
type Stopped = (Error, ExchangeEnd);

impl Limits {
    async fn wait<T>(&mut self, whom: Awaited, work: impl Future<Output = T>) -> Result<T, Stopped> {
        let mut work = pin!(work);
        loop {
            let since = Instant::now();
            let left = self.left.filter(|_| whom == Awaited::Server);
            let at = left.map(|left| since + left).into_iter().chain(self.until).min();
            let abandon = self.hub.inner.abandon.clone();
            tokio::select! {
                biased;
                () = self.ended.cancelled() => return Err(self.leave(SESSION_ENDED)),
                () = abandon.cancelled() => return Err(self.leave(SHUTTING_DOWN)),
                () = cancelled(self.cancel.clone()), if !self.cancelled => {
                    self.cancelled = true;
                    let grace = since + self.told.server.requests.cancel_grace;
                    self.until = Some(self.until.map_or(grace, |until| until.min(grace)));
                }
                done = &mut work => {
                    if whom == Awaited::Server {
                        self.left = self.left.map(|left| left.saturating_sub(since.elapsed()));
                    }
                    return Ok(done);
                }
                () = reached(at) => return Err(self.late()),
            }
        }
    }

    fn leave(&self, why: &'static str) -> Stopped {
        self.told.to_stop(&self.hub, why);
        (Error::Abandoned(why), ExchangeEnd::Abandoned)
    }

    fn late(&self) -> Stopped {
        if self.cancelled {
            return (Error::Cancelled, ExchangeEnd::Cancelled);
        }
        self.hub.inner.metrics.limit_hit(Limit::RequestTime);
        self.told.to_stop(&self.hub, TOO_LATE);
        (self.told.server.upstream.late().into(), ExchangeEnd::TimedOut)
    }
}

impl Passage {
    /// Passes it on. It is a task of its own: its limits hold while its client reads nothing too. `running` is
    /// held until its end.
    pub(super) fn begin(self, running: Option<Running>) -> PassingBody {
        let (to, pieces) = mpsc::channel(1);
        let bytes_left = self.long.bytes_left();
        let (hub, gauge) = (self.limits.hub.clone(), self.limits.hub.inner.metrics.exchange());
        hub.inner.tasks.spawn(async move {
            let _gauge = gauge;
            self.pass(to, running).await;
        });
        PassingBody { pieces, is_whole: false, bytes_left }
    }

    async fn pass(mut self, to: mpsc::Sender<Option<Bytes>>, mut running: Option<Running>) {
        let end = loop {
            let read = tokio::select! {
                biased;
                // Who knows the length does not wait for more than its last byte.
                () = to.closed(), if !self.long.is_whole() => break ExchangeEnd::ClientGone,
                read = self.next() => read,
            };
            let piece = match read {
                Ok(piece) => piece,
                Err(end) => break end,
            };
            let ends = piece.is_none();
            if ends || self.long.is_whole() {
                // First: a client that has its answer may send the next request at once.
                running = None;
                self.place = None;
            }
            match self.limits.wait(Awaited::Client, to.send(piece)).await {
                Ok(_) if ends => break ExchangeEnd::Answered,
                Ok(Ok(())) => {}
                Ok(Err(_)) => break ExchangeEnd::ClientGone,
                Err(stopped) => break self.broke_off(&stopped),
            }
        };
        drop(running);
        self.ended(end);
    }

    fn ended(&mut self, end: ExchangeEnd) {
        self.operation.ended(end);
        if let Some(measured) = self.measured.take() {
            measured.ended(end);
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, ExchangeEnd> {
        match self.limits.wait(Awaited::Server, self.long.next()).await {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(error)) => Err(self.broke_off(&(error.into(), ExchangeEnd::UpstreamFailed))),
            Err(stopped) => Err(self.broke_off(&stopped)),
        }
    }

    fn broke_off(&self, (error, end): &Stopped) -> ExchangeEnd {
        if let Error::Upstream(error) = error {
            self.limits.told.server.failed(error);
        }
        tracing::warn!(method = %self.limits.told.method, error = %chain(error), "a long answer broke off");
        *end
    }

    /// All of it, for a stream: held after all, up to `upstream.message_bytes_max`.
    pub(super) async fn whole(mut self) -> Final {
        let read = self.collect().await;
        let end = read.as_ref().map_or_else(|(_, end)| *end, |_| ExchangeEnd::Answered);
        self.ended(end);
        match read {
            Ok(payload) => Final { payload, outcome: Ok(StatusCode::OK), event: None },
            Err((error, _)) => {
                Final { payload: error.body(Some(&self.limits.told.id)), outcome: Err(error), event: None }
            }
        }
    }

    async fn collect(&mut self) -> Result<Bytes, Stopped> {
        self.long.hold();
        let mut read = BytesMut::new();
        let failed = |error: upstream::Error| (Error::from(error), ExchangeEnd::UpstreamFailed);
        while let Some(piece) = self.limits.wait(Awaited::Server, self.long.next()).await?.map_err(failed)? {
            read.extend_from_slice(&piece);
        }
        let invalid = |what: &str| {
            let upstream = self.limits.told.server.upstream.name().to_owned();
            failed(upstream::Error::Invalid { upstream, what: what.to_owned() })
        };
        let message = Message::parse(read.freeze()).map_err(|malformed| invalid(&malformed.to_string()))?;
        let is_it = message.result().is_some() && message.id() == Some(&self.limits.told.id);
        if is_it { Ok(message.raw().clone()) } else { Err(invalid("it began as another answer")) }
    }
}

/// A body that is one JSON-RPC result. If it fails, its connection breaks off: nothing of it is an answer then.
pub struct PassingBody {
    /// `None` is its end: without it, it broke off.
    pieces: mpsc::Receiver<Option<Bytes>>,
    is_whole: bool,
    bytes_left: Option<u64>,
}

impl Body for PassingBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.is_whole {
            return Poll::Ready(None);
        }
        self.pieces.poll_recv(context).map(|received| match received {
            Some(Some(piece)) => {
                self.bytes_left = self.bytes_left.map(|left| left.saturating_sub(piece.len() as u64));
                Some(Ok(Frame::data(piece)))
            }
            Some(None) => {
                self.is_whole = true;
                None
            }
            None => Some(Err(Error::Abandoned("a long answer broke off"))),
        })
    }

    fn size_hint(&self) -> SizeHint {
        self.bytes_left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl fmt::Debug for PassingBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PassingBody").field("bytes_left", &self.bytes_left).finish_non_exhaustive()
    }
}

impl fmt::Debug for Passage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passage")
            .field("long", &self.long)
            .field("method", &self.limits.told.method)
            .finish_non_exhaustive()
    }
}
