//! One HTTP client for all upstreams: connection pool, TLS with the system's roots, HTTP/2 where
//! the server offers it, time limits. Redirects are not followed: an address comes from the
//! configuration only.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};

/// Limits of the connections to upstreams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub connect_timeout: Duration,
    /// Idle connections kept for one upstream address.
    pub idle_connections_max: usize,
    pub idle_connection_timeout: Duration,
}

/// A cloneable handle on the pool.
#[derive(Debug, Clone)]
pub struct HttpClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl HttpClient {
    /// # Errors
    /// If the system's root certificates can't be read.
    pub fn new(config: &Config) -> std::io::Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(config.connect_timeout));
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_secs(30)));
        tcp.enforce_http(false);
        let tls = hyper_rustls::HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())?
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(config.idle_connections_max)
            .pool_idle_timeout(config.idle_connection_timeout)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .http2_adaptive_window(true)
            .timer(TokioTimer::new())
            .build(tls);
        Ok(Self { client })
    }

    /// Sends a request and returns once the response's head is there.
    ///
    /// # Errors
    /// If no connection can be made, or it breaks before the head.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Error> {
        self.client.request(request).await
    }
}
