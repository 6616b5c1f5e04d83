//! Who the gateway is, and whether senders must show who they are, over TLS.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use wattrace_api::{Error, ResultExt};

use crate::config::{TlsFiles, bad};

/// The server's side of TLS, for the protocol that `alpn` names.
///
/// # Errors
/// A file that cannot be read or holds something else; the message names the key.
pub(crate) fn server(files: &TlsFiles, alpn: &[u8]) -> Result<Arc<ServerConfig>, Error> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().or_fatal()?;
    let builder = match &files.client_authority {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("client_authority", path)? {
                roots.add(certificate).map_err(|e| unusable("client_authority", path, e))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|e| unusable("client_authority", path, e))?)
        }
    };
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| unusable("key", &files.key, e))?;
    let chain = certificates("certificate", &files.certificate)?;
    let mut config = builder.with_single_cert(chain, key).map_err(|e| {
        let problem = format!("{e}; does it belong to {}?", files.key.display());
        unusable("certificate", &files.certificate, problem)
    })?;
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(Arc::new(config))
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let all = all.map_err(|e| unusable(key, path, e))?;
    if all.is_empty() {
        return Err(unusable(key, path, "it holds no certificate in PEM"));
    }
    Ok(all)
}

fn unusable(key: &str, path: &Path, problem: impl std::fmt::Display) -> Error {
    bad(key, format!("{}: {problem}", path.display()))
}
