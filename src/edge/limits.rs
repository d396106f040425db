//! The limits of a principal, where its requests come in: refused before anything of them is read, so that
//! a flood costs next to nothing. What runs, is open or lasts is counted by the hub.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use super::error::failed;
use super::{Edge, Who};
use crate::hub::Error;
use crate::limits::{Exceeded, Intake};

/// A client that comes back with its position waits so long: some give a stream up at a 429.
const PATIENCE: Duration = Duration::from_secs(5);

/// Counts the request, whatever it asks for.
pub(super) async fn admit(
    State(edge): State<Edge>,
    Extension(known): Who,
    request: Request,
    next: Next,
) -> Response {
    let resumes = request.method() == Method::GET && request.headers().contains_key("last-event-id");
    let until = Instant::now() + if resumes { PATIENCE } else { Duration::ZERO };
    loop {
        match edge.hub.admit(&known.identity.principal, 1).await {
            Ok(()) => return next.run(request).await,
            Err(Error::Exceeded(Exceeded { wait: Some(wait), .. })) if Instant::now() + wait < until => {
                tokio::time::sleep(wait).await;
            }
            Err(error) => return failed(&edge, &error, None),
        }
    }
}

/// A body that is counted as it is read.
pub(super) struct Counted {
    pub body: Body,
    pub intake: Intake,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(frame.map(|frame| {
            let frame = frame?;
            self.intake.read(frame.data_ref().map_or(0, Bytes::len))?;
            Ok(frame)
        }))
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
