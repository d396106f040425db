//! A long result on its way from the server to the client, within the time limits of its call. It is not resumable,
//! as no answer in JSON is: its client's connection is its life.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream::{BoxStream, unfold};
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::call::{SESSION_ENDED, SHUTTING_DOWN, cancelled};
use super::deadline::reached;
use super::live::Running;
use super::server::Server;
use super::step::Final;
use super::{Error, Hub};
use crate::domain::Limit;
use crate::protocol::jsonrpc::{Id, Message};
use crate::telemetry::{ExchangeEnd, chain};
use crate::upstream::{self, Long};

/// What is left of a call whose answer passes.
pub(super) struct Passage {
    pub hub: Hub,
    pub server: Arc<Server>,
    pub long: Long,
    pub id: Id,
    pub method: Arc<str>,
    /// For how long its server may still be waited for. The time that its client takes to read is not counted.
    pub left: Option<Duration>,
    pub cancel: Option<Arc<Notify>>,
    pub cancelled: bool,
    pub ended: CancellationToken,
    pub started: Instant,
}

/// A body that is one JSON-RPC result. If it fails, its connection breaks off: nothing of it is an answer then.
pub struct PassingBody {
    pieces: BoxStream<'static, Result<Bytes, Error>>,
    bytes_left: Option<u64>,
}

impl PassingBody {
    /// `running` is held until the end.
    pub(super) fn new(passage: Passage, running: Option<Running>) -> Self {
        let gauge = passage.hub.inner.metrics.exchange();
        let bytes_left = passage.long.bytes_left();
        let counted = Counted { passage, end: ExchangeEnd::ClientGone };
        let pieces = unfold(Some((counted, running, gauge)), |state| async move {
            let (mut counted, running, gauge) = state?;
            match counted.next().await.transpose()? {
                Ok(piece) => Some((Ok(piece), Some((counted, running, gauge)))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Self { pieces: pieces.boxed(), bytes_left }
    }
}

impl Passage {
    /// All of it, for a stream: held after all, up to `upstream.message_bytes_max`.
    pub(super) async fn whole(self) -> Final {
        let id = self.id.clone();
        let mut counted = Counted { passage: self, end: ExchangeEnd::Abandoned };
        let collected = counted.collect().await;
        match collected {
            Ok(payload) => Final { payload, outcome: Ok(StatusCode::OK), event: None },
            Err(error) => Final { payload: error.body(Some(&id)), outcome: Err(error), event: None },
        }
    }

    /// The next piece, or why there is none and how that is counted.
    async fn next(&mut self) -> Result<Option<Bytes>, (Error, ExchangeEnd)> {
        loop {
            let since = Instant::now();
            let abandon = self.hub.inner.abandon.clone();
            let failed = tokio::select! {
                biased;
                () = cancelled(self.cancel.clone()), if !self.cancelled => {
                    self.cancelled = true;
                    let grace = self.server.requests.cancel_grace;
                    self.left = Some(self.left.map_or(grace, |left| left.saturating_sub(since.elapsed()).min(grace)));
                    continue;
                }
                next = self.long.next() => match next {
                    Ok(piece) => {
                        self.left = self.left.map(|left| left.saturating_sub(since.elapsed()));
                        return Ok(piece);
                    }
                    Err(error) => (error.into(), ExchangeEnd::UpstreamFailed),
                },
                () = reached(self.left.map(|left| since + left)), if self.cancelled => {
                    (Error::Cancelled, ExchangeEnd::Cancelled)
                }
                () = reached(self.left.map(|left| since + left)) => {
                    self.hub.inner.metrics.limit_hit(Limit::RequestTime);
                    (self.server.upstream.late().into(), ExchangeEnd::TimedOut)
                }
                () = self.ended.cancelled() => (Error::Abandoned(SESSION_ENDED), ExchangeEnd::Abandoned),
                () = abandon.cancelled() => (Error::Abandoned(SHUTTING_DOWN), ExchangeEnd::Abandoned),
            };
            tracing::warn!(method = %self.method, error = %chain(&failed.0), "a long answer broke off");
            return Err(failed);
        }
    }
}

/// However the body ends, it is counted once.
struct Counted {
    passage: Passage,
    end: ExchangeEnd,
}

impl Counted {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        match self.passage.next().await {
            Ok(Some(piece)) => Ok(Some(piece)),
            Ok(None) => {
                self.end = ExchangeEnd::Answered;
                Ok(None)
            }
            Err((error, end)) => {
                self.end = end;
                Err(error)
            }
        }
    }

    async fn collect(&mut self) -> Result<Bytes, Error> {
        let mut read = BytesMut::new();
        while let Some(piece) = self.next().await? {
            read.extend_from_slice(&piece);
        }
        let message = Message::parse(read.freeze()).map_err(|malformed| {
            self.end = ExchangeEnd::UpstreamFailed;
            let upstream = self.passage.server.upstream.name().to_owned();
            upstream::Error::Invalid { upstream, what: malformed.to_string() }
        })?;
        Ok(message.raw().clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.passage.hub.inner.metrics.exchanged(self.end, self.passage.started.elapsed());
    }
}

impl Body for PassingBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = self.pieces.poll_next_unpin(context);
        if let (Poll::Ready(Some(Ok(piece))), Some(left)) = (&polled, &mut self.bytes_left) {
            *left = left.saturating_sub(piece.len() as u64);
        }
        polled.map(|piece| piece.map(|read| read.map(Frame::data)))
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
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}
