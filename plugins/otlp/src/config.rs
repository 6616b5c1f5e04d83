//! The plugin's configuration. Together with OpenTelemetry's environment variables (`env`) it becomes
//! [`Settings`]; the configuration takes precedence.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use tracing::warn;
use wattrace_api::{Error, Secret};
use wattrace_http::Proxy;
use wattrace_http::proxy::is_this_machine;

use crate::endpoint::{Endpoint, shown};
use crate::env::{self, Env};
use crate::protocol::Protocol;
use crate::token::Token;

/// `[plugins.otlp]`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OtlpConfig {
    /// URL of the collector. Over HTTP `/v1/metrics` is appended to its path. `user:password@` in it is sent
    /// as Basic authentication. Empty: the value of OTEL_EXPORTER_OTLP_METRICS_ENDPOINT or
    /// OTEL_EXPORTER_OTLP_ENDPOINT, else port 4317 (gRPC) or 4318 (HTTP) of this host.
    pub endpoint: String,
    /// `grpc` or `http/protobuf`. Empty: the value of OTEL_EXPORTER_OTLP_PROTOCOL, else `grpc`.
    pub protocol: String,
    /// Time between exports. 0s: the value of OTEL_METRIC_EXPORT_INTERVAL, else 10 s.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// How long a request may take. 0s: the value of OTEL_EXPORTER_OTLP_TIMEOUT, else 10 s.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Headers to send with every request, in addition to those in OTEL_EXPORTER_OTLP_HEADERS.
    pub headers: BTreeMap<String, String>,
    /// Sent with every request as `Authorization: Bearer …`. Empty: nothing, unless `headers` contain it.
    pub bearer_token: Secret,
    /// File that holds the bearer token, so that it need not stand in the configuration. It is read before
    /// every request, so the token may be rotated at any time.
    pub bearer_token_file: PathBuf,
    /// `gzip` or `none`. Empty: the value of OTEL_EXPORTER_OTLP_COMPRESSION, else `none`.
    pub compression: String,
    /// How many processes are exported one by one, the heaviest first; the rest is summed as `other`. 0: all.
    pub top: u32,
    /// The resource's service.name. Empty: the value of OTEL_SERVICE_NAME or in OTEL_RESOURCE_ATTRIBUTES,
    /// else `wattrace`.
    pub service_name: String,
    /// More attributes of the resource, in addition to those in OTEL_RESOURCE_ATTRIBUTES.
    pub resource_attributes: BTreeMap<String, String>,
}

impl Default for OtlpConfig {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            protocol: String::new(),
            interval: Duration::ZERO,
            timeout: Duration::ZERO,
            headers: BTreeMap::new(),
            bearer_token: Secret::default(),
            bearer_token_file: PathBuf::new(),
            compression: String::new(),
            top: 100,
            service_name: String::new(),
            resource_attributes: BTreeMap::new(),
        }
    }
}

/// Without what may be secret: the endpoint may hold a password, and headers hold tokens.
impl fmt::Debug for OtlpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpConfig").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

/// The configuration and the environment, combined.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Without credentials, which are among the headers.
    pub(crate) endpoint: Uri,
    pub(crate) proxy: Proxy,
    pub(crate) protocol: Protocol,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) headers: HeaderMap,
    pub(crate) token: Token,
    pub(crate) gzip: bool,
    /// Most processes exported one by one; 0: no limit.
    pub(crate) top: usize,
    /// The configured attributes of the resource; `resource` adds those of the machine when the output opens.
    pub(crate) resource: BTreeMap<String, String>,
    pub(crate) tls: TlsFiles,
}

/// PEM files for TLS that replace or add to the system's root certificates.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsFiles {
    /// The authority that signed the collector's certificate.
    pub(crate) authority: Option<PathBuf>,
    /// The agent's certificate and key, for collectors that require one.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

impl Settings {
    /// Combines `config` and `env`.
    ///
    /// # Errors
    /// An invalid value; the message names the key or the variable.
    pub(crate) fn resolve(config: OtlpConfig, env: Env<'_>) -> Result<Self, Error> {
        let protocol = protocol(&config.protocol, env)?;
        let temporality = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
        if let Some(value) = env.get(temporality).filter(|v| !v.eq_ignore_ascii_case("cumulative")) {
            warn!(
                "{temporality}={value} is ignored: counters are cumulative, so that a lost request \
                 loses nothing"
            );
        }
        let endpoint = Endpoint::resolve(&config.endpoint, protocol, env)?;
        let token = Token::new(&config.bearer_token, config.bearer_token_file)?;
        let headers = authorized(headers(&config.headers, env)?, &endpoint, &token)?;
        let endpoint = endpoint.uri;
        if (!matches!(token, Token::None) || headers.contains_key(AUTHORIZATION))
            && endpoint.scheme_str() == Some("http")
            && !is_this_machine(&endpoint)
        {
            warn!(
                "plugins.otlp: without TLS anyone on the network can read the credentials sent to {}: use \
                 https",
                shown(&endpoint)
            );
        }
        Ok(Self {
            endpoint,
            proxy: Proxy::from_variables(|name| env.get(name)),
            protocol,
            interval: duration(config.interval, DEFAULT_INTERVAL, || {
                let name = "OTEL_METRIC_EXPORT_INTERVAL";
                env.get(name).map(|value| (name.to_owned(), value))
            }),
            timeout: duration(config.timeout, DEFAULT_TIMEOUT, || env.exporter("TIMEOUT")),
            headers,
            token,
            gzip: gzip(&config.compression, env)?,
            top: config.top as usize,
            resource: resource(config.service_name, config.resource_attributes, env),
            tls: tls(env),
        })
    }
}

fn bad(key: &str, problem: impl std::fmt::Display) -> Error {
    Error::fatal(format!("plugins.otlp.{key}: {problem}"))
}

fn protocol(configured: &str, env: Env<'_>) -> Result<Protocol, Error> {
    match configured {
        "grpc" => return Ok(Protocol::Grpc),
        "http/protobuf" => return Ok(Protocol::Http),
        "" => {}
        other => {
            return Err(bad("protocol", format!("`{other}` is unknown; it is `grpc` or `http/protobuf`")));
        }
    }
    Ok(match env.exporter("PROTOCOL") {
        None => Protocol::Grpc,
        Some((name, value)) => match value.as_str() {
            "grpc" => Protocol::Grpc,
            "http/protobuf" => Protocol::Http,
            // A collector that takes JSON over HTTP takes protobuf over HTTP too.
            "http/json" => {
                warn!("{name}=http/json is treated as http/protobuf: JSON is not supported");
                Protocol::Http
            }
            _ => {
                warn!("{name}={value} is ignored: it is neither grpc nor http/protobuf");
                Protocol::Grpc
            }
        },
    })
}

fn duration(
    configured: Duration,
    default: Duration,
    variable: impl FnOnce() -> Option<(String, String)>,
) -> Duration {
    if !configured.is_zero() {
        return configured;
    }
    variable().and_then(|(name, value)| env::millis(&name, &value)).unwrap_or(default)
}

fn headers(configured: &BTreeMap<String, String>, env: Env<'_>) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    if let Some((name, list)) = env.exporter("HEADERS") {
        for (key, value) in env::headers(&name, &list) {
            match header(&key, &value) {
                Some((key, value)) => _ = headers.insert(key, value),
                None => warn!("header `{key}` of {name} is ignored: HTTP does not allow its name or value"),
            }
        }
    }
    for (key, value) in configured {
        let (key, value) = header(key, value)
            .ok_or_else(|| bad(&format!("headers.{key}"), "HTTP does not allow this name or value"))?;
        headers.insert(key, value);
    }
    Ok(headers)
}

/// `headers` with the credentials of the endpoint, if it has any.
fn authorized(mut headers: HeaderMap, endpoint: &Endpoint, token: &Token) -> Result<HeaderMap, Error> {
    let Some(value) = &endpoint.authorization else { return Ok(headers) };
    let from = &endpoint.from;
    if !matches!(token, Token::None) {
        return Err(bad(
            "bearer_token",
            format!("there are a user and a password in {from} as well: keep one"),
        ));
    }
    if headers.contains_key(AUTHORIZATION) {
        warn!("user and password in {from} are ignored: there is a header `authorization`");
        return Ok(headers);
    }
    headers.insert(AUTHORIZATION, value.clone());
    Ok(headers)
}

fn header(key: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    let mut value = HeaderValue::from_str(value).ok()?;
    // Headers hold credentials: printed as `Sensitive`.
    value.set_sensitive(true);
    Some((HeaderName::from_bytes(key.as_bytes()).ok()?, value))
}

fn gzip(configured: &str, env: Env<'_>) -> Result<bool, Error> {
    match configured {
        "gzip" => return Ok(true),
        "none" => return Ok(false),
        "" => {}
        other => return Err(bad("compression", format!("`{other}` is unknown; it is `gzip` or `none`"))),
    }
    Ok(match env.exporter("COMPRESSION") {
        Some((_, value)) if value == "gzip" => true,
        Some((name, value)) if value != "none" => {
            warn!("{name}={value} is ignored: it is neither gzip nor none");
            false
        }
        _ => false,
    })
}

fn resource(
    service_name: String,
    configured: BTreeMap<String, String>,
    env: Env<'_>,
) -> BTreeMap<String, String> {
    let list = "OTEL_RESOURCE_ATTRIBUTES";
    let mut resource: BTreeMap<_, _> =
        env.get(list).map(|v| env::pairs(list, &v)).unwrap_or_default().into_iter().collect();
    if let Some(name) = env.get("OTEL_SERVICE_NAME") {
        resource.insert("service.name".to_owned(), name);
    }
    resource.extend(configured);
    if !service_name.is_empty() {
        resource.insert("service.name".to_owned(), service_name);
    }
    resource
}

fn tls(env: Env<'_>) -> TlsFiles {
    let file = |what| env.exporter(what).map(|(_, path)| PathBuf::from(path));
    TlsFiles { authority: file("CERTIFICATE"), identity: file("CLIENT_CERTIFICATE").zip(file("CLIENT_KEY")) }
}

#[cfg(test)]
mod tests;
