//! One HTTP client for all upstreams: connection pool, TLS with the system's roots, HTTP/2 where
//! the server offers it, time limits. Redirects are not followed: an address comes from the
//! configuration only.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper_rustls::ConfigBuilderExt as _;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::client::{ResolvesClientCert, Resumption, WantsClientCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, SignatureScheme, WantsVerifier};

use super::connector::Connector;
use super::credentials::Credentials;
use super::http2::{Http2, Offered};
use super::received::Received;
use crate::certificates::Pair;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Marks a request (as an extension) that may as well be sent in a new session, if the old one is about to go.
#[derive(Debug, Clone, Copy)]
pub struct Movable;

/// A way to upstreams other than the network: through the node that a request's extension names, or to a
/// server in the same process, as simulations have it.
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Sends a request, and answers once the response's head is there.
    fn send(&self, request: Request<Full<Bytes>>) -> BoxFuture<'_, Result<Response<Received>, BoxError>>;
}

/// Limits of the connections to upstreams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub connect_timeout: Duration,
    /// Idle connections kept for one upstream address.
    pub idle_connections_max: usize,
    pub idle_connection_timeout: Duration,
}

/// A cloneable handle on the connections.
#[derive(Debug, Clone)]
pub struct HttpClient {
    way: Way,
    credentials: Option<Credentials>,
}

#[derive(Debug, Clone)]
enum Way {
    Network(Arc<Network>),
    Within(Arc<dyn Transport>),
}

#[derive(Debug)]
struct Network {
    http1: Client<Connector, Full<Bytes>>,
    http2: Http2,
}

impl HttpClient {
    /// # Errors
    /// If TLS can't be set up.
    pub fn new(config: &Config) -> std::io::Result<Self> {
        Self::secured(config, None, None)
    }

    /// Trusts what these certificates have signed, and nothing else; shows a certificate of its own where a server
    /// asks for one (RFC 8446, section 4.3.2).
    ///
    /// # Errors
    /// If TLS can't be set up.
    pub fn secured(
        config: &Config,
        trusted: Option<RootCertStore>,
        shown: Option<Arc<Pair>>,
    ) -> std::io::Result<Self> {
        let rooted = match trusted {
            Some(roots) => builder()?.with_root_certificates(roots),
            None => with_the_systems_roots()?,
        };
        let tls = match shown {
            None => rooted.with_no_client_auth(),
            Some(pair) => {
                let mut tls = rooted.with_client_cert_resolver(Arc::new(Shown(pair)));
                // A session that goes on is one under the certificate that it began with.
                tls.resumption = Resumption::disabled();
                tls
            }
        };
        Self::with(config, &tls)
    }

    fn with(config: &Config, tls: &ClientConfig) -> std::io::Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(config.connect_timeout));
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_secs(30)));
        tcp.enforce_http(false);
        let https =
            || hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_or_http();
        let http1 = https().enable_http1().wrap_connector(tcp.clone());
        let either = https().enable_all_versions().wrap_connector(tcp);
        let http1 = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(config.idle_connections_max)
            .pool_idle_timeout(config.idle_connection_timeout)
            .build(Connector::new(http1, config.connect_timeout));
        let either = Connector::new(either, config.connect_timeout);
        let network = Network { http1, http2: Http2::new(either, config) };
        Ok(Self { way: Way::Network(Arc::new(network)), credentials: None })
    }

    /// One that goes another way.
    #[must_use]
    pub fn within(transport: Arc<dyn Transport>) -> Self {
        Self { way: Way::Within(transport), credentials: None }
    }

    /// The same connections, on which each request carries these.
    #[must_use]
    pub fn showing(&self, credentials: Credentials) -> Self {
        Self { credentials: Some(credentials), ..self.clone() }
    }

    /// Sends a request and returns once the response's head is there. One that is refused with 401 is sent
    /// again if there may be a newer credential: it did not run.
    ///
    /// # Errors
    /// If there is no credential, no connection can be made, or it breaks before the head.
    pub async fn send(&self, mut request: Request<Full<Bytes>>) -> Result<Response<Received>, BoxError> {
        let Some(credentials) = &self.credentials else { return self.pass(request).await };
        let mut again = request.clone();
        let shown = Box::pin(credentials.put(&mut request)).await?;
        let response = self.pass(request).await?;
        if response.status() != StatusCode::UNAUTHORIZED || !shown.renews().await {
            return Ok(response);
        }
        Box::pin(credentials.put(&mut again)).await?;
        self.pass(again).await
    }

    /// Whether its requests have to come with their clients' tokens, which are exchanged here.
    pub(super) fn exchanges(&self) -> bool {
        self.credentials.as_ref().is_some_and(Credentials::exchanges)
    }

    async fn pass(&self, request: Request<Full<Bytes>>) -> Result<Response<Received>, BoxError> {
        let (http1, http2) = match &self.way {
            Way::Network(network) => (&network.http1, &network.http2),
            Way::Within(transport) => return transport.send(request).await,
        };
        let request = if is_https(request.uri()) {
            // Boxed: its state is large, and most of the futures that hold this one live long.
            match Box::pin(http2.send(request)).await? {
                Offered::Http2(response) => return Ok(response),
                Offered::Http1(request) => request,
            }
        } else {
            request
        };
        let response = http1.request(request).await?;
        Ok(response.map(|body| Received::network(body, None)))
    }
}

fn is_https(uri: &Uri) -> bool {
    uri.scheme() == Some(&http::uri::Scheme::HTTPS)
}

fn builder() -> std::io::Result<ConfigBuilder<ClientConfig, WantsVerifier>> {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)
}

/// Without any roots only upstreams behind TLS are out of reach.
fn with_the_systems_roots() -> std::io::Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
    builder()?.with_native_roots().or_else(|error| {
        tracing::warn!(%error, "the system has no trusted root certificates: https:// upstreams can't be verified");
        Ok(builder()?.with_root_certificates(RootCertStore::empty()))
    })
}

#[derive(Debug)]
struct Shown(Arc<Pair>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.shown())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
