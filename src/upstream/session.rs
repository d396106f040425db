//! An upstream's sessions: opened with a client's `initialize`, opened again when they are lost,
//! given back what they knew, ended.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, StatusCode};

use super::error::Error;
use super::streamable::{BOTH, JSON, SESSION_ID, Streamable};
use crate::domain::UpstreamHandle;
use crate::protocol::jsonrpc::{self, Id, Message};
use crate::protocol::legacy;

/// A session that the upstream opened.
#[derive(Debug)]
pub struct Opened {
    /// Its answer to `initialize`, as it came.
    pub answer: Message,
    /// What it sent before that.
    pub earlier: Vec<Message>,
    /// `None` if the answer is an error.
    pub handle: Option<UpstreamHandle>,
    pub server_capabilities: String,
}

impl Streamable {
    /// Whether it is known to keep sessions: a request without one need not be tried.
    #[must_use]
    pub fn keeps_sessions(&self) -> bool {
        self.inner.keeps_sessions.load(Ordering::Relaxed)
    }

    /// Forwards a client's `initialize` and reads its answer.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn open(
        &self,
        initialize: Bytes,
        generation: u64,
        headers: &HeaderMap,
    ) -> Result<Opened, Error> {
        let request = self.request(Method::POST, headers).header(ACCEPT, BOTH).header(CONTENT_TYPE, JSON);
        let response = self.send(request, initialize).await?;
        let session = match response.headers().get(&SESSION_ID) {
            Some(value) => Some(self.readable(value)?),
            None => None,
        };
        let mut answers = self.answers(response, None).await?;
        let mut earlier = Vec::new();
        while let Some(answer) = answers.next().await? {
            if !answer.message.is_response() {
                earlier.push(answer.message);
                continue;
            }
            let message = answer.message;
            let Some(result) = message.result() else {
                return Ok(Opened {
                    answer: message,
                    earlier,
                    handle: None,
                    server_capabilities: String::new(),
                });
            };
            let initialized = legacy::initialize_result(result).ok_or_else(|| {
                self.invalid("its answer to initialize lacks protocolVersion or capabilities".into())
            })?;
            self.remember_legacy();
            self.inner.keeps_sessions.store(session.is_some(), Ordering::Relaxed);
            return Ok(Opened {
                handle: Some(UpstreamHandle {
                    generation,
                    node: self.inner.config.pinned_to.clone().filter(|_| session.is_some()),
                    session,
                    protocol_version: initialized.protocol_version,
                }),
                server_capabilities: initialized.capabilities,
                answer: message,
                earlier,
            });
        }
        Err(self.interrupted())
    }

    /// Opens a session in place of a lost one, with the client's own `initialize`.
    ///
    /// # Errors
    /// As [`Self::call`]; [`Error::Invalid`] if it no longer accepts what it once did.
    pub async fn reopen(&self, initialize: Bytes, generation: u64) -> Result<UpstreamHandle, Error> {
        let opened = self.open(initialize, generation, &HeaderMap::new()).await?;
        let refused = || self.invalid("it refused the initialize that it once accepted".into());
        let handle = opened.handle.ok_or_else(refused)?;
        let initialized = jsonrpc::notification("notifications/initialized", None);
        self.notify(Some(&handle), initialized, &HeaderMap::new()).await?;
        Ok(handle)
    }

    /// Asks a new session for the log level and the subscriptions of the lost one. What it refuses is
    /// logged: the session is of more use without it than not at all.
    pub async fn restore(&self, handle: &UpstreamHandle, log_level: Option<&str>, subscriptions: &[String]) {
        let level = log_level.map(|level| ("logging/setLevel", serde_json::json!({ "level": level })));
        let uris = subscriptions.iter().map(|uri| ("resources/subscribe", serde_json::json!({ "uri": uri })));
        for (number, (method, params)) in level.into_iter().chain(uris).enumerate() {
            let id = Id::string(&format!("holdfast-restore-{number}"));
            let raw = jsonrpc::request(&id, method, Some(&params.to_string()));
            let restored = tokio::time::timeout(self.inner.config.timeout, self.ask(handle, raw)).await;
            match restored.unwrap_or_else(|_| Err(self.late())) {
                Ok(answer) if answer.result().is_some() => {}
                Ok(_) => tracing::warn!(
                    method,
                    upstream = self.name(),
                    "a new upstream session refused what the lost one had"
                ),
                Err(error) => {
                    tracing::warn!(method, %error, "a new upstream session lacks what the lost one had")
                }
            }
        }
    }

    async fn ask(&self, handle: &UpstreamHandle, raw: Bytes) -> Result<Message, Error> {
        let mut answers = self.call(Some(handle), raw, &HeaderMap::new()).await?;
        while let Some(answer) = answers.next().await? {
            if answer.message.is_response() {
                return Ok(answer.message);
            }
        }
        Err(self.interrupted())
    }

    /// Ends the upstream's session, as far as it lets itself be told.
    ///
    /// # Errors
    /// If it was not told; there is nothing to be done about it.
    pub async fn close(&self, handle: &UpstreamHandle) -> Result<(), Error> {
        if handle.session.is_none() || self.is_within_reach(Some(handle)).is_err() {
            return Ok(());
        }
        let request = self.in_session(self.request(Method::DELETE, &HeaderMap::new()), Some(handle));
        let sent =
            tokio::time::timeout(self.inner.config.close_timeout, self.send(request, Bytes::new())).await;
        let response = sent.map_err(|_| self.late())??;
        match response.status() {
            status if status.is_success() => Ok(()),
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_FOUND => Ok(()),
            _ => Err(self.refusal(response, None).await),
        }
    }

    fn readable(&self, value: &HeaderValue) -> Result<String, Error> {
        let text = value.to_str().ok().filter(|text| !text.is_empty() && text.len() <= 1024);
        text.map(str::to_owned)
            .ok_or_else(|| self.invalid("its Mcp-Session-Id is not short visible ASCII".into()))
    }
}
