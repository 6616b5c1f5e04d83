//! The keys of `[plugins.influx]`, and the [`Settings`] that they are resolved to.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::Uri;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use tracing::warn;
use wattrace_api::{Error, Secret};
use wattrace_http::proxy::is_this_machine;
use wattrace_http::{ClientTls, Identity, Trust};

/// `[plugins.influx]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InfluxConfig {
    /// URL of the server, as in "https://influx.example:8086"; `/write` or `/api/v2/write` is added to its
    /// path.
    pub url: String,
    /// The database, for servers that speak version 1 (`/write`): InfluxDB 1, VictoriaMetrics, Telegraf,
    /// QuestDB. Empty: the server's own choice, unless `bucket` is set.
    pub database: String,
    /// The organization, for InfluxDB 2.
    pub org: String,
    /// The bucket, for servers that speak version 2 (`/api/v2/write`).
    pub bucket: String,
    /// Sent with every request: as `Authorization: Token …` with `bucket`, otherwise as `Bearer …`.
    pub token: Secret,
    /// User name for Basic authentication, instead of a token.
    pub username: String,
    /// Its password.
    pub password: Secret,
    /// File that holds the token, or the password if `username` is set, in its first line. It is read before
    /// every request.
    pub secret_file: PathBuf,
    /// Tags of every line. Without a `host.name` among them there is one with the name of this machine.
    pub tags: BTreeMap<String, String>,
    /// How many processes have series of their own, the heaviest first; the rest is summed as `other`. 0: all
    /// of them.
    pub top: usize,
    /// How often the heaviest processes are chosen again.
    #[serde(with = "humantime_serde")]
    pub rank_interval: Duration,
    /// How long points may wait, to be sent together.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// How long a request may take.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Size of a request before compression, in KiB, about.
    pub request_kib: u32,
    /// Requests that wait in memory, in MiB as they are sent.
    pub buffer_mib: u32,
    /// The file in which requests wait while the server takes none. Empty: `spool/influx.db` in the agent's
    /// state directory. `none`: they wait in memory.
    pub spool: PathBuf,
    /// Most MiB of that file.
    pub spool_max_mib: u32,
    /// What has waited for longer is dropped.
    #[serde(with = "humantime_serde")]
    pub spool_max_age: Duration,
    /// `gzip` or `none`.
    pub compression: String,
    /// PEM file with the authorities that the server's certificate is checked with. Empty: the system's.
    pub authority: PathBuf,
    /// PEM file with the agent's certificate, for servers that ask for one.
    pub certificate: PathBuf,
    /// PEM file with its private key.
    pub key: PathBuf,
}

impl Default for InfluxConfig {
    fn default() -> Self {
        Self {
            url: "http://localhost:8086".to_owned(),
            database: String::new(),
            org: String::new(),
            bucket: String::new(),
            token: Secret::default(),
            username: String::new(),
            password: Secret::default(),
            secret_file: PathBuf::new(),
            tags: BTreeMap::new(),
            top: 100,
            rank_interval: Duration::from_secs(60),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(5),
            request_kib: 1024,
            buffer_mib: 64,
            spool: PathBuf::new(),
            spool_max_mib: 1024,
            spool_max_age: Duration::from_secs(7 * 24 * 60 * 60),
            compression: "gzip".to_owned(),
            authority: PathBuf::new(),
            certificate: PathBuf::new(),
            key: PathBuf::new(),
        }
    }
}

/// The configuration, checked.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where requests go, with the database or the bucket.
    pub(crate) endpoint: Uri,
    pub(crate) login: Login,
    pub(crate) tls: Option<ClientTls>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) top: usize,
    pub(crate) rank_interval: Duration,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) request_bytes: usize,
    pub(crate) buffer_bytes: usize,
    pub(crate) gzip: bool,
    /// `None`: there is none.
    pub(crate) spool: Option<wattrace_spool::Settings>,
}

/// How the agent shows who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Login {
    None,
    /// `Authorization: SCHEME SECRET`.
    Token(&'static str, Place),
    /// Basic authentication.
    User(String, Place),
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Here(Secret),
    File(PathBuf),
}

/// An error about `key`.
pub(crate) fn bad(key: &str, problem: impl fmt::Display) -> Error {
    Error::fatal(format!("plugins.influx.{key}: {problem}"))
}

impl Settings {
    /// # Errors
    /// A value that makes no sense; the message names the key.
    pub(crate) fn resolve(config: InfluxConfig) -> Result<Self, Error> {
        let second = Duration::from_secs(1);
        for (key, value, least) in
            [("rank_interval", config.rank_interval, second), ("timeout", config.timeout, second / 10)]
        {
            if value < least {
                return Err(bad(key, format!("is shorter than {least:?}")));
            }
        }
        if config.request_kib == 0 || config.buffer_mib == 0 {
            let key = if config.request_kib == 0 { "request_kib" } else { "buffer_mib" };
            return Err(bad(key, "is 0, so that nothing could be sent"));
        }
        let gzip = match &*config.compression {
            "gzip" => true,
            "none" => false,
            other => return Err(bad("compression", format!("`{other}` is unknown; it is `gzip` or `none`"))),
        };
        let endpoint = endpoint(&config)?;
        let (login, tls) = (login(&config)?, tls(&config, &endpoint)?);
        let is_open = endpoint.scheme_str() == Some("http") && !is_this_machine(&endpoint);
        if login != Login::None && is_open {
            warn!("plugins.influx.url: without TLS anyone on the network can read the token or the password");
        }
        Ok(Self {
            endpoint,
            login,
            tls,
            tags: tags(config.tags),
            top: config.top,
            rank_interval: config.rank_interval,
            interval: config.interval,
            timeout: config.timeout,
            request_bytes: config.request_kib as usize * 1024,
            buffer_bytes: config.buffer_mib as usize * 1024 * 1024,
            gzip,
            spool: wattrace_spool::Settings::resolve(
                "plugins.influx.spool",
                "influx",
                config.spool,
                config.spool_max_mib,
                config.spool_max_age,
            )?,
        })
    }
}

/// Where requests go. Times are in nanoseconds without saying so, everywhere.
fn endpoint(config: &InfluxConfig) -> Result<Uri, Error> {
    // It may hold a password, so it is shown only without one.
    if config.url.contains('@') {
        return Err(bad("url", "holds a user or a password: use username and password, or secret_file"));
    }
    let (base, query) = config.url.split_once('?').unwrap_or((&config.url, ""));
    let is_second = !config.bucket.is_empty();
    if is_second && !config.database.is_empty() {
        return Err(bad("database", "is set, and so is bucket: one server has only one of them"));
    }
    if !config.org.is_empty() && !is_second {
        return Err(bad("bucket", "is empty, but org is set: both are needed"));
    }
    let path = if is_second { "/api/v2/write" } else { "/write" };
    let base = base.trim_end_matches('/');
    let mut url = format!("{}{path}", base.strip_suffix(path).unwrap_or(base));
    let mut separator = '?';
    if !query.is_empty() {
        url.extend([separator.to_string(), query.to_owned()]);
        separator = '&';
    }
    for (name, value) in [("db", &config.database), ("org", &config.org), ("bucket", &config.bucket)] {
        if !value.is_empty() {
            url.push_str(&format!("{separator}{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
            separator = '&';
        }
    }
    let uri: Uri = url.parse().map_err(|e| bad("url", format!("`{base}` is no URL: {e}")))?;
    let has_host = uri.host().is_some_and(|host| !host.is_empty());
    if !(matches!(uri.scheme_str(), Some("http" | "https")) && has_host) {
        return Err(bad(
            "url",
            format!("`{base}` is no URL of a server: write http://HOST:PORT or https://…"),
        ));
    }
    Ok(uri)
}

fn login(config: &InfluxConfig) -> Result<Login, Error> {
    let place =
        |key: &str, secret: &Secret| match (secret.is_empty(), config.secret_file.as_os_str().is_empty()) {
            (false, true) => Ok(Some(Place::Here(secret.clone()))),
            (true, false) => Ok(Some(Place::File(config.secret_file.clone()))),
            (true, true) => Ok(None),
            (false, false) => Err(bad(key, "is set, and so is secret_file: only one of them can be")),
        };
    if config.username.is_empty() {
        if !config.password.is_empty() {
            return Err(bad("username", "is empty, but password is set: both are needed"));
        }
        let scheme = if config.bucket.is_empty() { "Bearer" } else { "Token" };
        return Ok(place("token", &config.token)?.map_or(Login::None, |at| Login::Token(scheme, at)));
    }
    if !config.token.is_empty() {
        return Err(bad("token", "is set, and so is username: only one of them can be"));
    }
    if config.username.contains(':') {
        return Err(bad("username", "holds a colon, which Basic authentication cannot express"));
    }
    match place("password", &config.password)? {
        Some(at) => Ok(Login::User(config.username.clone(), at)),
        None => Err(bad("secret_file", "is empty, and so is password, but username is set")),
    }
}

fn tls(config: &InfluxConfig, endpoint: &Uri) -> Result<Option<ClientTls>, Error> {
    let set = |path: &Path| (!path.as_os_str().is_empty()).then(|| path.to_owned());
    let identity = match (set(&config.certificate), set(&config.key)) {
        (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
        (None, None) => None,
        (Some(_), None) => return Err(bad("key", "is empty, but certificate is set: both are needed")),
        (None, Some(_)) => return Err(bad("certificate", "is empty, but key is set: both are needed")),
    };
    let trust = set(&config.authority).map_or(Trust::System, Trust::Authority);
    Ok((endpoint.scheme_str() == Some("https")).then_some(ClientTls { trust, identity }))
}

fn tags(mut tags: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let name = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    tags.entry("host.name".to_owned()).or_insert_with(|| name().trim().to_owned());
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(change: impl FnOnce(&mut InfluxConfig)) -> Result<Settings, String> {
        let mut config = InfluxConfig::default();
        change(&mut config);
        Settings::resolve(config).map_err(|e| e.to_string())
    }

    fn endpoint(url: &str, change: impl FnOnce(&mut InfluxConfig)) -> String {
        let settings = resolve(|c| {
            c.url = url.to_owned();
            change(c);
        });
        settings.unwrap().endpoint.to_string()
    }

    #[test]
    fn the_path_and_the_database_are_added() {
        assert_eq!(endpoint("http://h:1", |c| c.database = "a b&c".into()), "http://h:1/write?db=a%20b%26c");
        assert_eq!(endpoint("http://h:1/write/", |_| {}), "http://h:1/write");
        assert_eq!(endpoint("http://h/insert/0/influx?x=1", |_| {}), "http://h/insert/0/influx/write?x=1");
        let second = |c: &mut InfluxConfig| (c.org, c.bucket) = ("o".into(), "b".into());
        assert_eq!(endpoint("https://h", second), "https://h/api/v2/write?org=o&bucket=b");
    }

    #[test]
    fn errors_name_the_key_and_show_no_password() {
        let error = |change: fn(&mut InfluxConfig)| resolve(change).unwrap_err();
        let url = error(|c| c.url = "http://me:hush@h".into());
        assert!(url.starts_with("plugins.influx.url: ") && !url.contains("hush"), "{url}");
        assert!(error(|c| c.url = "h:8086".into()).starts_with("plugins.influx.url: "));
        assert!(error(|c| c.org = "o".into()).starts_with("plugins.influx.bucket: "));
        assert!(error(|c| c.compression = "zip".into()).contains("`gzip` or `none`"));
        assert!(error(|c| c.buffer_mib = 0).starts_with("plugins.influx.buffer_mib: "));
        assert!(error(|c| c.key = "k".into()).starts_with("plugins.influx.certificate: "));
        assert!(error(|c| c.username = "me".into()).starts_with("plugins.influx.secret_file: "));
        assert!(error(|c| c.password = Secret("x".into())).starts_with("plugins.influx.username: "));
        let both = |c: &mut InfluxConfig| (c.token, c.secret_file) = (Secret("x".into()), "f".into());
        assert!(error(both).starts_with("plugins.influx.token: "));
    }

    #[test]
    fn a_token_is_sent_as_the_version_wants_it() {
        let token = |bucket: &str| {
            let settings = resolve(|c| (c.token, c.bucket) = (Secret("t".into()), bucket.to_owned()));
            settings.unwrap().login
        };
        assert_eq!(token(""), Login::Token("Bearer", Place::Here(Secret("t".into()))));
        assert_eq!(token("b"), Login::Token("Token", Place::Here(Secret("t".into()))));
    }
}
