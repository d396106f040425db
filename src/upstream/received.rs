//! The body of an upstream's response. Over HTTP/2 it holds a place on its connection to its end.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;

use super::http_client::BoxError;
use super::http2::Place;

#[derive(Debug)]
pub struct Received {
    body: From,
    place: Option<Place>,
}

enum From {
    Network(Incoming),
    Within(UnsyncBoxBody<Bytes, BoxError>),
}

impl Received {
    pub(super) const fn network(body: Incoming, place: Option<Place>) -> Self {
        Self { body: From::Network(body), place }
    }

    /// What a [`super::Transport`] of one's own answers with.
    #[must_use]
    pub fn within(body: impl Body<Data = Bytes, Error = BoxError> + Send + 'static) -> Self {
        Self { body: From::Within(UnsyncBoxBody::new(body)), place: None }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = match &mut self.body {
            From::Network(body) => {
                Pin::new(body).poll_frame(context).map(|frame| frame.map(|read| read.map_err(BoxError::from)))
            }
            From::Within(body) => Pin::new(body).poll_frame(context),
        };
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.place = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            From::Network(body) => body.is_end_stream(),
            From::Within(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            From::Network(body) => body.size_hint(),
            From::Within(body) => body.size_hint(),
        }
    }
}

impl fmt::Debug for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network(_) => "Network",
            Self::Within(_) => "Within",
        })
    }
}
