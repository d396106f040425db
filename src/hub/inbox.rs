//! What other nodes say.

use std::time::Duration;

use super::Hub;
use super::deliver::{end_streams, give_way};
use super::mail::Arrival;
use crate::domain::{Payload, ServerName, SessionId, StreamKind};
use crate::ports::{Envelope, Inbox};
use crate::telemetry::{Queue, StreamEnd};

/// Between two attempts to open the inbox.
const AGAIN: Duration = Duration::from_millis(200);

impl Hub {
    /// Reads this node's inbox, until it is dropped. One that closes is opened again.
    pub(super) async fn watch_inbox(self) {
        loop {
            match self.inner.bus.open_inbox(&self.inner.node).await {
                Ok(inbox) => {
                    self.read_inbox(inbox).await;
                    tracing::warn!("this node's inbox was closed; opening another");
                    self.inner.resync.notify_one();
                }
                Err(error) => tracing::warn!(%error, "this node's inbox can't be opened yet"),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn read_inbox(&self, mut inbox: Inbox) {
        inbox.missed.mark_unchanged();
        loop {
            self.inner.metrics.queued(Queue::Inbox, inbox.messages.len());
            self.inner.metrics.queued(Queue::RelaySteps, inbox.relays.len());
            tokio::select! {
                // First: what was lost is looked for at once, however much comes in.
                biased;
                Ok(()) = inbox.missed.changed() => {
                    self.inner.metrics.missed();
                    self.inner.nodes.doubt();
                    self.inner.resync.notify_one();
                }
                Some(relayed) = inbox.relays.recv() => self.inner.relays.serve(relayed),
                parcel = inbox.messages.recv() => match parcel {
                    Some(parcel) => {
                        if self.inner.mail.arrived(&parcel) == Arrival::AfterGap {
                            tracing::info!(from = %parcel.from, "messages of another node were lost");
                            self.inner.metrics.missed();
                            self.inner.resync.notify_one();
                        }
                        self.inner.metrics.received(&parcel.envelope);
                        self.receive(parcel.envelope);
                    }
                    None => return,
                },
            }
        }
    }

    pub(super) fn receive(&self, envelope: Envelope) {
        match envelope {
            Envelope::Appended { to, fence, event, last } => self.deliver_here(&to, fence, &event, last),
            Envelope::Doorbell { to, fence } => {
                let Some(live) = self.inner.registry.known(&to.session) else { return };
                for stream in self.streams_bound_under(&live, &to.stream, fence) {
                    if stream.ring(fence) {
                        self.look(&live, &stream, Duration::ZERO);
                    }
                }
            }
            Envelope::Rebound { stream, fence, takeover } => {
                if let Some(live) = self.inner.registry.known(&stream.session) {
                    // It may come late: whoever was bound here since then reads on.
                    let holder = live.holder(&stream.stream).and_then(|holder| holder.fence());
                    if stream.stream.kind() != StreamKind::Post && holder < Some(fence) {
                        live.stop_pump();
                    }
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
                self.inner.opened.forget(&session);
                if let Some(live) = self.inner.registry.forget(&session) {
                    end_streams(&live);
                }
            }
            Envelope::Initialized { session } => {
                let Some(live) = self.inner.registry.known(&session) else { return };
                let hub = self.clone();
                self.inner.tasks.spawn_until_stopped(async move {
                    for stream in live.streams() {
                        hub.ensure_pump(&live, &stream.key.stream, None).await;
                    }
                });
            }
            Envelope::Moved { session, server, lost } => {
                let hub = self.clone();
                self.inner.tasks.spawn_until_stopped(async move {
                    hub.hear_of_move(&session, &server, lost).await;
                });
            }
            Envelope::Cancelled { session, request } => {
                if let Some(live) = self.inner.registry.known(&session) {
                    live.cancel(&request);
                }
            }
            Envelope::CloseStreams { session } => self.close_streams_here(&session),
            Envelope::Hint { server, notification } => self.hint_here(server.as_ref(), &notification),
            Envelope::NoLease => self.hear_of_no_lease(),
            Envelope::Tally => {}
        }
    }

    fn close_streams_here(&self, session: &SessionId) {
        let Some(live) = self.inner.registry.known(session) else { return };
        for stream in live.streams() {
            stream.end_with_retry(StreamEnd::Closed, self.retry());
        }
    }

    /// To every stream here on which its client expects what the server says unasked.
    fn hint_here(&self, server: Option<&ServerName>, notification: &Payload) {
        let mut heard = Vec::new();
        self.inner.registry.sweep(|live| {
            if server.is_none_or(|server| live.session().server == *server) {
                heard.extend(live.streams().into_iter().filter(|stream| stream.hears_unasked()));
            }
        });
        for stream in heard {
            stream.hint(notification);
        }
    }
}
