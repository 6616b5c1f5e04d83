//! Certificates for tests: an authority, and what it signs, as PEM and as rustls configurations.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic: that is how tests fail")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;

use crate::tls::{Identity, ServerTls};

/// A certificate authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// One that nobody else knows.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own certificate, in PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Writes its certificate to the file `name` in `directory`.
    pub fn write(&self, directory: &Path, name: &str) -> PathBuf {
        let path = directory.join(name);
        std::fs::write(&path, self.pem()).unwrap();
        path
    }

    /// Writes a certificate for `host` and its key to `NAME.pem` and `NAME.key` in `directory`.
    pub fn issue(&self, directory: &Path, name: &str, host: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec![host.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        let path = |extension: &str| directory.join(format!("{name}.{extension}"));
        let identity = Identity { certificate: path("pem"), key: path("key") };
        std::fs::write(&identity.certificate, certificate.pem()).unwrap();
        std::fs::write(&identity.key, key.serialize_pem()).unwrap();
        identity
    }

    /// The configuration of a server `host` that speaks `protocol` (ALPN).
    pub fn server(&self, host: &str, protocol: &[u8]) -> Arc<ServerConfig> {
        let directory = tempfile::tempdir().unwrap();
        let identity = self.issue(directory.path(), "server", host);
        ServerTls { identity, client_authority: None }.config(protocol).unwrap()
    }
}

/// The configuration of a server `host` whose certificate is signed by nobody else, marked as an authority's,
/// as `openssl req -x509` makes them; and the file `NAME.pem` in `directory` with that certificate.
pub fn self_signed(directory: &Path, name: &str, host: &str) -> (Arc<ServerConfig>, PathBuf) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let path = |extension: &str| directory.join(format!("{name}.{extension}"));
    let identity = Identity { certificate: path("pem"), key: path("key") };
    std::fs::write(&identity.certificate, params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(&identity.key, key.serialize_pem()).unwrap();
    let file = identity.certificate.clone();
    (ServerTls { identity, client_authority: None }.config(b"http/1.1").unwrap(), file)
}

/// Writes a private key that belongs to no certificate to the file `name` in `directory`.
pub fn write_key(directory: &Path, name: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    path
}
