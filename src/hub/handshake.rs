//! A legacy client's `initialize` at the upstream, and what its answer settles.

use super::measures::said;
use super::server::Server;
use super::traced::Outgoing;
use super::{Caller, Error, Hub};
use crate::domain::{ClientFacts, Limit, UpstreamHandle};
use crate::protocol::era::Refusal;
use crate::protocol::jsonrpc::{self, Message, codes};
use crate::protocol::legacy;
use crate::protocol::modern;
use crate::protocol::version::LegacyVersion;
use crate::telemetry::{Eras, ExchangeEnd, Method, Outcome};
use crate::upstream::{self, Upstream};
use http::StatusCode;
use tracing::Instrument as _;

/// The upstream's side of a handshake.
pub(super) struct Handshake {
    pub status: StatusCode,
    pub answer: Message,
    pub earlier: Vec<Message>,
    /// Absent if the answer is an error.
    pub agreed: Option<(UpstreamHandle, ClientFacts)>,
}

impl Hub {
    pub(super) async fn shake_hands(
        &self,
        server: &Server,
        upstream: &Upstream,
        caller: &Caller,
        request: &Message,
    ) -> Result<Handshake, Error> {
        let params = request.params().unwrap_or("{}");
        let asked = legacy::initialize_params(params).ok_or_else(|| {
            refusal(
                codes::INVALID_PARAMS,
                "initialize needs params.protocolVersion, capabilities and clientInfo",
            )
        })?;
        // L28: whatever version a client names, a legacy one answers; the server must not be led to
        // believe that the modern handshake-less era is meant.
        let raw = match (LegacyVersion::parse(&asked.protocol_version), request.id()) {
            (None, Some(id)) => {
                let params = legacy::with_protocol_version(params, LegacyVersion::LATEST.as_str());
                jsonrpc::request(id, "initialize", Some(&params))
            }
            _ => request.raw().clone(),
        };
        let bytes_max = self.inner.config.session_bytes_max;
        if raw.len() > bytes_max {
            return Err(self.too_large("initialize and its answer are", bytes_max));
        }
        let measured = server.metrics.call(Eras::LEGACY, Method::Initialize, None, ExchangeEnd::Abandoned);
        let (mut operation, Outgoing { headers, .. }) =
            Self::operation(server, None, request, &caller.headers);
        let opening = upstream.open(raw.clone(), 1, &headers).instrument(operation.upstream.clone());
        let opened = tokio::time::timeout(server.requests.timeout, opening).await;
        let opened = match opened.unwrap_or_else(|_| Err(server.upstream.late())) {
            Ok(opened) => opened,
            Err(error) => {
                server.metrics.session_opened(Outcome::Error);
                server.failed(&error);
                measured.ended(ExchangeEnd::UpstreamFailed);
                operation.ended(ExchangeEnd::UpstreamFailed);
                let error = self.other_era(upstream, &asked.protocol_version, error).await;
                return own_refusal(error, request);
            }
        };
        let said = said("initialize", &opened.answer);
        operation.answered(said);
        measured.answered(said);
        if opened.answer.id() != request.id() {
            let upstream = upstream.name().to_owned();
            let what = "its answer to initialize has another id".to_owned();
            return Err(upstream::Error::Invalid { upstream, what }.into());
        }
        let agreed = opened.handle.map(|handle| {
            server.metrics.session_opened(Outcome::Ok);
            let client = ClientFacts {
                protocol_version: handle.protocol_version.clone(),
                initialize: String::from_utf8_lossy(&raw).into_owned(),
                capabilities: legacy::capability_names(&asked.capabilities),
                server_capabilities: opened.server_capabilities,
            };
            (handle, client)
        });
        if let Some((handle, _)) = agreed.as_ref().filter(|(_, client)| client.bytes() > bytes_max) {
            self.close_upstream(&server.name, upstream.clone(), handle.clone());
            return Err(self.too_large("initialize and its answer are", bytes_max));
        }
        let login = server.login.as_ref().filter(|_| agreed.is_some());
        let shown = login.and_then(|login| legacy::with_experimental(&opened.answer, "oauth", login));
        let answer = shown.unwrap_or(opened.answer);
        Ok(Handshake { status: StatusCode::OK, answer, earlier: opened.earlier, agreed })
    }

    pub(super) fn too_large(&self, what: &str, bytes_max: usize) -> Error {
        self.inner.metrics.limit_hit(Limit::SessionBytes);
        let message = format!("{what} larger than {bytes_max} bytes ({})", Limit::SessionBytes.key());
        Error::Refused(Refusal { status: 413, code: codes::SERVER, message, data: None })
    }

    /// An upstream that refused `initialize` may speak the modern era only: the client is told which
    /// versions it has.
    async fn other_era(&self, upstream: &Upstream, asked: &str, error: upstream::Error) -> Error {
        if !matches!(error, upstream::Error::Refused { .. }) {
            return error.into();
        }
        match upstream.eras().await {
            Ok(eras) if !eras.legacy => {
                let supported: Vec<_> = eras.modern.iter().map(String::as_str).collect();
                Error::Refused(modern::unsupported_version(asked, &supported))
            }
            Ok(_) | Err(_) => error.into(),
        }
    }
}

/// An upstream's own JSON-RPC error is an answer, and goes to the client with its status.
fn own_refusal(error: Error, request: &Message) -> Result<Handshake, Error> {
    match &error {
        Error::Upstream(upstream::Error::Refused { status, body, .. }) if !is_login(*status) => {
            let answer = Message::parse(body.clone()).ok().filter(|answer| answer.error().is_some());
            match answer.filter(|answer| answer.id() == request.id()) {
                Some(answer) => Ok(Handshake { status: *status, answer, earlier: Vec::new(), agreed: None }),
                None => Err(error),
            }
        }
        _ => Err(error),
    }
}

/// What an upstream says of our credentials is none of the client's business.
pub(super) fn is_login(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

pub(super) fn refusal(code: i64, message: &str) -> Error {
    Error::Refused(Refusal { status: 400, code, message: message.to_owned(), data: None })
}
