//! Ends: of a session, with its streams, its running requests and the upstream's session; and of
//! this node.

use std::net::IpAddr;
use std::sync::Arc;

use super::body::Held;
use super::deliver::end_streams;
use super::error::UNFINISHED;
use super::live::Live;
use super::stream::LocalStream;
use super::{Caller, Error, Hub};
use crate::domain::{Fence, SessionId, StreamId, StreamKind};
use crate::ports::{CloseIf, Closed, Durability, Envelope, Query};
use crate::telemetry::{SessionEnd, StreamEnd};

/// Sessions that a leaving node reads at a time.
const PAGE: usize = 1000;

impl Hub {
    /// The client's DELETE (L26).
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn close(&self, live: &Arc<Live>, caller: &Caller) -> Result<(), Error> {
        let (hub, live, address) = (self.clone(), live.clone(), caller.address);
        let closed = self.to_its_end(async move {
            match hub.store().close(&live.id, &CloseIf::Always).await? {
                Some(closed) => hub.closed_from(closed, SessionEnd::Deleted, address).await,
                None => hub.end_locally(&live),
            }
            Ok(())
        });
        closed.await.unwrap_or(Err(Error::Abandoned(UNFINISHED)))
    }

    /// An HTTP+SSE session whose stream did not come back (S5). False if the store gave no answer.
    pub(super) async fn close_if_abandoned(&self, id: &SessionId, since: Fence) -> bool {
        let condition = CloseIf::Abandoned(StreamId::http_sse(), since);
        match self.store().close(id, &condition).await {
            Ok(Some(closed)) => self.closed(closed, SessionEnd::StreamGone).await,
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(session = ?id, %error, "an abandoned session is not closed yet");
                return false;
            }
        }
        true
    }

    /// Takes back what was opened a moment ago.
    pub(super) async fn close_quietly(&self, id: &SessionId) {
        match self.store().close(id, &CloseIf::Always).await {
            Ok(Some(closed)) => self.closed(closed, SessionEnd::StreamGone).await,
            Ok(None) => self.inner.opened.forget(id),
            // It is looked for later.
            Err(error) => {
                tracing::debug!(session = ?id, %error, "a session that nobody got is not closed yet")
            }
        }
    }

    /// What the end of a session entails, whoever ended it.
    pub(super) async fn closed(&self, closed: Closed, end: SessionEnd) {
        self.closed_from(closed, end, None).await;
    }

    async fn closed_from(&self, closed: Closed, end: SessionEnd, address: Option<IpAddr>) {
        let id = closed.session.id.clone();
        self.note_closed(&closed.session, end, address);
        tracing::debug!(session = ?id, ?end, "session ended");
        self.inner.metrics.session_ended(end, self.age_of(&closed.session));
        self.inner.opened.forget(&id);
        let live = self.inner.registry.forget(&id);
        if let Some(live) = &live {
            end_streams(live);
        }
        let ended = Envelope::SessionEnded { session: id };
        if let Err(error) = self.inner.mail.announce(ended).await {
            tracing::debug!(%error, "other nodes learn of a session's end when their caches do");
        }
        let server = self.inner.servers.get(Some(closed.session.server.as_str()));
        if let (Some(server), Some(handle)) = (server, &closed.session.upstream) {
            self.note_upstream_end(&server, &closed.session, handle);
            let upstream = self.reached_at_end(&server, live.as_deref(), &closed.session);
            self.close_upstream(&server.name, upstream, handle.clone());
        }
    }

    /// Whether other nodes can go on with what this one leaves.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.inner.store.durability() == Durability::Shared
    }

    /// Sends clients away, with a hint when to come back: a `share` (0 to 1) of the streams in all. Those
    /// on which something is being answered wait for their answer, unless it can reach the client
    /// through another node.
    pub fn drain_streams(&self, share: f64) {
        self.send_away(share, |stream| self.answers_here(stream));
    }

    /// The same, but for the sessions' streams that `stays` names.
    pub(super) fn send_away(&self, share: f64, stays: impl Fn(&LocalStream) -> bool) {
        for (slot, held) in self.inner.outlets.all() {
            if spread(slot) > share {
                continue;
            }
            match held {
                Held::Session(stream) => {
                    if !stays(&stream) {
                        stream.end_with_retry(StreamEnd::Draining, self.retry());
                    }
                }
                // A modern stream is its request: it ends with its answer, unless it only listens.
                Held::Passing { outlet, farewell: Some(frame) } => {
                    outlet.end_with(StreamEnd::Draining, Some(frame));
                }
                Held::Passing { farewell: None, .. } => {}
            }
        }
    }

    /// Whether an answer is under way that its client would not look for elsewhere.
    pub(super) fn answers_here(&self, stream: &LocalStream) -> bool {
        !(self.is_shared() && stream.resumes()) && self.awaits_answer(stream)
    }

    /// Whether an answer is under way on this stream, as far as this node knows.
    pub(super) fn awaits_answer(&self, stream: &LocalStream) -> bool {
        match stream.key.stream.kind() {
            StreamKind::Post => true,
            StreamKind::HttpSse => {
                let live = self.inner.registry.known(&stream.key.session);
                live.is_some_and(|live| live.runs_anything())
            }
            StreamKind::Get => false,
        }
    }

    /// Ends every stream that is still open.
    pub fn end_streams(&self) {
        for (_, held) in self.inner.outlets.all() {
            match held {
                Held::Session(stream) => stream.end_with_retry(StreamEnd::Draining, self.retry()),
                Held::Passing { outlet, farewell } => outlet.end_with(StreamEnd::Draining, farewell),
            }
        }
    }

    /// Requests that still run are answered with an error.
    pub fn abandon_requests(&self) {
        self.inner.abandon.cancel();
    }

    /// Whether every request has been answered.
    #[must_use]
    pub fn runs_nothing(&self) -> bool {
        self.inner.metrics.exchanges() == 0
    }

    /// Other nodes make their new calls at servers that stay.
    pub fn leave_relays(&self) {
        self.inner.relays.leave();
    }

    /// Whether no request runs and no stream is open here, and no request of another node's session.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.stream_count() == 0 && self.runs_nothing() && self.inner.relays.answers_nothing()
    }

    /// Sessions that live in this process end with it: their upstreams are told.
    pub async fn close_own_sessions(&self) {
        if self.is_shared() {
            return;
        }
        let mut query = Query { limit: PAGE, ..Query::default() };
        loop {
            let Ok(page) = self.store().find(&query).await else { return };
            for session in &page.sessions {
                if let Ok(Some(closed)) = self.store().close(&session.id, &CloseIf::Always).await {
                    self.closed(closed, SessionEnd::Shutdown).await;
                }
            }
            query.after = page.sessions.last().map(|session| session.id.clone());
            if !page.more {
                return;
            }
        }
    }
}

/// A fraction from 0 to 1 that is a stream's own.
pub(super) fn spread(slot: u64) -> f64 {
    // Fibonacci hashing: neighbours lie far apart.
    (slot.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 11) as f64 / (1_u64 << 53) as f64
}
