//! Whom to trust and who to be over TLS: the system's roots, unless OTEL_EXPORTER_OTLP_CERTIFICATE names an
//! authority; and nobody, unless OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and _CLIENT_KEY say otherwise.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use hyper_rustls::ConfigBuilderExt;
use rustls::client::WantsClientCert;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};
use wattrace_api::{Error, ResultExt};

use crate::config::TlsFiles;

/// For tonic.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn for_grpc(files: &TlsFiles) -> Result<ClientTlsConfig, Error> {
    let mut tls = match &files.authority {
        Some(path) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(path)?)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    if let Some((certificate, key)) = &files.identity {
        tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    Ok(tls)
}

/// For hyper.
///
/// # Errors
/// A file that cannot be read or holds no certificate or key; a system without roots.
pub(crate) fn for_http(files: &TlsFiles) -> Result<ClientConfig, Error> {
    let verified = match &files.authority {
        Some(path) => builder()?.with_root_certificates(authority(path)?),
        None => builder()?.with_native_roots().map_err(|e| {
            Error::fatal(format!("no certificates of authorities: {e}; install the package ca-certificates"))
        })?,
    };
    identified(verified, files)
}

/// For plain HTTP, where it is asked for nothing.
///
/// # Errors
/// None in practice.
pub(crate) fn none() -> Result<ClientConfig, Error> {
    Ok(builder()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, Error> {
    let provider = Arc::new(ring::default_provider());
    ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().or_fatal()
}

fn authority(path: &Path) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|e| unusable(path, e))?;
    }
    Ok(roots)
}

fn identified(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    files: &TlsFiles,
) -> Result<ClientConfig, Error> {
    let Some((certificate, key)) = &files.identity else { return Ok(builder.with_no_client_auth()) };
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| unusable(key, e))?;
    builder.with_client_auth_cert(certificates(certificate)?, private).map_err(|e| unusable(certificate, e))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let all = all.map_err(|e| unusable(path, e))?;
    if all.is_empty() {
        return Err(unusable(path, "it holds no certificate"));
    }
    Ok(all)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|e| unusable(path, e))
}

fn unusable(path: &Path, problem: impl std::fmt::Display) -> Error {
    let path = path.display();
    Error::fatal(format!("{path}, named by OTEL_EXPORTER_OTLP_*CERTIFICATE or _CLIENT_KEY: {problem}"))
}

#[cfg(test)]
mod tests;
