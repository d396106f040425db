//! The body of an upstream's response. Over HTTP/2 it holds a place on its connection to its end.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::http2::Place;

#[derive(Debug)]
pub struct Received {
    body: Incoming,
    place: Option<Place>,
}

impl Received {
    pub(super) const fn holding(body: Incoming, place: Place) -> Self {
        Self { body, place: Some(place) }
    }
}

impl From<Incoming> for Received {
    fn from(body: Incoming) -> Self {
        Self { body, place: None }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.place = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
