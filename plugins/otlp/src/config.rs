//! The plugin's configuration. Together with OpenTelemetry's environment variables it becomes [`Settings`];
//! the configuration takes precedence. What is not about metrics is decided in `wattrace-otlp-client`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::warn;
use wattrace_api::{Error, Secret};
use wattrace_otlp_client::env::{self, Env};
use wattrace_otlp_client::{Config, Settings as ClientSettings};

use crate::power::Powers;
use crate::resource::kubernetes;
use crate::temporality::{Temporalities, Temporality};

/// `[plugins.otlp]`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OtlpConfig {
    /// URL of the collector. Over HTTP `/v1/metrics` is appended to its path. `user:password@` in it is sent
    /// as Basic authentication. Empty: the value of OTEL_EXPORTER_OTLP_METRICS_ENDPOINT or
    /// OTEL_EXPORTER_OTLP_ENDPOINT, else port 4317 (gRPC) or 4318 (HTTP) of this host.
    pub endpoint: String,
    /// `grpc`, `http/protobuf` or `http/json`. Empty: the value of OTEL_EXPORTER_OTLP_PROTOCOL, else `grpc`.
    pub protocol: String,
    /// Time between exports. 0s: the value of OTEL_METRIC_EXPORT_INTERVAL, else 10 s.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// How long a request may take. 0s: the value of OTEL_EXPORTER_OTLP_TIMEOUT, else 10 s.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Headers to send with every request, in addition to those in OTEL_EXPORTER_OTLP_HEADERS.
    pub headers: BTreeMap<String, String>,
    /// File with more headers, `Name: value` in each line. It is read before every request.
    pub headers_file: PathBuf,
    /// Sent with every request as `Authorization: Bearer …`. Empty: nothing, unless `headers` contain it.
    pub bearer_token: Secret,
    /// File that holds the bearer token, so that it need not stand in the configuration. It is read before
    /// every request, so the token may be rotated at any time.
    pub bearer_token_file: PathBuf,
    /// `gzip`, `zstd` or `none`. Empty: the value of OTEL_EXPORTER_OTLP_COMPRESSION, else `none`.
    pub compression: String,
    /// PEM file with the authority that signed the collector's certificate, or with that certificate itself.
    /// Empty: OTEL_EXPORTER_OTLP_CERTIFICATE, else the system's authorities.
    pub certificate: PathBuf,
    /// PEM file with the agent's certificate, for collectors that require one. Empty:
    /// OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE, else none.
    pub client_certificate: PathBuf,
    /// PEM file with its private key. Empty: OTEL_EXPORTER_OTLP_CLIENT_KEY.
    pub client_key: PathBuf,
    /// What points of counters and histograms cover: `cumulative`, `delta` or `lowmemory` (histograms alone
    /// are delta). Empty: the value of OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE, else `cumulative`.
    pub temporality: String,
    /// `exponential`: the distribution of each domain's power is exported too; or `none`. Empty: exponential
    /// if OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION is base2_exponential_bucket_histogram.
    pub power_histogram: String,
    /// How many processes are exported one by one, the heaviest first; the rest is summed as `other`. 0: all.
    pub top: u32,
    /// The resource's service.name. Empty: the value of OTEL_SERVICE_NAME or in OTEL_RESOURCE_ATTRIBUTES,
    /// else `wattrace`.
    pub service_name: String,
    /// More attributes of the resource, in addition to those in OTEL_RESOURCE_ATTRIBUTES.
    pub resource_attributes: BTreeMap<String, String>,
    /// The file in which requests wait while the collector takes none. Empty: `spool/otlp-metrics.db` in
    /// `$STATE_DIRECTORY`, which systemd sets; without that variable in `/var/lib/wattrace` for root, and for
    /// others in `$XDG_STATE_HOME/wattrace` or `~/.local/state/wattrace`. `none`: they do not wait; the
    /// latest values are sent when the collector is back.
    pub spool: PathBuf,
    /// Most MiB of that file.
    pub spool_max_mib: u32,
    /// What has waited for longer is dropped.
    #[serde(with = "humantime_serde")]
    pub spool_max_age: Duration,
}

impl Default for OtlpConfig {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            protocol: String::new(),
            interval: Duration::ZERO,
            timeout: Duration::ZERO,
            headers: BTreeMap::new(),
            headers_file: PathBuf::new(),
            bearer_token: Secret::default(),
            bearer_token_file: PathBuf::new(),
            compression: String::new(),
            certificate: PathBuf::new(),
            client_certificate: PathBuf::new(),
            client_key: PathBuf::new(),
            temporality: String::new(),
            power_histogram: String::new(),
            top: 100,
            service_name: String::new(),
            resource_attributes: BTreeMap::new(),
            spool: PathBuf::new(),
            spool_max_mib: 256,
            spool_max_age: Duration::from_secs(24 * 60 * 60),
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
    pub(crate) client: ClientSettings,
    pub(crate) interval: Duration,
    pub(crate) temporality: Temporalities,
    /// Whether the distributions of power are exported.
    pub(crate) has_powers: bool,
    /// Most processes exported one by one; 0: no limit.
    pub(crate) top: usize,
    /// The configured attributes of the resource; `resource` adds those of the machine when the output opens.
    pub(crate) resource: BTreeMap<String, String>,
    /// How long a set of requests may take. `None`: as long as each of them.
    pub(crate) set_timeout: Option<Duration>,
    /// `None`: there is none.
    pub(crate) spool: Option<wattrace_spool::Settings>,
}

impl Settings {
    /// The distributions of power, if they are exported.
    pub(crate) fn powers(&self) -> Option<Powers> {
        self.has_powers.then(|| Powers::new(self.temporality.histograms))
    }
}

const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);

impl Settings {
    /// Combines `config` and `env`.
    ///
    /// # Errors
    /// An invalid value; the message names the key or the variable.
    pub(crate) fn resolve(config: OtlpConfig, env: &Env<'_>) -> Result<Self, Error> {
        let temporality = Temporalities::resolve(&config.temporality, env)?;
        let client = Config {
            endpoint: config.endpoint,
            protocol: config.protocol,
            timeout: config.timeout,
            headers: config.headers,
            headers_file: config.headers_file,
            bearer_token: config.bearer_token,
            bearer_token_file: config.bearer_token_file,
            compression: config.compression,
            certificate: config.certificate,
            client_certificate: config.client_certificate,
            client_key: config.client_key,
        };
        let spool = wattrace_spool::Settings::resolve(
            "plugins.otlp.spool",
            "otlp-metrics",
            config.spool,
            config.spool_max_mib,
            config.spool_max_age,
        )?;
        if spool.is_none() && temporality.counters == Temporality::Delta {
            let problem = "with temporality delta a request that is lost loses energy: name a file";
            return Err(env.bad("spool", problem));
        }
        Ok(Self {
            client: ClientSettings::resolve(client, env)?,
            interval: interval(config.interval, env),
            temporality,
            has_powers: has_powers(&config.power_histogram, env)?,
            top: config.top as usize,
            resource: resource(config.service_name, config.resource_attributes, env),
            set_timeout: env.duration("OTEL_METRIC_EXPORT_TIMEOUT"),
            spool,
        })
    }
}

/// Whether `configured` or, if that is empty, the environment asks for exponential histograms.
fn has_powers(configured: &str, env: &Env<'_>) -> Result<bool, Error> {
    match configured {
        "exponential" => return Ok(true),
        "none" => return Ok(false),
        "" => {}
        other => {
            let problem = format!("`{other}` is unknown; it is `exponential` or `none`");
            return Err(env.bad("power_histogram", problem));
        }
    }
    let name = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION";
    let value = env.get(name).unwrap_or_default().to_ascii_lowercase();
    if !matches!(&*value, "" | "explicit_bucket_histogram" | "base2_exponential_bucket_histogram") {
        warn!("{name}={value} is ignored: it is no aggregation of the specification");
    }
    Ok(value == "base2_exponential_bucket_histogram")
}

fn interval(configured: Duration, env: &Env<'_>) -> Duration {
    if !configured.is_zero() {
        return configured;
    }
    let name = "OTEL_METRIC_EXPORT_INTERVAL";
    env.duration(name).unwrap_or(DEFAULT_INTERVAL)
}

fn resource(
    service_name: String,
    configured: BTreeMap<String, String>,
    env: &Env<'_>,
) -> BTreeMap<String, String> {
    let mut resource: BTreeMap<_, _> = kubernetes(env).into_iter().collect();
    let list = "OTEL_RESOURCE_ATTRIBUTES";
    resource.extend(env.get(list).map(|v| env::pairs(list, &v)).unwrap_or_default());
    if let Some(name) = env.get("OTEL_SERVICE_NAME") {
        resource.insert("service.name".to_owned(), name);
    }
    resource.extend(configured);
    if !service_name.is_empty() {
        resource.insert("service.name".to_owned(), service_name);
    }
    resource
}

#[cfg(test)]
mod tests;
