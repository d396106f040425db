//! An MCP server behind TLS, whose certificate a private root has signed.

use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Response;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::upstream::{Asked, Upstream};

pub(crate) struct Secure {
    pub upstream: Upstream,
    /// The file with the root, for who shall trust it.
    pub root: PathBuf,
}

impl Secure {
    /// Offers `protocols`; over HTTP/2 at most `streams_max` requests run on a connection.
    pub(crate) async fn start(
        protocols: &[&str],
        streams_max: u32,
        answer: impl Fn(&Asked) -> Response<Body> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}/mcp", listener.local_addr().unwrap().port());
        let (upstream, routes) = Upstream::answering(url, answer);
        let (config, root) = identity(protocols);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, service) = (acceptor.clone(), TowerToHyperService::new(routes.clone()));
                tokio::spawn(async move {
                    let Ok(socket) = acceptor.accept(socket).await else { return };
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
        Self { upstream, root }
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.root);
    }
}

fn identity(protocols: &[&str]) -> (ServerConfig, PathBuf) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let server = server.signed_by(&key, &authority).unwrap();
    let root = std::env::temp_dir().join(format!("holdfast-root-{}.pem", uuid::Uuid::new_v4()));
    std::fs::write(&root, authority.pem()).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![server.der().clone()], key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    (config, root)
}
