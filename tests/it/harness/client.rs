//! A client that adds nothing of its own: what is not said is not sent.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use holdfast::protocol::sse::{Decoder, Event};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Hyper;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone)]
pub(crate) struct Client {
    http: Hyper<HttpsConnector<HttpConnector>, Full<Bytes>>,
    pub base: String,
    pub session: Option<String>,
    pub version: Option<String>,
    /// What it logs in with.
    pub token: Option<String>,
    /// What each of its requests has besides.
    pub headers: Vec<(&'static str, String)>,
}

/// An answer that was read to its end.
#[derive(Debug)]
pub(crate) struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    /// What it says at last: on a slow machine an answer may come as a stream.
    pub(crate) fn json(&self) -> Value {
        let streamed = self.header("content-type") == "text/event-stream";
        let last = || self.text.lines().rev().find_map(|line| line.strip_prefix("data: {"));
        let text = last().filter(|_| streamed).map(|rest| format!("{{{rest}"));
        serde_json::from_str(text.as_ref().unwrap_or(&self.text))
            .unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub(crate) fn code(&self) -> i64 {
        self.json()["error"]["code"].as_i64().unwrap_or_default()
    }
}

pub(crate) const POST: [(&str, &str); 2] =
    [("content-type", "application/json"), ("accept", "application/json, text/event-stream")];

impl Client {
    pub(crate) fn new(base: &str) -> Self {
        let nobody = ClientConfig::builder_with_provider(std::sync::Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap();
        let nobody = nobody.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        Self::trusting(base, nobody, false)
    }

    /// Over TLS if `base` says so, with HTTP/2 where it is offered and taken.
    pub(crate) fn trusting(base: &str, tls: ClientConfig, http2: bool) -> Self {
        let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let https = if http2 { https.enable_http2().build() } else { https.build() };
        let http = Hyper::builder(TokioExecutor::new()).build(https);
        Self { http, base: base.to_owned(), session: None, version: None, token: None, headers: Vec::new() }
    }

    /// One that logs in.
    pub(crate) fn with_token(self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self }
    }

    /// Exactly this request.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response<Incoming> {
        self.try_send(method, path, headers, body).await.unwrap()
    }

    /// The same where the connection may break.
    pub(crate) async fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Response<Incoming>, hyper_util::client::legacy::Error> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
        tokio::time::timeout(PATIENCE, self.http.request(request)).await.expect("an answer in time")
    }

    /// The status of a GET, if there is an answer.
    pub(crate) async fn try_ask(&self, path: &str) -> Option<u16> {
        self.try_send("GET", path, &[], "").await.ok().map(|response| response.status().as_u16())
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        read(self.send(method, path, headers, body).await).await
    }

    fn own_headers<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let mut headers = more.to_vec();
        headers.extend(self.session.as_deref().map(|session| ("mcp-session-id", session)));
        headers.extend(self.version.as_deref().map(|version| ("mcp-protocol-version", version)));
        headers
    }

    pub(crate) async fn post(&self, message: &Value) -> Response<Incoming> {
        self.send("POST", "/mcp", &self.own_headers(&POST), &message.to_string()).await
    }

    pub(crate) async fn try_post(
        &self,
        message: &Value,
    ) -> Result<Response<Incoming>, hyper_util::client::legacy::Error> {
        self.try_send("POST", "/mcp", &self.own_headers(&POST), &message.to_string()).await
    }

    pub(crate) async fn try_get(
        &self,
        position: Option<&str>,
    ) -> Result<Response<Incoming>, hyper_util::client::legacy::Error> {
        let mut headers = self.own_headers(&[("accept", "text/event-stream")]);
        headers.extend(position.map(|position| ("last-event-id", position)));
        self.try_send("GET", "/mcp", &headers, "").await
    }

    /// Opens a session where the connection may break and the request be refused: whether it is open.
    pub(crate) async fn try_initialize(&mut self, version: &str) -> bool {
        let Ok(response) = self.try_post(&initialize(version)).await else { return false };
        if response.status() != 200 {
            return false;
        }
        let session = response.headers().get("mcp-session-id").and_then(|session| session.to_str().ok());
        (self.session, self.version) = (session.map(str::to_owned), Some(version.to_owned()));
        let done = self.try_post(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
        done.is_ok_and(|response| response.status() == 202)
    }

    /// A POST that is answered in full.
    pub(crate) async fn posted(&self, message: &Value) -> Reply {
        read(self.post(message).await).await
    }

    pub(crate) async fn streamed(&self, message: &Value) -> Stream {
        Stream::new(self.post(message).await)
    }

    pub(crate) async fn get(&self, position: Option<&str>) -> Response<Incoming> {
        let mut headers = self.own_headers(&[("accept", "text/event-stream")]);
        headers.extend(position.map(|position| ("last-event-id", position)));
        self.send("GET", "/mcp", &headers, "").await
    }

    /// Opens an HTTP+SSE session.
    pub(crate) async fn sse(&self) -> Response<Incoming> {
        self.send("GET", "/sse", &[("accept", "text/event-stream")], "").await
    }

    /// The same, or resumes one, where the connection may break.
    pub(crate) async fn try_sse(
        &self,
        position: Option<&str>,
    ) -> Result<Response<Incoming>, hyper_util::client::legacy::Error> {
        let mut headers = vec![("accept", "text/event-stream")];
        headers.extend(position.map(|position| ("last-event-id", position)));
        self.try_send("GET", "/sse", &headers, "").await
    }

    pub(crate) async fn delete(&self) -> Reply {
        read(self.send("DELETE", "/mcp", &self.own_headers(&[]), "").await).await
    }

    /// Opens a session of a revision.
    pub(crate) async fn initialize(&mut self, version: &str) -> Reply {
        let reply = self.posted(&initialize(version)).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        self.session = Some(reply.header("mcp-session-id").to_owned()).filter(|session| !session.is_empty());
        self.version = Some(version.to_owned());
        let done = self.posted(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
        assert_eq!(done.status, 202, "{done:?}");
        reply
    }
}

/// A client's first request.
pub(crate) fn initialize(version: &str) -> Value {
    let params = json!({
        "protocolVersion": version,
        "capabilities": { "elicitation": {} },
        "clientInfo": { "name": "test", "version": "1" },
    });
    request(0, "initialize", &params)
}

pub(crate) fn request(id: u64, method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

pub(crate) async fn read(response: Response<Incoming>) -> Reply {
    let (parts, body) = response.into_parts();
    let body = tokio::time::timeout(PATIENCE, body.collect()).await.expect("a whole body in time").unwrap();
    let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    Reply { status: parts.status.as_u16(), headers: parts.headers, text }
}

/// An event stream that is being read. Dropping it cuts the connection.
pub(crate) struct Stream {
    pub headers: HeaderMap,
    body: Incoming,
    decoder: Decoder,
    ready: VecDeque<Event>,
    pub position: Option<String>,
    /// How many `retry` fields came.
    pub retries: usize,
}

impl Stream {
    pub(crate) fn new(response: Response<Incoming>) -> Self {
        let (parts, body) = response.into_parts();
        let kind =
            parts.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        assert_eq!((parts.status.as_u16(), kind), (200, "text/event-stream"));
        let decoder = Decoder::new(1 << 24);
        Self { headers: parts.headers, body, decoder, ready: VecDeque::new(), position: None, retries: 0 }
    }

    /// The next event with data; `None` at the end.
    pub(crate) async fn event(&mut self) -> Option<Event> {
        tokio::time::timeout(PATIENCE, self.read()).await.expect("an event, or the end, in time")
    }

    /// The next event, with or without data, however long it takes; `None` at the end.
    pub(crate) async fn any(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.position = event.id.clone().or(self.position.take());
                self.retries += usize::from(event.retry.is_some());
                return Some(event);
            }
            let frame = self.body.frame().await?.ok()?;
            self.decoder.push(frame.data_ref().unwrap());
            while let Some(event) = self.decoder.next().unwrap() {
                self.ready.push_back(event);
            }
        }
    }

    async fn read(&mut self) -> Option<Event> {
        loop {
            while let Some(event) = self.ready.pop_front() {
                self.position = event.id.clone().or(self.position.take());
                self.retries += usize::from(event.retry.is_some());
                if event.data.as_ref().is_some_and(|data| !data.is_empty()) {
                    return Some(event);
                }
            }
            let frame = self.body.frame().await?.ok()?;
            self.decoder.push(frame.data_ref().unwrap());
            while let Some(event) = self.decoder.next().unwrap() {
                self.ready.push_back(event);
            }
        }
    }

    /// Waits for the first position, with or without data.
    pub(crate) async fn primed(&mut self) {
        while self.position.is_none() {
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("a position in time");
            self.decoder.push(frame.expect("a position").unwrap().data_ref().unwrap());
            while let Some(event) = self.decoder.next().unwrap() {
                self.position = event.id.clone().or(self.position.take());
                self.ready.push_back(event);
            }
        }
    }

    pub(crate) async fn message(&mut self) -> Value {
        let event = self.event().await.expect("a message before the end");
        serde_json::from_slice(&event.data.unwrap()).unwrap()
    }

    /// The rest, to the end.
    pub(crate) async fn rest(&mut self) -> Vec<Value> {
        let mut rest = Vec::new();
        while let Some(event) = self.event().await {
            rest.push(serde_json::from_slice(&event.data.unwrap()).unwrap());
        }
        rest
    }
}
