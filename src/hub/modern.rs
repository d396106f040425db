//! Modern requests: each stands alone, and its connection is its life (M5 to M8). What the upstream
//! says is passed on as it comes; a client that closes the stream cancels (the upstream's connection
//! is dropped with ours).

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::ready;
use futures::stream::{BoxStream, iter, unfold};
use http::StatusCode;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::body::StreamBody;
use super::call::Call;
use super::deadline::reached;
use super::post::{Form, Reply};
use super::progress::Calling;
use super::server::Server;
use super::step::{Final, Step};
use super::traced::Outgoing;
use super::{Caller, Error, Hub, StreamPlace};
use crate::domain::{Principal, StreamKind};
use crate::protocol::jsonrpc::{Id, Kind, Message};
use crate::protocol::modern;
use crate::protocol::sse::Frame;
use crate::protocol::version::LegacyVersion;
use crate::telemetry::{Era, Eras};

/// The one method whose answer is meant to stay open (M19).
const LISTEN: &str = "subscriptions/listen";

impl Hub {
    /// Passes one modern request or notification to the upstream.
    ///
    /// # Errors
    /// [`Error::Refused`] with the versions that the upstream has if this one is not among them, and
    /// as [`Error`] says.
    pub async fn pass(
        &self,
        server: &Arc<Server>,
        caller: &Caller,
        message: &Message,
        version: &str,
    ) -> Result<Reply, Error> {
        let listening = message.is_request() && message.method() == Some(LISTEN);
        // First: nobody is asked for nothing. What listens is a stream for as long as it lasts, whatever its
        // answer looks like.
        let stream = listening.then(|| self.modern_stream(server, &caller.principal)).transpose()?;
        let eras = server.reached_by(&caller.headers).eras().await?;
        if !eras.modern.iter().any(|supported| supported == version) {
            let legacy = LegacyVersion::ALL.iter().map(|version| version.as_str()).filter(|_| eras.legacy);
            let supported: Vec<_> = eras.modern.iter().map(String::as_str).chain(legacy).collect();
            return Err(Error::Refused(modern::unsupported_version(version, &supported)));
        }
        match message.kind() {
            Kind::Request { .. } => {}
            Kind::Notification { .. } | Kind::Response { .. } => {
                let since = Instant::now();
                let (mut operation, Outgoing { raw, headers }) =
                    Self::operation(server, None, message, &caller.headers);
                let told = server.upstream.notify(None, raw, &headers);
                let told = told.instrument(operation.upstream.clone()).await;
                server.notified(message, told.as_ref().err(), since, &mut operation);
                told?;
                return Ok(Reply::Accepted);
            }
        }
        let place = (!listening).then(|| self.running_place(&caller.principal)).transpose()?;
        let calling = |Outgoing { raw, headers }| -> Calling {
            let server = server.clone();
            Box::pin(async move { Ok(server.upstream.call(None, raw, &headers).await?) })
        };
        let passes = Form::from(server.answers) != Form::Sse;
        let headers = &caller.headers;
        let mut call =
            Call::alone(self, server, (message, headers), calling, !listening, passes, Eras::MODERN);
        if let Some(place) = place {
            call = call.counted(place);
        }
        let farewell = listening.then(|| message.id().map(listening_ended)).flatten();
        self.follow(server, (&caller.principal, Era::Modern), call, stream, farewell).await
    }

    fn modern_stream(&self, server: &Server, of: &Principal) -> Result<StreamPlace, Error> {
        self.stream_place(Some(server), of, (Era::Modern, StreamKind::Post), false)
    }

    /// Answers with JSON or a stream, as the call's first message decides: on `stream`, or if there is none on
    /// one for which there may be no place. Then it is answered in JSON: its request has been sent.
    pub(super) async fn follow(
        &self,
        server: &Server,
        (principal, era): (&Principal, Era),
        mut call: Call,
        mut stream: Option<StreamPlace>,
        farewell: Option<Bytes>,
    ) -> Result<Reply, Error> {
        let gauge = self.inner.metrics.exchange();
        let kind = (era, StreamKind::Post);
        let mut form = Form::from(server.answers);
        let wait = match form {
            Form::Auto | Form::OnHttpSse => Some(server.requests.json_wait),
            Form::Sse => Some(std::time::Duration::ZERO),
            Form::Json => None,
        };
        let mut until = wait.map(|wait| Instant::now() + wait);
        let in_json = |status, body| {
            self.inner.metrics.answered_in_json();
            Ok(Reply::Json { status, body })
        };
        let (place, first) = loop {
            let step = tokio::select! {
                biased;
                step = call.step() => Some(step.ok_or(Error::Abandoned("it ended without an answer"))?),
                () = reached(until) => None,
            };
            let first = match step {
                Some(Step::Position(_)) => continue,
                Some(Step::Long(passage)) => {
                    self.inner.metrics.answered_in_json();
                    return Ok(Reply::Passing(passage.begin(None)));
                }
                Some(Step::Final(Final { outcome: Err(error), .. })) => return Err(error),
                Some(Step::Final(Final { outcome: Ok(status), payload, .. })) if form != Form::Sse => {
                    return in_json(status, payload);
                }
                // There is no other stream that could take it.
                Some(Step::Message(_)) if form == Form::Json => {
                    self.inner.metrics.answer_dropped();
                    continue;
                }
                first => first,
            };
            let place =
                stream.take().map_or_else(|| self.stream_place(Some(server), principal, kind, false), Ok);
            match place {
                Ok(place) => break (place, first),
                Err(error) => tracing::debug!(%error, "a request is answered in JSON for want of a stream"),
            }
            (form, until) = (Form::Json, None);
            match first {
                Some(Step::Final(Final { outcome: Ok(status), payload, .. })) => {
                    return in_json(status, payload);
                }
                Some(_) => self.inner.metrics.answer_dropped(),
                None => {}
            }
        };
        let rest = unfold((call, gauge), |(mut call, gauge)| async move {
            let step = match call.step().await? {
                Step::Long(passage) => Step::Final(passage.whole().await),
                step => step,
            };
            Some((step, (call, gauge)))
        });
        let frames: BoxStream<'static, Bytes> =
            Box::pin(iter(first).chain(rest).filter_map(|step| ready(frame(&step))));
        Ok(Reply::Stream(StreamBody::passing(self, place, frames, farewell)))
    }
}

fn frame(step: &Step) -> Option<Bytes> {
    let payload = match step {
        Step::Message(answer) => answer.message.raw(),
        Step::Final(last) => &last.payload,
        // This stream can't be resumed.
        Step::Position(_) => return None,
        // Held until it was whole.
        Step::Long(_) => return None,
    };
    Some(Frame { event: Some("message"), data: Some(payload), ..Frame::default() }.encode())
}

/// The result that ends a `subscriptions/listen` in good order (M19).
fn listening_ended(id: &Id) -> Bytes {
    let result = format!(
        r#"{{"resultType":"complete","_meta":{{"{}":{}}}}}"#,
        modern::META_SUBSCRIPTION_ID,
        id.as_json()
    );
    let payload = crate::protocol::jsonrpc::result(id, &result);
    Frame { event: Some("message"), data: Some(&payload), ..Frame::default() }.encode()
}

/// The HTTP status of a reply, for those who log it.
impl Reply {
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Accepted => StatusCode::ACCEPTED,
            Self::Json { status, .. } => *status,
            Self::Passing(_) | Self::Stream(_) => StatusCode::OK,
        }
    }
}
