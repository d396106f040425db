//! TLS on a listener: the certificate that clients are shown, and its renewal while the process runs.
//! New connections get the new one; a pair that can't be used is named in the log and changes nothing.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::lifecycle::Hangups;
use crate::telemetry::chain;

/// Between two looks at the files. They may be links that change where they lead (Kubernetes), and
/// clocks that are set back: so it is the contents that count.
const LOOK: Duration = Duration::from_secs(2);

/// What is spoken over TLS, the best first (RFC 7301).
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where a certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    pub certificate: PemFile,
    pub key: PemFile,
}

/// A file, and the key of the configuration that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PemFile {
    pub key: &'static str,
    pub path: PathBuf,
}

impl fmt::Display for PemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.path.display())
    }
}

/// Why a pair can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsFault {
    #[error("{file} can't be read")]
    Unreadable { file: PemFile, source: io::Error },
    #[error("{file} has no {wanted} that can be read, in PEM")]
    Without { file: PemFile, wanted: &'static str, source: pem::Error },
    #[error("{} and {} can't be used together", .pair.certificate, .pair.key)]
    Unfit { pair: Box<TlsConfig>, source: rustls::Error },
}

/// A cloneable handle on a listener's certificate.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    shown: Arc<Shown>,
    config: Arc<TlsConfig>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Tls {
    /// # Errors
    /// [`TlsFault`].
    pub fn load(config: TlsConfig) -> Result<Self, TlsFault> {
        let contents = Contents::read(&config)?;
        let pair = contents.pair(&config)?;
        let shown = Arc::new(Shown(Mutex::new(Current { pair, contents })));
        let versions = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has suites for TLS 1.2 and 1.3");
        let mut server = versions.with_no_client_auth().with_cert_resolver(shown.clone());
        server.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(server)), shown, config: Arc::new(config) })
    }

    pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        socket: S,
    ) -> io::Result<TlsStream<S>> {
        self.acceptor.accept(socket).await
    }

    /// Looks at the files again and again, and at each SIGHUP.
    pub(super) async fn renew(self) {
        let mut hangups = Hangups::heard();
        let (mut fault_seen, mut times) = (String::new(), 0);
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = hangups.next() => {}
            }
            let looking = self.clone();
            let looked = tokio::task::spawn_blocking(move || looking.look()).await;
            let Err(fault) = looked.unwrap_or(Ok(())) else {
                times = 0;
                continue;
            };
            let fault = chain(&fault).to_string();
            times = if fault == fault_seen { times + 1 } else { 1 };
            // A pair is often written one file after the other: what is seen once may be half of it.
            if times == 2 {
                tracing::warn!(error = fault, "a certificate can't be renewed: the one before it stays");
            }
            fault_seen = fault;
        }
    }

    fn look(&self) -> Result<(), TlsFault> {
        let contents = Contents::read(&self.config)?;
        if self.shown.current().contents == contents {
            return Ok(());
        }
        let pair = contents.pair(&self.config)?;
        *self.shown.current() = Current { pair, contents };
        tracing::info!(file = %self.config.certificate, "a renewed certificate is in use");
        Ok(())
    }
}

/// What the next client is shown.
struct Shown(Mutex<Current>);

struct Current {
    pair: Arc<CertifiedKey>,
    contents: Contents,
}

impl Shown {
    fn current(&self) -> MutexGuard<'_, Current> {
        self.0.lock().expect("no panic while holding it")
    }
}

/// Nothing of a key is ever printed.
impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current().pair.clone())
    }
}

/// Both files, as they are.
#[derive(PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Contents {
    fn read(config: &TlsConfig) -> Result<Self, TlsFault> {
        let read = |file: &PemFile| {
            std::fs::read(&file.path).map_err(|source| TlsFault::Unreadable { file: file.clone(), source })
        };
        Ok(Self { certificate: read(&config.certificate)?, key: read(&config.key)? })
    }

    fn pair(&self, config: &TlsConfig) -> Result<Arc<CertifiedKey>, TlsFault> {
        let without =
            |file: &PemFile, wanted, source| TlsFault::Without { file: file.clone(), wanted, source };
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.certificate).collect();
        let certificates = certificates.and_then(|found| match found.is_empty() {
            true => Err(pem::Error::NoItemsFound),
            false => Ok(found),
        });
        let certificates =
            certificates.map_err(|source| without(&config.certificate, "certificate", source))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|source| without(&config.key, "private key", source))?;
        let pair = CertifiedKey::from_der(certificates, key, &default_provider())
            .map_err(|source| TlsFault::Unfit { pair: Box::new(config.clone()), source })?;
        Ok(Arc::new(pair))
    }
}
