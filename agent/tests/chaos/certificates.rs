//! An authority, and the TLS configurations of a server on loopback whose certificate it signed: one that is
//! valid, and one whose certificate expired years ago.

use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_rustls::TlsAcceptor;
use wattrace_http::{Identity, ServerTls};

/// How connections are encrypted.
#[derive(Clone)]
pub(crate) struct Certificates {
    pub(crate) valid: TlsAcceptor,
    pub(crate) expired: TlsAcceptor,
}

impl Certificates {
    /// Writes the authority's own certificate to the file `authority`.
    pub(crate) fn new(authority: &Path) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(authority, issuer.pem()).unwrap();
        let acceptor = |is_expired: bool| {
            let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
            if is_expired {
                params.not_before = rcgen::date_time_ymd(2001, 1, 1);
                params.not_after = rcgen::date_time_ymd(2002, 1, 1);
            }
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &issuer).unwrap();
            let dir = tempfile::tempdir().unwrap();
            let path = |name: &str| dir.path().join(name);
            let identity = Identity { certificate: path("certificate.pem"), key: path("key.pem") };
            std::fs::write(&identity.certificate, certificate.pem()).unwrap();
            std::fs::write(&identity.key, key.serialize_pem()).unwrap();
            let config = ServerTls { identity, client_authority: None }.config(b"h2").unwrap();
            let mut config = (*config).clone();
            config.alpn_protocols.push(b"http/1.1".to_vec());
            TlsAcceptor::from(Arc::new(config))
        };
        Self { valid: acceptor(false), expired: acceptor(true) }
    }
}
