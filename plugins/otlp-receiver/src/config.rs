//! The keys of `[plugins.otlp-receiver]`, and the [`Settings`] that they are resolved to.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::warn;
use wattrace_api::{Error, Finding, Secret, Verdict};
use wattrace_http::{Identity, ServerTls};

/// `[plugins.otlp-receiver]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OtlpReceiverConfig {
    /// Address to listen on for gRPC; empty: no gRPC.
    pub grpc: String,
    /// Address to listen on for protobuf over HTTP, under /v1/metrics; empty: no HTTP.
    pub http: String,
    /// The longest time that points wait for the pipeline while requests keep arriving. After a pause they
    /// pass at once.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// PEM file with the server's certificate, followed by the intermediate ones. Empty: no TLS.
    pub certificate: PathBuf,
    /// PEM file with the certificate's private key.
    pub key: PathBuf,
    /// PEM file with the authorities of the certificates that senders must show. Empty: they need none.
    pub client_authority: PathBuf,
    /// The token that senders must send as `Authorization: Bearer …`. Empty: none.
    pub bearer_token: Secret,
    /// File that holds the bearer token, instead of this file. Read when the source opens.
    pub bearer_token_file: PathBuf,
    /// The largest request, in bytes, decompressed.
    pub max_message: usize,
    /// The most connections at a time.
    pub max_connections: usize,
    /// The most senders at a time.
    pub max_senders: usize,
    /// The most open series of a sender.
    pub max_series: usize,
    /// The most bytes that the descriptions of all open series may take.
    pub max_memory: usize,
    /// The most points that wait for the pipeline; while there are so many, requests are refused for now.
    pub max_pending: usize,
    /// A series that receives nothing for so long is ended, and a sender without series is forgotten.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// Attributes of senders' resources that are dropped. All others become attributes of the series, so that
    /// the series of two senders never merge.
    pub drop_resource_attributes: Vec<String>,
}

impl Default for OtlpReceiverConfig {
    fn default() -> Self {
        let drop = ["host.arch", "os.type", "service.version"].into_iter();
        let sdk = ["telemetry.sdk.language", "telemetry.sdk.name", "telemetry.sdk.version"];
        Self {
            grpc: "127.0.0.1:4317".to_owned(),
            http: "127.0.0.1:4318".to_owned(),
            interval: Duration::from_millis(100),
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            client_authority: PathBuf::new(),
            bearer_token: Secret::default(),
            bearer_token_file: PathBuf::new(),
            max_message: 4 * 1024 * 1024,
            max_connections: 1000,
            max_senders: 1000,
            max_series: 10_000,
            max_memory: 512 * 1024 * 1024,
            max_pending: 1_000_000,
            idle_timeout: Duration::from_secs(300),
            drop_resource_attributes: drop.chain(sdk).map(str::to_owned).collect(),
        }
    }
}

/// The configuration, checked.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) grpc: Option<SocketAddr>,
    pub(crate) http: Option<SocketAddr>,
    pub(crate) interval: Duration,
    pub(crate) tls: Option<ServerTls>,
    pub(crate) token: Token,
    pub(crate) max_message: usize,
    pub(crate) max_connections: usize,
    pub(crate) limits: Limits,
    pub(crate) drop: Vec<String>,
}

/// Where the bearer token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    None,
    Given(Secret),
    File(PathBuf),
}

/// Limits on what is kept for senders.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) senders: usize,
    pub(crate) series: usize,
    pub(crate) memory: usize,
    pub(crate) pending: usize,
    pub(crate) idle: Duration,
}

/// An error about `key`.
pub(crate) fn bad(key: &str, problem: impl fmt::Display) -> Error {
    Error::fatal(format!("plugins.otlp-receiver.{key}: {problem}"))
}

impl Settings {
    /// # Errors
    /// A value that makes no sense; the message names the key.
    pub(crate) fn resolve(config: OtlpReceiverConfig) -> Result<Self, Error> {
        let (grpc, http) = (address("grpc", &config.grpc)?, address("http", &config.http)?);
        if grpc.is_none() && http.is_none() {
            return Err(bad("grpc", "is empty, and so is http: set an address, or disable the plugin"));
        }
        let at_least_one = [
            ("max_message", config.max_message),
            ("max_connections", config.max_connections),
            ("max_senders", config.max_senders),
            ("max_series", config.max_series),
            ("max_memory", config.max_memory),
            ("max_pending", config.max_pending),
        ];
        if let Some((key, _)) = at_least_one.into_iter().find(|(_, value)| *value == 0) {
            return Err(bad(key, "is 0: nothing could be received"));
        }
        if config.interval < Duration::from_millis(1) {
            return Err(bad("interval", "is shorter than 1ms"));
        }
        if config.idle_timeout < Duration::from_secs(1) {
            return Err(bad(
                "idle_timeout",
                "is shorter than 1s: every series would end between two reports",
            ));
        }
        let limits = Limits {
            senders: config.max_senders,
            series: config.max_series,
            memory: config.max_memory,
            pending: config.max_pending,
            idle: config.idle_timeout,
        };
        let (token, tls) = (token(&config)?, tls(&config)?);
        let OtlpReceiverConfig { interval, max_message, max_connections, drop_resource_attributes, .. } =
            config;
        Ok(Self {
            grpc,
            http,
            interval,
            tls,
            token,
            max_message,
            max_connections,
            limits,
            drop: drop_resource_attributes,
        })
    }

    /// Logs a warning if anyone on the network can send metrics, or read what is sent.
    pub(crate) fn warn_if_open(&self) {
        if let Some(warning) = self.open_to_network() {
            warn!("{warning}");
        }
    }

    fn open_to_network(&self) -> Option<String> {
        let addresses = [("grpc", self.grpc), ("http", self.http)];
        let (key, address) = addresses.into_iter().find_map(|(key, address)| {
            address.filter(|address| !address.ip().is_loopback()).map(|address| (key, address))
        })?;
        let has_token = self.token != Token::None;
        let is_verified = self.tls.as_ref().is_some_and(|tls| tls.client_authority.is_some());
        let missing = match (self.tls.is_some(), has_token || is_verified) {
            (true, true) => return None,
            (false, true) => {
                "without TLS its bearer token can be read on the network: set certificate and key"
            }
            (true, false) => "anyone can send: set bearer_token_file or client_authority",
            (false, false) => {
                "anyone can send, and read what is sent: set certificate, key and bearer_token_file"
            }
        };
        Some(format!(
            "plugins.otlp-receiver.{key} = \"{address}\" is reachable from other machines, and {missing}"
        ))
    }
}

fn address(key: &str, text: &str) -> Result<Option<SocketAddr>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong =
        || bad(key, format!("`{text}` is not an address; write 127.0.0.1:4317, [::1]:4317 or 0.0.0.0:4317"));
    text.parse().map(Some).map_err(|_| wrong())
}

fn token(config: &OtlpReceiverConfig) -> Result<Token, Error> {
    let (given, file) = (&config.bearer_token, &config.bearer_token_file);
    match (given.0.is_empty(), file.as_os_str().is_empty()) {
        (true, true) => Ok(Token::None),
        (true, false) => Ok(Token::File(file.clone())),
        (false, false) => Err(bad("bearer_token", "is set, and so is bearer_token_file: keep one")),
        (false, true) if given.0.chars().all(|c| c.is_ascii_graphic()) => Ok(Token::Given(given.clone())),
        (false, true) => Err(bad("bearer_token", "holds spaces or characters that a header cannot carry")),
    }
}

fn tls(config: &OtlpReceiverConfig) -> Result<Option<ServerTls>, Error> {
    let given = |path: &PathBuf| !path.as_os_str().is_empty();
    let (certificate, key, authority) = (&config.certificate, &config.key, &config.client_authority);
    match (given(certificate), given(key)) {
        (true, true) => {
            let client_authority = given(authority).then(|| authority.clone());
            let identity = Identity { certificate: certificate.clone(), key: key.clone() };
            Ok(Some(ServerTls { identity, client_authority }))
        }
        (true, false) => Err(bad("key", "is empty: set the file with the certificate's private key")),
        (false, true) => Err(bad("certificate", "is empty: set the file with the key's certificate")),
        (false, false) if given(authority) => {
            Err(bad("client_authority", "needs TLS: set certificate and key, too"))
        }
        (false, false) => Ok(None),
    }
}

impl OtlpReceiverConfig {
    /// Whether its addresses are free.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        [("grpc", &self.grpc), ("http", &self.http)]
            .into_iter()
            .filter(|(_, a)| !a.is_empty())
            .map(finding)
            .collect()
    }
}

fn finding((key, address): (&str, &String)) -> Finding {
    let what = format!("address {address} ({key})");
    match TcpListener::bind(address) {
        Ok(_) => {
            Finding { what, verdict: Verdict::Ok, found: "it is free".to_owned(), remedy: String::new() }
        }
        Err(e) => Finding {
            what,
            verdict: Verdict::Missing,
            found: e.to_string(),
            remedy: format!(
                "see which program has it with `ss -ltnp`, or change plugins.otlp-receiver.{key}"
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(toml: &str) -> Result<Settings, Error> {
        Settings::resolve(toml::from_str(toml).unwrap())
    }

    #[test]
    fn every_mistake_names_its_key() {
        for (toml, start) in [
            ("grpc = \"here\"", "plugins.otlp-receiver.grpc: `here` is not an address"),
            ("grpc = \"\"\nhttp = \"\"", "plugins.otlp-receiver.grpc: is empty"),
            ("max_pending = 0", "plugins.otlp-receiver.max_pending: is 0"),
            ("interval = \"0s\"", "plugins.otlp-receiver.interval: "),
            ("idle_timeout = \"1ms\"", "plugins.otlp-receiver.idle_timeout: "),
            ("certificate = \"a\"", "plugins.otlp-receiver.key: "),
            ("key = \"a\"", "plugins.otlp-receiver.certificate: "),
            ("client_authority = \"a\"", "plugins.otlp-receiver.client_authority: needs TLS"),
            ("bearer_token = \"a\"\nbearer_token_file = \"b\"", "plugins.otlp-receiver.bearer_token: "),
            ("bearer_token = \"a b\"", "plugins.otlp-receiver.bearer_token: holds"),
        ] {
            let error = resolve(toml).unwrap_err().to_string();
            assert!(error.starts_with(start), "{error}");
        }
    }

    #[test]
    fn an_address_that_is_open_to_the_network_is_warned_about_with_its_key() {
        let warning = |toml: &str| resolve(toml).unwrap().open_to_network();
        assert_eq!(warning(""), None);
        assert_eq!(warning("grpc = \"[::1]:1\""), None);
        let text = warning("http = \"0.0.0.0:4318\"").unwrap();
        for part in ["plugins.otlp-receiver.http", "certificate", "key", "bearer_token_file"] {
            assert!(text.contains(part), "{text}");
        }
        let tls = "certificate = \"a\"\nkey = \"b\"\ngrpc = \"0.0.0.0:4317\"\n";
        assert!(warning(tls).unwrap().contains("anyone can send"));
        assert_eq!(warning(&format!("{tls}bearer_token = \"x\"")), None);
        assert_eq!(warning(&format!("{tls}client_authority = \"x\"")), None);
        assert!(warning("grpc = \"0.0.0.0:1\"\nbearer_token = \"x\"").unwrap().contains("without TLS"));
    }

    #[test]
    fn a_token_is_not_shown() {
        let config = OtlpReceiverConfig { bearer_token: Secret("hush".to_owned()), ..Default::default() };
        assert!(!format!("{config:?}").contains("hush"));
        assert!(!format!("{:?}", Settings::resolve(config).unwrap()).contains("hush"));
    }
}
