//! The only place where rustls is configured: which certificates a client trusts and a server asks for, and
//! which one either shows. Files are PEM; they are read when a configuration is made.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

use crate::pinned::Pinned;

/// Which servers a client trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Those whose certificates an authority of the operating system has signed.
    #[default]
    System,
    /// Those whose certificates an authority in this file has signed, or that show a certificate of the file.
    Authority(PathBuf),
    /// Every server. Who can intercept the connection reads everything that is sent.
    Anyone,
}

/// The certificate that one side shows to the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, followed by the intermediate ones.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// TLS of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// Which servers it trusts.
    pub trust: Trust,
    /// Its own certificate, if it has one.
    pub identity: Option<Identity>,
}

/// TLS of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// Its certificate.
    pub identity: Identity,
    /// The authorities that must have signed the clients' certificates. `None`: clients need none.
    pub client_authority: Option<PathBuf>,
}

/// The role of a file that cannot be used, so that the caller can name its configuration key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PemFile {
    /// The authorities that are trusted.
    Authority,
    /// The own certificate.
    Certificate,
    /// The own private key.
    Key,
}

/// TLS cannot be configured.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be used.
    #[error("{}: {problem}", path.display())]
    File {
        /// Its role.
        file: PemFile,
        /// Where it is.
        path: PathBuf,
        /// Why it cannot be used.
        problem: String,
    },
    /// The operating system has no certificates of authorities.
    #[error("this system has no certificates of authorities; install the package ca-certificates")]
    NoSystemRoots,
    /// A fault of the library.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

impl TlsError {
    fn file(file: PemFile, path: &Path, problem: impl fmt::Display) -> Self {
        TlsError::File { file, path: path.to_owned(), problem: problem.to_string() }
    }
}

impl ClientTls {
    /// The configuration of a client that offers `protocols` (ALPN), none if it is empty.
    ///
    /// # Errors
    /// A file that cannot be used; a system without roots.
    pub fn config(&self, protocols: &[&[u8]]) -> Result<Arc<ClientConfig>, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let builder = match &self.trust {
            Trust::System => builder.with_root_certificates(system_roots()?),
            Trust::Authority(path) => {
                let certificates = certificates(PemFile::Authority, path)?;
                let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(path)?), provider);
                let inner = inner.build().map_err(|e| TlsError::file(PemFile::Authority, path, e))?;
                builder.dangerous().with_custom_certificate_verifier(Arc::new(Pinned { inner, certificates }))
            }
            Trust::Anyone => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(NoVerifier(provider)))
            }
        };
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = identity.read()?;
                builder.with_client_auth_cert(chain, key).map_err(|e| identity.mismatch(e))?
            }
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Arc::new(config))
    }
}

impl ServerTls {
    /// The configuration of a server that speaks `protocol` (ALPN).
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn config(&self, protocol: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let builder = match &self.client_authority {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots(path)?), provider).build();
                let verifier = verifier.map_err(|e| TlsError::file(PemFile::Authority, path, e))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let (chain, key) = self.identity.read()?;
        let mut config = builder.with_single_cert(chain, key).map_err(|e| self.identity.mismatch(e))?;
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(Arc::new(config))
    }
}

impl Identity {
    fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let key = PrivateKeyDer::from_pem_file(&self.key);
        let key = key.map_err(|e| TlsError::file(PemFile::Key, &self.key, e))?;
        Ok((certificates(PemFile::Certificate, &self.certificate)?, key))
    }

    fn mismatch(&self, error: rustls::Error) -> TlsError {
        let problem = format!("{error}; does it belong to {}?", self.key.display());
        TlsError::file(PemFile::Certificate, &self.certificate, problem)
    }
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 { Err(TlsError::NoSystemRoots) } else { Ok(roots) }
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(PemFile::Authority, path)? {
        roots.add(certificate).map_err(|e| TlsError::file(PemFile::Authority, path, e))?;
    }
    Ok(roots)
}

fn certificates(file: PemFile, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let all = all.map_err(|e| TlsError::file(file, path, e))?;
    if all.is_empty() {
        return Err(TlsError::file(file, path, "it holds no certificate in PEM"));
    }
    Ok(all)
}

/// Accepts every certificate whose private key the server has.
#[derive(Debug)]
struct NoVerifier(Arc<CryptoProvider>);

impl ServerCertVerifier for NoVerifier {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
