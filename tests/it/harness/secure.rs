//! An MCP server behind TLS, whose certificate a private root has signed.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::Response;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::server::WebPkiClientVerifier;

use super::certificates::Certificates;
use super::upstream::{Asked, Upstream};

pub(crate) struct Secure {
    pub upstream: Upstream,
    /// The file with the root, for who shall trust it.
    pub root: PathBuf,
    /// The certificates that clients have shown, one for each connection.
    pub shown: Arc<Mutex<Vec<Vec<u8>>>>,
    _certificates: Certificates,
}

impl Secure {
    /// Offers `protocols`; over HTTP/2 at most `streams_max` requests run on a connection.
    pub(crate) async fn start(
        protocols: &[&str],
        streams_max: u32,
        answer: impl Fn(&Asked) -> Response<Body> + Send + Sync + 'static,
    ) -> Self {
        let certificates = Certificates::new();
        let config = identity(protocols, &certificates, None);
        Self::speaking(config, certificates, streams_max, answer).await
    }

    /// Lets in only who shows a certificate that `clients` have signed.
    pub(crate) async fn knowing(
        clients: &Certificates,
        answer: impl Fn(&Asked) -> Response<Body> + Send + Sync + 'static,
    ) -> Self {
        let certificates = Certificates::new();
        let config = identity(&["h2", "http/1.1"], &certificates, Some(clients));
        Self::speaking(config, certificates, 100, answer).await
    }

    async fn speaking(
        config: ServerConfig,
        certificates: Certificates,
        streams_max: u32,
        answer: impl Fn(&Asked) -> Response<Body> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}/mcp", listener.local_addr().unwrap().port());
        let (upstream, routes) = Upstream::answering(url, answer);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let shown = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let seen = shown.clone();
        #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, service) = (acceptor.clone(), TowerToHyperService::new(routes.clone()));
                let seen = seen.clone();
                tokio::spawn(async move {
                    let Ok(socket) = acceptor.accept(socket).await else { return };
                    let theirs = socket.get_ref().1.peer_certificates().and_then(<[_]>::first);
                    seen.lock().unwrap().extend(theirs.map(|certificate| certificate.to_vec()));
                    let http2 = socket.get_ref().1.alpn_protocol() == Some(b"h2");
                    let io = TokioIo::new(socket);
                    if http2 {
                        let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        let _ =
                            server.max_concurrent_streams(streams_max).serve_connection(io, service).await;
                    } else {
                        let server = hyper::server::conn::http1::Builder::new();
                        let _ = server.serve_connection(io, service).await;
                    }
                });
            }
        });
        Self { upstream, root: certificates.file("root.pem"), shown, _certificates: certificates }
    }
}

fn identity(protocols: &[&str], certificates: &Certificates, clients: Option<&Certificates>) -> ServerConfig {
    let (certificate, key) = certificates.issue_der();
    let provider = Arc::new(default_provider());
    let config =
        ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let config = match clients {
        None => config.with_no_client_auth(),
        Some(clients) => {
            let roots = Arc::new(clients.roots());
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build().unwrap();
            config.with_client_cert_verifier(verifier)
        }
    };
    let mut config = config.with_single_cert(vec![certificate], key).unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    config
}
