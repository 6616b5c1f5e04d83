//! Serves page and document to a browser on this machine.
//!
//! Only who knows the address gets an answer: its path has a random token, so that other users of the machine
//! cannot read it. A request must name the host as this machine's loopback, so that no web page elsewhere can
//! reach the server by a name of its own that resolves to it (DNS rebinding).

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use subtle::ConstantTimeEq as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use crate::{Document, html};

/// What a server shows.
pub trait Source: Send + Sync + 'static {
    /// The document of a span, which begins and ends at these nanoseconds since the Unix epoch, or of what is
    /// worth a first look. May take a while: it is called on a thread for that.
    ///
    /// # Errors
    /// Why there is none, for people.
    fn document(&self, span: Option<[u64; 2]>) -> Result<Document, String>;
}

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    token: String,
}

/// How many connections there are at a time; further ones wait in the kernel's queue. A browser has six.
const MOST_CONNECTIONS: usize = 32;
/// How long the headers of a request may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of a request's headers.
const HEADER_BYTES: usize = 16 * 1024;

impl Server {
    /// Listens on a port of the loopback interface; on a free one if it is 0. Must be called within the async
    /// runtime.
    ///
    /// # Errors
    /// The port is taken.
    pub fn bind(port: u16) -> io::Result<Self> {
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, token: html::random_hex()? })
    }

    /// The address of the page.
    pub fn url(&self) -> String {
        format!("http://{}/{}/", self.address, self.token)
    }

    /// Serves `source` until this future is dropped.
    pub async fn serve(self, source: Arc<dyn Source>) {
        let shared = Arc::new(Shared { token: self.token, source });
        let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(e) => {
                    // The connection is closed already, or there are no descriptors left.
                    warn!("cannot accept a connection: {e}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let shared = shared.clone();
            tokio::spawn(async move {
                let _place = place;
                if let Err(e) = speak(stream, shared).await {
                    debug!("a connection ended: {e}");
                }
            });
        }
    }
}

async fn speak(stream: TcpStream, shared: Arc<Shared>) -> hyper::Result<()> {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(HEADER_BYTES);
    let answer = service_fn(move |request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(shared.answer(&request).await) }
    });
    http.serve_connection(TokioIo::new(stream), answer).await
}

struct Shared {
    token: String,
    source: Arc<dyn Source>,
}

impl Shared {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !is_loopback(request.headers()) {
            return plain(StatusCode::MISDIRECTED_REQUEST, "use the address that wattrace has printed\n");
        }
        if request.method() != Method::GET {
            let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n");
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            return refused;
        }
        match self.within(request.uri()) {
            Some("") => page(),
            Some("data") => self.document(request.uri().query().unwrap_or_default()).await,
            _ => plain(StatusCode::NOT_FOUND, "use the address that wattrace has printed, as a whole\n"),
        }
    }

    /// The path behind the token, if that is right. The comparison takes constant time.
    fn within<'a>(&self, uri: &'a Uri) -> Option<&'a str> {
        let (token, rest) = uri.path().strip_prefix('/')?.split_once('/')?;
        bool::from(token.as_bytes().ct_eq(self.token.as_bytes())).then_some(rest)
    }

    async fn document(&self, query: &str) -> Response<Full<Bytes>> {
        let (source, span) = (self.source.clone(), span(query));
        let made = tokio::task::spawn_blocking(move || {
            let document = source.document(span)?;
            serde_json::to_vec(&document).map_err(|e| e.to_string())
        });
        match made.await {
            Ok(Ok(json)) => answered(StatusCode::OK, "application/json", json.into()),
            Ok(Err(why)) => plain(StatusCode::INTERNAL_SERVER_ERROR, &why),
            Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the server has failed, see its messages"),
        }
    }
}

/// The span in a query: `from_us=1&to_us=2`; `None` if there is none.
fn span(query: &str) -> Option<[u64; 2]> {
    let value = |key: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let value = pairs.filter(|(name, _)| *name == key).map(|(_, value)| value).next()?;
        value.parse::<u64>().ok()?.checked_mul(1000)
    };
    Some([value("from_us")?, value("to_us")?]).filter(|[from, to]| from < to)
}

/// Whether a request is for this machine's loopback, by whichever port: it may be forwarded, by ssh.
fn is_loopback(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    ["127.0.0.1", "localhost"].contains(&name)
}

fn page() -> Response<Full<Bytes>> {
    let page = match html::served() {
        Ok(page) => page,
        Err(e) => return plain(StatusCode::INTERNAL_SERVER_ERROR, &e.to_string()),
    };
    let mut answer = answered(StatusCode::OK, "text/html; charset=utf-8", page.html.into());
    if let Ok(policy) = HeaderValue::from_str(&format!("{}; frame-ancestors 'none'", page.policy)) {
        answer.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
    answer
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    answered(status, "text/plain; charset=utf-8", text.to_owned().into())
}

fn answered(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    const SAME_ORIGIN: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
    for (name, value) in [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, "no-store"),
        // The address holds the token.
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (SAME_ORIGIN, "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_loopback_are_hosts() {
        let is_host = |name: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, name.parse().unwrap());
            is_loopback(&headers)
        };
        for host in ["127.0.0.1:4000", "localhost:1", "localhost"] {
            assert!(is_host(host), "{host}");
        }
        for host in ["evil.example:4000", "127.0.0.1.evil.example", "localhost.evil:80", ""] {
            assert!(!is_host(host), "{host}");
        }
        assert!(!is_loopback(&HeaderMap::new()));
    }

    #[test]
    fn a_span_has_both_ends_in_order() {
        assert_eq!(span("from_us=1&to_us=2"), Some([1000, 2000]));
        for query in ["", "from_us=1", "from_us=2&to_us=2", "from_us=x&to_us=2", "to_us=18446744073709551615"]
        {
            assert_eq!(span(query), None, "{query}");
        }
    }
}
