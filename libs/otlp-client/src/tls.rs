//! TLS to the collector: the system's authorities, unless a certificate is named; and no certificate of our
//! own, unless one is named with its key. `libs/http` does the rest, and reads the files again when they have
//! changed.

use std::sync::Arc;

use wattrace_api::Error;
use wattrace_http::{ClientTls, Identity, PemFile, ReloadingTls, Tls, TlsError, Trust};

use crate::config::{Settings, TlsFiles};
use crate::signal::Signal;

/// TLS for an `https://` endpoint, with `protocols` as ALPN; none for another.
///
/// # Errors
/// A file that cannot be used; a system without authorities.
pub(crate) fn config(settings: &Settings, protocols: &[&[u8]]) -> Result<Tls, Error> {
    match settings.endpoint.scheme_str() == Some("https") {
        true => client(&settings.tls, protocols, settings.signal),
        false => Ok(Tls::None),
    }
}

fn client(files: &TlsFiles, protocols: &[&[u8]], signal: Signal) -> Result<Tls, Error> {
    let trust = files.authority.clone().map_or(Trust::System, Trust::Authority);
    let identity = files.identity.clone().map(|(certificate, key)| Identity { certificate, key });
    let tls = ReloadingTls::new(ClientTls { trust, identity }, protocols);
    Ok(Arc::new(tls.map_err(|e| named(e, signal))?).into())
}

/// The error with the key and the variable of its file.
fn named(error: TlsError, signal: Signal) -> Error {
    let TlsError::File { file, path, problem } = error else { return Error::fatal(error) };
    let key = match file {
        PemFile::Authority => "certificate",
        PemFile::Certificate => "client_certificate",
        PemFile::Key => "client_key",
    };
    let (section, variable) = (signal.section, key.to_ascii_uppercase());
    Error::fatal(format!(
        "{}: {problem} (set by {section}.{key} or OTEL_EXPORTER_OTLP_{variable})",
        path.display()
    ))
}

#[cfg(test)]
mod tests;
