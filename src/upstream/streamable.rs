//! An MCP server reached over Streamable HTTP, of either era: how each kind of message is sent, and
//! what its status codes mean. Which session a message belongs to is the caller's matter.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName,
    HeaderValue, USER_AGENT,
};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};

use super::answers::{Answers, Position};
use super::era::{EraCache, EraPolicy};
use super::error::Error;
use super::http_client::{BoxError, HttpClient, Movable};
use super::received::Received;
use crate::domain::{NodeId, UpstreamHandle};

pub(super) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
pub(super) const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
pub(super) const BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");

/// An upstream's refusal is passed on up to this size.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// How one upstream is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub era: EraPolicy,
    pub era_ttl: Duration,
    /// The largest message taken from it, in bytes.
    pub message_bytes_max: usize,
    pub reconnect_delay: Duration,
    pub reconnect_delay_max: Duration,
    /// For what the gateway asks on its own: a stream's head, a probe, an acknowledgement.
    pub timeout: Duration,
    /// For ending a session.
    pub close_timeout: Duration,
    /// This node, if only it reaches the sessions that it opens: their requests carry the id of the node
    /// that opened them as an extension, for the [`super::Transport`].
    pub pinned_to: Option<NodeId>,
}

/// A cloneable handle on one upstream.
#[derive(Debug, Clone)]
pub struct Streamable {
    pub(super) inner: Arc<Inner>,
    /// What every request has that has nothing of its own in its place.
    carried: Option<Arc<HeaderMap>>,
}

#[derive(Debug)]
pub(super) struct Inner {
    name: String,
    uri: Uri,
    client: HttpClient,
    pub(super) config: Config,
    pub(super) eras: EraCache,
    /// It gave a session id to the last `initialize`.
    pub(super) keeps_sessions: AtomicBool,
}

/// What a GET met.
#[derive(Debug)]
pub(super) enum Listening {
    Stream(Received),
    /// 405: it offers no such stream.
    NotOffered,
}

impl Streamable {
    /// `name` is what errors call it.
    #[must_use]
    pub fn new(name: &str, uri: Uri, client: HttpClient, config: Config) -> Self {
        let eras = EraCache::new(config.era_ttl);
        Self {
            inner: Arc::new(Inner {
                name: name.to_owned(),
                uri,
                client,
                config,
                eras,
                keeps_sessions: AtomicBool::new(false),
            }),
            carried: None,
        }
    }

    /// The same, for requests that carry these headers unless they have others of the same name: what a session's
    /// client sent, for what goes up without it.
    #[must_use]
    pub fn carrying(&self, headers: Arc<HeaderMap>) -> Self {
        Self { inner: self.inner.clone(), carried: Some(headers).filter(|headers| !headers.is_empty()) }
    }

    /// Whether requests have to come with their clients' credentials, to be exchanged for others.
    #[must_use]
    pub fn exchanges(&self) -> bool {
        self.inner.client.exchanges()
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Sends a notification, or the answer to one of the server's requests, and returns once the
    /// upstream has acknowledged it.
    ///
    /// # Errors
    /// [`Error::Refused`] with the upstream's own status, and as [`Self::call`].
    pub async fn notify(
        &self,
        handle: Option<&UpstreamHandle>,
        raw: Bytes,
        headers: &HeaderMap,
    ) -> Result<(), Error> {
        self.is_within_reach(handle)?;
        let request = self.posting(handle, headers);
        let sent = tokio::time::timeout(self.inner.config.timeout, self.send(request, raw)).await;
        let response = sent.map_err(|_| self.late())??;
        let status = response.status();
        if status.is_success() { Ok(()) } else { Err(self.refusal(response, handle).await) }
    }

    /// Sends a request of either era; the answers follow.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Invalid`], [`Error::SessionGone`] (it did not run), or
    /// [`Error::Refused`]. Time limits are the caller's.
    pub async fn call(
        &self,
        handle: Option<&UpstreamHandle>,
        raw: Bytes,
        headers: &HeaderMap,
    ) -> Result<Answers, Error> {
        self.is_within_reach(handle)?;
        let request = self.posting(handle, headers).extension(Movable);
        let response = self.send(request, raw).await?;
        self.answers(response, handle).await
    }

    /// Opens the stream for what the server says unasked; `None` if it offers none.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn listen(
        &self,
        handle: &UpstreamHandle,
        position: Option<&str>,
    ) -> Result<Option<Answers>, Error> {
        Ok(match self.open_stream(handle, position).await? {
            Listening::Stream(body) => Some(Answers::stream(self.clone(), None, body)),
            Listening::NotOffered => None,
        })
    }

    /// The rest of a request's answer, which another node had begun to read. What can't be resumed is
    /// [`Error::Interrupted`].
    #[must_use]
    pub fn resume(&self, handle: &UpstreamHandle, position: Position) -> Answers {
        Answers::resumed(self.clone(), handle.clone(), position)
    }

    pub(super) async fn open_stream(
        &self,
        handle: &UpstreamHandle,
        position: Option<&str>,
    ) -> Result<Listening, Error> {
        self.is_within_reach(Some(handle))?;
        let mut request = self.in_session(self.request(Method::GET, &HeaderMap::new()), Some(handle));
        request = request.header(ACCEPT, EVENTS);
        if let Some(position) = position {
            request = request.header(LAST_EVENT_ID, position.as_bytes());
        }
        let sent = tokio::time::timeout(self.inner.config.timeout, self.send(request, Bytes::new())).await;
        let response = sent.map_err(|_| self.late())??;
        if response.status() == StatusCode::METHOD_NOT_ALLOWED {
            return Ok(Listening::NotOffered);
        }
        if !response.status().is_success() {
            return Err(self.refusal(response, Some(handle)).await);
        }
        match self.kind(&response)? {
            Some(Kind::Events) => Ok(Listening::Stream(response.into_body())),
            Some(Kind::Json) | None => {
                Err(self.invalid("a GET was not answered with an event stream".into()))
            }
        }
    }

    pub(super) async fn answers(
        &self,
        response: Response<Received>,
        handle: Option<&UpstreamHandle>,
    ) -> Result<Answers, Error> {
        if !response.status().is_success() {
            return Err(self.refusal(response, handle).await);
        }
        match self.kind(&response)? {
            Some(Kind::Events) => {
                let resumable = handle.filter(|handle| handle.session.is_some()).cloned();
                Ok(Answers::stream(self.clone(), resumable, response.into_body()))
            }
            Some(Kind::Json) => Ok(Answers::json(self.clone(), response.into_body())),
            None => {
                Err(self.invalid(format!("status {} without JSON or an event stream", response.status())))
            }
        }
    }

    fn posting(&self, handle: Option<&UpstreamHandle>, headers: &HeaderMap) -> http::request::Builder {
        let request = self.request(Method::POST, headers).header(ACCEPT, BOTH).header(CONTENT_TYPE, JSON);
        self.in_session(request, handle)
    }

    /// A session of a time when the server was pinned, or was not, is another server's: there it might even be
    /// somebody else's.
    pub(super) fn is_within_reach(&self, handle: Option<&UpstreamHandle>) -> Result<(), Error> {
        let pinned = self.inner.config.pinned_to.is_some();
        match handle.filter(|handle| handle.session.is_some()) {
            Some(handle) if handle.node.is_some() != pinned => {
                Err(Error::SessionGone { upstream: self.inner.name.clone() })
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn in_session(
        &self,
        mut request: http::request::Builder,
        handle: Option<&UpstreamHandle>,
    ) -> http::request::Builder {
        let Some(handle) = handle else { return request };
        if let Some(session) = &handle.session {
            request = request.header(SESSION_ID, session.as_str());
        }
        if let Some(node) = &handle.node {
            request = request.extension(node.clone());
        }
        match HeaderValue::from_str(&handle.protocol_version) {
            Ok(version) => request.header(PROTOCOL_VERSION, version),
            Err(_) => request,
        }
    }

    pub(super) fn request(&self, method: Method, headers: &HeaderMap) -> http::request::Builder {
        let mut request = Request::builder().method(method).uri(self.inner.uri.clone());
        if let Some(map) = request.headers_mut() {
            let carried = self.carried.iter().flat_map(|carried| carried.iter());
            let carried = carried.filter(|(name, _)| !headers.contains_key(*name));
            // A client's own credential goes no further than to where it is exchanged (A8).
            let passed =
                carried.chain(headers).filter(|(name, _)| **name != AUTHORIZATION || self.exchanges());
            for (name, value) in passed {
                map.append(name.clone(), value.clone());
            }
            // Without a word about it any encoding would be welcome (RFC 9110, 12.5.3).
            map.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            map.insert(USER_AGENT, HeaderValue::from_static(concat!("holdfast/", env!("CARGO_PKG_VERSION"))));
        }
        request
    }

    pub(super) async fn send(
        &self,
        request: http::request::Builder,
        body: Bytes,
    ) -> Result<Response<Received>, Error> {
        let request = request.body(Full::new(body)).map_err(|err| self.invalid(err.to_string()))?;
        self.inner.client.send(request).await.map_err(|err| self.unreachable(err))
    }

    pub(super) async fn refusal(
        &self,
        response: Response<Received>,
        handle: Option<&UpstreamHandle>,
    ) -> Error {
        let upstream = self.inner.name.clone();
        let status = response.status();
        if status == StatusCode::NOT_FOUND && handle.is_some_and(|handle| handle.session.is_some()) {
            return Error::SessionGone { upstream };
        }
        // No client could make anything of these: where they lead is not passed on.
        if status.is_informational() || status.is_redirection() {
            return self.invalid(format!("status {status}, which is not followed"));
        }
        let content_type =
            response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let collected = Limited::new(response.into_body(), REFUSAL_BYTES_MAX).collect();
        let body = match tokio::time::timeout(self.inner.config.timeout, collected).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) | Err(_) => Bytes::new(),
        };
        Error::Refused { upstream, status, content_type, body }
    }

    /// The upstream's own wish counts, within the limit; otherwise back-off with jitter.
    #[must_use]
    pub fn reconnect_delay(&self, failures: u32, retry: Option<Duration>) -> Duration {
        let config = &self.inner.config;
        match retry {
            Some(retry) if failures == 0 => retry.min(config.reconnect_delay_max),
            _ => {
                let base = config
                    .reconnect_delay
                    .saturating_mul(1 << failures.min(10))
                    .min(config.reconnect_delay_max);
                base.mul_f64(0.5 + fastrand::f64() / 2.0)
            }
        }
    }

    fn kind(&self, response: &Response<Received>) -> Result<Option<Kind>, Error> {
        let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        if let Some(encoding) = text(CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
            return Err(self.invalid(format!("encoded as {encoding}, which was not asked for")));
        }
        let essence = text(CONTENT_TYPE).unwrap_or_default().split(';').next().unwrap_or_default().trim();
        Ok(if essence.eq_ignore_ascii_case("application/json") {
            Some(Kind::Json)
        } else if essence.eq_ignore_ascii_case("text/event-stream") {
            Some(Kind::Events)
        } else {
            None
        })
    }

    pub(super) fn message_bytes_max(&self) -> usize {
        self.inner.config.message_bytes_max
    }

    pub(super) fn unreachable(&self, source: impl Into<BoxError>) -> Error {
        Error::Unreachable { upstream: self.inner.name.clone(), source: source.into() }
    }

    pub(super) fn invalid(&self, what: String) -> Error {
        Error::Invalid { upstream: self.inner.name.clone(), what }
    }

    pub(super) fn interrupted(&self) -> Error {
        Error::Interrupted { upstream: self.inner.name.clone() }
    }

    /// The error for a caller whose time ran out.
    #[must_use]
    pub fn late(&self) -> Error {
        Error::Late { upstream: self.inner.name.clone() }
    }
}

enum Kind {
    Json,
    Events,
}
