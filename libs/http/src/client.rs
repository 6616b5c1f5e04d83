//! The client. It never follows a redirect, so credentials go only where the configuration says, and it uses
//! a proxy only if it is given one. Connections are kept open between requests.

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::header::{HeaderMap, PROXY_AUTHORIZATION};
use hyper::{Request, StatusCode};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::Connect;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::connect::{Connector, Tls};
use crate::error::{Error, chain, find};
use crate::proxy::Proxy;

/// What one request may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest time from its start to the end of the answer, connecting included.
    pub time: Duration,
    /// The longest answer.
    pub bytes: usize,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, or why that could not be read: the status holds anyway.
    pub body: Result<Bytes, Error>,
}

impl Answer {
    /// The text of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// An HTTP/1.1 client. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client {
    inner: legacy::Client<Connector, Full<Bytes>>,
    limits: Limits,
    proxy: Option<Proxy>,
}

impl Client {
    /// A client that connects to the host of each request. Without `tls` it refuses `https://`.
    pub fn new(tls: impl Into<Tls>, limits: Limits) -> Self {
        Self { inner: client(Connector::tcp(tls, limits.time)), limits, proxy: None }
    }

    /// The same, but through `proxy` where that applies.
    pub fn proxied(tls: impl Into<Tls>, limits: Limits, proxy: Proxy) -> Self {
        let connector = Connector::tcp(tls, limits.time).forwarding_through(proxy.clone());
        Self { inner: client(connector), limits, proxy: Some(proxy) }
    }

    /// A client that connects to the unix socket `path`; requests name `http://localhost/…`.
    pub fn unix(path: PathBuf, limits: Limits) -> Self {
        Self { inner: client(Connector::unix(path, limits.time)), limits, proxy: None }
    }

    /// Sends a request, whose URI is absolute. Must be called within an async runtime.
    ///
    /// # Errors
    /// There is no answer. One with an error status is an answer.
    pub async fn send(&self, mut request: Request<Bytes>) -> Result<Answer, Error> {
        // A proxy forwards requests without TLS, and so sees their headers. Through a tunnel it sees nothing.
        if request.uri().scheme_str() == Some("http")
            && let Some(via) = self.proxy.as_ref().and_then(|proxy| proxy.via(request.uri()))
        {
            via.authorization.map(|value| request.headers_mut().insert(PROXY_AUTHORIZATION, value));
        }
        exchange(&self.inner, request, self.limits).await
    }
}

pub(crate) fn client<C: Connect + Clone>(connector: C) -> legacy::Client<C, Full<Bytes>> {
    legacy::Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector)
}

pub(crate) async fn exchange<C: Connect + Clone + Send + Sync + 'static>(
    client: &legacy::Client<C, Full<Bytes>>,
    request: Request<Bytes>,
    limits: Limits,
) -> Result<Answer, Error> {
    let exchange = async {
        let response = client.request(request.map(Full::new)).await.map_err(unsent)?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, limits.bytes).collect().await;
        let body = body.map(|body| body.to_bytes()).map_err(|e| match e.is::<LengthLimitError>() {
            true => Error::TooLong(limits.bytes),
            false => Error::Protocol(chain(&*e)),
        });
        Ok(Answer { status: head.status, headers: head.headers, body })
    };
    match timeout(limits.time, exchange).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::Timeout(limits.time)),
    }
}

/// Our own error behind hyper-util's, if the connector made it.
fn unsent(error: legacy::Error) -> Error {
    match find::<Error>(&error) {
        Some(Error::Connect(e)) => Error::Connect(std::io::Error::new(e.kind(), e.to_string())),
        Some(Error::Tls(text)) => Error::Tls(text.clone()),
        Some(Error::Timeout(limit)) => Error::Timeout(*limit),
        _ => Error::Protocol(chain(&error)),
    }
}

/// A client for code that is not async: an element's calls.
pub struct BlockingClient {
    client: Client,
    runtime: Handle,
}

impl BlockingClient {
    /// A client whose requests run on `runtime`, which has worker threads of its own. Not to be used on one
    /// of these.
    pub fn new(client: Client, runtime: Handle) -> Self {
        Self { client, runtime }
    }

    /// [`Client::send`].
    ///
    /// # Errors
    /// As there; a runtime that has shut down.
    pub fn send(&self, request: Request<Bytes>) -> Result<Answer, Error> {
        let (answered, answer) = mpsc::sync_channel(1);
        let client = self.client.clone();
        // Not `block_on`: the caller's thread may be driving a runtime itself.
        self.runtime.spawn(async move { answered.send(client.send(request).await) });
        answer.recv().unwrap_or_else(|_| Err(Error::Protocol("the runtime has shut down".to_owned())))
    }

    /// The same client with other limits; it shares the connections.
    #[must_use]
    pub fn with_limits(&self, limits: Limits) -> Self {
        Self { client: Client { limits, ..self.client.clone() }, runtime: self.runtime.clone() }
    }
}
