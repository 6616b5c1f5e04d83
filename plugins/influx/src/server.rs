//! Sends one request over HTTP, with the token or the password as it is now. `answer` says what an answer
//! means.

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Uri};
use tokio::runtime::Handle;
use wattrace_api::{Error, files};
use wattrace_http::{BlockingClient, Client, Limits, PemFile, Proxy, TlsError, chain};

use crate::answer::{ANSWER_LIMIT, Outcome, outcome};
use crate::config::{Login, Place, Settings, bad};

/// No file with a secret is longer.
const MAX_SECRET: u64 = 64 * 1024;

/// Takes requests.
pub(crate) trait Post: Send {
    /// Sends a request, and waits for its answer for at most `time`.
    fn post(&self, body: Bytes, time: Duration) -> Outcome;
}

/// The server.
pub(crate) struct Server {
    client: BlockingClient,
    endpoint: Uri,
    headers: HeaderMap,
    login: Login,
}

impl Server {
    /// Connects with the first request.
    ///
    /// # Errors
    /// TLS files that cannot be used.
    pub(crate) fn new(settings: &Settings, runtime: Handle) -> Result<Self, Error> {
        let tls = settings.tls.as_ref().map(|tls| tls.config(&[])).transpose();
        let tls = tls.map_err(|e| bad(key_of(&e), &e))?;
        let limits = Limits { time: settings.timeout, bytes: ANSWER_LIMIT };
        let proxy = Proxy::from_variables(|name| std::env::var(name).ok());
        let client = {
            let _within = runtime.enter();
            Client::proxied(tls, limits, proxy)
        };
        let mut headers = HeaderMap::new();
        let agent = concat!("wattrace/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if settings.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let (endpoint, login) = (settings.endpoint.clone(), settings.login.clone());
        Ok(Self { client: BlockingClient::new(client, runtime), endpoint, headers, login })
    }
}

/// The configuration key of what is wrong with TLS.
fn key_of(error: &TlsError) -> &'static str {
    match error {
        TlsError::File { file: PemFile::Certificate, .. } => "certificate",
        TlsError::File { file: PemFile::Key, .. } => "key",
        _ => "authority",
    }
}

impl Post for Server {
    fn post(&self, body: Bytes, time: Duration) -> Outcome {
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.clone();
        *request.headers_mut() = self.headers.clone();
        match self.login.header() {
            Ok(None) => {}
            Ok(Some(header)) => _ = request.headers_mut().insert(AUTHORIZATION, header),
            Err(cause) => return Outcome::unreached(cause),
        }
        let client = self.client.with_limits(Limits { time, bytes: ANSWER_LIMIT });
        client.send(request).map_or_else(|e| Outcome::unreached(chain(&e)), outcome)
    }
}

impl Login {
    /// The value of `authorization`, as the secret is now.
    fn header(&self) -> Result<Option<HeaderValue>, Error> {
        let text = match self {
            Login::None => return Ok(None),
            Login::Token(scheme, place) => format!("{scheme} {}", place.secret()?),
            Login::User(name, place) => {
                format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{}", place.secret()?)))
            }
        };
        let problem = "it holds a character that no token has";
        let mut header = HeaderValue::from_str(&text).map_err(|_| bad(self.key(), problem))?;
        // Printed as `Sensitive`.
        header.set_sensitive(true);
        Ok(Some(header))
    }

    fn key(&self) -> &'static str {
        match self {
            Login::Token(_, Place::File(_)) | Login::User(_, Place::File(_)) => "secret_file",
            Login::User(..) => "password",
            _ => "token",
        }
    }
}

impl Place {
    fn secret(&self) -> Result<String, Error> {
        let path = match self {
            Place::Here(secret) => return Ok(secret.0.clone()),
            Place::File(path) => path,
        };
        let of_file =
            |problem: &dyn std::fmt::Display| bad("secret_file", format!("{}: {problem}", path.display()));
        let text = files::read_text(path, MAX_SECRET).map_err(|e| of_file(&e))?;
        let secret = text.lines().next().unwrap_or_default().trim();
        if secret.is_empty() { Err(of_file(&"its first line is empty")) } else { Ok(secret.to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use wattrace_api::Secret;

    use super::*;

    #[test]
    fn the_secret_is_read_each_time_and_never_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let login = Login::Token("Token", Place::File(file.path().to_owned()));
        for secret in ["one", "two"] {
            std::fs::write(file.path(), format!("{secret}\nmore\n")).unwrap();
            let header = login.header().unwrap().unwrap();
            assert_eq!(header.to_str().unwrap(), format!("Token {secret}"));
            assert!(!format!("{header:?}").contains(secret), "{header:?}");
        }
        std::fs::write(file.path(), "hu\u{7f}sh").unwrap();
        let error = login.header().unwrap_err().to_string();
        assert!(error.starts_with("plugins.influx.secret_file: it holds a character"), "{error}");
        std::fs::write(file.path(), "").unwrap();
        assert!(login.header().unwrap_err().to_string().contains("first line is empty"));
        let user = Login::User("me".to_owned(), Place::Here(Secret("hush".to_owned())));
        assert_eq!(user.header().unwrap().unwrap(), "Basic bWU6aHVzaA==");
    }
}
