//! TLS on a listener, with the certificate that clients are shown.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::certificates::Pair;

/// What is spoken over TLS, the best first (RFC 7301).
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// A cloneable handle on a listener's certificate.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    pair: Arc<Pair>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("pair", &self.pair).finish_non_exhaustive()
    }
}

impl Tls {
    #[must_use]
    pub fn showing(pair: Arc<Pair>) -> Self {
        let versions = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has suites for TLS 1.2 and 1.3");
        let mut server = versions.with_no_client_auth().with_cert_resolver(Arc::new(Shown(pair.clone())));
        server.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Self { acceptor: TlsAcceptor::from(Arc::new(server)), pair }
    }

    pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        socket: S,
    ) -> io::Result<TlsStream<S>> {
        self.acceptor.accept(socket).await
    }

    /// Looks at its files again and again, and at each SIGHUP.
    pub(super) async fn renew(self) {
        self.pair.renew().await;
    }
}

#[derive(Debug)]
struct Shown(Arc<Pair>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.shown())
    }
}
