//! Messages to a session's upstream, and what happens when the upstream has forgotten the session.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::time::Instant;

use super::farewell::Unkept;
use super::handshake::refusal;
use super::live::Live;
use super::server::Server;
use super::{Error, Hub};
use crate::domain::{Limit, ServerName, SessionId, SessionPart, UpstreamHandle};
use crate::ports::{Envelope, Updated};
use crate::protocol::jsonrpc::{Message, codes};
use crate::protocol::legacy;
use crate::telemetry::{Method, Outcome};
use crate::upstream::{self, Answers, Upstream};

impl Hub {
    /// Sends a session's request; if the upstream has forgotten the session (404: it did not run), in
    /// a new one.
    pub(super) async fn call_in_session(
        &self,
        server: &Server,
        live: &Arc<Live>,
        raw: Bytes,
        headers: &HeaderMap,
    ) -> Result<Answers, Error> {
        let handle = live.upstream().ok_or_else(not_initialized)?;
        let upstream = server.reached_in(live, headers);
        match upstream.call(Some(&handle), raw.clone(), headers).await {
            Err(upstream::Error::SessionGone { .. }) => {
                let handle = self.move_on(server, &upstream, live, &handle).await?;
                Ok(upstream.call(Some(&handle), raw, headers).await?)
            }
            other => Ok(other?),
        }
    }

    /// The same for a notification or an answer, within the time that a request may be silent.
    pub(super) async fn notify_in_session(
        &self,
        server: &Server,
        live: &Arc<Live>,
        raw: Bytes,
        headers: &HeaderMap,
    ) -> Result<(), Error> {
        let notified = self.notify_or_reopen(server, live, raw, headers);
        let notified = tokio::time::timeout(server.requests.timeout, notified).await;
        notified.unwrap_or_else(|_| Err(server.upstream.late().into()))
    }

    async fn notify_or_reopen(
        &self,
        server: &Server,
        live: &Arc<Live>,
        raw: Bytes,
        headers: &HeaderMap,
    ) -> Result<(), Error> {
        let handle = live.upstream().ok_or_else(not_initialized)?;
        let upstream = server.reached_in(live, headers);
        match upstream.notify(Some(&handle), raw.clone(), headers).await {
            Err(upstream::Error::SessionGone { .. }) => {
                let handle = self.move_on(server, &upstream, live, &handle).await?;
                Ok(upstream.notify(Some(&handle), raw, headers).await?)
            }
            other => Ok(other?),
        }
    }

    /// Opens a session in place of one that the upstream lost, with the client's own `initialize`, its
    /// log level and its subscriptions. Of several at once, the first to store its handle wins.
    pub(super) async fn reopen(
        &self,
        server: &Server,
        upstream: &Upstream,
        live: &Live,
        lost: &UpstreamHandle,
    ) -> Result<UpstreamHandle, Error> {
        let _one_at_a_time = live.reopening.lock().await;
        let session = self.store().load(&live.id).await?.ok_or(Error::NoSession)?;
        live.set_session(session.clone());
        if let Some(handle) = session.upstream.clone().filter(|handle| handle.generation > lost.generation) {
            return Ok(handle);
        }
        tracing::warn!(session = ?live.id, upstream = server.upstream.name(), "the upstream lost a session; opening another");
        let since = Instant::now();
        let client = session.client.clone().ok_or_else(not_initialized)?;
        let opening = upstream.reopen(client.initialize.into(), lost.generation + 1);
        let opened = tokio::time::timeout(server.requests.timeout, opening).await;
        let opened = opened.unwrap_or_else(|_| Err(server.upstream.late()));
        let outcome = if opened.is_ok() { Outcome::Ok } else { Outcome::Error };
        server.metrics.session_opened(outcome);
        server.metrics.asked(Method::Initialize, outcome, since.elapsed());
        let handle = match opened {
            Ok(handle) => handle,
            Err(err) => {
                server.failed(&err);
                return Err(err.into());
            }
        };
        // Whoever asked for it may stop waiting.
        let unkept = Unkept::new(self, server, upstream.clone(), handle.clone());
        upstream.restore(&handle, session.log_level.as_deref(), &session.subscriptions).await;
        let updated = self.store().update(&live.id, SessionPart::Upstream(handle.clone())).await;
        match updated {
            Ok(Updated::Now(now)) => {
                let settled = now.upstream.clone().unwrap_or_else(|| handle.clone());
                live.set_session(*now);
                if settled == handle {
                    unkept.keep();
                    server.metrics.session_lost();
                    self.note_upstream_end(server, &session, lost);
                    self.tell_of_move(server, live, lost).await;
                }
                Ok(settled)
            }
            Ok(Updated::Gone | Updated::Full) => Err(Error::NoSession),
            Err(err) => Err(err.into()),
        }
    }
}

impl Hub {
    /// A server that forgot a session says so to everybody. One that only its own node reaches does not: it
    /// may not even know.
    async fn tell_of_move(&self, server: &Server, live: &Live, lost: &UpstreamHandle) {
        if lost.node.is_some() {
            let (session, server, lost) = (live.id.clone(), server.name.clone(), lost.clone());
            let _ = self.inner.mail.announce(Envelope::Moved { session, server, lost }).await;
        }
    }

    /// Opens another session, whose own stream is read from now on if the client's is held here.
    async fn move_on(
        &self,
        server: &Server,
        upstream: &Upstream,
        live: &Arc<Live>,
        lost: &UpstreamHandle,
    ) -> Result<UpstreamHandle, Error> {
        let handle = self.reopen(server, upstream, live, lost).await?;
        if lost.node.is_some() {
            self.read_the_newest(live);
        }
        Ok(handle)
    }

    /// From where the log ends, which the reader of the older session may not have known yet.
    fn read_the_newest(&self, live: &Arc<Live>) {
        live.streams().iter().for_each(|stream| self.look(live, stream, Duration::ZERO));
    }

    /// Another node opened a session in place of `lost`.
    pub(super) async fn hear_of_move(&self, session: &SessionId, server: &ServerName, lost: UpstreamHandle) {
        let live = self.inner.registry.known(session);
        if let Some(live) = &live
            && self.load(session).await.is_ok()
        {
            self.read_the_newest(live);
        }
        // What still runs in it may come to its end.
        let relays = &self.inner.relays;
        let is_over = !relays.is_leaving() && !relays.is_busy_in(lost.session.as_deref());
        let is_own = lost.node.as_ref() == Some(&self.inner.node) && is_over;
        if let Some(server) = self.inner.servers.get(Some(server.as_str())).filter(|_| is_own) {
            let upstream = live.map_or_else(|| server.upstream.clone(), |live| server.reached_from(&live));
            self.close_upstream(&server.name, upstream, lost);
        }
    }
}

/// The parameter that has to be restored if the upstream loses its session, if this request has one.
pub(super) fn remembered(request: &Message) -> Option<String> {
    let params = request.params()?;
    match request.method()? {
        "logging/setLevel" => legacy::log_level(params),
        "resources/subscribe" | "resources/unsubscribe" => legacy::resource_uri(params),
        _ => None,
    }
}

impl Hub {
    /// Keeps it, once the upstream has taken it.
    pub(super) async fn remember(&self, live: &Live, method: &str, value: &str) {
        let forgotten = method == "resources/unsubscribe";
        let bytes = live.session().remembered_bytes() + value.len();
        if !forgotten && bytes > self.inner.config.session_bytes_max {
            self.inner.metrics.limit_hit(Limit::SessionBytes);
            tracing::warn!(session = ?live.id, "a subscription or log level is too large to be remembered");
            return;
        }
        let value = value.to_owned();
        let part = match method {
            "logging/setLevel" => SessionPart::LogLevel(value),
            "resources/subscribe" => SessionPart::Subscribed(value),
            _ => SessionPart::Unsubscribed(value),
        };
        match self.store().update(&live.id, part).await {
            Ok(Updated::Now(session)) => live.set_session(*session),
            Ok(Updated::Full) => {
                self.inner.metrics.limit_hit(Limit::SubscriptionsPerSession);
                tracing::warn!(session = ?live.id, "more subscriptions than are remembered");
            }
            Ok(Updated::Gone) => {}
            Err(err) => {
                tracing::warn!(session = ?live.id, error = %err, "a subscription or log level is not remembered")
            }
        }
    }
}

fn not_initialized() -> Error {
    refusal(codes::INVALID_REQUEST, "the session is not initialized: send initialize first")
}
