//! A small HTTP server with a runtime of its own: over TCP, TLS or a unix socket. The test decides what it
//! answers.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic: that is how tests fail")]

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use wattrace_http::testing::Authority;

/// Path and `authorization` to status and body.
type Answer = Arc<dyn Fn(&str, &str) -> (u16, String) + Send + Sync>;

/// It serves until it is dropped.
pub(crate) struct Server {
    _runtime: Runtime,
    url: String,
    requests: Arc<AtomicU32>,
}

impl Server {
    pub(crate) fn plain(answer: impl Fn(&str, &str) -> (u16, String) + Send + Sync + 'static) -> Self {
        Self::tcp(None, Arc::new(answer))
    }

    pub(crate) fn tls(
        authority: &Authority,
        answer: impl Fn(&str, &str) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        Self::tcp(Some(TlsAcceptor::from(authority.server("127.0.0.1", b"http/1.1"))), Arc::new(answer))
    }

    fn tcp(tls: Option<TlsAcceptor>, answer: Answer) -> Self {
        let (runtime, requests) = (Runtime::new().unwrap(), Arc::new(AtomicU32::new(0)));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let counted = requests.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, answer, counted) = (tls.clone(), answer.clone(), counted.clone());
                tokio::spawn(async move {
                    let Some(tls) = tls else { return serve(stream, answer, counted).await };
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, answer, counted).await;
                    }
                });
            }
        });
        Self { _runtime: runtime, url, requests }
    }

    pub(crate) fn unix(
        path: &Path,
        answer: impl Fn(&str, &str) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        let (runtime, requests) = (Runtime::new().unwrap(), Arc::new(AtomicU32::new(0)));
        let (answer, counted): (Answer, _) = (Arc::new(answer), requests.clone());
        let listener = runtime.block_on(async { UnixListener::bind(path) }).unwrap();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answer.clone(), counted.clone()));
            }
        });
        Self { _runtime: runtime, url: String::new(), requests }
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// How many requests there were.
    pub(crate) fn requests(&self) -> u32 {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    answer: Answer,
    requests: Arc<AtomicU32>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        requests.fetch_add(1, Ordering::SeqCst);
        let path = request.uri().path_and_query().map(|p| p.as_str().to_owned()).unwrap_or_default();
        let token = request.headers().get("authorization").and_then(|v| v.to_str().ok()).unwrap_or_default();
        let (status, body) = answer(&path, token);
        let response = Response::builder().status(status).body(Full::new(Bytes::from(body))).unwrap();
        async move { Ok::<_, Infallible>(response) }
    });
    // A client may disconnect at any time.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
