//! From an append to the socket: the log decides where the stream is, this node or another.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::live::Live;
use super::stream::{Delivered, LocalStream};
use super::{Error, Hub};
use crate::domain::{Binding, Event, Fence, StreamKey};
use crate::ports::{Append, Appended, Attach, Attached, BusError, Envelope, StoreError, Takeover};
use crate::telemetry::StreamEnd;

/// How long a stream waits for a missing event before it reads the log.
const GAP_PATIENCE: Duration = Duration::from_millis(50);

impl Hub {
    /// Logs one message and sends it to whichever node holds the stream. A store that does not answer
    /// is asked again until `until`: the append is known by its producer number.
    pub(super) async fn append(&self, append: &Append, until: Instant) -> Result<Appended, Error> {
        let mut delay = Duration::from_millis(20);
        let appended = loop {
            match self.store().append(append).await {
                Ok(appended) => break appended,
                Err(err) if Instant::now() + delay >= until => return Err(err.into()),
                Err(StoreError::Unavailable | StoreError::Unknown) => {
                    tokio::time::sleep(delay.mul_f64(0.5 + fastrand::f64())).await;
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

    async fn send_event(&self, to: &StreamKey, binding: &Binding, event: Event, last: bool) {
        if binding.node == self.inner.node {
            self.deliver_here(to, binding.fence, &event, last);
            return;
        }
        let envelope = Envelope::Appended { to: to.clone(), fence: binding.fence, event, last };
        match self.inner.bus.send(&binding.node, envelope).await {
            Ok(()) => {}
            // It is in the log: the holder finds the gap, or whoever attaches next reads it.
            Err(error @ (BusError::Unavailable | BusError::NoResponders | BusError::Full)) => {
                tracing::debug!(stream = %to, %error, "an event waits in the log");
            }
        }
    }

    /// To the stream that was bound under `fence`, or is about to learn that it was.
    fn deliver_here(&self, to: &StreamKey, fence: Fence, event: &Event, last: bool) {
        let Some(live) = self.inner.registry.known(&to.session) else { return };
        for stream in live.streams_named(&to.stream) {
            if stream.fence().is_none_or(|own| own == fence) {
                match stream.deliver(event.clone(), last) {
                    Delivered::Written(events) => self.inner.metrics.delivered(events),
                    Delivered::Duplicate => self.inner.metrics.duplicate(),
                    Delivered::Gap => self.close_gap(&live, &stream),
                    Delivered::Waiting => {}
                }
            }
        }
    }

    /// Reads the log for a stream that misses something, unless it arrives in the meantime.
    pub(super) fn close_gap(&self, live: &Arc<Live>, stream: &Arc<LocalStream>) {
        self.inner.metrics.gap();
        let (hub, live, stream) = (self.clone(), live.clone(), stream.clone());
        self.inner.tasks.spawn_until_stopped(async move {
            tokio::time::sleep(GAP_PATIENCE).await;
            hub.resync(&live, &stream).await;
        });
    }

    /// Re-asserts a stream's own binding at its written position, and writes what the log has beyond.
    pub(super) async fn resync(&self, live: &Arc<Live>, stream: &Arc<LocalStream>) {
        let Some((fence, position)) = stream.position() else { return };
        let attach = Attach {
            stream: stream.key.clone(),
            node: self.inner.node.clone(),
            position: Some(position),
            reassert: Some(fence),
            not_after_ms: None,
        };
        match self.store().attach(&attach).await {
            Ok(Attached::Bound { tail, .. }) => self.inner.metrics.delivered(stream.caught_up(&tail)),
            Ok(Attached::Superseded(newer)) => stream.fall_silent(newer),
            Ok(Attached::Ended) => stream.outlet.end(StreamEnd::Finished),
            Ok(Attached::Gone) => self.end_locally(live),
            // The client comes back with its position and is told.
            Ok(Attached::Lost { .. } | Attached::Unknown | Attached::TooLate) => {
                stream.end_with_retry(StreamEnd::Failed, self.retry());
            }
            Err(error) => {
                tracing::warn!(stream = %stream.key, %error, "a gap can't be read from the log yet");
                self.close_gap(live, stream);
            }
        }
    }

    /// What other nodes say.
    pub(super) async fn watch_inbox(self) {
        let mut inbox = self.inner.bus.open_inbox(&self.inner.node);
        loop {
            tokio::select! {
                envelope = inbox.messages.recv() => match envelope {
                    Some(envelope) => self.receive(envelope),
                    None => return,
                },
                Ok(()) = inbox.missed.changed() => self.resync_all().await,
            }
        }
    }

    fn receive(&self, envelope: Envelope) {
        match envelope {
            Envelope::Appended { to, fence, event, last } => self.deliver_here(&to, fence, &event, last),
            Envelope::Rebound { stream, fence, takeover } => {
                if let Some(live) = self.inner.registry.known(&stream.session) {
                    give_way(&live, &stream, fence, takeover);
                }
            }
            Envelope::Released { stream } => {
                if let Some(live) = self.inner.registry.known(&stream.session) {
                    let hub = self.clone();
                    self.inner.tasks.spawn_until_stopped(async move {
                        hub.promote_silent(&live, &stream.stream).await;
                    });
                }
            }
            Envelope::SessionEnded { session } => {
                if let Some(live) = self.inner.registry.forget(&session) {
                    end_streams(&live);
                }
            }
        }
    }

    /// Messages were lost: nothing cached is trusted, and every stream reads its log.
    async fn resync_all(&self) {
        let mut lives = Vec::new();
        self.inner.registry.sweep(|live| lives.push(live.clone()));
        for live in lives {
            live.expire();
            for stream in live.streams() {
                self.resync(&live, &stream).await;
            }
        }
    }

    /// The session is over, as far as this node is concerned.
    pub(super) fn end_locally(&self, live: &Arc<Live>) {
        self.inner.registry.forget(&live.id);
        end_streams(live);
    }
}

/// Older sockets of a stream make room for the one bound under `fence`.
pub(super) fn give_way(live: &Live, stream: &StreamKey, fence: Fence, takeover: Takeover) {
    for older in live.streams_named(&stream.stream) {
        if older.fence().is_some_and(|own| own < fence) {
            match takeover {
                Takeover::Resumed => older.outlet.end(StreamEnd::Replaced),
                Takeover::Second => older.fall_silent(fence),
            }
        }
    }
}

pub(super) fn end_streams(live: &Live) {
    live.ended.cancel();
    for stream in live.streams() {
        stream.outlet.end(StreamEnd::SessionEnded);
    }
}
