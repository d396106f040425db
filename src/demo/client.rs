//! The demo's clients: as little as it takes to speak each transport, and to break a stream.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};

use serde_json::Value;

use crate::protocol::sse::{Decoder, Event};
use crate::upstream::{HttpClient, HttpConfig, Received};

/// No step of the demo takes longer.
const PATIENCE: Duration = Duration::from_secs(15);

const EVENT_BYTES_MAX: usize = 1 << 20;

/// A step that did not go as promised.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DemoError(pub(super) String);

impl DemoError {
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

pub(super) type Outcome<T> = Result<T, DemoError>;

pub(super) fn unmet<T>(what: impl Into<String>) -> Outcome<T> {
    Err(DemoError(what.into()))
}

/// Talks to one gateway.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: HttpClient,
    base: String,
    /// Goes with every request: the session, the version.
    pub headers: HeaderMap,
}

/// What a POST came back with.
#[derive(Debug)]
pub(super) enum Posted {
    Accepted,
    Json(Value),
    Stream(Box<Events>),
}

impl Client {
    pub(super) fn new(base: &str) -> Outcome<Self> {
        let config = HttpConfig {
            connect_timeout: PATIENCE,
            idle_connections_max: 8,
            idle_connection_timeout: PATIENCE,
        };
        let http = HttpClient::new(&config).map_err(|error| DemoError(error.to_string()))?;
        Ok(Self { http, base: base.to_owned(), headers: HeaderMap::new() })
    }

    pub(super) fn set(&mut self, name: &'static str, value: &str) -> Outcome<()> {
        let value = HeaderValue::from_str(value).map_err(|error| DemoError(error.to_string()))?;
        self.headers.insert(HeaderName::from_static(name), value);
        Ok(())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        extra: &[(&str, &str)],
        body: Bytes,
    ) -> Outcome<Response<Received>> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        for (name, value) in extra {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).map_err(|error| DemoError(error.to_string()))?;
        match tokio::time::timeout(PATIENCE, self.http.send(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => unmet(format!("no answer: {error}")),
            Err(_) => unmet("no answer in time"),
        }
    }

    /// Posts a message; `named` are headers of this one only.
    pub(super) async fn post(
        &self,
        path: &str,
        message: &Value,
        named: &[(&str, &str)],
    ) -> Outcome<(HeaderMap, Posted)> {
        let mut extra =
            vec![("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
        extra.extend_from_slice(named);
        let response = self.send(Method::POST, path, &extra, message.to_string().into()).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        if status == 202 {
            return Ok((headers, Posted::Accepted));
        }
        let kind = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if kind.starts_with("text/event-stream") {
            return Ok((headers, Posted::Stream(Box::new(Events::new(response)))));
        }
        let body = tokio::time::timeout(PATIENCE, response.into_body().collect()).await;
        let Ok(Ok(body)) = body else { return unmet("the answer broke off") };
        let value = serde_json::from_slice(&body.to_bytes()).map_err(|error| DemoError(error.to_string()))?;
        if status.is_success() {
            Ok((headers, Posted::Json(value)))
        } else {
            unmet(format!("{status}: {value}"))
        }
    }

    /// Opens a stream, or resumes one after the event named.
    pub(super) async fn get(&self, path: &str, last_event_id: Option<&str>) -> Outcome<Events> {
        let mut extra = vec![("accept", "text/event-stream")];
        extra.extend(last_event_id.map(|id| ("last-event-id", id)));
        let response = self.send(Method::GET, path, &extra, Bytes::new()).await?;
        if response.status() == 200 {
            Ok(Events::new(response))
        } else {
            unmet(format!("GET: {}", response.status()))
        }
    }

    pub(super) async fn delete(&self, path: &str) -> Outcome<u16> {
        Ok(self.send(Method::DELETE, path, &[], Bytes::new()).await?.status().as_u16())
    }
}

/// A stream that is being read. Dropping it cuts the connection.
#[derive(Debug)]
pub(super) struct Events {
    body: Received,
    decoder: Decoder,
    ready: VecDeque<Event>,
    /// The last id seen: where to resume.
    pub last_event_id: Option<String>,
}

impl Events {
    fn new(response: Response<Received>) -> Self {
        let decoder = Decoder::new(EVENT_BYTES_MAX);
        Self { body: response.into_body(), decoder, ready: VecDeque::new(), last_event_id: None }
    }

    /// The next event that says something, with its event name.
    pub(super) async fn next(&mut self) -> Outcome<(Option<String>, Bytes)> {
        match tokio::time::timeout(PATIENCE, self.read()).await {
            Ok(Ok(Some(event))) => Ok(event),
            Ok(Ok(None)) => unmet("the stream ended before its answer"),
            Ok(Err(error)) => Err(error),
            Err(_) => unmet("the stream fell silent"),
        }
    }

    /// The next JSON message.
    pub(super) async fn message(&mut self) -> Outcome<Value> {
        let (_, data) = self.next().await?;
        serde_json::from_slice(&data).map_err(|error| DemoError(error.to_string()))
    }

    /// The stream's end, if nothing more comes before it.
    pub(super) async fn finished(mut self) -> Outcome<()> {
        match tokio::time::timeout(PATIENCE, self.read()).await {
            Ok(Ok(None)) => Ok(()),
            Ok(Ok(Some((_, data)))) => {
                unmet(format!("after the answer came {}", String::from_utf8_lossy(&data)))
            }
            Ok(Err(error)) => Err(error),
            Err(_) => unmet("the stream stayed open after its answer"),
        }
    }

    async fn read(&mut self) -> Outcome<Option<(Option<String>, Bytes)>> {
        loop {
            while let Some(event) = self.ready.pop_front() {
                self.last_event_id = event.id.or(self.last_event_id.take());
                if let Some(data) = event.data.filter(|data| !data.is_empty()) {
                    return Ok(Some((event.event, data)));
                }
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.decoder.push(frame.data_ref().map_or(&[], |data| data)),
                Some(Err(error)) => return unmet(format!("the stream broke: {error}")),
                None => return Ok(None),
            }
            while let Some(event) = self.decoder.next().map_err(|error| DemoError(error.to_string()))? {
                self.ready.push_back(event);
            }
        }
    }
}
