//! Sockets, connections and requests. `exposition` makes what is served.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, VARY,
    WWW_AUTHENTICATE,
};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use crate::access::Access;
use crate::exposition::Exhibit;
use crate::text::Format;

/// How many connections there are at a time; further ones wait in the kernel's queue.
const MOST_CONNECTIONS: usize = 32;
/// How long a TLS handshake may take, and the headers of a request.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection may take for all its requests. A scraper opens another one.
const LIFETIME: Duration = Duration::from_secs(600);
/// Most bytes of a request's headers.
const HEADER_BYTES: usize = 16 * 1024;

/// Prometheus, VictoriaMetrics and the agents of both send it with each scrape; a person's browser or curl
/// does not.
const SCRAPE_TIMEOUT: HeaderName = HeaderName::from_static("x-prometheus-scrape-timeout-seconds");

/// What every connection serves.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) path: Arc<str>,
    pub(crate) access: Access,
    pub(crate) exhibit: Arc<Exhibit>,
}

/// Serves connections. They end when this future is dropped.
pub(crate) async fn serve(listener: TcpListener, tls: Option<Arc<ServerConfig>>, service: Service) {
    let acceptor = tls.map(TlsAcceptor::from);
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(e) => {
                // The connection is closed already, or there are no descriptors left.
                warn!("plugins.prometheus.listen: cannot accept a connection: {e}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let (acceptor, service) = (acceptor.clone(), service.clone());
        connections.spawn(async move {
            let _place = place;
            if let Ok(Err(e)) = timeout(LIFETIME, connection(stream, acceptor, service)).await {
                debug!("a connection ended: {e}");
            }
        });
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn connection(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    service: Service,
) -> Result<(), Failure> {
    stream.set_nodelay(true)?;
    match acceptor {
        None => speak(stream, service).await,
        Some(acceptor) => speak(timeout(PATIENCE, acceptor.accept(stream)).await??, service).await,
    }
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: Service,
) -> Result<(), Failure> {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(HEADER_BYTES);
    let answer = service_fn(move |request| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(service.answer(&request).await) }
    });
    Ok(http.serve_connection(TokioIo::new(stream), answer).await?)
}

impl Service {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let headers = request.headers();
        if !self.access.is_granted(headers) {
            let mut refused = plain(StatusCode::UNAUTHORIZED, "send the user name and the password\n");
            refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
            return refused;
        }
        if request.method() != Method::GET {
            let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n");
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            return refused;
        }
        match request.uri().path() {
            path if *path == *self.path => self.metrics(headers).await,
            "/" => plain(StatusCode::OK, &format!("Wattrace. Metrics are at {}.\n", self.path)),
            path => plain(StatusCode::NOT_FOUND, &format!("there is no {path}: scrape {}\n", self.path)),
        }
    }

    async fn metrics(&self, headers: &HeaderMap) -> Response<Full<Bytes>> {
        let text = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok()).unwrap_or_default();
        let format = Format::accepted(text(ACCEPT));
        let is_gzip =
            text(ACCEPT_ENCODING).split(',').any(|e| e.split(';').next().map(str::trim) == Some("gzip"));
        let is_scrape = headers.contains_key(SCRAPE_TIMEOUT);
        let exhibit = self.exhibit.clone();
        // Tens of milliseconds with 100,000 series.
        let made = tokio::task::spawn_blocking(move || {
            let exposition = exhibit.expose(format, is_scrape);
            if is_gzip { exposition.gzipped() } else { exposition.body() }
        });
        let Ok(body) = made.await else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "the agent is stopping\n");
        };
        let mut response = Response::new(Full::from(body));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
        headers.insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
        if is_gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text.to_owned()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
