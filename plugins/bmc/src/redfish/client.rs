//! Requests to a Redfish service over HTTPS: whose certificate is believed, how it knows who asks, and what
//! can go wrong. What the answers say is `model.rs`'s.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, http};
use wattrace_api::Error;

use crate::config::{BmcConfig, Login};

/// No answer that is asked for is longer.
const LONGEST_ANSWER: u64 = 1 << 20;
/// How long it may take to end a session, while the agent waits to stop.
const FAREWELL: Duration = Duration::from_secs(2);
const SESSIONS: &str = "/redfish/v1/SessionService/Sessions";
const TOKEN: &str = "X-Auth-Token";

/// A Redfish service, and who asks it.
pub(crate) struct Client {
    agent: Agent,
    endpoint: String,
    credentials: Option<Credentials>,
    login: Login,
    session: Option<Session>,
}

/// Name and password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    name: String,
    password: String,
}

/// A session that was granted.
struct Session {
    token: String,
    /// Where it is ended.
    place: Option<String>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Whoever asks may not: a wrong password, or too few rights.
    Refused(String),
    /// There is nothing at that address.
    Absent(String),
    /// It may work later: the network, a busy or restarting BMC, an answer that is none.
    Later(String),
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Trouble::Refused(what) | Trouble::Absent(what) | Trouble::Later(what)) = self;
        f.write_str(what)
    }
}

impl Credentials {
    /// Reads the password's file. `None`: nobody in particular asks.
    pub(crate) fn read(config: &BmcConfig) -> Result<Option<Self>, Error> {
        if config.username.is_empty() {
            return Ok(None);
        }
        let path = &config.password_file;
        let bad =
            |e: std::io::Error| Error::gone(format!("plugins.bmc.password_file: {}: {e}", path.display()));
        let text = fs::read_to_string(path).map_err(bad)?;
        if fs::metadata(path).map_err(bad)?.mode() & 0o077 != 0 {
            let path = path.display();
            tracing::warn!("plugins.bmc.password_file: others can read it; `sudo chmod 600 {path}`");
        }
        let password = text.trim_end_matches(['\r', '\n']).to_owned();
        Ok(Some(Self { name: config.username.clone(), password }))
    }
}

impl Client {
    /// A client that has asked nothing yet.
    pub(crate) fn new(config: &BmcConfig, credentials: Option<Credentials>) -> Result<Self, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder()
            .root_certs(authorities(config)?)
            .disable_verification(!config.verify)
            .unversioned_rustls_crypto_provider(provider)
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(config.timeout))
            // A BMC is in the same house; and where it points, the password is not sent.
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .build()
            .new_agent();
        let endpoint = config.endpoint.trim_end_matches('/').to_owned();
        Ok(Self { agent, endpoint, credentials, login: config.login, session: None })
    }

    /// What is at `path`.
    pub(crate) fn get(&mut self, path: &str) -> Result<Value, Trouble> {
        if self.credentials.is_some() && self.login == Login::Session && self.session.is_none() {
            self.log_in()?;
        }
        match self.get_once(path) {
            // Sessions run out.
            Err(Trouble::Refused(_)) if self.session.take().is_some() => {
                self.log_in()?;
                self.get_once(path)
            }
            answer => answer,
        }
    }

    fn get_once(&self, path: &str) -> Result<Value, Trouble> {
        let mut request =
            self.agent.get(format!("{}{path}", self.endpoint)).header("Accept", "application/json");
        if let Some(session) = &self.session {
            request = request.header(TOKEN, &session.token);
        } else if let (Some(who), Login::Basic) = (&self.credentials, self.login) {
            request = request.header("Authorization", who.basic());
        }
        let answered = request.call().map_err(|e| self.failed(path, &e))?;
        self.read(path, answered).map(|(_, body)| body)
    }

    fn log_in(&mut self) -> Result<(), Trouble> {
        let Some(Credentials { name, password }) = &self.credentials else { return Ok(()) };
        let body = json!({"UserName": name, "Password": password}).to_string();
        let request = self
            .agent
            .post(format!("{}{SESSIONS}", self.endpoint))
            .header("Content-Type", "application/json");
        let answered = request.send(body).map_err(|e| self.failed(SESSIONS, &e))?;
        let (head, _) = self.read(SESSIONS, answered)?;
        let word = |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let Some(token) = word(TOKEN) else {
            return Err(Trouble::Later(format!(
                "{}{SESSIONS}: granted a session without a token",
                self.endpoint
            )));
        };
        // An address, or a path.
        let place = word("Location").map(|place| match place.strip_prefix(&self.endpoint) {
            Some(path) => path.to_owned(),
            None => place,
        });
        self.session = Some(Session { token, place: place.filter(|place| place.starts_with('/')) });
        Ok(())
    }

    /// The head and the JSON of an answer that is one.
    fn read(
        &self,
        path: &str,
        answer: http::Response<ureq::Body>,
    ) -> Result<(http::response::Parts, Value), Trouble> {
        let place = format!("{}{path}", self.endpoint);
        let (head, mut body) = answer.into_parts();
        let status = head.status.as_u16();
        match status {
            200..=299 => {}
            401 | 403 => {
                let remedy =
                    "check plugins.bmc.username and password_file, and that the account may log in and read";
                return Err(Trouble::Refused(format!("{place}: HTTP {status}: {remedy}")));
            }
            404 | 405 | 501 => return Err(Trouble::Absent(format!("{place}: HTTP {status}"))),
            300..=399 => {
                let to = head.headers.get("Location").and_then(|v| v.to_str().ok()).unwrap_or("elsewhere");
                let why = format!("{place}: HTTP {status}: sends to {to}; give that as plugins.bmc.endpoint");
                return Err(Trouble::Later(why));
            }
            _ => return Err(Trouble::Later(format!("{place}: HTTP {status}"))),
        }
        let text =
            body.with_config().limit(LONGEST_ANSWER).read_to_vec().map_err(|e| self.failed(path, &e))?;
        if text.is_empty() {
            return Ok((head, Value::Null));
        }
        let json =
            serde_json::from_slice(&text).map_err(|e| Trouble::Later(format!("{place}: is no JSON: {e}")))?;
        Ok((head, json))
    }

    fn failed(&self, path: &str, e: &ureq::Error) -> Trouble {
        let remedy = match e {
            ureq::Error::Rustls(_) | ureq::Error::Tls(_) => TLS_REMEDY,
            // rustls' errors on the way come as those of the connection.
            ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::InvalidData => TLS_REMEDY,
            _ => "",
        };
        Trouble::Later(format!("{}{path}: {e}{remedy}", self.endpoint))
    }
}

const TLS_REMEDY: &str = "; if the BMC's certificate is its own, give its authority as plugins.bmc.authority, \
    or set plugins.bmc.verify = false where the network is trusted";

impl Drop for Client {
    fn drop(&mut self) {
        // BMCs have few sessions to give. If this fails, it runs out by itself.
        let Some(Session { token, place: Some(place) }) = self.session.take() else { return };
        let request = self.agent.delete(format!("{}{place}", self.endpoint)).header(TOKEN, &token);
        _ = request.config().timeout_global(Some(FAREWELL)).build().call();
    }
}

/// Whose signature on the BMC's certificate is believed.
fn authorities(config: &BmcConfig) -> Result<RootCerts, Error> {
    let path = config.authority.as_path();
    let certificates = if !config.verify || !config.endpoint.starts_with("https://") {
        Vec::new()
    } else if path.as_os_str().is_empty() {
        let system = rustls_native_certs::load_native_certs().certs;
        system.iter().map(|der| Certificate::from_der(der).to_owned()).collect()
    } else {
        from_file(path)?
    };
    Ok(RootCerts::new_with_certs(&certificates))
}

fn from_file(path: &Path) -> Result<Vec<Certificate<'static>>, Error> {
    let bad = |why: String| Error::gone(format!("plugins.bmc.authority: {}: {why}", path.display()));
    let pem = fs::read(path).map_err(|e| bad(e.to_string()))?;
    let mut certificates = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|e| bad(e.to_string()))? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err(bad("holds no certificate in PEM".to_owned()));
    }
    Ok(certificates)
}

impl Credentials {
    /// HTTP's basic authentication.
    fn basic(&self) -> String {
        format!("Basic {}", base64(format!("{}:{}", self.name, self.password).as_bytes()))
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits =
            three.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - three.len()));
        for digit in 0..4 {
            let six = (bits >> (18 - 6 * digit)) as usize & 63;
            text.push(if digit > three.len() { '=' } else { DIGITS[six] as char });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_rfc_4648_s() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("Aladdin:open sesame", "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
