//! Whom a Redis behind TLS is believed to be: by the system's roots, or by those of a file alone.

use std::path::Path;
use std::sync::Arc;

use fred::types::config::TlsConnector;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::{ClientConfig, RootCertStore};

use super::connect::ConnectError;

pub(super) fn connector(ca_file: Option<&Path>) -> Result<TlsConnector, ConnectError> {
    let Some(path) = ca_file else {
        let system = TlsConnector::default_rustls();
        return system.map_err(|error| ConnectError::Tls(error.details().to_owned()));
    };
    let unread = |error: PemError| match error {
        PemError::Io(error) => ConnectError::File(path.to_owned(), error),
        other => ConnectError::Tls(format!("{}: {other}", path.display())),
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(unread)? {
        let added = roots.add(certificate.map_err(unread)?);
        added.map_err(|error| ConnectError::Tls(format!("{}: {error}", path.display())))?;
    }
    if roots.is_empty() {
        return Err(ConnectError::Tls(format!("{} holds no certificate", path.display())));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| ConnectError::Tls(error.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth().into())
}
