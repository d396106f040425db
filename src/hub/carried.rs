//! Headers that a server's owner wants passed on, and the credential that is exchanged for one of the server's: what
//! goes up without a client's request at hand carries those of its last one. An HTTP+SSE session has those of the
//! GET that opened it, at every node, sealed in the shared state.

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::live::Live;
use super::server::Server;
use super::{Caller, Error, Hub, head};
use crate::domain::{Session, SessionId, SessionPart, Transport};
use crate::ports::Updated;
use crate::telemetry::Lookup;
use crate::upstream::Upstream;

impl Server {
    /// What of a client's headers is kept for what goes up without its request.
    fn kept(&self, headers: &HeaderMap) -> HeaderMap {
        let kept = headers.iter().filter(|(name, _)| {
            self.passes.contains(name) || (**name == AUTHORIZATION && self.upstream.exchanges())
        });
        kept.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    fn keeps_any(&self) -> bool {
        !self.passes.is_empty() || self.upstream.exchanges()
    }

    /// The upstream, for what is done for a request beside passing it on.
    pub(super) fn reached_by(&self, headers: &HeaderMap) -> Upstream {
        if self.keeps_any() {
            self.upstream.carrying(Arc::new(self.kept(headers)))
        } else {
            self.upstream.clone()
        }
    }

    /// The upstream, for what is done for a session without a request of its client's.
    pub(super) fn reached_from(&self, live: &Live) -> Upstream {
        self.upstream.carrying(live.carried())
    }

    /// The upstream, for a request of a session: none has another's headers, but over HTTP+SSE all have those of
    /// the GET.
    pub(super) fn reached_in(&self, live: &Live, headers: &HeaderMap) -> Upstream {
        match live.session().transport {
            Transport::HttpSse => self.reached_from(live),
            Transport::Streamable => self.reached_by(headers),
        }
    }
}

impl Hub {
    /// Keeps what a session's client sent, for as long as this node knows the session.
    pub(super) fn carry(&self, server: &Server, live: &Live, caller: &Caller) -> Result<(), Error> {
        if !server.keeps_any() {
            return Ok(());
        }
        let mut headers = server.kept(&caller.headers);
        let session = live.session();
        if session.transport == Transport::HttpSse && !server.passes.is_empty() {
            let Some(opened) = self.opened_with(server, &session) else {
                tracing::warn!(session = ?live.id, "what its opening GET sent is not there, or can't be read: was it opened before servers.<name>.pass_headers was set, or a key of cluster.keys taken away? its client has to open another");
                self.note_refused(&server.name, caller, &live.id, Lookup::Unreadable);
                return Err(Error::NoSession);
            };
            let credential = headers.remove(AUTHORIZATION);
            headers = opened;
            headers.extend(credential.map(|credential| (AUTHORIZATION, credential)));
        }
        live.carry(headers);
        Ok(())
    }

    /// What is known of its client's headers when a session has ended.
    pub(super) fn reached_at_end(&self, server: &Server, live: Option<&Live>, session: &Session) -> Upstream {
        match live {
            Some(live) if !live.carried().is_empty() => server.reached_from(live),
            Some(_) | None => {
                let headers = self.opened_with(server, session).unwrap_or_default();
                server.upstream.carrying(Arc::new(headers))
            }
        }
    }

    /// Of what an HTTP+SSE session's opening GET sent, what goes on as things stand; `None` if it can't be read.
    fn opened_with(&self, server: &Server, session: &Session) -> Option<HeaderMap> {
        let opened = self.inner.sealer.open(session.id.as_str(), session.carried.as_deref()?)?;
        let (_, mut headers) = head::decode(&opened)?;
        headers.remove(AUTHORIZATION);
        Some(server.kept(&headers))
    }

    /// Keeps what an HTTP+SSE session was opened with, for every node; but for the credential, which each of
    /// its requests has.
    pub(super) async fn seal(&self, server: &Server, id: &SessionId, caller: &Caller) -> Result<(), Error> {
        if server.passes.is_empty() {
            return Ok(());
        }
        let mut headers = server.kept(&caller.headers);
        headers.remove(AUTHORIZATION);
        let sealed = self.inner.sealer.seal(id.as_str(), &head::encode("", &headers));
        let bytes_max = self.inner.config.session_bytes_max;
        if sealed.len() > bytes_max {
            return Err(self.too_large("what servers.<name>.pass_headers names is", bytes_max));
        }
        match self.store().update(id, SessionPart::Carried(sealed)).await? {
            Updated::Now(_) => Ok(()),
            Updated::Gone | Updated::Full => Err(Error::NoSession),
        }
    }
}
