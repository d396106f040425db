//! An older GET stream that is still open hears again when the newer one, which it gave way to, ends.

use std::sync::Arc;

use super::Hub;
use super::live::Live;
use super::stream::{Delivered, LocalStream};
use crate::domain::StreamId;
use crate::ports::{Attach, Attached, Envelope, Takeover};
use crate::telemetry::StreamEnd;

impl Hub {
    /// When a newer GET stream ends, an older one that is still open hears again: here, or else at
    /// the node that holds it.
    pub(super) async fn give_back(&self, live: &Arc<Live>, ended: &LocalStream) {
        if ended.is_silent() || self.promote_silent(live, &ended.key.stream).await {
            return;
        }
        if ended.has_older_elsewhere() {
            // Its holder reads the upstream's stream then.
            live.stop_pump();
            let released = Envelope::Released { stream: ended.key.clone() };
            if let Err(error) = self.inner.mail.announce(released).await {
                tracing::debug!(stream = %ended.key, %error, "an older stream elsewhere stays silent");
            }
        }
    }

    /// Whether a socket of this stream is here, and hears.
    pub(super) async fn promote_silent(&self, live: &Arc<Live>, name: &StreamId) -> bool {
        // What has ended and is not gone yet neither hears nor may take the stream from whoever does.
        let open = live.streams_named(name).into_iter().filter(|stream| stream.outlet.ended().is_none());
        let (silent, hearing): (Vec<_>, Vec<_>) = open.partition(|stream| stream.is_silent());
        if !hearing.is_empty() {
            return true;
        }
        let Some(stream) = silent.into_iter().max_by_key(|stream| stream.fence()) else { return false };
        if !stream.promote() {
            return true;
        }
        let attach = Attach {
            stream: stream.key.clone(),
            node: self.inner.node.clone(),
            position: None,
            reassert: None,
            not_after_ms: None,
        };
        match self.store().attach(&attach).await {
            Ok(Attached::Bound { fence, tail, previous, upstream_event, .. }) => {
                self.displace(live, &stream, fence, previous, Takeover::Second).await;
                if stream.promoted(fence, &tail) == Delivered::Gap {
                    self.close_gap(live, &stream);
                }
                if live.has_stream(&stream) {
                    self.ensure_pump(live, name, upstream_event).await;
                } else if let Err(error) = self.store().release(&stream.key, fence).await {
                    // It went meanwhile, and was released under the fence it had then.
                    tracing::debug!(stream = %stream.key, %error, "a binding was not given back");
                }
            }
            Ok(_) | Err(_) => stream.end_with_retry(StreamEnd::Failed, self.retry()),
        }
        true
    }
}
