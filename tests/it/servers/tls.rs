//! A root that nobody but the test trusts, and a server's certificate under it.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::Folder;

pub(crate) struct Tls {
    pub root: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
    _folder: Folder,
}

impl Tls {
    /// For a server at 127.0.0.1.
    pub(crate) fn new() -> Self {
        let folder = Folder::new();
        let mut root = CertificateParams::default();
        // OpenSSL takes a certificate whose issuer has the same name for its own.
        root.distinguished_name.push(DnType::CommonName, "the test's root");
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root_key = KeyPair::generate().unwrap();
        let root_file = folder.write("root.pem", &root.self_signed(&root_key).unwrap().pem());
        let key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let server = server.signed_by(&key, &Issuer::new(root, root_key)).unwrap();
        Self {
            root: root_file,
            certificate: folder.write("server.pem", &server.pem()),
            key: folder.write("server.key", &key.serialize_pem()),
            _folder: folder,
        }
    }
}
