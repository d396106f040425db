//! The keys of a listener's certificate.

use super::cluster::file;
use crate::config::reader::Section;
use crate::config::settings::TlsFiles;

pub(super) const CLIENTS: &str = "TLS 1.2 and 1.3 on `listen`, with HTTP/2 or HTTP/1.1 as agreed on in the handshake, which has to end within `http.header_timeout`. Both files are looked at every two seconds and at SIGHUP: new connections get the new certificate, open ones go on. A pair that does not fit, or can't be read, is named in the log and changes nothing.";

pub(super) const OPERATORS: &str = "The same on `admin.listen`. Probes then have to use `https`.";

pub(super) fn tls(s: &mut Section<'_, '_>) -> Option<TlsFiles> {
    files(
        s,
        "A file with the certificate in PEM, followed by those that lead to its root. None: no TLS is spoken.",
    )
}

/// A certificate, which `doc` describes, and its key.
pub(super) fn files(s: &mut Section<'_, '_>, doc: &'static str) -> Option<TlsFiles> {
    let certificate_file = file(s, "certificate_file", doc);
    let key_file = file(s, "key_file", "A file with the certificate's private key in PEM.");
    match (&certificate_file, &key_file) {
        (Some(_), None) if !s.was_given("key_file") => {
            s.fault(&["certificate_file"], "key_file is missing beside it")
        }
        (None, Some(_)) if !s.was_given("certificate_file") => {
            s.fault(&["key_file"], "certificate_file is missing beside it");
        }
        _ => {}
    }
    Some(TlsFiles { certificate_file: certificate_file?, key_file: key_file? })
}
