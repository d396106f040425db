//! Legacy requests without a session: each stands alone. Where the upstream insists on a session, it
//! gets one for this request, which ends with it.

use std::sync::Arc;

use http::StatusCode;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::call::Call;
use super::farewell::Unkept;
use super::post::{Form, Reply};
use super::progress::Calling;
use super::server::Server;
use super::traced::Outgoing;
use super::{Caller, Error, Hub};
use crate::domain::UpstreamHandle;
use crate::protocol::jsonrpc::{self, Id, Kind, Message};
use crate::protocol::version::LegacyVersion;
use crate::telemetry::{Era, Eras};
use crate::upstream::{self, Answers};

impl Hub {
    /// One message of a client that has no session, by itself or of a batch.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub async fn post_stateless(
        &self,
        server: &Arc<Server>,
        caller: &Caller,
        message: &Message,
        version: LegacyVersion,
        batch: bool,
    ) -> Result<Reply, Error> {
        match message.kind() {
            Kind::Request { .. } => {}
            Kind::Notification { .. } | Kind::Response { .. } => {
                let (alone, since) = (without_session(version), Instant::now());
                let (mut operation, Outgoing { raw, headers }) =
                    Self::operation(server, None, message, &caller.headers);
                let told = server.upstream.notify(Some(&alone), raw, &headers);
                let told = told.instrument(operation.upstream.clone()).await;
                server.notified(message, told.as_ref().err(), since, &mut operation);
                return match told {
                    Ok(()) => Ok(Reply::Accepted),
                    // It wants a session, and this message none of its own: there is nothing to hear it.
                    Err(upstream::Error::Refused { status, .. }) if wants_session(status) => {
                        self.inner.metrics.answer_dropped();
                        Ok(Reply::Accepted)
                    }
                    Err(error) => Err(error.into()),
                };
            }
        }
        let place = self.running_place(&caller.principal)?;
        let calling = |outgoing| -> Calling {
            let (hub, server) = (self.clone(), server.clone());
            Box::pin(async move { hub.call_alone(&server, outgoing, version).await })
        };
        let passes = !batch && Form::from(server.answers) != Form::Sse;
        let asked = (message, &caller.headers);
        let call = Call::alone(self, server, asked, calling, true, passes, Eras::LEGACY).counted(place);
        self.follow(server, (&caller.principal, Era::Legacy), call, None, None).await
    }

    async fn call_alone(
        &self,
        server: &Arc<Server>,
        Outgoing { raw, headers }: Outgoing,
        version: LegacyVersion,
    ) -> Result<Answers, Error> {
        let alone = without_session(version);
        if !server.upstream.keeps_sessions() {
            match server.upstream.call(Some(&alone), raw.clone(), &headers).await {
                Err(upstream::Error::Refused { status, .. }) if wants_session(status) => {}
                other => return Ok(other?),
            }
        }
        let params = format!(
            r#"{{"protocolVersion":"{}","capabilities":{{}},"clientInfo":{{"name":"holdfast","version":"{}"}}}}"#,
            version.as_str(),
            env!("CARGO_PKG_VERSION")
        );
        let initialize = jsonrpc::request(&Id::string("holdfast-alone"), "initialize", Some(&params));
        let upstream = server.reached_by(&headers);
        let handle = upstream.reopen(initialize, 1).await?;
        // It ends with the answers, or before them if the client goes.
        let own = Unkept::new(self, server, upstream.clone(), handle.clone());
        let answers = upstream.call(Some(&handle), raw, &headers).await?;
        Ok(answers.with_guard(Box::new(own)))
    }
}

fn without_session(version: LegacyVersion) -> UpstreamHandle {
    UpstreamHandle { generation: 0, session: None, node: None, protocol_version: version.as_str().to_owned() }
}

/// What servers answer to a request that lacks its session (L24).
fn wants_session(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::UNPROCESSABLE_ENTITY)
}
