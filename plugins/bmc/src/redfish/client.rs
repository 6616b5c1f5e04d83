//! Requests to a Redfish service over HTTPS: authentication, sessions, and what can go wrong. `model.rs`
//! reads the answers.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use wattrace_api::Error;
use wattrace_http::{Answer, BlockingClient, ClientTls, Limits, Trust};

use crate::config::{BmcConfig, Login};

/// More bytes than any answer that is asked for.
const LONGEST_ANSWER: usize = 1 << 20;
/// The longest time for ending a session, while the agent waits to stop.
const LOGOUT_TIME: Duration = Duration::from_secs(2);
const SESSIONS: &str = "/redfish/v1/SessionService/Sessions";
const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// A Redfish service, and the account that reads it.
pub(crate) struct Client {
    http: BlockingClient,
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

/// An open session.
struct Session {
    token: HeaderValue,
    /// The path that ends it.
    path: Option<String>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum RequestError {
    /// The account is not allowed to read: a wrong password, or too few rights.
    Refused(String),
    /// There is nothing at that path.
    Absent(String),
    /// It may work later: the network, a busy or restarting BMC, an answer that is not JSON.
    Later(String),
}

impl std::fmt::Display for RequestError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (RequestError::Refused(what) | RequestError::Absent(what) | RequestError::Later(what)) = self;
        f.write_str(what)
    }
}

impl Credentials {
    /// Reads the password file. `None`: no user name is configured.
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
    /// A client that has not connected yet. Its requests run on `runtime`.
    pub(crate) fn new(
        config: &BmcConfig,
        credentials: Option<Credentials>,
        runtime: Handle,
    ) -> Result<Self, Error> {
        let tls = config.endpoint.starts_with("https://").then(|| tls(config).config(&[])).transpose();
        let tls = tls.map_err(|e| Error::gone(format!("plugins.bmc.authority: {e}")))?;
        let http = wattrace_http::Client::new(tls, limits(config.timeout));
        let endpoint = config.endpoint.trim_end_matches('/').to_owned();
        let http = BlockingClient::new(http, runtime);
        Ok(Self { http, endpoint, credentials, login: config.login, session: None })
    }

    /// The resource at `path`.
    pub(crate) fn get(&mut self, path: &str) -> Result<Value, RequestError> {
        if self.credentials.is_some() && self.login == Login::Session && self.session.is_none() {
            self.log_in()?;
        }
        match self.get_once(path) {
            // Sessions expire.
            Err(RequestError::Refused(_)) if self.session.take().is_some() => {
                self.log_in()?;
                self.get_once(path)
            }
            answer => answer,
        }
    }

    fn get_once(&self, path: &str) -> Result<Value, RequestError> {
        let mut request = self.request(Method::GET, path).header(ACCEPT, "application/json");
        if let Some(session) = &self.session {
            request = request.header(TOKEN, &session.token);
        } else if let (Some(who), Login::Basic) = (&self.credentials, self.login) {
            request = request.header(AUTHORIZATION, who.basic());
        }
        let answer = self.send(path, request, Bytes::new())?;
        self.read(path, answer).map(|(_, body)| body)
    }

    fn log_in(&mut self) -> Result<(), RequestError> {
        let Some(Credentials { name, password }) = &self.credentials else { return Ok(()) };
        let body = json!({"UserName": name, "Password": password}).to_string();
        let request = self.request(Method::POST, SESSIONS).header(CONTENT_TYPE, "application/json");
        let answer = self.send(SESSIONS, request, body.into())?;
        let (answer, _) = self.read(SESSIONS, answer)?;
        let Some(token) = answer.headers.get(TOKEN).cloned() else {
            let place = format!("{}{SESSIONS}", self.endpoint);
            return Err(RequestError::Later(format!("{place}: granted a session without a token")));
        };
        // A URL, or only its path.
        let location = answer.header("location");
        let path = location.map(|location| location.strip_prefix(&self.endpoint).unwrap_or(location));
        let path = path.filter(|path| path.starts_with('/')).map(str::to_owned);
        self.session = Some(Session { token, path });
        Ok(())
    }

    fn request(&self, method: Method, path: &str) -> hyper::http::request::Builder {
        Request::builder().method(method).uri(format!("{}{path}", self.endpoint))
    }

    fn send(
        &self,
        path: &str,
        request: hyper::http::request::Builder,
        body: Bytes,
    ) -> Result<Answer, RequestError> {
        let failed = |e: &dyn std::fmt::Display, remedy: &str| {
            RequestError::Later(format!("{}{path}: {e}{remedy}", self.endpoint))
        };
        let request = request.body(body).map_err(|e| failed(&e, ""))?;
        self.http.send(request).map_err(|e| match e {
            wattrace_http::Error::Tls(_) => failed(&e, TLS_REMEDY),
            _ => failed(&e, ""),
        })
    }

    /// Checks the status of an answer and parses its JSON.
    fn read(&self, path: &str, mut answer: Answer) -> Result<(Answer, Value), RequestError> {
        let place = format!("{}{path}", self.endpoint);
        let status = answer.status.as_u16();
        match status {
            200..=299 => {}
            401 | 403 => {
                let remedy =
                    "check plugins.bmc.username and password_file, and that the account may log in and read";
                return Err(RequestError::Refused(format!("{place}: HTTP {status}: {remedy}")));
            }
            404 | 405 | 501 => return Err(RequestError::Absent(format!("{place}: HTTP {status}"))),
            300..=399 => {
                let to = answer.header("location").unwrap_or("elsewhere");
                let why = format!("redirects to {to}; give that as plugins.bmc.endpoint");
                return Err(RequestError::Later(format!("{place}: HTTP {status}: {why}")));
            }
            _ => return Err(RequestError::Later(format!("{place}: HTTP {status}"))),
        }
        let body = std::mem::replace(&mut answer.body, Ok(Bytes::new()));
        let text = body.map_err(|e| RequestError::Later(format!("{place}: {e}")))?;
        if text.is_empty() {
            return Ok((answer, Value::Null));
        }
        let json = serde_json::from_slice(&text)
            .map_err(|e| RequestError::Later(format!("{place}: is not JSON: {e}")))?;
        Ok((answer, json))
    }
}

const TLS_REMEDY: &str = "; if the BMC's certificate is self-signed, give its authority as \
    plugins.bmc.authority, or set plugins.bmc.verify = false if the network is trusted";

impl Drop for Client {
    fn drop(&mut self) {
        // BMCs allow few sessions. If this fails, the session expires.
        let Some(Session { token, path: Some(path) }) = self.session.take() else { return };
        let request = self.request(Method::DELETE, &path).header(TOKEN, token);
        if let Ok(request) = request.body(Bytes::new()) {
            _ = self.http.with_limits(limits(LOGOUT_TIME)).send(request);
        }
    }
}

fn limits(time: Duration) -> Limits {
    Limits { time, bytes: LONGEST_ANSWER }
}

fn tls(config: &BmcConfig) -> ClientTls {
    let trust = if !config.verify {
        Trust::Anyone
    } else if config.authority == PathBuf::new() {
        Trust::System
    } else {
        Trust::Authority(config.authority.clone())
    };
    ClientTls { trust, identity: None }
}

impl Credentials {
    /// The header of basic authentication.
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
    fn base64_follows_rfc_4648() {
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
