//! Certificates with their keys, from files, and their renewal while the process runs: new connections get the new
//! one; a pair that can't be used is named in the log and changes nothing.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rustls::RootCertStore;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::lifecycle::Hangups;
use crate::telemetry::chain;

/// Between two looks at the files. They may be links that change where they lead (Kubernetes), and
/// clocks that are set back: so it is the contents that count.
const LOOK: Duration = Duration::from_secs(2);

/// Where a certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    pub certificate: PemFile,
    pub key: PemFile,
}

/// A file, and the key of the configuration that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PemFile {
    pub key: String,
    pub path: PathBuf,
}

impl fmt::Display for PemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.path.display())
    }
}

/// Why a pair can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("{file} can't be read")]
    Unreadable { file: PemFile, source: io::Error },
    #[error("{file} has no {wanted} that can be read, in PEM")]
    Without { file: PemFile, wanted: &'static str, source: pem::Error },
    #[error("{} and {} can't be used together", .pair.certificate, .pair.key)]
    Unfit { pair: Box<Files>, source: rustls::Error },
    #[error("{file} has a certificate that can't be trusted")]
    Untrusted { file: PemFile, source: rustls::Error },
}

/// The certificates of a file, to be trusted.
///
/// # Errors
/// [`Fault`], also if it has none.
pub fn roots(file: &PemFile) -> Result<RootCertStore, Fault> {
    let contents = read(file)?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&contents, file)? {
        roots.add(certificate).map_err(|source| Fault::Untrusted { file: file.clone(), source })?;
    }
    Ok(roots)
}

fn read(file: &PemFile) -> Result<Vec<u8>, Fault> {
    std::fs::read(&file.path).map_err(|source| Fault::Unreadable { file: file.clone(), source })
}

/// One at least.
fn certificates(contents: &[u8], file: &PemFile) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(contents).collect();
    let found =
        found.and_then(|found| if found.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(found) });
    found.map_err(|source| Fault::Without { file: file.clone(), wanted: "certificate", source })
}

/// A certificate and its key, the newest that could be used.
pub struct Pair {
    files: Files,
    current: Mutex<Current>,
}

struct Current {
    pair: Arc<CertifiedKey>,
    contents: Contents,
}

impl Pair {
    /// # Errors
    /// [`Fault`].
    pub fn load(files: Files) -> Result<Arc<Self>, Fault> {
        let contents = Contents::read(&files)?;
        let pair = contents.pair(&files)?;
        Ok(Arc::new(Self { files, current: Mutex::new(Current { pair, contents }) }))
    }

    /// What the next connection shows.
    #[must_use]
    pub fn shown(&self) -> Arc<CertifiedKey> {
        self.current().pair.clone()
    }

    /// Looks at the files again and again, and at each SIGHUP.
    pub async fn renew(self: Arc<Self>) {
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

    fn look(&self) -> Result<(), Fault> {
        let contents = Contents::read(&self.files)?;
        if self.current().contents == contents {
            return Ok(());
        }
        let pair = contents.pair(&self.files)?;
        *self.current() = Current { pair, contents };
        tracing::info!(file = %self.files.certificate, "a renewed certificate is in use");
        Ok(())
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().expect("no panic while holding it")
    }
}

/// Nothing of a key is ever printed.
impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("files", &self.files).finish_non_exhaustive()
    }
}

/// Both files, as they are.
#[derive(PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Contents {
    fn read(files: &Files) -> Result<Self, Fault> {
        Ok(Self { certificate: read(&files.certificate)?, key: read(&files.key)? })
    }

    fn pair(&self, config: &Files) -> Result<Arc<CertifiedKey>, Fault> {
        let certificates = certificates(&self.certificate, &config.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|source| Fault::Without {
            file: config.key.clone(),
            wanted: "private key",
            source,
        })?;
        let pair = CertifiedKey::from_der(certificates, key, &default_provider())
            .map_err(|source| Fault::Unfit { pair: Box::new(config.clone()), source })?;
        Ok(Arc::new(pair))
    }
}
