//! The certificates that the configuration names: of each listener, and those that servers are shown.

use std::sync::Arc;

use rustls::RootCertStore;

use crate::certificates::{self, Fault, Files, Pair, PemFile};
use crate::config::{Config, TlsFiles};
use crate::edge::Tls;

/// What clients are shown.
pub(super) fn clients(config: &Config) -> Result<Option<Tls>, Fault> {
    Ok(load(config.http.tls.as_ref(), "http.tls")?.map(Tls::showing))
}

/// What operators are shown.
pub(super) fn operators(config: &Config) -> Result<Option<Tls>, Fault> {
    Ok(load(config.admin.tls.as_ref(), "admin.tls")?.map(Tls::showing))
}

/// What a server is shown.
pub(super) fn server(config: &Config, name: &str) -> Result<Option<Arc<Pair>>, Fault> {
    let files = config.servers.get(name).and_then(|server| server.tls.shown.as_ref());
    load(files, &format!("servers.{name}.tls"))
}

/// What a server's certificate has to be signed by, if not by the system's roots.
pub(super) fn roots(config: &Config, name: &str) -> Result<Option<RootCertStore>, Fault> {
    let file = config.servers.get(name).and_then(|server| server.tls.ca_file.clone());
    let file = file.map(|path| PemFile { key: format!("servers.{name}.tls.ca_file"), path });
    file.map(|file| certificates::roots(&file)).transpose()
}

/// Whether what is in the files can be used; that they are there is the configuration's matter.
///
/// # Errors
/// [`Fault`].
pub fn check_certificates(config: &Config) -> Result<(), Fault> {
    clients(config)?;
    operators(config)?;
    for name in config.servers.keys() {
        server(config, name)?;
        roots(config, name)?;
    }
    Ok(())
}

fn load(files: Option<&TlsFiles>, section: &str) -> Result<Option<Arc<Pair>>, Fault> {
    let Some(files) = files.cloned() else { return Ok(None) };
    let certificate = PemFile { key: format!("{section}.certificate_file"), path: files.certificate_file };
    let key = PemFile { key: format!("{section}.key_file"), path: files.key_file };
    Pair::load(Files { certificate, key }).map(Some)
}
