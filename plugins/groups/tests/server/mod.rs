//! A small HTTP server on a thread of its own: plain, over TLS or on a unix socket. What it answers the test
//! says.
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
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Path and `authorization` to status and body.
type Answer = Arc<dyn Fn(&str, &str) -> (u16, String) + Send + Sync>;

/// A cluster's certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    fn acceptor(&self) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate: CertificateDer<'static> =
            params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        TlsAcceptor::from(Arc::new(builder.with_single_cert(vec![certificate], key).unwrap()))
    }
}

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
        Self::tcp(Some(authority.acceptor()), Arc::new(answer))
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
    // A client that goes away is no failure of the test.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
