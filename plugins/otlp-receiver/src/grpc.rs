//! OTLP over gRPC, with tonic. Messages are taken as bytes, so that `decode` sees them before they unpack.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Buf, Bytes, Incoming};
use hyper::{Request, Response};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::codec::{
    CompressionEncoding, DecodeBuf, Decoder, EnabledCompressionEncodings, EncodeBuf, Encoder,
};
use tonic::server::UnaryService;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::admission::{Admission, REQUEST_LIMIT, RETRY_AFTER, Rejection, busy};
use crate::budget::{Exhausted, Metered, Reservation};
use crate::counts::Fate;
use crate::decode::{Undecodable, decode};
use crate::gateway::{Gateway, Outcome};
use crate::sequence;

const EXPORT: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/// The service, for every connection.
#[derive(Clone)]
pub(crate) struct Grpc {
    admission: Arc<Admission>,
    gateway: Arc<Gateway>,
    max_message: usize,
}

/// One call.
struct Export {
    gateway: Arc<Gateway>,
    reservation: Arc<Reservation>,
    max_message: usize,
}

impl Grpc {
    /// A service for messages of at most `max_message` bytes.
    pub(crate) fn new(admission: Arc<Admission>, gateway: Arc<Gateway>, max_message: usize) -> Self {
        Self { admission, gateway, max_message }
    }

    /// Answers a request.
    ///
    /// # Errors
    /// None: every case has an answer.
    pub(crate) async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        if request.uri().path() != EXPORT {
            return Ok(Status::unimplemented("metrics are accepted, and nothing else").into_http());
        }
        let admitted = self.admission.admit(request.headers(), request.extensions().get());
        let admitted = match admitted.await {
            Ok(admitted) => admitted,
            Err(Rejection::Unauthenticated) => {
                self.gateway.count_request(Fate::Unauthenticated);
                let message = "send the gateway's token as metadata: authorization: Bearer …";
                return Ok(Status::unauthenticated(message).into_http());
            }
            Err(Rejection::Busy) => {
                self.gateway.count_request(Fate::Busy);
                return Ok(unavailable(busy::REQUESTS).into_http());
            }
        };
        let (gateway, max_message) = (self.gateway.clone(), self.max_message);
        let reservation = admitted.reservation.clone();
        let request = request.map(|body| {
            let (body, gateway) = (Metered { body, reservation: reservation.clone() }, gateway.clone());
            body.map_err(move |error| match error.is::<Exhausted>() {
                true => {
                    gateway.count_request(Fate::Busy);
                    unavailable(busy::BYTES).into()
                }
                false => error,
            })
        });
        let mut gzip = EnabledCompressionEncodings::default();
        gzip.enable(CompressionEncoding::Gzip);
        let mut server = tonic::server::Grpc::new(Codec)
            .apply_compression_config(gzip, EnabledCompressionEncodings::default())
            .apply_max_message_size_config(Some(max_message), None);
        let call = server.unary(Export { gateway, reservation, max_message }, request);
        let answer = timeout(REQUEST_LIMIT, call).await;
        // What tonic refuses before it calls: too many bytes, and what is no frame of a message.
        let fate = match answer.as_ref().map(|answer| answer.headers().get("grpc-status")) {
            Ok(Some(code)) if code == "11" => Some(Fate::TooLarge),
            Ok(Some(code)) if code == "13" => Some(Fate::Malformed),
            Ok(_) => None,
            Err(_) => Some(Fate::Slow),
        };
        fate.into_iter().for_each(|fate| self.gateway.count_request(fate));
        let late = |_| Status::deadline_exceeded("the request took too long to arrive").into_http();
        Ok(answer.unwrap_or_else(late))
    }
}

impl Export {
    fn receive(&self, request: tonic::Request<Bytes>) -> Result<ExportMetricsServiceResponse, Status> {
        let sequence = request.metadata().get(sequence::HEADER).and_then(|v| v.to_str().ok()?.parse().ok());
        let refuse = |fate, status| {
            self.gateway.count_request(fate);
            status
        };
        let message = decode(request.into_inner(), self.max_message, &self.reservation);
        let message = message.map_err(|problem| match problem {
            Undecodable::Malformed(text) => refuse(Fate::Malformed, Status::invalid_argument(text)),
            Undecodable::TooLarge(text) => refuse(Fate::TooLarge, Status::resource_exhausted(text)),
            Undecodable::Busy => refuse(Fate::Busy, unavailable(busy::BYTES)),
        })?;
        match self.gateway.receive(message, sequence.as_ref()) {
            Outcome::Taken(partial_success) => Ok(ExportMetricsServiceResponse { partial_success }),
            Outcome::Busy => Err(unavailable(busy::PIPELINE)),
        }
    }
}

type Receiving =
    Pin<Box<dyn Future<Output = Result<tonic::Response<ExportMetricsServiceResponse>, Status>> + Send>>;

impl UnaryService<Bytes> for Export {
    type Response = ExportMetricsServiceResponse;
    type Future = Receiving;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Receiving {
        let answer = self.receive(request).map(tonic::Response::new);
        Box::pin(async move { answer })
    }
}

/// Receives bytes, sends answers.
#[derive(Clone, Copy, Debug)]
struct Codec;

impl tonic::codec::Codec for Codec {
    type Encode = ExportMetricsServiceResponse;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Codec {
    type Item = ExportMetricsServiceResponse;
    type Error = Status;

    fn encode(&mut self, item: Self::Item, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(to).map_err(|e| Status::internal(e.to_string()))
    }
}

impl Decoder for Codec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

fn unavailable(message: &str) -> Status {
    let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(RETRY_AFTER)));
    Status::with_error_details(Code::Unavailable, message, details)
}
