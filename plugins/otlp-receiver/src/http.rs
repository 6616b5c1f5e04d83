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
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message;
use tokio::time::timeout;
use tonic::Code;
use tonic_types::pb::Status;

use crate::admission::{Admission, REQUEST_LIMIT, RETRY_AFTER, Rejection, busy};
use crate::budget::{Exhausted, Metered, Reservation};
use crate::counts::Fate;
use crate::decode::{Undecodable, decode};
use crate::gateway::{Gateway, Outcome};
use crate::sequence;

/// How much is decompressed at a time.
const PIECE: usize = 64 * 1024;

/// The service, for every connection.
#[derive(Clone)]
pub(crate) struct Http {
    admission: Arc<Admission>,
    gateway: Arc<Gateway>,
    max_message: usize,
}

/// The answer to a request that is refused.
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
    /// A service for messages of at most `max_message` bytes.
    pub(crate) fn new(admission: Arc<Admission>, gateway: Arc<Gateway>, max_message: usize) -> Self {
        Self { admission, gateway, max_message }
    }

    /// Answers a request.
    ///
    /// # Errors
    /// None: every case has an answer.
    pub(crate) async fn answer(
        self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let mut response = match self.handle(request).await {
            Ok(answer) => Response::new(Full::from(answer.encode_to_vec())),
            Err(Refusal { status, code, message }) => {
                let fate = match status {
                    StatusCode::BAD_REQUEST => Some(Fate::Malformed),
                    StatusCode::PAYLOAD_TOO_LARGE => Some(Fate::TooLarge),
                    StatusCode::REQUEST_TIMEOUT => Some(Fate::Slow),
                    _ => None,
                };
                fate.into_iter().for_each(|fate| self.gateway.count_request(fate));
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
            let message =
                format!("there is no {path}: metrics go to /v1/metrics, and nothing else is accepted");
            return Err(Refusal::new(StatusCode::NOT_FOUND, Code::Unimplemented, message));
        }
        if request.method() != Method::POST {
            let message = "send metrics with POST";
            return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented, message));
        }
        let admitted = self.admission.admit(request.headers(), request.extensions().get());
        let admitted = admitted.await.map_err(|rejection| match rejection {
            Rejection::Unauthenticated => {
                self.gateway.count_request(Fate::Unauthenticated);
                let message = "send the gateway's token in a header: Authorization: Bearer …";
                Refusal::new(StatusCode::UNAUTHORIZED, Code::Unauthenticated, message)
            }
            Rejection::Busy => self.busy(busy::REQUESTS),
        })?;
        let gzip = encoding(request.headers())?;
        let sequence = request.headers().get(sequence::HEADER).and_then(|v| v.to_str().ok()?.parse().ok());
        let reservation = &admitted.reservation;
        let body = self.body(request.into_body(), reservation.clone()).await?;
        let body = if gzip { self.decompressed(&body, reservation)? } else { body };
        let message = decode(body, self.max_message, reservation).map_err(|problem| match problem {
            Undecodable::Malformed(message) => malformed(message),
            Undecodable::TooLarge(message) => large(message),
            Undecodable::Busy => self.busy(busy::BYTES),
        })?;
        match self.gateway.receive(message, sequence.as_ref()) {
            Outcome::Taken(partial_success) => Ok(ExportMetricsServiceResponse { partial_success }),
            Outcome::Busy => Err(unavailable(busy::PIPELINE)),
        }
    }

    async fn body(&self, body: Incoming, reservation: Arc<Reservation>) -> Result<Bytes, Refusal> {
        let body = Limited::new(Metered { body, reservation }, self.max_message);
        match timeout(REQUEST_LIMIT, body.collect()).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(e)) if e.is::<LengthLimitError>() => Err(self.too_large()),
            Ok(Err(e)) if e.is::<Exhausted>() => Err(self.busy(busy::BYTES)),
            Ok(Err(e)) => Err(malformed(format!("the body ended too early: {e}"))),
            Err(_) => {
                let message = "the request took too long to arrive";
                Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, Code::DeadlineExceeded, message))
            }
        }
    }

    fn decompressed(&self, compressed: &[u8], reservation: &Reservation) -> Result<Bytes, Refusal> {
        let (mut plain, mut reader) = (Vec::new(), MultiGzDecoder::new(compressed));
        loop {
            // Piece by piece, so that the memory is reserved before it is taken.
            let most = PIECE.min(self.max_message + 1 - plain.len());
            reservation.take(most).map_err(|_| self.busy(busy::BYTES))?;
            match reader.by_ref().take(most as u64).read_to_end(&mut plain) {
                Ok(_) if plain.len() > self.max_message => return Err(self.too_large()),
                Ok(n) if n < most => return Ok(plain.into()),
                Ok(_) => {}
                Err(e) => return Err(malformed(format!("not gzip: {e}"))),
            }
        }
    }

    /// Refuses for now.
    fn busy(&self, message: &str) -> Refusal {
        self.gateway.count_request(Fate::Busy);
        unavailable(message)
    }

    fn too_large(&self) -> Refusal {
        let message = format!("the message has more than {} bytes: max_message", self.max_message);
        large(message)
    }
}

fn large(message: String) -> Refusal {
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted, message)
}

/// Whether the body is compressed with gzip.
fn encoding(headers: &HeaderMap) -> Result<bool, Refusal> {
    let text =
        |name| headers.get(name).and_then(|v| v.to_str().ok()).map(|v: &str| v.trim().to_ascii_lowercase());
    let unsupported =
        |message: String| Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, message);
    let kind = text(CONTENT_TYPE).unwrap_or_default();
    if kind.split(';').next() != Some("application/x-protobuf") {
        let remedy = "send application/x-protobuf (OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf)";
        return Err(unsupported(format!("`{kind}` is not supported: {remedy}")));
    }
    match text(CONTENT_ENCODING).as_deref() {
        None | Some("" | "identity") => Ok(false),
        Some("gzip") => Ok(true),
        Some(other) => {
            Err(unsupported(format!("`{other}` is not supported: compress with gzip, or not at all")))
        }
    }
}

fn malformed(message: String) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, Code::InvalidArgument, message)
}

fn unavailable(message: &str) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, message)
}
