//! One HTTP client for all upstreams: connection pool, TLS with the system's roots, HTTP/2 where
//! the server offers it, time limits. Redirects are not followed: an address comes from the
//! configuration only.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper_rustls::ConfigBuilderExt as _;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

use super::connector::Connector;
use super::http2::{Http2, Offered};
use super::received::Received;

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
        Self::with(config, &tls()?)
    }

    /// Trusts what the certificates of a file have signed, and nothing else.
    ///
    /// # Errors
    /// If the file can't be read or has none.
    pub fn trusting(config: &Config, file: &Path) -> std::io::Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(file).map_err(std::io::Error::other)? {
            roots.add(certificate.map_err(std::io::Error::other)?).map_err(std::io::Error::other)?;
        }
        if roots.is_empty() {
            return Err(std::io::Error::other("it has no certificate in PEM"));
        }
        Self::with(config, &builder()?.with_root_certificates(roots).with_no_client_auth())
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
        Ok(Self { way: Way::Network(Arc::new(Network { http1, http2: Http2::new(either, config) })) })
    }

    /// One that goes another way.
    #[must_use]
    pub fn within(transport: Arc<dyn Transport>) -> Self {
        Self { way: Way::Within(transport) }
    }

    /// Sends a request and returns once the response's head is there.
    ///
    /// # Errors
    /// If no connection can be made, or it breaks before the head.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Received>, BoxError> {
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
fn tls() -> std::io::Result<ClientConfig> {
    let rooted = match builder()?.with_native_roots() {
        Ok(rooted) => rooted,
        Err(error) => {
            tracing::warn!(%error, "the system has no trusted root certificates: https:// upstreams can't be verified");
            builder()?.with_root_certificates(RootCertStore::empty())
        }
    };
    Ok(rooted.with_no_client_auth())
}
