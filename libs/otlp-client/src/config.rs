//! The settings of an exporter that are not about its signal: [`Config`], which is a part of a plugin's
//! configuration, and OpenTelemetry's environment variables become [`Settings`]. The configuration takes
//! precedence.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::Uri;
use hyper::header::{AUTHORIZATION, HeaderMap};
use tracing::warn;
use wattrace_api::{Error, Secret};
use wattrace_http::Proxy;
use wattrace_http::proxy::is_this_machine;

use crate::compression::Compression;
use crate::credentials::Credentials;
use crate::endpoint::{Endpoint, shown};
use crate::env::{self, Env};
use crate::headers;
use crate::protocol::Protocol;
use crate::signal::Signal;

/// What is configured. Plugins have these keys, among others, in their tables. An empty value is that of the
/// environment, or the default.
#[derive(Clone, Default)]
pub struct Config {
    /// URL of the collector. Over HTTP the signal's path is appended to its path. `user:password@` in it is
    /// sent as Basic authentication. By default port 4317 (gRPC) or 4318 (HTTP) of this host.
    pub endpoint: String,
    /// `grpc`, `http/protobuf` or `http/json`. By default `grpc`.
    pub protocol: String,
    /// How long a request may take. By default 10 s.
    pub timeout: Duration,
    /// Headers to send with every request, in addition to those of the environment.
    pub headers: BTreeMap<String, String>,
    /// File with more of them, `Name: value` in each line, which is read before every request.
    pub headers_file: PathBuf,
    /// Sent with every request as `Authorization: Bearer …`.
    pub bearer_token: Secret,
    /// File that holds the bearer token, which is read before every request.
    pub bearer_token_file: PathBuf,
    /// `gzip`, `zstd` or `none`. By default `none`.
    pub compression: String,
    /// PEM file with the authority that signed the collector's certificate. By default the system's.
    pub certificate: PathBuf,
    /// PEM file with the agent's certificate, for collectors that require one.
    pub client_certificate: PathBuf,
    /// PEM file with its private key.
    pub client_key: PathBuf,
}

/// The configuration and the environment, combined.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is sent.
    pub signal: Signal,
    /// Without credentials, which are among the headers.
    pub endpoint: Uri,
    /// The proxies of the environment.
    pub proxy: Proxy,
    /// How requests are sent.
    pub protocol: Protocol,
    /// How long a request may take.
    pub timeout: Duration,
    /// Sent with every request.
    pub(crate) headers: HeaderMap,
    pub(crate) credentials: Credentials,
    /// How requests are compressed.
    pub compression: Compression,
    pub(crate) tls: TlsFiles,
}

/// PEM files for TLS that replace or add to the system's root certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// The authority that signed the collector's certificate.
    pub(crate) authority: Option<PathBuf>,
    /// The agent's certificate and key, for collectors that require one.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

impl Settings {
    /// Combines `config` and `env`.
    ///
    /// # Errors
    /// An invalid value of the configuration, or an endpoint that is no URL; the message names the key or the
    /// variable. Other invalid variables are logged and ignored.
    pub fn resolve(config: Config, env: &Env<'_>) -> Result<Self, Error> {
        let protocol = Protocol::resolve(&config.protocol, env)?;
        let endpoint = Endpoint::resolve(&config.endpoint, protocol, env)?;
        let credentials =
            Credentials::new(&config.bearer_token, &config.bearer_token_file, &config.headers_file, env)?;
        let headers = headers::resolve(&config.headers, env)?;
        let headers = headers::authorized(headers, &endpoint, credentials.has_token(), env)?;
        let endpoint = endpoint.uri;
        let is_secret = credentials.is_any() || headers.contains_key(AUTHORIZATION);
        if is_secret && endpoint.scheme_str() == Some("http") && !is_this_machine(&endpoint) {
            warn!(
                "{}: without TLS anyone on the network can read the credentials sent to {}: use https",
                env.signal.section,
                shown(&endpoint)
            );
        }
        Ok(Self {
            signal: env.signal,
            endpoint,
            proxy: Proxy::from_variables(|name| env.get(name)),
            protocol,
            timeout: timeout(config.timeout, env),
            headers,
            credentials,
            compression: Compression::resolve(&config.compression, env)?,
            tls: TlsFiles::resolve(&config, env)?,
        })
    }
}

fn timeout(configured: Duration, env: &Env<'_>) -> Duration {
    if !configured.is_zero() {
        return configured;
    }
    let variable = env.exporter("TIMEOUT");
    variable.and_then(|(name, value)| env::millis(&name, &value)).unwrap_or(DEFAULT_TIMEOUT)
}

impl TlsFiles {
    fn resolve(config: &Config, env: &Env<'_>) -> Result<Self, Error> {
        let file = |configured: &Path, what| match configured.as_os_str().is_empty() {
            true => env.exporter(what).map(|(_, path)| PathBuf::from(path)),
            false => Some(configured.to_owned()),
        };
        let authority = file(&config.certificate, "CERTIFICATE");
        let certificate = file(&config.client_certificate, "CLIENT_CERTIFICATE");
        let identity = match (certificate, file(&config.client_key, "CLIENT_KEY")) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (certificate, _) => {
                let (one, other) = match certificate {
                    Some(_) => ("client_certificate", "client_key"),
                    None => ("client_key", "client_certificate"),
                };
                let missing = format!(
                    "it needs {other} too, or OTEL_EXPORTER_OTLP_{}: certificate and key belong together",
                    other.to_ascii_uppercase()
                );
                if !config.client_certificate.as_os_str().is_empty()
                    || !config.client_key.as_os_str().is_empty()
                {
                    return Err(env.bad(one, missing));
                }
                warn!("OTEL_EXPORTER_OTLP_{} is ignored: {missing}", one.to_ascii_uppercase());
                None
            }
        };
        Ok(Self { authority, identity })
    }
}

#[cfg(test)]
mod tests;
