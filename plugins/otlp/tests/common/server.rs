//! A collector behind a proxy, over OTLP/HTTP and gRPC, that answers as the test says and knows what it took.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::metrics::v1::{NumberDataPoint, metric::Data, number_data_point::Value};
use prost::Message;
use tokio::runtime::Runtime;

/// An answer other than plain success.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn new(status: u16, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![("content-type", kind.to_owned())], body: body.into() }
    }

    /// As nginx gives it.
    pub(crate) fn page(status: u16) -> Self {
        Self::new(status, "text/html", format!("<html><center><h1>{status}</h1></center></html>"))
    }

    /// A status of gRPC.
    pub(crate) fn grpc(code: u32, message: &str) -> Self {
        let headers = vec![("grpc-status", code.to_string()), ("grpc-message", message.to_owned())];
        Self::new(200, "application/grpc", "").with(headers)
    }

    pub(crate) fn with(mut self, headers: Vec<(&'static str, String)>) -> Self {
        self.headers.extend(headers);
        self
    }
}

/// The answer to a request of so many bytes; `None`: it is taken.
type Rule = Box<dyn Fn(usize) -> Option<Answer> + Send>;

/// What a collector knows.
#[derive(Default)]
pub(crate) struct Seen {
    /// The newest value of each stream, and its time: by metric, attributes and start.
    values: HashMap<(String, Vec<u8>, u64), (u64, f64)>,
    /// The sizes of the requests that it took, and of the others.
    pub(crate) taken: Vec<usize>,
    pub(crate) refused: Vec<usize>,
    /// The largest request that it took.
    pub(crate) largest: Bytes,
    /// The head of the last request.
    pub(crate) uri: String,
    pub(crate) headers: HeaderMap,
}

impl Seen {
    /// The energy of all processes, in joules.
    pub(crate) fn joules(&self) -> f64 {
        self.values.values().map(|(_, joules)| joules).sum()
    }

    /// The newest value of each process, in microjoules, by pid and start of the stream.
    pub(crate) fn processes(&self) -> BTreeMap<(i64, u64), u64> {
        let newest = self.values.iter().map(|((_, attributes, start), (_, joules))| {
            let attributes = NumberDataPoint::decode(&**attributes).unwrap().attributes;
            let pid = attributes.into_iter().find(|attribute| attribute.key == "process.pid").unwrap();
            let Some(any_value::Value::IntValue(pid)) = pid.value.unwrap().value else { panic!("no pid") };
            ((pid, *start), (joules * 1e6).round() as u64)
        });
        newest.collect()
    }

    fn take(&mut self, request: &ExportMetricsServiceRequest) {
        let scopes = request.resource_metrics.iter().flat_map(|r| &r.scope_metrics);
        for metric in scopes.flat_map(|s| &s.metrics) {
            let Some(Data::Sum(sum)) = &metric.data else { continue };
            for point in &sum.data_points {
                let Some(Value::AsDouble(value)) = point.value else { continue };
                let attributes =
                    NumberDataPoint { attributes: point.attributes.clone(), ..Default::default() };
                let key = (metric.name.clone(), attributes.encode_to_vec(), point.start_time_unix_nano);
                let new = (point.time_unix_nano, value);
                let old = self.values.entry(key).or_insert(new);
                // What waited arrives after what is newer.
                let (earlier, later) = if new.0 < old.0 { (new, *old) } else { (*old, new) };
                assert!(earlier.1 <= later.1, "{earlier:?} went back to {later:?}");
                *old = later;
            }
        }
    }
}

/// A running server.
pub(crate) struct Server {
    pub(crate) endpoint: String,
    pub(crate) seen: Arc<Mutex<Seen>>,
    rule: Arc<Mutex<Rule>>,
    _runtime: Runtime,
}

impl Server {
    /// It takes everything.
    pub(crate) fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let (seen, rule) = (Arc::default(), Arc::new(Mutex::new(Box::new(|_| None) as Rule)));
        let (see, by) = (Arc::clone(&seen), Arc::clone(&rule));
        let service = service_fn(move |request: Request<Incoming>| {
            let (seen, rule) = (Arc::clone(&see), Arc::clone(&by));
            async move { Ok::<_, Infallible>(answer(request, &seen, &rule).await) }
        });
        let address = super::serve(&runtime, service);
        Self { endpoint: format!("http://{address}"), seen, rule, _runtime: runtime }
    }

    /// From now on it answers so.
    pub(crate) fn answers(&self, rule: impl Fn(usize) -> Option<Answer> + Send + 'static) {
        *self.rule.lock().unwrap() = Box::new(rule);
    }
}

async fn answer(
    request: Request<Incoming>,
    seen: &Mutex<Seen>,
    rule: &Mutex<Rule>,
) -> Response<BoxBody<Bytes, Infallible>> {
    let is_grpc = request.headers()["content-type"] == "application/grpc";
    let (head, body) = request.into_parts();
    let mut body = body.collect().await.unwrap().to_bytes();
    if is_grpc {
        // The frame of a message: whether it is compressed, and its length.
        body = body.slice(5..);
    }
    let scripted = rule.lock().unwrap()(body.len());
    let mut seen = seen.lock().unwrap();
    (seen.uri, seen.headers) = (head.uri.to_string(), head.headers);
    let Some(Answer { status, headers, body }) = scripted else {
        seen.taken.push(body.len());
        if body.len() > seen.largest.len() {
            seen.largest = body.clone();
        }
        seen.take(&ExportMetricsServiceRequest::decode(body).unwrap());
        return success(is_grpc);
    };
    match status {
        200 if !body.is_empty() => seen.taken.push(0),
        _ => seen.refused.push(status as usize),
    }
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response.body(Full::new(Bytes::from(body)).boxed()).unwrap()
}

/// An empty message: framed by five bytes and followed by its status for gRPC, nothing for HTTP.
fn success(is_grpc: bool) -> Response<BoxBody<Bytes, Infallible>> {
    if !is_grpc {
        return Response::new(Full::default().boxed());
    }
    let trailers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from(0))]);
    let body = Full::from(&[0; 5][..]).with_trailers(async { Some(Ok(trailers)) }).boxed();
    Response::builder().header("content-type", "application/grpc").body(body).unwrap()
}
