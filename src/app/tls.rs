//! The certificates that the configuration names, for each listener.

use crate::config::{Config, TlsFiles};
use crate::edge::{PemFile, Tls, TlsConfig, TlsFault};

/// What clients are shown.
pub(super) fn clients(config: &Config) -> Result<Option<Tls>, TlsFault> {
    load(config.http.tls.as_ref(), ["http.tls.certificate_file", "http.tls.key_file"])
}

/// What operators are shown.
pub(super) fn operators(config: &Config) -> Result<Option<Tls>, TlsFault> {
    load(config.admin.tls.as_ref(), ["admin.tls.certificate_file", "admin.tls.key_file"])
}

/// Whether what is in the files can be used; that they are there is the configuration's matter.
///
/// # Errors
/// [`TlsFault`].
pub fn check_certificates(config: &Config) -> Result<(), TlsFault> {
    clients(config)?;
    operators(config)?;
    Ok(())
}

fn load(files: Option<&TlsFiles>, [certificate, key]: [&'static str; 2]) -> Result<Option<Tls>, TlsFault> {
    let Some(files) = files.cloned() else { return Ok(None) };
    let config = TlsConfig {
        certificate: PemFile { key: certificate, path: files.certificate_file },
        key: PemFile { key, path: files.key_file },
    };
    Tls::load(config).map(Some)
}
