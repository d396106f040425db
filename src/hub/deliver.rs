//! From an append to the socket: the log decides where the stream is, this node or another.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::live::Live;
use super::stream::{Delivered, LocalStream};
use super::{Error, Hub};
use crate::domain::{Binding, Event, Fence, RequestId, StreamId, StreamKey};
use crate::ports::{Append, Appended, BusError, Envelope, Producer, StoreError, Takeover};
use crate::telemetry::StreamEnd;

/// Larger payloads don't travel over the bus, in bytes: the receiver reads the log.
const TRAVELS_MAX: usize = 32 * 1024;

/// How long an operator's message waits for a store that is away.
const OPERATORS_PATIENCE: Duration = Duration::from_secs(2);

impl Hub {
    /// Logs one message and sends it to whichever node holds the stream. A store that does not answer
    /// is asked again until `until`: the append is known by its producer number.
    pub(super) async fn append(&self, append: &Append, until: Instant) -> Result<Appended, Error> {
        let mut delay = Duration::from_millis(20);
        let mut unrecorded: Option<Append> = None;
        let appended = loop {
            match self.store().append(unrecorded.as_ref().unwrap_or(append)).await {
                Ok(Appended::Forgotten) if unrecorded.is_none() => {
                    tracing::warn!(stream = %append.to, "a failover forgot a request; its answer is said without a record");
                    unrecorded =
                        Some(Append { request: None, last: false, upstream_event: None, ..append.clone() });
                }
                Ok(appended) => break appended,
                Err(err) if Instant::now() + delay >= until || self.inner.abandon.is_cancelled() => {
                    return Err(err.into());
                }
                Err(StoreError::Unavailable | StoreError::Unknown) => {
                    let pause = delay.mul_f64(0.5 + fastrand::f64());
                    // A node that ends tries once more.
                    let _ = self.inner.abandon.run_until_cancelled(tokio::time::sleep(pause)).await;
                    delay = (delay * 2).min(Duration::from_secs(1));
                }
            }
        };
        if let Appended::Logged { number, previous, binding, ended } = &appended {
            self.inner.metrics.appended();
            let event = Event { number: *number, previous: *previous, payload: append.payload.clone() };
            if let Some(binding) = binding {
                self.send_event(&append.to, binding, event, *ended).await;
            }
        }
        Ok(appended)
    }

    /// Appends a message that comes alone and was asked for by an operator.
    pub(super) async fn append_alone(&self, to: StreamKey, payload: Bytes) -> Result<(), Error> {
        let producer = Producer { id: fastrand::u64(..), sequence: 1 };
        let append =
            Append { to, payload, producer, request: None, last: false, upstream_event: None, reader: None };
        let until = tokio::time::Instant::now() + OPERATORS_PATIENCE;
        match self.append(&append, until).await? {
            Appended::Logged { .. } => Ok(()),
            Appended::Gone | Appended::Ended | Appended::StaleFence | Appended::Forgotten => {
                Err(Error::NoSession)
            }
        }
    }

    /// Appends a message that comes alone; with a request, as its last. A store that is away is asked
    /// again for so long. Whether it was logged, or could not be for a reason that waiting would not
    /// change.
    pub(super) async fn append_within(
        &self,
        patience: Duration,
        to: StreamKey,
        payload: Bytes,
        request: Option<(RequestId, Fence)>,
    ) -> bool {
        let producer = Producer { id: fastrand::u64(..), sequence: 1 };
        let last = request.is_some();
        let append = Append { to, payload, producer, request, last, upstream_event: None, reader: None };
        let until = tokio::time::Instant::now() + patience;
        let appended = self.append(&append, until).await;
        if let Err(error) = &appended {
            tracing::error!(stream = %append.to, %error, "a message could not be logged");
        }
        appended.is_ok()
    }

    async fn send_event(&self, to: &StreamKey, binding: &Binding, event: Event, last: bool) {
        if binding.node == self.inner.node {
            self.deliver_here(to, binding.fence, &event, last);
            return;
        }
        let (to, fence) = (to.clone(), binding.fence);
        let envelope = if event.payload.len() > TRAVELS_MAX {
            Envelope::Doorbell { to, fence }
        } else {
            Envelope::Appended { to, fence, event, last }
        };
        match self.inner.mail.send(&binding.node, envelope).await {
            Ok(()) => {}
            // It is in the log: the holder finds the gap, or whoever attaches next reads it.
            Err(
                error
                @ (BusError::Unavailable | BusError::NoResponders | BusError::Full | BusError::TooLarge),
            ) => {
                tracing::debug!(node = %binding.node, %error, "an event waits in the log");
            }
        }
    }

    /// To the stream that was bound under `fence`, or is about to learn that it was.
    pub(super) fn deliver_here(&self, to: &StreamKey, fence: Fence, event: &Event, last: bool) {
        let Some(live) = self.inner.registry.known(&to.session) else { return };
        for stream in self.streams_bound_under(&live, &to.stream, fence) {
            match stream.deliver(fence, event.clone(), last) {
                Delivered::Written(events) => self.inner.metrics.delivered(events),
                Delivered::Duplicate => self.inner.metrics.duplicate(),
                Delivered::Gap => self.close_gap(&live, &stream),
                Delivered::Waiting => {}
            }
        }
    }

    /// The streams here that may have been bound under `fence`. If none was, an attach ran late, after
    /// another attempt of its client was answered: who holds the stream finds out from the log.
    pub(super) fn streams_bound_under(
        &self,
        live: &Arc<Live>,
        name: &StreamId,
        fence: Fence,
    ) -> Vec<Arc<LocalStream>> {
        let streams = live.streams_named(name);
        if !streams.iter().any(|stream| stream.may_be_bound_under(fence))
            && let Some(holder) = live.holder(name).filter(|holder| holder.fence() < Some(fence))
        {
            self.close_gap(live, &holder);
        }
        streams
    }

    /// The session is over, as far as this node is concerned.
    pub(super) fn end_locally(&self, live: &Arc<Live>) {
        self.inner.opened.forget(&live.id);
        self.inner.registry.forget(&live.id);
        end_streams(live);
    }
}

/// Older sockets of a stream make room for the one bound under `fence`.
pub(super) fn give_way(live: &Live, stream: &StreamKey, fence: Fence, takeover: Takeover) {
    for older in live.streams_named(&stream.stream) {
        older.give_way(fence, takeover);
    }
}

pub(super) fn end_streams(live: &Live) {
    live.ended.cancel();
    for stream in live.streams() {
        stream.outlet.end(StreamEnd::SessionEnded);
    }
}
