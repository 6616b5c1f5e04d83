//! The keys of `[plugins.prometheus]`, and the [`Settings`] that they are resolved to.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattrace_api::{Error, Secret, files};
use wattrace_http::{Identity, ServerTls};

/// `[plugins.prometheus]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PrometheusConfig {
    /// Address to listen on. Other machines reach only an address of the network, as "0.0.0.0:9464"; that
    /// needs TLS and a password, or `insecure`.
    pub listen: String,
    /// The path under which metrics are served.
    pub path: String,
    /// How many processes have series of their own, the heaviest first; the rest is summed as `other`. 0: all
    /// of them.
    pub top: usize,
    /// How often the heaviest processes are chosen again.
    #[serde(with = "humantime_serde")]
    pub rank_interval: Duration,
    /// How long an ended series is still served after the first scrape that had it. With more than one server
    /// that scrapes, longer than their scrape interval.
    #[serde(with = "humantime_serde")]
    pub keep_ended: Duration,
    /// PEM file with the certificate, followed by the intermediate ones. Empty: no TLS.
    pub certificate: PathBuf,
    /// PEM file with the certificate's private key.
    pub key: PathBuf,
    /// PEM file with the authorities of the certificates that scrapers must show. Empty: they need none.
    pub client_authority: PathBuf,
    /// User name for Basic authentication. Empty: everybody may scrape who reaches the address.
    pub username: String,
    /// Its password.
    pub password: Secret,
    /// File that holds the password, instead of this file. Read when the output opens.
    pub password_file: PathBuf,
    /// Serve an address of the network without TLS and a password.
    pub insecure: bool,
}

impl Default for PrometheusConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9464".to_owned(),
            path: "/metrics".to_owned(),
            top: 100,
            rank_interval: Duration::from_secs(60),
            keep_ended: Duration::ZERO,
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            client_authority: PathBuf::new(),
            username: String::new(),
            password: Secret::default(),
            password_file: PathBuf::new(),
            insecure: false,
        }
    }
}

/// The configuration, checked.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) listen: SocketAddr,
    pub(crate) path: String,
    pub(crate) top: usize,
    pub(crate) rank_interval: Duration,
    pub(crate) keep_ended: Duration,
    pub(crate) tls: Option<ServerTls>,
    pub(crate) login: Option<Login>,
}

/// The user name, and where the password is.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    username: String,
    password: Secret,
    password_file: PathBuf,
}

/// No password file is longer.
const MAX_PASSWORD: u64 = 4096;

/// An error about `key`.
pub(crate) fn bad(key: &str, problem: impl fmt::Display) -> Error {
    Error::fatal(format!("plugins.prometheus.{key}: {problem}"))
}

impl Settings {
    /// # Errors
    /// A value that makes no sense; the message names the key.
    pub(crate) fn resolve(config: PrometheusConfig) -> Result<Self, Error> {
        let listen: SocketAddr = config.listen.parse().map_err(|_| {
            let example = "an address and a port, as in 127.0.0.1:9464 or [::1]:9464";
            bad("listen", format!("`{}` is not {example}", config.listen))
        })?;
        if !config.path.starts_with('/') {
            return Err(bad("path", format!("`{}` does not begin with /", config.path)));
        }
        if config.rank_interval < Duration::from_secs(1) {
            return Err(bad("rank_interval", "is shorter than 1s"));
        }
        let (tls, login) = (tls(&config)?, login(&config)?);
        let is_verified = tls.as_ref().is_some_and(|tls| tls.client_authority.is_some());
        let is_safe = tls.is_some() && (login.is_some() || is_verified);
        if !(listen.ip().is_loopback() || is_safe || config.insecure) {
            return Err(bad(
                "listen",
                format!(
                    "everybody who reaches {listen} could read what every process of this machine does: set \
                     certificate and key, and username and password_file or client_authority; or \
                     `insecure = true` where a firewall or a proxy protects it"
                ),
            ));
        }
        let PrometheusConfig { path, top, rank_interval, keep_ended, .. } = config;
        Ok(Self { listen, path, top, rank_interval, keep_ended, tls, login })
    }
}

fn set(path: &Path) -> Option<PathBuf> {
    (!path.as_os_str().is_empty()).then(|| path.to_owned())
}

fn tls(config: &PrometheusConfig) -> Result<Option<ServerTls>, Error> {
    let client_authority = set(&config.client_authority);
    match (set(&config.certificate), set(&config.key)) {
        (Some(certificate), Some(key)) => {
            Ok(Some(ServerTls { identity: Identity { certificate, key }, client_authority }))
        }
        (Some(_), None) => Err(bad("key", "is empty, but certificate is set: both are needed")),
        (None, Some(_)) => Err(bad("certificate", "is empty, but key is set: both are needed")),
        (None, None) if client_authority.is_some() => {
            Err(bad("client_authority", "needs TLS: set certificate and key"))
        }
        (None, None) => Ok(None),
    }
}

fn login(config: &PrometheusConfig) -> Result<Option<Login>, Error> {
    let PrometheusConfig { username, password, password_file, .. } = config;
    let has_file = !password_file.as_os_str().is_empty();
    match (username.is_empty(), password.is_empty(), has_file) {
        (true, true, false) => return Ok(None),
        (true, ..) => return Err(bad("username", "is empty, but a password is set: both are needed")),
        (false, true, false) => {
            return Err(bad("password_file", "is empty, but username is set: both are needed"));
        }
        (false, false, true) => {
            return Err(bad("password_file", "is set, and so is password: only one of them can be"));
        }
        (false, ..) => {}
    }
    if username.contains(':') {
        return Err(bad("username", "holds a colon, which Basic authentication cannot express"));
    }
    let (username, password) = (username.clone(), password.clone());
    Ok(Some(Login { username, password, password_file: password_file.clone() }))
}

impl Login {
    /// `user:password`, as Basic authentication encodes it.
    ///
    /// # Errors
    /// A file that cannot be read or holds no password.
    pub(crate) fn credentials(&self) -> Result<String, Error> {
        let password = if self.password.is_empty() {
            let path = &self.password_file;
            let text = files::read_text(path, MAX_PASSWORD)
                .map_err(|e| bad("password_file", format!("{}: {e}", path.display())))?;
            let password = text.lines().next().unwrap_or_default().to_owned();
            if password.is_empty() {
                return Err(bad("password_file", format!("{}: its first line is empty", path.display())));
            }
            password
        } else {
            self.password.0.clone()
        };
        Ok(format!("{}:{password}", self.username))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(change: impl FnOnce(&mut PrometheusConfig)) -> String {
        let mut config = PrometheusConfig::default();
        change(&mut config);
        Settings::resolve(config).unwrap_err().to_string()
    }

    #[test]
    fn errors_name_the_key_and_the_remedy() {
        assert!(error(|c| c.listen = "9464".to_owned()).contains("plugins.prometheus.listen: `9464`"));
        assert!(error(|c| c.path = "metrics".to_owned()).starts_with("plugins.prometheus.path: "));
        assert!(error(|c| c.key = "k".into()).starts_with("plugins.prometheus.certificate: "));
        assert!(error(|c| c.certificate = "c".into()).starts_with("plugins.prometheus.key: "));
        assert!(error(|c| c.client_authority = "a".into()).contains("needs TLS"));
        assert!(error(|c| c.username = "me".to_owned()).starts_with("plugins.prometheus.password_file: "));
        assert!(error(|c| c.password = Secret("x".to_owned())).contains("username: is empty"));
    }

    #[test]
    fn the_network_needs_tls_and_a_login_or_consent() {
        let open = |c: &mut PrometheusConfig| c.listen = "0.0.0.0:9464".to_owned();
        assert!(error(open).contains("insecure = true"));
        let mut config = PrometheusConfig { insecure: true, ..PrometheusConfig::default() };
        open(&mut config);
        assert_eq!(Settings::resolve(config.clone()).unwrap().listen.port(), 9464);
        (config.insecure, config.certificate, config.key) = (false, "c".into(), "k".into());
        assert!(Settings::resolve(config.clone()).is_err(), "anyone could read it");
        (config.username, config.password_file) = ("me".to_owned(), "file".into());
        assert!(Settings::resolve(config).unwrap().login.is_some());
    }

    #[test]
    fn the_password_is_the_first_line_of_its_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let login = |path: &Path| Login {
            username: "me".to_owned(),
            password: Secret::default(),
            password_file: path.to_owned(),
        };
        std::fs::write(file.path(), "hush\nmore\n").unwrap();
        assert_eq!(login(file.path()).credentials().unwrap(), "me:hush");
        std::fs::write(file.path(), "\n").unwrap();
        assert!(login(file.path()).credentials().unwrap_err().to_string().contains("first line is empty"));
        assert!(login(Path::new("/no/such")).credentials().is_err());
    }
}
