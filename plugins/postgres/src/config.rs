//! The keys of `[plugins.postgres]`, and the [`Settings`] that they are resolved to.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_postgres::config::{Host, SslMode};
use tracing::warn;
use wattrace_api::{Error, Secret, files};
use wattrace_http::{ClientTls, Identity, Trust};

use crate::passfile;
use crate::url::DatabaseUrl;

/// `[plugins.postgres]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PostgresConfig {
    /// The database, as in "postgresql://wattrace@db.example/energy". It may hold the password, and
    /// `sslmode`: `disable`, `prefer` or `require`. To another machine the default is `require`.
    pub url: DatabaseUrl,
    /// The password, unless it is in the URL.
    pub password: Secret,
    /// File that holds the password in its first line; read when a connection is opened. Without it and the
    /// two above, PGPASSWORD, and then the file that PGPASSFILE names or `~/.pgpass`.
    pub password_file: PathBuf,
    /// The schema that holds the tables. It is created if it is missing.
    pub schema: String,
    /// What this machine is called in the table `runs`. Empty: its name.
    pub host: String,
    /// How long points may wait in memory, to be committed together.
    #[serde(with = "humantime_serde")]
    pub commit_interval: Duration,
    /// How long a transaction may take, and a connection to open.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Points that wait in memory, in MiB.
    pub buffer_mib: u32,
    /// The file in which points wait while the database takes none. Empty: `spool/postgres.db` in the agent's
    /// state directory. `none`: they wait in memory.
    pub spool: PathBuf,
    /// Most MiB of that file.
    pub spool_max_mib: u32,
    /// What has waited for longer is dropped.
    #[serde(with = "humantime_serde")]
    pub spool_max_age: Duration,
    /// PEM file with the authorities that the server's certificate is checked with. Empty: the system's.
    pub authority: PathBuf,
    /// PEM file with the agent's certificate, for servers that ask for one.
    pub certificate: PathBuf,
    /// PEM file with its private key.
    pub key: PathBuf,
}

impl Default for PostgresConfig {
    fn default() -> Self {
        Self {
            url: DatabaseUrl::default(),
            password: Secret::default(),
            password_file: PathBuf::new(),
            schema: "wattrace".to_owned(),
            host: String::new(),
            commit_interval: Duration::from_secs(1),
            timeout: Duration::from_secs(8),
            buffer_mib: 64,
            spool: PathBuf::new(),
            spool_max_mib: 1024,
            spool_max_age: Duration::from_secs(7 * 24 * 60 * 60),
            authority: PathBuf::new(),
            certificate: PathBuf::new(),
            key: PathBuf::new(),
        }
    }
}

/// The configuration, checked.
#[derive(Clone)]
pub(crate) struct Settings {
    /// Where to connect; [`Settings::connection`] adds the password.
    base: tokio_postgres::Config,
    /// The URL without its password.
    pub(crate) place: String,
    password: Secret,
    password_file: Option<PathBuf>,
    pub(crate) schema: String,
    pub(crate) host: String,
    pub(crate) commit_interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) buffer_bytes: usize,
    /// `None`: there is none.
    pub(crate) spool: Option<wattrace_spool::Settings>,
    pub(crate) tls: ClientTls,
}

/// No password file is longer.
const MAX_FILE: u64 = 1 << 20;

/// An error about `key`.
pub(crate) fn bad(key: &str, problem: impl fmt::Display) -> Error {
    Error::fatal(format!("plugins.postgres.{key}: {problem}"))
}

impl Settings {
    /// # Errors
    /// A value that makes no sense; the message names the key.
    pub(crate) fn resolve(config: PostgresConfig) -> Result<Self, Error> {
        if !is_name(&config.schema) {
            let problem = "is no plain name: up to 63 of a-z, 0-9 and _, not beginning with a digit";
            return Err(bad("schema", format!("`{}` {problem}", config.schema)));
        }
        if config.timeout < Duration::from_millis(100) {
            return Err(bad("timeout", "is shorter than 100ms"));
        }
        if config.buffer_mib == 0 {
            return Err(bad("buffer_mib", "is 0, so that nothing could be written"));
        }
        let base = base(&config)?;
        let has_password = base.get_password().is_some();
        let password_file = set(&config.password_file);
        if usize::from(has_password)
            + usize::from(!config.password.is_empty())
            + usize::from(password_file.is_some())
            > 1
        {
            return Err(bad("password", "is given twice: keep one in url, password or password_file"));
        }
        let name = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = if config.host.is_empty() { name().trim().to_owned() } else { config.host.clone() };
        Ok(Self {
            base,
            place: config.url.shown(),
            password: config.password.clone(),
            password_file,
            schema: config.schema.clone(),
            host,
            commit_interval: config.commit_interval,
            timeout: config.timeout,
            buffer_bytes: config.buffer_mib as usize * 1024 * 1024,
            spool: wattrace_spool::Settings::resolve(
                "plugins.postgres.spool",
                "postgres",
                config.spool.clone(),
                config.spool_max_mib,
                config.spool_max_age,
            )?,
            tls: tls(&config)?,
        })
    }

    /// Where to connect, with the password as it is now.
    ///
    /// # Errors
    /// A password file that cannot be read.
    pub(crate) fn connection(&self) -> Result<tokio_postgres::Config, Error> {
        let mut connection = self.base.clone();
        if connection.get_password().is_some() {
            return Ok(connection);
        }
        if !self.password.is_empty() {
            connection.password(&self.password.0);
        } else if let Some(path) = &self.password_file {
            let of_file =
                |problem: &dyn fmt::Display| bad("password_file", format!("{}: {problem}", path.display()));
            let text = files::read_text(path, MAX_FILE).map_err(|e| of_file(&e))?;
            let password = text.lines().next().unwrap_or_default();
            if password.is_empty() {
                return Err(of_file(&"its first line is empty"));
            }
            connection.password(password);
        } else if let Ok(password) = std::env::var("PGPASSWORD") {
            connection.password(password);
        } else if let Some(password) = from_passfile(&connection) {
            connection.password(password);
        }
        Ok(connection)
    }
}

fn set(path: &Path) -> Option<PathBuf> {
    (!path.as_os_str().is_empty()).then(|| path.to_owned())
}

fn is_name(text: &str) -> bool {
    let is_fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    (1..=63).contains(&text.len())
        && text.chars().all(is_fine)
        && !text.starts_with(|c: char| c.is_ascii_digit())
}

fn base(config: &PostgresConfig) -> Result<tokio_postgres::Config, Error> {
    let url = &config.url.0;
    if !(url.starts_with("postgresql://") || url.starts_with("postgres://")) {
        let example = "postgresql://USER@HOST/DATABASE";
        return Err(bad("url", format!("`{}` is no URL of a database: write {example}", config.url.shown())));
    }
    // libpq's words for checking the certificate, which is always done here.
    let said =
        url.replace("sslmode=verify-full", "sslmode=require").replace("sslmode=verify-ca", "sslmode=require");
    // The library's errors may quote the URL.
    let mut base: tokio_postgres::Config = said
        .parse()
        .map_err(|_| bad("url", format!("`{}` is no URL that PostgreSQL knows", config.url.shown())))?;
    if base.get_hosts().is_empty() {
        base.host("/run/postgresql");
    }
    let is_here = |host: &Host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
        }
    };
    if !url.contains("sslmode=") && !base.get_hosts().iter().all(is_here) {
        base.ssl_mode(SslMode::Require);
    }
    base.connect_timeout(config.timeout).tcp_user_timeout(config.timeout);
    if base.get_application_name().is_none() {
        base.application_name("wattrace");
    }
    Ok(base)
}

fn tls(config: &PostgresConfig) -> Result<ClientTls, Error> {
    let identity = match (set(&config.certificate), set(&config.key)) {
        (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
        (None, None) => None,
        (Some(_), None) => return Err(bad("key", "is empty, but certificate is set: both are needed")),
        (None, Some(_)) => return Err(bad("certificate", "is empty, but key is set: both are needed")),
    };
    Ok(ClientTls { trust: set(&config.authority).map_or(Trust::System, Trust::Authority), identity })
}

/// The password in the file that PGPASSFILE names, or in `~/.pgpass`. Like PostgreSQL's own clients, a file
/// that others can read does not count.
fn from_passfile(connection: &tokio_postgres::Config) -> Option<String> {
    let named = std::env::var_os("PGPASSFILE").map(PathBuf::from);
    let path = named.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pgpass")))?;
    let mode = path.metadata().ok()?.mode();
    if mode & 0o077 != 0 {
        warn!("plugins.postgres: {} is not used, since others can read it: chmod 0600 it", path.display());
        return None;
    }
    let text = files::read_text(&path, MAX_FILE).ok()?;
    let host = match connection.get_hosts().first()? {
        Host::Tcp(name) => name.clone(),
        Host::Unix(_) => "localhost".to_owned(),
    };
    let port = connection.get_ports().first().copied().unwrap_or(5432).to_string();
    let user = connection.get_user().unwrap_or_default();
    passfile::password(&text, [&host, &port, connection.get_dbname().unwrap_or(user), user])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(url: &str, change: impl FnOnce(&mut PostgresConfig)) -> Result<Settings, String> {
        let mut config = PostgresConfig { url: DatabaseUrl(url.to_owned()), ..PostgresConfig::default() };
        change(&mut config);
        Settings::resolve(config).map_err(|e| e.to_string())
    }

    #[test]
    fn errors_name_the_key_and_show_no_password() {
        let error = |url: &str, change: fn(&mut PostgresConfig)| resolve(url, change).err().unwrap();
        for url in ["", "host=h password=hush", "postgresql://me:hush@h/d?nonsense=1", "mysql://me:hush@h"] {
            let error = error(url, |_| {});
            assert!(error.starts_with("plugins.postgres.url: "), "{error}");
            assert!(!error.contains("hush") || url.starts_with("host="), "{error}");
        }
        let url = "postgresql://me:hush@h/d";
        assert!(error(url, |c| c.schema = "a\"; DROP".into()).starts_with("plugins.postgres.schema: "));
        assert!(error(url, |c| c.password = Secret("x".into())).starts_with("plugins.postgres.password: "));
        assert!(error(url, |c| c.key = "k".into()).starts_with("plugins.postgres.certificate: "));
    }

    #[test]
    fn the_network_needs_tls_unless_the_url_says_otherwise() {
        let mode = |url: &str| resolve(url, |_| {}).ok().unwrap().base.get_ssl_mode();
        assert_eq!(mode("postgresql://me@db.example/d"), SslMode::Require);
        assert_eq!(mode("postgresql://me@db.example/d?sslmode=disable"), SslMode::Disable);
        assert_eq!(mode("postgresql://me@db.example/d?sslmode=verify-full"), SslMode::Require);
        assert_eq!(mode("postgresql://me@[::1]/d"), SslMode::Prefer);
        assert_eq!(mode("postgresql:///d"), SslMode::Prefer);
    }

    #[test]
    fn the_password_is_read_when_a_connection_is_opened() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_owned();
        let settings = resolve("postgresql://me@h/d", |c| c.password_file = path).ok().unwrap();
        std::fs::write(file.path(), "hush\n").unwrap();
        assert_eq!(settings.connection().unwrap().get_password(), Some(&b"hush"[..]));
        std::fs::write(file.path(), "").unwrap();
        let error = settings.connection().unwrap_err().to_string();
        assert!(error.starts_with("plugins.postgres.password_file: /"), "{error}");
    }
}
