//! Opening a session: a legacy client's `initialize` goes to the upstream, and its answer opens
//! ours. Over HTTP+SSE the session is older than its `initialize`.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use tokio::sync::oneshot;

use super::attach::{Attachment, Wanted};
use super::error::UNFINISHED;
use super::handshake::Handshake;
use super::live::Live;
use super::post::Reply;
use super::server::{Server, SessionPolicy};
use super::{Caller, Error, Hub};
use crate::domain::{
    ClientFacts, EventId, Limit, RequestId, SessionId, SessionPart, StreamId, StreamKey, Transport,
    UpstreamHandle,
};
use crate::limits::Place;
use crate::ports::{Begin, Begun, Opened, Updated};
use crate::protocol::jsonrpc::{Id, Message};
use crate::telemetry::Lookup;

/// What `initialize` is answered with.
#[derive(Debug)]
pub struct Opening {
    /// Absent where no session was opened: the answer is an error, or the server keeps none.
    pub session: Option<SessionId>,
    pub status: StatusCode,
    /// The upstream's answer, as it came.
    pub body: Bytes,
}

impl Hub {
    /// A Streamable HTTP client's `initialize`. It is a task of its own: what was opened for a client that
    /// went meanwhile is ended, here and upstream.
    ///
    /// # Errors
    /// As [`Error`] says; an error of the upstream's own is no failure but an answer.
    pub async fn initialize(
        &self,
        server: &Arc<Server>,
        caller: &Caller,
        request: &Message,
    ) -> Result<Opening, Error> {
        let (send, opening) = oneshot::channel();
        let (hub, server, caller, request) = (self.clone(), server.clone(), caller.clone(), request.clone());
        self.inner.tasks.spawn(async move {
            let opening = hub.initialize_now(&server, &caller, &request).await;
            if let Err(Ok(Opening { session: Some(id), .. })) = send.send(opening) {
                hub.close_quietly(&id).await;
            }
        });
        opening.await.unwrap_or(Err(Error::Abandoned(UNFINISHED)))
    }

    async fn initialize_now(
        &self,
        server: &Arc<Server>,
        caller: &Caller,
        request: &Message,
    ) -> Result<Opening, Error> {
        let _running = self.running_place(&caller.principal)?;
        // First: a server's session is not opened for nothing.
        let place = match server.sessions {
            SessionPolicy::Stateful => self.session_place(&caller.principal)?,
            SessionPolicy::Stateless => None,
        };
        let upstream = server.reached_by(&caller.headers);
        let handshake = self.shake_hands(server, &upstream, caller, request).await?;
        let body = handshake.answer.raw().clone();
        let Some((handle, client)) = handshake.agreed else {
            return Ok(Opening { session: None, status: handshake.status, body });
        };
        if server.sessions == SessionPolicy::Stateless {
            self.close_upstream(&server.name, upstream, handle);
            return Ok(Opening { session: None, status: StatusCode::OK, body });
        }
        let opened = async {
            let id = self.open(server, caller, Transport::Streamable, place).await?;
            match self.agree(&id, client, handle.clone()).await {
                Ok(live) => Ok((id, live)),
                Err(error) => {
                    // Nobody got it.
                    self.close_quietly(&id).await;
                    Err(error)
                }
            }
        };
        let (id, live) = match opened.await {
            Ok(opened) => opened,
            Err(error) => {
                self.close_upstream(&server.name, upstream, handle);
                return Err(error);
            }
        };
        self.carry(server, &live, caller)?;
        self.keep_earlier(&live, StreamId::get(), &handshake.earlier).await;
        Ok(Opening { session: Some(id), status: StatusCode::OK, body })
    }

    /// An HTTP+SSE client's `initialize`: recorded, then its answer goes onto the session's stream.
    ///
    /// # Errors
    /// As [`Error`] says, before anything was promised.
    pub async fn initialize_on_stream(
        &self,
        server: &Arc<Server>,
        live: &Arc<Live>,
        caller: &Caller,
        request: Message,
    ) -> Result<Reply, Error> {
        let running = self.running_place(&caller.principal)?;
        let id = RequestId::from_json(request.id().map_or("null", Id::as_json));
        let stream = StreamKey { session: live.id.clone(), stream: StreamId::http_sse() };
        let begin = Begin {
            stream: stream.clone(),
            requests: vec![id.clone()],
            runner: self.inner.node.clone(),
            lifetime: server.requests.timeout_max,
            bind: false,
            upstream_event: None,
        };
        let fence = match self.store().begin(&begin).await? {
            Begun::Recorded { fence, .. } => fence,
            Begun::Duplicate(request) => return Err(Error::Duplicate(request)),
            Begun::Gone => return Err(Error::NoSession),
        };
        let (hub, server, live, caller) = (self.clone(), server.clone(), live.clone(), caller.clone());
        self.inner.tasks.spawn(async move {
            let _gauge = (hub.inner.metrics.exchange(), running);
            let payload = hub.answer_initialize(&server, &live, &caller, &request).await;
            // As long as the record lives: nobody else has the answer (P4).
            hub.append_within(server.requests.timeout_max, stream, payload, Some((id, fence))).await;
        });
        Ok(Reply::Accepted)
    }

    async fn answer_initialize(
        &self,
        server: &Arc<Server>,
        live: &Arc<Live>,
        caller: &Caller,
        request: &Message,
    ) -> Bytes {
        let Handshake { answer, earlier, agreed, .. } =
            match self.shake_hands(server, &server.reached_from(live), caller, request).await {
                Ok(handshake) => handshake,
                Err(error) => return error.body(request.id()),
            };
        let settled = match agreed {
            None => Ok(()),
            Some((handle, client)) => self.settle_on_stream(server, live, (handle, client), &earlier).await,
        };
        settled.map_or_else(|error| error.body(request.id()), |()| answer.raw().clone())
    }

    async fn settle_on_stream(
        &self,
        server: &Arc<Server>,
        live: &Arc<Live>,
        (handle, client): (UpstreamHandle, ClientFacts),
        earlier: &[Message],
    ) -> Result<(), Error> {
        match self.agree(&live.id, client, handle.clone()).await {
            Ok(now) => {
                if now.upstream().as_ref() != Some(&handle) {
                    // A second initialize of one session: the first one's upstream session stays.
                    self.close_upstream(&server.name, server.reached_from(live), handle.clone());
                }
                self.keep_earlier(live, StreamId::http_sse(), earlier).await;
                self.pump_at_holder(server, live).await;
                Ok(())
            }
            Err(error) => {
                self.close_upstream(&server.name, server.reached_from(live), handle);
                Err(error)
            }
        }
    }

    /// Opens an HTTP+SSE session and its stream, or resumes one at the position in `Last-Event-ID`.
    ///
    /// # Errors
    /// As [`Hub::attach`]; [`Error::NoSession`] if the position's session is gone or another's.
    pub async fn open_http_sse(
        &self,
        server: &Arc<Server>,
        caller: &Caller,
        position: Option<EventId>,
        endpoint: impl Fn(&SessionId) -> String + Send + 'static,
    ) -> Result<Attachment, Error> {
        let Some(id) = position.as_ref().and_then(|position| position.session.clone()) else {
            let (hub, server, caller) = (self.clone(), server.clone(), caller.clone());
            let opened = self.to_its_end(async move {
                let place = hub.session_place(&caller.principal)?;
                let id = hub.open(&server, &caller, Transport::HttpSse, place).await?;
                let attached = hub.attach_first(&server, &caller, &id, endpoint).await;
                if attached.is_err() {
                    // Nobody got it.
                    hub.close_quietly(&id).await;
                }
                attached
            });
            return opened.await.unwrap_or(Err(Error::Abandoned(UNFINISHED)));
        };
        let live = self.session_of(server, caller, &id, Transport::HttpSse).await?;
        let endpoint = endpoint(&live.id);
        let (position, address) = (position.as_ref(), caller.address);
        let wanted = Wanted { endpoint: Some(&endpoint), primes: false, position, address };
        self.attach(server, &live, wanted).await
    }

    async fn attach_first(
        &self,
        server: &Arc<Server>,
        caller: &Caller,
        id: &SessionId,
        endpoint: impl Fn(&SessionId) -> String,
    ) -> Result<Attachment, Error> {
        self.seal(server, id, caller).await?;
        let live = self.session(server, caller, id).await?;
        let endpoint = endpoint(id);
        let address = caller.address;
        let wanted = Wanted { endpoint: Some(&endpoint), primes: false, position: None, address };
        self.attach(server, &live, wanted).await
    }

    /// As [`Hub::session`]; a session of the other transport looks absent.
    ///
    /// # Errors
    /// As [`Hub::session`].
    pub async fn session_of(
        &self,
        server: &Server,
        caller: &Caller,
        id: &SessionId,
        transport: Transport,
    ) -> Result<Arc<Live>, Error> {
        let live = self.session(server, caller, id).await?;
        if live.session().transport == transport {
            return Ok(live);
        }
        self.note_refused(&server.name, caller, id, Lookup::Transport);
        Err(Error::NoSession)
    }

    async fn open(
        &self,
        server: &Server,
        caller: &Caller,
        transport: Transport,
        place: Option<Place>,
    ) -> Result<SessionId, Error> {
        let id = SessionId::mint_from(&self.inner.entropy);
        match self.store().open(&id, &server.name, &caller.principal, transport).await? {
            Opened::Owned(owner) if owner == caller.principal => {
                self.inner.metrics.session_opened(transport);
                self.note_opened(&server.name, caller, &id);
                self.inner.opened.enter(&id, place);
                Ok(id)
            }
            // 122 random bits met somebody else's: not ours to use.
            Opened::Owned(_) => Err(Error::NoSession),
            Opened::Full => Err(self.limit(Limit::Sessions)),
        }
    }

    /// Stores what the handshake settled.
    async fn agree(
        &self,
        id: &SessionId,
        client: ClientFacts,
        handle: UpstreamHandle,
    ) -> Result<Arc<Live>, Error> {
        for part in [SessionPart::Client(client), SessionPart::Upstream(handle)] {
            match self.store().update(id, part).await? {
                Updated::Now(_) => {}
                Updated::Gone | Updated::Full => return Err(Error::NoSession),
            }
        }
        self.load(id).await
    }

    /// What the server said before its answer to `initialize` waits on the session's stream.
    async fn keep_earlier(&self, live: &Arc<Live>, stream: StreamId, earlier: &[Message]) {
        for message in earlier {
            let to = StreamKey { session: live.id.clone(), stream: stream.clone() };
            self.append_within(self.inner.config.own_timeout, to, message.raw().clone(), None).await;
        }
    }
}
