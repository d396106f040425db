//! What operators ask for: sessions and nodes as they stand, ends, and messages to many; the same from
//! any node.

use super::{Error, Hub};
use crate::domain::{Payload, ServerName, SessionId, StreamId, StreamKey, Transport};
use crate::ports::{CloseIf, Envelope};
pub use crate::ports::{Inspected, Query, SeenStream};
use crate::ports::{Page, SeenNode};
use crate::protocol::jsonrpc::{Kind, Message};
use crate::telemetry::SessionEnd;

/// Sessions that are read at a time.
const PAGE: usize = 500;

/// Hints say that something changed: they have no ids, are not logged, and may be repeated.
const HINTS: [&str; 3] = [
    "notifications/tools/list_changed",
    "notifications/prompts/list_changed",
    "notifications/resources/list_changed",
];

/// Who a message is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    Session(SessionId),
    Server(ServerName),
    All,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// It stands in the logs of so many sessions.
    Logged(usize),
    /// Every node gives it to its own streams; who is away learns of it when coming back.
    Hinted,
}

impl Hub {
    /// What the servers behind this gateway are called.
    pub fn server_names(&self) -> impl Iterator<Item = &ServerName> {
        self.inner.servers.names()
    }

    /// Sessions, paged by id: of a server, of an owner, or whose client declared a capability.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn find(&self, query: &Query) -> Result<Page, Error> {
        Ok(self.store().find(query).await?)
    }

    /// One session with its streams and what runs.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn inspect(&self, id: &SessionId) -> Result<Option<Inspected>, Error> {
        Ok(self.store().inspect(id).await?)
    }

    /// The nodes that have a lease.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn nodes(&self) -> Result<Vec<SeenNode>, Error> {
        Ok(self.store().nodes().await?)
    }

    /// Ends a session; false if there is none.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn end_session(&self, id: &SessionId) -> Result<bool, Error> {
        let closed = self.store().close(id, &CloseIf::Always).await?;
        let ended = closed.is_some();
        if let Some(closed) = closed {
            self.closed(closed, SessionEnd::Operator).await;
        }
        Ok(ended)
    }

    /// Ends a session's open streams, wherever they are; their clients come back. False if there is
    /// no such session.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn close_streams(&self, id: &SessionId) -> Result<bool, Error> {
        if self.store().load(id).await?.is_none() {
            return Ok(false);
        }
        self.tell_all(Envelope::CloseStreams { session: id.clone() }).await;
        Ok(true)
    }

    /// Gives a notification to one session, to all of a server, or to all.
    ///
    /// # Errors
    /// [`Error::NoSession`] for a single session that does not exist; [`Error::Refused`] for what is no
    /// notification; [`Error::Store`].
    pub async fn publish(&self, to: &Audience, message: &Message) -> Result<Published, Error> {
        let Kind::Notification { method } = message.kind() else {
            return Err(super::handshake::refusal(
                crate::protocol::jsonrpc::codes::INVALID_REQUEST,
                "only notifications can be published: a request needs somebody who waits for its answer",
            ));
        };
        let mut query = Query { limit: PAGE, ..Query::default() };
        match to {
            Audience::Session(id) => {
                let session = self.store().load(id).await?.ok_or(Error::NoSession)?;
                self.log_for(&session.id, session.transport, message.raw()).await?;
                return Ok(Published::Logged(1));
            }
            Audience::Server(_) | Audience::All if HINTS.contains(&&**method) => {
                return self.hint(to, method, message.raw()).await;
            }
            Audience::Server(server) => query.server = Some(server.clone()),
            Audience::All => {}
        }
        let mut logged = 0;
        loop {
            let page = self.store().find(&query).await?;
            for session in &page.sessions {
                match self.log_for(&session.id, session.transport, message.raw()).await {
                    Ok(()) => logged += 1,
                    // It ended meanwhile.
                    Err(Error::NoSession) => {}
                    Err(error) => return Err(error),
                }
            }
            query.after = page.sessions.last().map(|session| session.id.clone());
            if !page.more {
                return Ok(Published::Logged(logged));
            }
        }
    }

    async fn hint(&self, to: &Audience, method: &str, notification: &Payload) -> Result<Published, Error> {
        let server = match to {
            Audience::Server(server) => Some(server.clone()),
            Audience::Session(_) | Audience::All => None,
        };
        for name in server.iter().chain(self.inner.servers.names().filter(|_| server.is_none())) {
            self.store().hint(name, method).await?;
        }
        self.tell_all(Envelope::Hint { server, notification: notification.clone() }).await;
        Ok(Published::Hinted)
    }

    /// To every node, this one included. A node that does not hear it resyncs, or is told by its
    /// clients.
    async fn tell_all(&self, envelope: Envelope) {
        if let Err(error) = self.inner.mail.announce(envelope.clone()).await {
            tracing::warn!(%error, "other nodes were not told");
        }
        self.receive(envelope);
    }

    async fn log_for(&self, id: &SessionId, transport: Transport, payload: &Payload) -> Result<(), Error> {
        let stream = match transport {
            Transport::HttpSse => StreamId::http_sse(),
            Transport::Streamable => StreamId::get(),
        };
        self.append_alone(StreamKey { session: id.clone(), stream }, payload.clone()).await
    }
}
