//! Headers that a server's owner wants passed on, and the credential that is exchanged for one of the server's: what
//! goes up without a client's request at hand carries those of its last one. An HTTP+SSE session has those of the
//! GET that opened it, at every node, sealed in the shared state.

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::live::Live;
use super::server::Server;
use super::{Caller, Error, Hub, head};
use crate::domain::{SessionId, SessionPart, Transport};
use crate::ports::Updated;
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

    /// The upstream, for what is done for a caller without its request.
    pub(super) fn reached_by(&self, caller: &Caller) -> Upstream {
        self.upstream.carrying(Arc::new(self.kept(&caller.headers)))
    }

    /// The upstream, for what is done for a session.
    pub(super) fn reached_from(&self, live: &Live) -> Upstream {
        self.upstream.carrying(live.carried())
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
        if session.transport == Transport::HttpSse
            && let Some(sealed) = &session.carried
        {
            let opened = self.inner.sealer.open(live.id.as_str(), sealed);
            let Some((_, opened)) = opened.as_deref().and_then(head::decode) else {
                tracing::warn!(session = %live.id, "what its opening GET sent can't be read: was a key of cluster.keys taken away? its client has to open another");
                return Err(Error::NoSession);
            };
            let credential = headers.remove(AUTHORIZATION);
            headers = opened;
            headers.extend(credential.map(|credential| (AUTHORIZATION, credential)));
        }
        live.carry(headers);
        Ok(())
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
        match self.store().update(id, SessionPart::Carried(sealed)).await? {
            Updated::Now(_) => Ok(()),
            Updated::Gone | Updated::Full => Err(Error::NoSession),
        }
    }
}
