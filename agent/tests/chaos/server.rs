//! A collector over OTLP/HTTP and gRPC, with or without TLS, that behaves as its script says (`conduct`), and
//! knows the newest value of each stream that it took or refused for good. A value that is older than what is
//! known changes nothing, as in a back end.

use std::io::Read as _;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use super::certificates::Certificates;
use super::conduct::{Conduct, Fate, Handshake, Mood, Script};
use super::seen::Seen;

/// How long an answer does not come that is too slow.
const SLOW: Duration = Duration::from_secs(1);
/// The pause after each piece of a request that is read slowly.
const SLOW_PIECE: Duration = Duration::from_millis(50);
/// A gRPC status "busy" that asks for a pause of 200 ms.
const RETRY_INFO: &str =
    "CAgSBGJ1c3kaMwoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIHCgUQgISvXw==";

/// A running collector.
pub(crate) struct Collector {
    pub(crate) endpoint: String,
    shared: Arc<Shared>,
    _runtime: Runtime,
}

/// What its connections share.
struct Shared {
    seen: Mutex<Seen>,
    script: Script,
    certificates: Option<Certificates>,
}

impl Collector {
    /// One that takes everything. `seed` is that of its chance; `authority`: it speaks TLS, and writes the
    /// certificate of its authority to this file.
    pub(crate) fn start(seed: u64, authority: Option<&Path>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let scheme = if authority.is_some() { "https" } else { "http" };
        let endpoint = format!("{scheme}://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            seen: Mutex::default(),
            script: Script::new(Conduct::Always(Mood::Well), seed),
            certificates: authority.map(Certificates::new),
        });
        let of_all = Arc::clone(&shared);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, Arc::clone(&of_all)));
            }
        });
        Self { endpoint, shared, _runtime: runtime }
    }

    /// From now on it behaves so.
    pub(crate) fn set(&self, conduct: Conduct) {
        self.shared.script.set(conduct);
    }

    /// What it knows.
    pub(crate) fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.shared.seen.lock().unwrap()
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let Some(certificates) = &shared.certificates else { return serve(stream, shared).await };
    let acceptor = match shared.script.handshake() {
        Handshake::Valid => &certificates.valid,
        Handshake::Expired => &certificates.expired,
        Handshake::None => return,
    };
    let Ok(stream) = acceptor.accept(stream).await else { return };
    serve(stream, shared).await;
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, shared: Arc<Shared>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move { answer(request, &shared).await.ok_or("reset") }
    });
    _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

type Answer = Response<BoxBody<Bytes, std::io::Error>>;

/// A body that breaks off after its first part.
struct Broken(Option<Bytes>);

impl hyper::body::Body for Broken {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let part = self.0.take().map(|part| Ok(Frame::data(part)));
        Poll::Ready(part.or_else(|| Some(Err(std::io::ErrorKind::BrokenPipe.into()))))
    }
}

fn whole(body: impl Into<Bytes>) -> BoxBody<Bytes, std::io::Error> {
    Full::new(body.into()).map_err(|never| match never {}).boxed()
}

/// The request's body, piece by piece. `None`: it broke off, or this does.
async fn read(mut body: Incoming, mood: Mood) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(piece) = body.frame().await {
        bytes.extend_from_slice(piece.ok()?.data_ref().map_or(&[][..], |data| &data[..]));
        match mood {
            Mood::Torn => return None,
            Mood::SlowRead => tokio::time::sleep(SLOW_PIECE).await,
            _ => {}
        }
    }
    Some(bytes)
}

/// What a body holds.
fn request(headers: &HeaderMap, body: &[u8], is_grpc: bool) -> ExportMetricsServiceRequest {
    // The frame of a message: whether it is compressed, and its length.
    let body = if is_grpc { &body[5..] } else { body };
    let mut plain = Vec::new();
    if headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip") {
        flate2::read::GzDecoder::new(body).read_to_end(&mut plain).unwrap();
    } else {
        plain.extend_from_slice(body);
    }
    ExportMetricsServiceRequest::decode(&*plain).unwrap()
}

/// `None`: the connection is reset.
async fn answer(from: Request<Incoming>, shared: &Shared) -> Option<Answer> {
    let mood = shared.script.mood();
    let is_grpc = from.headers()["content-type"] == "application/grpc";
    let (head, body) = from.into_parts();
    let body = read(body, mood).await;
    let fate = if body.is_some() { mood.fate(is_grpc) } else { Fate::Later };
    let mut rejected = 0;
    {
        let mut seen = shared.seen.lock().unwrap();
        seen.count(fate, mood != Mood::Well);
        if fate != Fate::Later
            && let Some(body) = &body
        {
            let request = request(&head.headers, body, is_grpc);
            rejected = seen.settle(&request, fate, mood == Mood::Partial);
        }
    }
    body?;
    match mood {
        Mood::Well | Mood::SlowRead => Some(success(is_grpc, 0)),
        Mood::Partial => Some(success(is_grpc, rejected)),
        Mood::Status(status, body, asks) => {
            let (kind, text) = body.parts();
            let mut builder = Response::builder().status(status).header("content-type", kind);
            if asks {
                builder = builder.header("retry-after", "1");
            }
            if matches!(status, 300..400) {
                builder = builder.header("location", "http://127.0.0.1:9/elsewhere");
            }
            Some(builder.body(whole(text)).unwrap())
        }
        Mood::Grpc(0, _) if is_grpc => Some(success(is_grpc, 0)),
        Mood::Grpc(code, asks) if is_grpc => {
            let builder = Response::builder().header("content-type", "application/grpc");
            let mut builder = builder.header("grpc-status", code).header("grpc-message", "no");
            if asks {
                builder = builder.header("grpc-status-details-bin", RETRY_INFO);
            }
            Some(builder.body(whole("")).unwrap())
        }
        Mood::Grpc(..) => Some(Response::builder().status(503).body(whole("no")).unwrap()),
        Mood::Reset { .. } | Mood::Torn => None,
        Mood::Half => {
            let kind = if is_grpc { "application/grpc" } else { "application/x-protobuf" };
            let builder = Response::builder().header("content-type", kind).header("content-length", 1000);
            Some(builder.body(Broken(Some(Bytes::from_static(&[0; 5]))).boxed()).unwrap())
        }
        Mood::Slow => {
            tokio::time::sleep(SLOW).await;
            None
        }
    }
}

/// The message of success, with the number of rejected points: framed and followed by its status for gRPC.
fn success(is_grpc: bool, rejected: i64) -> Answer {
    let partial =
        ExportMetricsPartialSuccess { rejected_data_points: rejected, error_message: String::new() };
    let partial_success = (rejected > 0).then_some(partial);
    let message = ExportMetricsServiceResponse { partial_success }.encode_to_vec();
    if !is_grpc {
        let builder = Response::builder().header("content-type", "application/x-protobuf");
        return builder.body(whole(message)).unwrap();
    }
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let framed = [&[0][..], &length, &message].concat();
    let trailers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from(0))]);
    let body = whole(framed).with_trailers(async { Some(Ok(trailers)) }).boxed();
    Response::builder().header("content-type", "application/grpc").body(body).unwrap()
}
