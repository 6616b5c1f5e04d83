//! Sockets and connections: a loop per address that accepts, does the TLS handshake, and serves, with limits
//! on time and memory. `seats` limits the number of connections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use crate::grpc::Grpc;
use crate::http::Http;
use crate::seats::{Seat, Seats};

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection may take to the first request with the right credentials.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// How long the headers of a request may take, counted from the end of the one before.
const HEADERS: Duration = Duration::from_secs(60);
/// How many requests of a connection may be open at a time.
const STREAMS: u32 = 16;
/// Most bytes of headers, and of a body that are read ahead, for each connection.
const HEADER_BYTES: usize = 16 * 1024;
const WINDOW: u32 = 256 * 1024;
/// How often an idle gRPC connection is pinged, and how long it may take to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// The protocol of an address.
#[derive(Clone)]
pub(crate) enum Service {
    Grpc(Grpc),
    Http(Http),
}

/// Serves connections while there are `seats`. They end when this future is dropped.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    service: Service,
    seats: Arc<Seats>,
) {
    let acceptor = tls.map(TlsAcceptor::from);
    let mut connections = JoinSet::new();
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(e) => {
                    // The connection is closed already, or there are no descriptors left.
                    let has_room = is_out_of_descriptors(&e) && seats.make_room(Instant::now());
                    if !has_room {
                        warn!("cannot accept a connection: {e}");
                    }
                    sleep(Duration::from_millis(if has_room { 5 } else { 100 })).await;
                    continue;
                }
            },
            Some(_) = connections.join_next() => continue,
        };
        let seat = loop {
            match seats.take(peer.ip(), Instant::now()) {
                Some(seat) => break seat,
                // Further connections wait in the kernel's queue.
                None => sleep(Duration::from_millis(10)).await,
            }
        };
        let leaves = Leaves(seats.clone(), seat.clone());
        let (acceptor, service) = (acceptor.clone(), service.clone());
        let task = connections.spawn(async move {
            let leaves = leaves;
            if let Err(e) = connection(stream, acceptor, service, leaves.1.clone()).await {
                debug!("a connection ended: {e}");
            }
        });
        seats.seated(&seat, task);
    }
}

fn is_out_of_descriptors(error: &std::io::Error) -> bool {
    // EMFILE and ENFILE.
    matches!(error.raw_os_error(), Some(24 | 23))
}

/// Gives the seat back, however the connection ends.
struct Leaves(Arc<Seats>, Arc<Seat>);

impl Drop for Leaves {
    fn drop(&mut self) {
        self.0.leave(&self.1);
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn connection(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    service: Service,
    seat: Arc<Seat>,
) -> Result<(), Failure> {
    stream.set_nodelay(true)?;
    let first = async {
        sleep(FIRST_REQUEST).await;
        if seat.is_proven() {
            std::future::pending::<()>().await;
        }
    };
    let served = async {
        match acceptor {
            None => speak(stream, service, seat.clone()).await,
            Some(acceptor) => {
                let stream = timeout(HANDSHAKE, acceptor.accept(stream)).await??;
                speak(stream, service, seat.clone()).await
            }
        }
    };
    tokio::select! {
        served = served => served,
        () = first => Err("no request with the right credentials came in time".into()),
    }
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: Service,
    seat: Arc<Seat>,
) -> Result<(), Failure> {
    let stream = TokioIo::new(stream);
    let seated = move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(seat.clone());
        (request, seat.begin())
    };
    match service {
        Service::Grpc(grpc) => {
            let answer = service_fn(move |request| {
                let (grpc, (request, guard)) = (grpc.clone(), seated(request));
                async move {
                    let _guard = guard;
                    grpc.answer(request).await
                }
            });
            let mut http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            http2.timer(TokioTimer::new()).max_concurrent_streams(STREAMS);
            http2.keep_alive_interval(KEEP_ALIVE).keep_alive_timeout(KEEP_ALIVE);
            http2.max_header_list_size(HEADER_BYTES as u32);
            http2.initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW);
            Ok(http2.serve_connection(stream, answer).await?)
        }
        Service::Http(http) => {
            let answer = service_fn(move |request| {
                let (http, (request, guard)) = (http.clone(), seated(request));
                async move {
                    let _guard = guard;
                    http.answer(request).await
                }
            });
            let mut http1 = hyper::server::conn::http1::Builder::new();
            http1.timer(TokioTimer::new()).header_read_timeout(HEADERS);
            http1.max_buf_size(4 * HEADER_BYTES);
            Ok(http1.serve_connection(stream, answer).await?)
        }
    }
}
