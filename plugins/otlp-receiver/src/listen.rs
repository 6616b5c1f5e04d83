//! Sockets and connections: a loop per address that accepts, does the TLS handshake, and serves, with limits
//! on number and time.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};
use wattrace_api::{Error, ResultExt};

use crate::config::bad;
use crate::grpc::Grpc;
use crate::http::Http;

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long the headers of a request may take, counted from the end of the one before.
const HEADERS: Duration = Duration::from_secs(60);
/// How many requests of a connection may be open at a time.
const STREAMS: u32 = 16;
/// How often an idle gRPC connection is pinged, and how long it may take to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// The protocol of an address.
#[derive(Clone)]
pub(crate) enum Service {
    Grpc(Grpc),
    Http(Http),
}

/// Listens on `address`, the value of `key`. Must be called within the async runtime.
///
/// # Errors
/// Fatal: it cannot. The message names the key.
pub(crate) fn bind(key: &str, address: SocketAddr) -> Result<TcpListener, Error> {
    let listener = StdListener::bind(address).map_err(|e| {
        let remedy = match e.kind() {
            std::io::ErrorKind::AddrInUse => format!(
                "another program has that port, perhaps a collector (`ss -ltnp 'sport = :{}'` shows which): \
                 stop it, or set another address",
                address.port()
            ),
            std::io::ErrorKind::PermissionDenied => {
                "ports below 1024 need root: choose a higher one".to_owned()
            }
            std::io::ErrorKind::AddrNotAvailable => {
                "this machine has no such address: `ip address` shows which it has".to_owned()
            }
            _ => "choose another address".to_owned(),
        };
        bad(key, format!("cannot listen on {address}: {e}; {remedy}"))
    })?;
    listener.set_nonblocking(true).or_fatal()?;
    TcpListener::from_std(listener).or_fatal()
}

/// Serves at most `most` connections at a time. They end when this future is dropped.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    service: Service,
    most: usize,
) {
    let acceptor = tls.map(TlsAcceptor::from);
    let permits = Arc::new(Semaphore::new(most));
    let mut connections = JoinSet::new();
    loop {
        // Further connections wait in the kernel's queue.
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(e) => {
                    // Out of descriptors, or the connection is closed already.
                    warn!("cannot accept a connection: {e}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            Some(_) = connections.join_next() => continue,
        };
        let (acceptor, service) = (acceptor.clone(), service.clone());
        connections.spawn(async move {
            if let Err(e) = connection(stream, acceptor, service).await {
                debug!("a connection ended: {e}");
            }
            drop(permit);
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
        Some(acceptor) => {
            let stream = timeout(HANDSHAKE, acceptor.accept(stream)).await??;
            speak(stream, service).await
        }
    }
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: Service,
) -> Result<(), Failure> {
    let stream = TokioIo::new(stream);
    match service {
        Service::Grpc(grpc) => {
            let answer = service_fn(move |request| grpc.clone().answer(request));
            let mut http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            http2.timer(TokioTimer::new()).max_concurrent_streams(STREAMS);
            http2.keep_alive_interval(KEEP_ALIVE).keep_alive_timeout(KEEP_ALIVE);
            Ok(http2.serve_connection(stream, answer).await?)
        }
        Service::Http(http) => {
            let answer = service_fn(move |request| http.clone().answer(request));
            let mut http1 = hyper::server::conn::http1::Builder::new();
            http1.timer(TokioTimer::new()).header_read_timeout(HEADERS);
            Ok(http1.serve_connection(stream, answer).await?)
        }
    }
}
