//! The keys of `[plugins.traces]`, and the [`Settings`] that they are resolved to.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use serde::{Deserialize, Serialize};
use tracing::warn;
use wattrace_api::{Error, Secret};
use wattrace_otlp_client::{Config, Env, Signal};
use wattrace_select::Pattern;

use crate::limits::Limits;
use crate::selection::Selection;

/// Traces, for the client.
pub(crate) const TRACES: Signal = Signal {
    section: "plugins.traces",
    variables: "TRACES",
    path: "/v1/traces",
    method: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    json,
};

/// An encoded request as JSON.
fn json(request: &[u8]) -> Result<Vec<u8>, String> {
    let request = ExportTraceServiceRequest::decode(request).map_err(|e| e.to_string())?;
    serde_json::to_vec(&request).map_err(|e| e.to_string())
}

/// `[plugins.traces]`
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TracesConfig {
    /// Processes that are traced, each with all its descendants. `wattrace exec` traces its command instead.
    pub select: Vec<Pattern>,
    /// The part of the selected trees that is traced, from 0 to 1. 1.0: what OTEL_TRACES_SAMPLER and
    /// OTEL_TRACES_SAMPLER_ARG say, else all.
    pub sample: f64,
    /// Whether a process that has another TRACEPARENT in its environment than the process that started it
    /// joins that trace. It costs a read of `/proc/PID/environ` for each traced program that is executed.
    pub join: bool,
    /// A process that lives longer has a span for each such period. 0s: always one span.
    #[serde(with = "humantime_serde")]
    pub period: Duration,
    /// A process that lived shorter has no span of its own, but is counted in that of its parent.
    #[serde(with = "humantime_serde")]
    pub min_duration: Duration,
    /// Of more processes that end within a second, the rest is counted in the spans of their parents. 0: no
    /// limit.
    pub max_spans_per_second: u32,
    /// Longest time from the end of a span until it is sent, once its energy is known. 0s: the value of
    /// OTEL_BSP_SCHEDULE_DELAY, else 5 s.
    #[serde(with = "humantime_serde")]
    pub delay: Duration,
    /// URL of the collector. Over HTTP `/v1/traces` is appended to its path. `user:password@` in it is sent
    /// as Basic authentication. Empty: the value of OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or
    /// OTEL_EXPORTER_OTLP_ENDPOINT, else port 4317 (gRPC) or 4318 (HTTP) of this host.
    pub endpoint: String,
    /// `grpc`, `http/protobuf` or `http/json`. Empty: the value of OTEL_EXPORTER_OTLP_TRACES_PROTOCOL or
    /// OTEL_EXPORTER_OTLP_PROTOCOL, else `grpc`.
    pub protocol: String,
    /// How long a request may take. 0s: the value of OTEL_EXPORTER_OTLP_TRACES_TIMEOUT or
    /// OTEL_EXPORTER_OTLP_TIMEOUT, else 10 s.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Headers to send with every request, in addition to those of the environment.
    pub headers: BTreeMap<String, String>,
    /// File with more of them, `Name: value` in each line, which is read before every request.
    pub headers_file: PathBuf,
    /// Sent with every request as `Authorization: Bearer …`. Empty: nothing, unless `headers` contain it.
    pub bearer_token: Secret,
    /// File that holds the bearer token, which is read before every request.
    pub bearer_token_file: PathBuf,
    /// `gzip`, `zstd` or `none`. Empty: the value of OTEL_EXPORTER_OTLP_TRACES_COMPRESSION or
    /// OTEL_EXPORTER_OTLP_COMPRESSION, else `none`.
    pub compression: String,
    /// PEM file with the authority that signed the collector's certificate. Empty: the value of
    /// OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE or OTEL_EXPORTER_OTLP_CERTIFICATE, else the system's.
    pub certificate: PathBuf,
    /// PEM file with the agent's certificate, for collectors that require one.
    pub client_certificate: PathBuf,
    /// PEM file with its private key.
    pub client_key: PathBuf,
    /// The file in which spans wait while the collector takes none. Empty: `spool/otlp-traces.db` in the
    /// state directory. `none`: they wait in memory.
    pub spool: PathBuf,
    /// Most MiB of that file.
    pub spool_max_mib: u32,
    /// What waits longer is lost.
    #[serde(with = "humantime_serde")]
    pub spool_max_age: Duration,
}

impl Default for TracesConfig {
    fn default() -> Self {
        Self {
            select: Vec::new(),
            sample: 1.0,
            join: true,
            period: Duration::from_secs(3600),
            min_duration: Duration::ZERO,
            max_spans_per_second: 1000,
            delay: Duration::ZERO,
            endpoint: String::new(),
            protocol: String::new(),
            timeout: Duration::ZERO,
            headers: BTreeMap::new(),
            headers_file: PathBuf::new(),
            bearer_token: Secret::default(),
            bearer_token_file: PathBuf::new(),
            compression: String::new(),
            certificate: PathBuf::new(),
            client_certificate: PathBuf::new(),
            client_key: PathBuf::new(),
            spool: PathBuf::new(),
            spool_max_mib: 256,
            spool_max_age: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// Without what may be secret: the endpoint may hold a password, and headers hold tokens.
impl fmt::Debug for TracesConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TracesConfig").field("select", &self.select).finish_non_exhaustive()
    }
}

/// The configuration and the environment, combined.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) client: wattrace_otlp_client::Settings,
    pub(crate) policy: Policy,
    pub(crate) delay: Duration,
    /// Most spans in a request.
    pub(crate) most_spans: usize,
    /// `None`: what does not arrive waits in memory.
    pub(crate) spool: Option<wattrace_spool::Settings>,
}

/// What becomes a span.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) selection: Selection,
    pub(crate) join: bool,
    /// `None`: a process has one span.
    pub(crate) period: Option<Duration>,
    pub(crate) limits: Limits,
}

/// As the SDK's batch processor has it.
const DEFAULT_DELAY: Duration = Duration::from_secs(5);
const DEFAULT_SPANS: usize = 512;

/// The shortest `period`: two spans of a process begin at different milliseconds, by which their ids differ.
const MIN_PERIOD: Duration = Duration::from_secs(1);

impl Settings {
    /// Combines `config` and `env`.
    ///
    /// # Errors
    /// An invalid value; the message names the key or the variable.
    pub(crate) fn resolve(config: TracesConfig, env: &Env<'_>) -> Result<Self, Error> {
        let policy = Policy::resolve(&config, env)?;
        let delay = match config.delay.is_zero() {
            true => env.duration("OTEL_BSP_SCHEDULE_DELAY").unwrap_or(DEFAULT_DELAY),
            false => config.delay,
        };
        let most_spans = env.count("OTEL_BSP_MAX_EXPORT_BATCH_SIZE").map_or(DEFAULT_SPANS, NonZeroUsize::get);
        let spool = wattrace_spool::Settings::resolve(
            "plugins.traces.spool",
            "otlp-traces",
            config.spool,
            config.spool_max_mib,
            config.spool_max_age,
        )?;
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
        let mut client = wattrace_otlp_client::Settings::resolve(client, env)?;
        if let Some(limit) = env.duration("OTEL_BSP_EXPORT_TIMEOUT") {
            client.timeout = client.timeout.min(limit);
        }
        Ok(Self { client, policy, delay, most_spans, spool })
    }
}

impl Policy {
    fn resolve(config: &TracesConfig, env: &Env<'_>) -> Result<Self, Error> {
        let bad = |key: &str, problem: &str| Error::fatal(format!("plugins.traces.{key}: {problem}"));
        if !(0.0..=1.0).contains(&config.sample) {
            return Err(bad("sample", "it is a part of all trees, from 0 to 1"));
        }
        if !config.period.is_zero() && config.period < MIN_PERIOD {
            return Err(bad("period", "it is at least 1s; 0s: a process has one span"));
        }
        let sample = if config.sample < 1.0 { config.sample } else { sampled_part(env) };
        Ok(Self {
            selection: Selection::compile(&config.select, sample)?,
            join: config.join,
            period: (!config.period.is_zero()).then_some(config.period),
            limits: Limits::new(config.min_duration, config.max_spans_per_second),
        })
    }
}

/// The part of all traces that OTEL_TRACES_SAMPLER samples. The trees that it is about begin here, without a
/// caller, so a sampler that follows the caller's decision does as the one it has for roots.
fn sampled_part(env: &Env<'_>) -> f64 {
    const VARIABLE: &str = "OTEL_TRACES_SAMPLER";
    const ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";
    let Some(sampler) = env.get(VARIABLE) else { return 1.0 };
    match sampler.strip_prefix("parentbased_").unwrap_or(&sampler) {
        "always_on" => 1.0,
        "always_off" => 0.0,
        "traceidratio" => env.get(ARGUMENT).map_or(1.0, |text| {
            let part = text.parse().ok().filter(|part| (0.0..=1.0).contains(part));
            part.unwrap_or_else(|| {
                warn!("{ARGUMENT}={text} is ignored: it is no part of all traces, from 0 to 1");
                1.0
            })
        }),
        _ => {
            warn!("{VARIABLE}={sampler} is ignored: it is none of always_on, always_off and traceidratio");
            1.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(config: &str) -> String {
        let config: TracesConfig = toml::from_str(config).unwrap();
        Settings::resolve(config, &Env::new(TRACES, &|_| None)).unwrap_err().to_string()
    }

    #[test]
    fn bad_values_name_their_key() {
        for (config, key) in [
            ("sample = 1.5", "plugins.traces.sample"),
            ("sample = nan", "plugins.traces.sample"),
            ("period = '10ms'", "plugins.traces.period"),
            ("select = [{ consumer = 'proces' }]", "plugins.traces.select"),
            ("endpoint = 'nonsense'", "plugins.traces.endpoint"),
            ("spool_max_mib = 0", "plugins.traces.spool_max_mib"),
        ] {
            let problem = problem(config);
            assert!(problem.contains(key), "{config}: {problem}");
        }
    }

    #[test]
    fn the_batch_processor_has_its_variables() {
        let resolve = |delay: u64, variables: &[(&str, &str)]| {
            let lookup =
                |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
            let config = TracesConfig { delay: Duration::from_secs(delay), ..TracesConfig::default() };
            let settings = Settings::resolve(config, &Env::new(TRACES, &lookup)).unwrap();
            (settings.delay.as_millis(), settings.most_spans, settings.client.timeout.as_millis())
        };
        let variables = [
            ("OTEL_BSP_SCHEDULE_DELAY", "250"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "64"),
            ("OTEL_BSP_EXPORT_TIMEOUT", "2000"),
        ];
        assert_eq!(resolve(0, &[]), (5000, 512, 10_000));
        assert_eq!(resolve(0, &variables), (250, 64, 2000));
        assert_eq!(resolve(3, &variables).0, 3000);
        let bad = variables.map(|(name, _)| (name, "0"));
        assert_eq!(resolve(0, &bad), (5000, 512, 10_000));
    }

    #[test]
    fn the_sampler_of_the_environment_counts_unless_the_configuration_has_one() {
        let part = |sample: f64, sampler: &str, argument: &str| {
            let lookup = |name: &str| match name {
                "OTEL_TRACES_SAMPLER" => Some(sampler.to_owned()),
                "OTEL_TRACES_SAMPLER_ARG" => Some(argument.to_owned()),
                _ => None,
            };
            let config = TracesConfig { sample, ..TracesConfig::default() };
            let settings = Settings::resolve(config, &Env::new(TRACES, &lookup)).unwrap();
            settings.policy.selection.sample()
        };
        assert_eq!(part(1.0, "", ""), 1.0);
        assert_eq!(part(1.0, "traceidratio", "0.25"), 0.25);
        assert_eq!(part(1.0, "parentbased_traceidratio", "0.25"), 0.25);
        assert_eq!([part(1.0, "traceidratio", ""), part(1.0, "traceidratio", "1.5")], [1.0, 1.0]);
        assert_eq!([part(1.0, "always_off", ""), part(1.0, "parentbased_always_off", "")], [0.0, 0.0]);
        assert_eq!([part(1.0, "always_on", "0.1"), part(1.0, "jaeger_remote", "0.1")], [1.0, 1.0]);
        assert_eq!(part(0.5, "always_off", ""), 0.5);
    }

    #[test]
    fn the_variables_are_those_of_traces() {
        let variables = |name: &str| {
            let value = match name {
                "OTEL_EXPORTER_OTLP_ENDPOINT" => "http://all:4318",
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" => "http://traces:4318/here",
                "OTEL_EXPORTER_OTLP_PROTOCOL" => "http/protobuf",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let env = Env::new(TRACES, &variables);
        let settings = Settings::resolve(TracesConfig::default(), &env).unwrap();
        assert_eq!(settings.client.endpoint.to_string(), "http://traces:4318/here");
        let config = TracesConfig { endpoint: "http://mine:1".to_owned(), ..TracesConfig::default() };
        let settings = Settings::resolve(config, &env).unwrap();
        assert_eq!(settings.client.endpoint.to_string(), "http://mine:1/v1/traces");
    }
}
