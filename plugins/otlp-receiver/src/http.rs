//! OTLP as protobuf over HTTP/1.1, under /v1/metrics.

use std::convert::Infallible;
use std::io::Read;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER as RETRY_AFTER_HEADER,
    WWW_AUTHENTICATE,
};
use hyper::{Method, Request, Response, StatusCode};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use prost::Message;
use tokio::time::timeout;
use tonic::Code;
use tonic_types::pb::Status;

use crate::counts::Fate;
use crate::door::{Door, Turned};
use crate::gateway::{Gateway, Verdict};
use crate::listen::{REQUEST_LIMIT, RETRY_AFTER};
use crate::sequence;

/// The service, for every connection.
#[derive(Clone)]
pub(crate) struct Http {
    door: Arc<Door>,
    gateway: Arc<Gateway>,
    max_message: usize,
}

/// Why a request is not taken, for its sender.
struct Refusal {
    status: StatusCode,
    code: Code,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, code: Code, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }
}

impl Http {
    /// Takes messages of at most `max_message` bytes.
    pub(crate) fn new(door: Arc<Door>, gateway: Arc<Gateway>, max_message: usize) -> Self {
        Self { door, gateway, max_message }
    }

    /// Answers a request.
    ///
    /// # Errors
    /// None: whatever happens has an answer.
    pub(crate) async fn answer(
        self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let mut response = match self.handle(request).await {
            Ok(answer) => Response::new(Full::from(answer.encode_to_vec())),
            Err(Refusal { status, code, message }) => {
                if status == StatusCode::BAD_REQUEST {
                    self.gateway.turned_away(Fate::Malformed);
                }
                let body = Status { code: code as i32, message, details: Vec::new() };
                let mut response = Response::new(Full::from(body.encode_to_vec()));
                *response.status_mut() = status;
                response
            }
        };
        let status = response.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        match status {
            StatusCode::SERVICE_UNAVAILABLE => _ = headers.insert(RETRY_AFTER_HEADER, RETRY_AFTER.into()),
            StatusCode::UNAUTHORIZED => {
                _ = headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
            }
            _ => {}
        }
        Ok(response)
    }

    async fn handle(&self, request: Request<Incoming>) -> Result<ExportMetricsServiceResponse, Refusal> {
        let path = request.uri().path();
        if path != "/v1/metrics" {
            let message = format!("{path} is not here: metrics go to /v1/metrics, and nothing else is taken");
            return Err(Refusal::new(StatusCode::NOT_FOUND, Code::Unimplemented, message));
        }
        if request.method() != Method::POST {
            let message = "metrics are posted";
            return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented, message));
        }
        let _permit = self.door.enter(request.headers()).await.map_err(|turned| match turned {
            Turned::Unauthenticated => {
                self.gateway.turned_away(Fate::Unauthenticated);
                let message = "send the gateway's token in a header: Authorization: Bearer …";
                Refusal::new(StatusCode::UNAUTHORIZED, Code::Unauthenticated, message)
            }
            Turned::Busy => {
                self.gateway.turned_away(Fate::Busy);
                busy()
            }
        })?;
        let gzip = encoding(request.headers())?;
        let sequence = request.headers().get(sequence::HEADER).and_then(|v| v.to_str().ok()?.parse().ok());
        let body = self.body(request.into_body()).await?;
        let body = if gzip { self.unpacked(&body)? } else { body };
        let message = ExportMetricsServiceRequest::decode(body)
            .map_err(|e| malformed(format!("no OTLP metrics: {e}")))?;
        match self.gateway.take(message, sequence.as_ref()) {
            Verdict::Taken(partial_success) => Ok(ExportMetricsServiceResponse { partial_success }),
            Verdict::Busy => Err(busy()),
        }
    }

    async fn body(&self, body: Incoming) -> Result<Bytes, Refusal> {
        match timeout(REQUEST_LIMIT, Limited::new(body, self.max_message).collect()).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(e)) if e.is::<LengthLimitError>() => Err(self.too_large()),
            Ok(Err(e)) => Err(malformed(format!("the body ended too early: {e}"))),
            Err(_) => {
                let message = "the request took too long to arrive";
                Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, Code::DeadlineExceeded, message))
            }
        }
    }

    fn unpacked(&self, packed: &[u8]) -> Result<Bytes, Refusal> {
        let (mut plain, limit) = (Vec::new(), self.max_message as u64);
        let read = MultiGzDecoder::new(packed).take(limit + 1).read_to_end(&mut plain);
        match read {
            Ok(n) if n as u64 > limit => Err(self.too_large()),
            Ok(_) => Ok(plain.into()),
            Err(e) => Err(malformed(format!("no gzip: {e}"))),
        }
    }

    fn too_large(&self) -> Refusal {
        let message = format!("the message has more than {} bytes: max_message", self.max_message);
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted, message)
    }
}

/// Whether the body is packed by gzip.
fn encoding(headers: &HeaderMap) -> Result<bool, Refusal> {
    let text =
        |name| headers.get(name).and_then(|v| v.to_str().ok()).map(|v: &str| v.trim().to_ascii_lowercase());
    let unsupported =
        |message: String| Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, message);
    let kind = text(CONTENT_TYPE).unwrap_or_default();
    if kind.split(';').next() != Some("application/x-protobuf") {
        let remedy = "send application/x-protobuf (OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf)";
        return Err(unsupported(format!("`{kind}` is not understood: {remedy}")));
    }
    match text(CONTENT_ENCODING).as_deref() {
        None | Some("" | "identity") => Ok(false),
        Some("gzip") => Ok(true),
        Some(other) => {
            Err(unsupported(format!("`{other}` is not understood: pack with gzip, or not at all")))
        }
    }
}

fn malformed(message: String) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, Code::InvalidArgument, message)
}

fn busy() -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, "the gateway's pipeline is behind")
}
