//! The way to a server, counted and timed.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::Full;

use crate::telemetry::ServerMetrics;
use crate::upstream::{BoxError, HttpClient, Received, Transport};

#[derive(Debug)]
struct Metered {
    client: HttpClient,
    server: ServerMetrics,
}

/// The same connections, on which each request is counted under the server's name.
pub(super) fn metered(client: HttpClient, server: &ServerMetrics) -> HttpClient {
    HttpClient::within(Arc::new(Metered { client, server: server.clone() }))
}

impl Transport for Metered {
    fn send(&self, request: Request<Full<Bytes>>) -> BoxFuture<'_, Result<Response<Received>, BoxError>> {
        async move {
            let requested = self.server.request();
            let response = self.client.send(request).await;
            requested.ended(response.as_ref().ok().map(|response| response.status().as_u16()));
            response
        }
        .boxed()
    }
}
