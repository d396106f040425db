//! How far a request has come at its server.

use futures::future::BoxFuture;
use tracing::{Instrument as _, Span};

use super::Error;
use crate::protocol::jsonrpc::Id;
use crate::upstream::{Answers, Heard};

/// Sends a request.
pub(super) type Calling = BoxFuture<'static, Result<Answers, Error>>;

/// Dropping it drops the connection.
pub(super) enum Progress {
    Calling(Calling),
    Reading(Box<Answers>),
    Done,
}

impl Progress {
    /// What the server says next, in `span`; a result may pass in pieces if it answers `passing`. Safe to drop and call
    /// again.
    pub(super) async fn next(&mut self, passing: Option<&Id>, span: &Span) -> Result<Option<Heard>, Error> {
        async {
            loop {
                match self {
                    Self::Calling(calling) => *self = Self::Reading(Box::new(calling.await?)),
                    Self::Reading(answers) => return Ok(answers.hear(passing).await?),
                    Self::Done => return Ok(None),
                }
            }
        }
        .instrument(span.clone())
        .await
    }
}
