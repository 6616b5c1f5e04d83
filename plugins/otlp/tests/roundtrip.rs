//! The output with servers in this process: both protocols, what is sent again and what is not, and ports on
//! which nothing or another service listens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "that is how tests fail")]

mod common;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Fixture, J, PATIENCE, process, serve};
use flate2::read::GzDecoder;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::service::TowerToHyperService;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point::Value};
use prost::Message;
use tokio::runtime::Runtime;
use tonic::codec::CompressionEncoding;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use wattrace_otlp::OtlpConfig;

/// A request that a server received: its headers and values.
type Got = (HeaderMap, Vec<Option<f64>>);

fn values(request: &ExportMetricsServiceRequest) -> Vec<Option<f64>> {
    let metrics = request.resource_metrics.iter().flat_map(|r| &r.scope_metrics).flat_map(|s| &s.metrics);
    let points = metrics.flat_map(|m| match &m.data {
        Some(Data::Sum(sum)) => sum.data_points.clone(),
        _ => Vec::new(),
    });
    let value = |value| match value {
        Some(Value::AsDouble(v)) => Some(v),
        _ => None,
    };
    points.map(|p| value(p.value)).collect()
}

fn partial(rejected: i64) -> ExportMetricsServiceResponse {
    let partial =
        ExportMetricsPartialSuccess { rejected_data_points: rejected, error_message: "old".to_owned() };
    ExportMetricsServiceResponse { partial_success: Some(partial) }
}

/// A gRPC collector that answers as in `script`, then with success.
#[derive(Clone)]
struct Grpc {
    script: Arc<Mutex<VecDeque<Result<ExportMetricsServiceResponse, Status>>>>,
    got: Sender<Got>,
}

#[tonic::async_trait]
impl MetricsService for Grpc {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, Status> {
        let headers = request.metadata().clone().into_headers();
        self.got.send((headers, values(request.get_ref()))).unwrap();
        let scripted = self.script.lock().unwrap().pop_front();
        scripted.unwrap_or_else(|| Ok(ExportMetricsServiceResponse::default())).map(tonic::Response::new)
    }
}

/// A running server, and the plugin that sends to it at a long interval: tests advance the clock.
struct Connected {
    fixture: Fixture,
    got: Receiver<Got>,
    _server: Runtime,
}

const INTERVAL: Duration = Duration::from_secs(10);

fn config(endpoint: String, protocol: &str) -> OtlpConfig {
    OtlpConfig {
        endpoint,
        protocol: protocol.to_owned(),
        interval: INTERVAL,
        timeout: Duration::from_secs(2),
        ..OtlpConfig::default()
    }
}

impl Connected {
    fn grpc(
        script: impl IntoIterator<Item = Result<ExportMetricsServiceResponse, Status>>,
        change: impl FnOnce(&mut OtlpConfig),
    ) -> Self {
        let (server, (sender, got)) = (Runtime::new().unwrap(), channel());
        let service = Grpc { script: Arc::new(Mutex::new(script.into_iter().collect())), got: sender };
        let service = MetricsServiceServer::new(service).accept_compressed(CompressionEncoding::Gzip);
        let service = service.accept_compressed(CompressionEncoding::Zstd);
        let address = serve(&server, TowerToHyperService::new(service));
        let mut config = config(format!("http://{address}"), "grpc");
        change(&mut config);
        Self { fixture: Fixture::new(config, 1), got, _server: server }
    }

    /// Answers by script of (status, Retry-After, body), then with 200.
    fn http(
        script: impl IntoIterator<Item = (u16, &'static str, Vec<u8>)>,
        change: impl FnOnce(&mut OtlpConfig),
    ) -> Self {
        let (server, (sender, got)) = (Runtime::new().unwrap(), channel());
        let script: Arc<Mutex<VecDeque<_>>> = Arc::new(Mutex::new(script.into_iter().collect()));
        let service = service_fn(move |request: Request<Incoming>| {
            let (script, sender) = (script.clone(), sender.clone());
            async move {
                assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/v1/metrics"));
                let (head, body) = request.into_parts();
                let mut body = body.collect().await.unwrap().to_bytes().to_vec();
                match head.headers.get("content-encoding").map(|encoding| encoding.to_str().unwrap()) {
                    None => {}
                    Some("gzip") => {
                        let packed = std::mem::take(&mut body);
                        GzDecoder::new(&*packed).read_to_end(&mut body).unwrap();
                    }
                    Some("zstd") => body = zstd::decode_all(&*body).unwrap(),
                    Some(other) => panic!("{other}"),
                }
                let request: ExportMetricsServiceRequest =
                    match head.headers["content-type"].to_str().unwrap() {
                        "application/json" => serde_json::from_slice(&body).unwrap(),
                        "application/x-protobuf" => Message::decode(&*body).unwrap(),
                        other => panic!("{other}"),
                    };
                sender.send((head.headers, values(&request))).unwrap();
                let (status, after, body) =
                    script.lock().unwrap().pop_front().unwrap_or((200, "0", Vec::new()));
                let answer = Response::builder().status(status).header("retry-after", after);
                Ok::<_, Infallible>(answer.body(Full::new(Bytes::from(body))).unwrap())
            }
        });
        let address = serve(&server, service);
        let mut config = config(format!("http://{address}"), "http/protobuf");
        change(&mut config);
        Self { fixture: Fixture::new(config, 1), got, _server: server }
    }

    fn next(&self) -> Got {
        self.got.recv_timeout(PATIENCE).unwrap()
    }

    /// Advances the clock by `step` at a time until a request comes. Returns it and the time it took.
    fn advance_until_next(&mut self, step: Duration) -> (Got, Duration) {
        let (begun, start) = (Instant::now(), self.fixture.rig.clock.now());
        while begun.elapsed() < PATIENCE {
            self.fixture.write_nothing(step);
            if let Ok(got) = self.got.recv_timeout(Duration::from_millis(10)) {
                return (got, self.fixture.rig.clock.now().since(start));
            }
        }
        panic!("no request within {PATIENCE:?}");
    }
}

fn with_header_and(compression: &str) -> impl FnOnce(&mut OtlpConfig) {
    move |config| {
        config.headers.insert("x-tenant".to_owned(), "me".to_owned());
        config.compression = compression.to_owned();
    }
}

fn delivers(mut connected: Connected, compression: &str) {
    let a = connected.fixture.energy(Some(process(1, "a")));
    connected.fixture.write(INTERVAL, &[(a, 3 * J)], &[]);
    let (headers, values) = connected.next();
    assert_eq!(values, [Some(3.0)]);
    assert_eq!(headers["x-tenant"], "me");
    assert!(headers["user-agent"].to_str().unwrap().starts_with("wattrace/"));
    let encoding = headers.get("grpc-encoding").or(headers.get("content-encoding"));
    assert_eq!(encoding.unwrap(), compression);
    connected.fixture.flush().unwrap();
    assert_eq!(connected.fixture.losses(), []);
}

#[test]
fn grpc_delivers_with_headers_and_compression() {
    for compression in ["gzip", "zstd"] {
        delivers(Connected::grpc([], with_header_and(compression)), compression);
    }
}

#[test]
fn http_delivers_with_headers_and_compression_as_protobuf_and_as_json() {
    for compression in ["gzip", "zstd"] {
        delivers(Connected::http([], with_header_and(compression)), compression);
        let json = |config: &mut OtlpConfig| {
            with_header_and(compression)(config);
            config.protocol = "http/json".to_owned();
        };
        delivers(Connected::http([], json), compression);
    }
}

#[test]
fn by_default_the_number_of_processes_is_limited_and_the_rest_is_summed() {
    let mut connected = Connected::grpc([], |_| ());
    let processes: Vec<_> = (0..150).map(|pid| connected.fixture.energy(Some(process(pid, "p")))).collect();
    let points: Vec<_> = processes.iter().zip(1..).map(|(&id, joules)| (id, joules * J)).collect();
    connected.fixture.write(INTERVAL, &points, &[]);
    let values: Vec<_> = connected.next().1.into_iter().map(Option::unwrap).collect();
    assert_eq!(values.len(), 101, "the heaviest 100 and `other`");
    assert_eq!(values.iter().sum::<f64>(), f64::from((1..=150).sum::<i32>()));
}

/// The first answer asks for 30 s.
fn retries_after_the_time_asked_for(mut connected: Connected) {
    let a = connected.fixture.energy(Some(process(1, "a")));
    connected.fixture.write(INTERVAL, &[(a, J)], &[]);
    assert_eq!(connected.next().1, [Some(1.0)]);
    let (got, waited) = connected.advance_until_next(Duration::from_secs(1));
    assert_eq!(got.1, [Some(1.0)]);
    assert!(waited >= Duration::from_secs(30), "{waited:?}");
    connected.fixture.flush().unwrap();
    assert_eq!(connected.fixture.losses(), []);
}

#[test]
fn grpc_retries_after_the_time_asked_for() {
    let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(30)));
    let busy = Status::with_error_details(Code::ResourceExhausted, "busy", details);
    retries_after_the_time_asked_for(Connected::grpc([Err(busy)], |_| ()));
}

#[test]
fn http_retries_after_the_time_asked_for() {
    retries_after_the_time_asked_for(Connected::http([(503, "30", Vec::new())], |_| ()));
}

/// The first answer refuses for good, the second rejects two points.
fn counts_and_goes_on(mut connected: Connected) {
    let [a, b] = [(1, "a"), (2, "b")].map(|(pid, name)| connected.fixture.energy(Some(process(pid, name))));
    connected.fixture.write(INTERVAL, &[(a, J)], &[]);
    assert_eq!(connected.next().1, [Some(1.0)]);
    let refused = connected.fixture.flush().unwrap_err().to_string();
    assert!(refused.contains("refuses: "), "{refused}");
    assert_eq!(connected.fixture.losses(), [("refused", 1)]);
    connected.fixture.write(INTERVAL, &[(a, 2 * J), (b, J)], &[]);
    assert_eq!(connected.next().1, [Some(2.0), Some(1.0)]);
    let rejected = connected.fixture.flush().unwrap_err().to_string();
    assert!(rejected.contains("rejects all points: "), "{rejected}");
    assert_eq!(connected.fixture.losses(), [("rejected", 2)]);
    assert!(connected.got.try_recv().is_err(), "neither is sent again");
}

#[test]
fn grpc_counts_what_is_refused_or_rejected() {
    counts_and_goes_on(Connected::grpc([Err(Status::invalid_argument("no")), Ok(partial(2))], |_| ()));
}

#[test]
fn http_counts_what_is_refused_or_rejected() {
    let answers = [(400, "0", Vec::new()), (200, "0", partial(2).encode_to_vec())];
    counts_and_goes_on(Connected::http(answers, |_| ()));
}

#[test]
fn what_is_refused_or_rejected_in_json_is_counted() {
    let rejected = br#"{"partialSuccess":{"rejectedDataPoints":"2","errorMessage":"old"}}"#.to_vec();
    let answers = [(400, "0", br#"{"code":3,"message":"no"}"#.to_vec()), (200, "0", rejected)];
    counts_and_goes_on(Connected::http(answers, |config| config.protocol = "http/json".to_owned()));
}

/// The output goes on, and a flush says why nothing arrives.
fn fails_to_deliver_and_goes_on(address: std::net::SocketAddr) {
    for protocol in ["grpc", "http/protobuf"] {
        let mut config = config(format!("http://{address}"), protocol);
        config.timeout = Duration::from_millis(500);
        let mut fixture = Fixture::new(config, 1);
        let a = fixture.energy(Some(process(1, "a")));
        fixture.write(INTERVAL, &[(a, J)], &[]);
        let message = fixture.flush().unwrap_err().to_string();
        assert!(message.contains(&address.to_string()) && message.contains("1 values"), "{message}");
        assert_eq!(fixture.losses(), [("unsent", 1)]);
        fixture.write(INTERVAL, &[(a, 2 * J)], &[]);
    }
}

#[test]
fn a_port_on_which_nothing_listens_is_no_failure() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    fails_to_deliver_and_goes_on(address);
}

#[test]
fn a_port_on_which_another_service_listens_is_no_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            _ = (&stream).write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
        }
    });
    fails_to_deliver_and_goes_on(address);
}

#[test]
fn a_collector_that_starts_late_gets_the_last_values_of_streams_that_ended_meanwhile() {
    let server = Runtime::new().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let mut fixture = Fixture::new(config(format!("http://{address}"), "grpc"), 1);
    let (a, b) = (fixture.energy(Some(process(1, "a"))), fixture.energy(Some(process(2, "b"))));
    fixture.write(INTERVAL, &[(a, J), (b, J)], &[]);
    assert!(fixture.flush().is_err());
    fixture.write(Duration::from_millis(1), &[(a, 7 * J), (b, 2 * J)], &[a]);

    let (sender, got) = channel();
    let service = MetricsServiceServer::new(Grpc { script: Arc::default(), got: sender });
    server.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        common::accept(listener, TowerToHyperService::new(service));
    });
    let mut connected = Connected { fixture, got, _server: server };
    let ((_, live), _) = connected.advance_until_next(Duration::from_secs(1));
    assert_eq!((live, connected.next().1), (vec![Some(2.0)], vec![Some(7.0)]));
    connected.fixture.flush().unwrap();
    assert_eq!(connected.next().1, [None]);
}
