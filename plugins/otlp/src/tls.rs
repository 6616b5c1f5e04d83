//! TLS to the collector: the system's authorities, unless OTEL_EXPORTER_OTLP_CERTIFICATE names one; and no
//! certificate of our own, unless OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and _CLIENT_KEY name one. `libs/http`
//! does the rest.

use std::sync::Arc;

use rustls::ClientConfig;
use wattrace_api::Error;
use wattrace_http::{ClientTls, Identity, TlsError, Trust};

use crate::config::{Settings, TlsFiles};

/// The configuration for an `https://` endpoint, with `protocols` as ALPN. `None`: the endpoint has no TLS.
///
/// # Errors
/// A file that cannot be used; a system without authorities.
pub(crate) fn config(settings: &Settings, protocols: &[&[u8]]) -> Result<Option<Arc<ClientConfig>>, Error> {
    let is_tls = settings.endpoint.scheme_str() == Some("https");
    is_tls.then(|| client(&settings.tls, protocols)).transpose()
}

fn client(files: &TlsFiles, protocols: &[&[u8]]) -> Result<Arc<ClientConfig>, Error> {
    let trust = files.authority.clone().map_or(Trust::System, Trust::Authority);
    let identity = files.identity.clone().map(|(certificate, key)| Identity { certificate, key });
    ClientTls { trust, identity }.config(protocols).map_err(|e| match e {
        TlsError::File { path, problem, .. } => Error::fatal(format!(
            "{}, set by OTEL_EXPORTER_OTLP_*CERTIFICATE or _CLIENT_KEY: {problem}",
            path.display()
        )),
        e => Error::fatal(e),
    })
}

#[cfg(test)]
mod tests;
