//! Requests to a Redfish service over HTTPS: authentication, sessions, redirects. `answer.rs` reads what
//! comes back, `model.rs` says what it means.
//!
//! Name and password go to the configured host only: a redirect is followed within it, and refused otherwise.

use std::path::PathBuf;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request, Uri};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use wattrace_api::Error;
use wattrace_http::{Answer, BlockingClient, ClientTls, Limits, Trust};

use super::answer::{self, LONGEST_ANSWER, RequestError};
use super::credentials::Credentials;
use super::model;
use crate::config::{BmcConfig, Login};

/// The longest time for ending a session, while the agent waits to stop.
const LOGOUT_TIME: Duration = Duration::from_secs(2);
/// The service's root, which is shown without authentication.
pub(super) const ROOT: &str = "/redfish/v1/";
/// Where sessions are created if the root does not say: by the standard, and in iDRAC 7 and 8.
const SESSIONS: [&str; 2] = ["/redfish/v1/SessionService/Sessions", "/redfish/v1/Sessions"];
const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");
/// More redirects are a loop.
const MOST_REDIRECTS: usize = 3;

/// A Redfish service, and the account that reads it.
pub(crate) struct Client {
    http: BlockingClient,
    endpoint: String,
    credentials: Option<Credentials>,
    state: State,
}

/// How requests are authenticated now.
enum State {
    /// Not at all: there is no account.
    Anonymous,
    /// A session has to be opened first.
    LoggedOut,
    /// By a session's token.
    Session(Session),
    /// By name and password.
    Basic,
}

/// An open session.
struct Session {
    token: HeaderValue,
    /// The path that ends it.
    path: Option<String>,
}

/// What came of an attempt to open a session.
enum Opened {
    Session(Session),
    /// Sessions are opened elsewhere.
    NotHere(String),
    /// No session is granted; name and password may be accepted with each request.
    No(String),
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
        let state = match (&credentials, config.login) {
            (None, _) => State::Anonymous,
            (_, Login::Session) => State::LoggedOut,
            (_, Login::Basic) => State::Basic,
        };
        Ok(Self { http, endpoint, credentials, state })
    }

    /// The resource at `path`.
    pub(crate) fn get(&mut self, path: &str) -> Result<Value, RequestError> {
        if matches!(self.state, State::LoggedOut) {
            self.log_in()?;
        }
        match self.get_once(path) {
            // Sessions expire.
            Err(RequestError::Refused(_)) if matches!(self.state, State::Session(_)) => {
                self.log_in()?;
                self.get_once(path)
            }
            answer => answer,
        }
    }

    fn get_once(&self, path: &str) -> Result<Value, RequestError> {
        let answer = self.send(Method::GET, path, Bytes::new())?;
        answer::read(&self.place(path), &answer)
    }

    /// Opens a session or, if the service grants none, lets requests carry name and password.
    fn log_in(&mut self) -> Result<(), RequestError> {
        self.state = State::LoggedOut;
        // The root is shown to everybody. A service that does not show it is asked at the usual places.
        let linked = self.get_once(ROOT).ok().as_ref().and_then(model::sessions);
        let mut places: Vec<String> = linked.into_iter().collect();
        for usual in SESSIONS {
            if !places.iter().any(|place| place.trim_end_matches('/') == usual) {
                places.push(usual.to_owned());
            }
        }
        let mut why = String::new();
        for place in places {
            match self.open_session(&place)? {
                Opened::Session(session) => {
                    self.state = State::Session(session);
                    return Ok(());
                }
                Opened::NotHere(reason) => why = reason,
                Opened::No(reason) => {
                    why = reason;
                    break;
                }
            }
        }
        tracing::warn!(
            "no Redfish session ({why}): name and password are sent with each request, as with \
             plugins.bmc.login = \"basic\""
        );
        self.state = State::Basic;
        Ok(())
    }

    fn open_session(&self, path: &str) -> Result<Opened, RequestError> {
        let Some(Credentials { name, password }) = &self.credentials else {
            return Ok(Opened::No("there is no account".to_owned()));
        };
        let body = json!({"UserName": name, "Password": password.0}).to_string();
        let answer = self.send(Method::POST, path, body.into())?;
        let place = self.place(path);
        let status = answer.status.as_u16();
        let why = format!("{place}: HTTP {status}");
        if !answer.status.is_success() && sessions_are_taken(&answer) {
            return Ok(Opened::No(format!("{why}: all sessions are taken")));
        }
        match status {
            200..=299 => {}
            401 | 403 => return Ok(Opened::No(why)),
            400 | 404 | 405 | 410 | 501 => return Ok(Opened::NotHere(why)),
            _ => {
                answer::read(&place, &answer)?;
            }
        }
        let Some(token) = answer.headers.get(TOKEN).cloned() else {
            return Ok(Opened::No(format!("{place}: granted a session without a token")));
        };
        // A URL, or only its path.
        let path = answer.header("location").and_then(|location| self.within(location));
        Ok(Opened::Session(Session { token, path }))
    }

    /// Sends a request; follows redirects that stay on the service.
    fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, RequestError> {
        let mut path = path.to_owned();
        for _ in 0..MOST_REDIRECTS {
            let answer = self.send_once(method.clone(), &path, body.clone())?;
            let location = answer.header("location").filter(|_| answer.status.is_redirection());
            match location.and_then(|location| self.within(location)) {
                Some(next) if next != path => path = next,
                _ => return Ok(answer),
            }
        }
        self.send_once(method, &path, body)
    }

    fn send_once(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, RequestError> {
        let place = self.place(path);
        let failed =
            |e: &dyn std::fmt::Display, remedy: &str| RequestError::Later(format!("{place}: {e}{remedy}"));
        let mut request = Request::builder()
            .method(method)
            .uri(&place)
            .header(ACCEPT, "application/json")
            .header(ACCEPT_ENCODING, "gzip");
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        match (&self.state, &self.credentials) {
            (State::Session(session), _) => request = request.header(TOKEN, &session.token),
            (State::Basic, Some(who)) => request = request.header(AUTHORIZATION, who.basic()),
            _ => {}
        }
        let request = request.body(body).map_err(|e| failed(&e, ""))?;
        self.http.send(request).map_err(|e| match e {
            wattrace_http::Error::Tls(_) => failed(&e, TLS_REMEDY),
            _ => failed(&e, ""),
        })
    }

    /// The path of a location, if that is on the configured host, by the configured scheme and port.
    fn within(&self, location: &str) -> Option<String> {
        if location.starts_with('/') {
            return model::local(location);
        }
        let (here, there) = (self.endpoint.parse::<Uri>().ok()?, location.parse::<Uri>().ok()?);
        (origin(&here)? == origin(&there)?).then(|| there.path_and_query().map(ToString::to_string))?
    }

    fn place(&self, path: &str) -> String {
        format!("{}{path}", self.endpoint)
    }
}

/// Scheme, host and port.
fn origin(uri: &Uri) -> Option<(String, String, u16)> {
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Some((scheme, uri.host()?.to_ascii_lowercase(), port))
}

fn sessions_are_taken(answer: &Answer) -> bool {
    answer::message_ids(answer).iter().any(|id| id.contains("SessionLimit"))
}

const TLS_REMEDY: &str = "; if the BMC's certificate is self-signed, give its authority as \
    plugins.bmc.authority, or set plugins.bmc.verify = false if the network is trusted";

impl Drop for Client {
    fn drop(&mut self) {
        // BMCs allow few sessions. If this fails, the session expires.
        let State::Session(Session { token, path: Some(path) }) = &self.state else { return };
        let request = Request::builder().method(Method::DELETE).uri(self.place(path)).header(TOKEN, token);
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
