//! A collector over OTLP/HTTP and gRPC that behaves as the test says, and knows the newest value of each
//! stream. A value that is older than what is known changes nothing, as in a back end.

use std::collections::HashMap;
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
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{NumberDataPoint, metric::Data, number_data_point};
use prost::Message;
use tokio::runtime::Runtime;

use super::ledger::{Key, Value};

/// How the collector behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// It takes everything.
    Well,
    /// A status of HTTP, with a page, a text, or a hint when to come again.
    Status(u16, &'static str),
    /// A status of gRPC; HTTP status 503 over HTTP.
    Grpc(u32),
    /// The connection ends without an answer; with or without the request having been taken.
    Reset { takes: bool },
    /// Half of an answer of success comes. It may be taken for one over HTTP, and the request was taken.
    Half,
    /// The answer does not come in time. The request was taken.
    Slow,
}

/// What may happen to a request that is to be sent again.
pub(crate) const MOODS: [Mood; 14] = [
    Mood::Status(429, "busy"),
    Mood::Status(502, "<html><h1>502</h1></html>"),
    Mood::Status(503, "{\"message\":\"restarting\"}"),
    Mood::Status(504, ""),
    Mood::Status(408, "slow"),
    Mood::Status(522, "<html></html>"),
    Mood::Grpc(1),
    Mood::Grpc(4),
    Mood::Grpc(10),
    Mood::Grpc(14),
    Mood::Reset { takes: false },
    Mood::Reset { takes: true },
    Mood::Half,
    Mood::Slow,
];

/// What the collector knows.
#[derive(Default)]
pub(crate) struct Seen {
    /// The newest value of each stream.
    pub(crate) newest: HashMap<Key, Value>,
    /// Requests that it took, and others.
    pub(crate) taken: u64,
    pub(crate) disturbed: u64,
}

/// A running collector.
pub(crate) struct Collector {
    pub(crate) endpoint: String,
    pub(crate) seen: Arc<Mutex<Seen>>,
    mood: Arc<Mutex<Mood>>,
    _runtime: Runtime,
}

impl Collector {
    /// One that takes everything.
    pub(crate) fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let (seen, mood) = (Arc::<Mutex<Seen>>::default(), Arc::new(Mutex::new(Mood::Well)));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let shared = (Arc::clone(&seen), Arc::clone(&mood));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, mood) = shared.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let (seen, mood) = (Arc::clone(&seen), *mood.lock().unwrap());
                    async move { answer(request, &seen, mood).await.ok_or("reset") }
                });
                let connection = async move {
                    let io = TokioIo::new(stream);
                    _ = Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
                };
                tokio::spawn(connection);
            }
        });
        Self { endpoint, seen, mood, _runtime: runtime }
    }

    /// From now on it behaves so.
    pub(crate) fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }
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

/// `None`: the connection is reset.
async fn answer(request: Request<Incoming>, seen: &Mutex<Seen>, mood: Mood) -> Option<Answer> {
    let is_grpc = request.headers()["content-type"] == "application/grpc";
    let mut body = request.into_body().collect().await.ok()?.to_bytes();
    if is_grpc {
        // The frame of a message: whether it is compressed, and its length.
        body = body.slice(5..);
    }
    let takes = matches!(mood, Mood::Well | Mood::Reset { takes: true } | Mood::Half | Mood::Slow);
    if takes {
        let request = ExportMetricsServiceRequest::decode(body).unwrap();
        seen.lock().unwrap().take(&request);
    }
    if mood != Mood::Well {
        seen.lock().unwrap().disturbed += 1;
    }
    let page = |status: u16, text: &'static str| {
        let kind = if text.starts_with('<') { "text/html" } else { "text/plain" };
        let builder = Response::builder().status(status).header("content-type", kind);
        Some(builder.body(whole(text)).unwrap())
    };
    match mood {
        Mood::Well => Some(success(is_grpc)),
        Mood::Status(status, text) => page(status, text),
        Mood::Grpc(code) if is_grpc => {
            let builder = Response::builder().header("content-type", "application/grpc");
            let builder = builder.header("grpc-status", code).header("grpc-message", "no");
            Some(builder.body(whole("")).unwrap())
        }
        Mood::Grpc(_) => page(503, "no"),
        Mood::Reset { .. } => None,
        Mood::Half => {
            let kind = if is_grpc { "application/grpc" } else { "application/x-protobuf" };
            let builder = Response::builder().header("content-type", kind).header("content-length", 1000);
            Some(builder.body(Broken(Some(Bytes::from_static(&[0; 5]))).boxed()).unwrap())
        }
        Mood::Slow => {
            tokio::time::sleep(Duration::from_secs(3)).await;
            None
        }
    }
}

/// An empty message: framed by five bytes and followed by its status for gRPC, nothing for HTTP.
fn success(is_grpc: bool) -> Answer {
    if !is_grpc {
        return Response::new(whole(""));
    }
    let trailers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from(0))]);
    let body = whole(&[0; 5][..]).with_trailers(async { Some(Ok(trailers)) }).boxed();
    Response::builder().header("content-type", "application/grpc").body(body).unwrap()
}

impl Seen {
    fn take(&mut self, request: &ExportMetricsServiceRequest) {
        self.taken += 1;
        let scopes = request.resource_metrics.iter().flat_map(|r| &r.scope_metrics);
        for metric in scopes.flat_map(|s| &s.metrics) {
            let Some(Data::Sum(sum)) = &metric.data else { continue };
            for point in &sum.data_points {
                let Some(number_data_point::Value::AsDouble(value)) = point.value else { continue };
                let key = key(&metric.name, point);
                let new = Value { time: point.time_unix_nano, steps: super::ledger::steps(value) };
                let old = self.newest.entry(key).or_insert(new);
                if new.time >= old.time {
                    *old = new;
                }
            }
        }
    }
}

fn key(metric: &str, point: &NumberDataPoint) -> Key {
    let of = |name: &str| point.attributes.iter().find(|attribute| attribute.key == name).map(text);
    Key {
        metric: metric.to_owned(),
        start: point.start_time_unix_nano,
        domain: of("wattrace.domain").unwrap_or_default(),
        consumer: of("wattrace.consumer.type").unwrap_or_default(),
        pid: of("process.pid").unwrap_or_default(),
    }
}

fn text(attribute: &KeyValue) -> String {
    match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}
