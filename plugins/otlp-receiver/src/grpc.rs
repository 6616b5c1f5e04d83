//! OTLP over gRPC, with tonic.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use tokio::time::timeout;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::codegen::Service;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::admission::{Admission, REQUEST_LIMIT, RETRY_AFTER, Rejection};
use crate::counts::Fate;
use crate::gateway::{Gateway, Outcome};
use crate::sequence;

/// The service, for every connection.
#[derive(Clone)]
pub(crate) struct Grpc {
    admission: Arc<Admission>,
    gateway: Arc<Gateway>,
    service: MetricsServiceServer<Metrics>,
}

/// The implementation behind tonic's service.
pub(crate) struct Metrics(Arc<Gateway>);

impl Grpc {
    /// A service for messages of at most `max_message` bytes.
    pub(crate) fn new(admission: Arc<Admission>, gateway: Arc<Gateway>, max_message: usize) -> Self {
        let service = MetricsServiceServer::new(Metrics(gateway.clone()))
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(max_message);
        Self { admission, gateway, service }
    }

    /// Answers a request.
    ///
    /// # Errors
    /// None: every case has an answer.
    pub(crate) async fn answer(mut self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let _permit = match self.admission.admit(request.headers()).await {
            Ok(permit) => permit,
            Err(Rejection::Unauthenticated) => {
                self.gateway.count_request(Fate::Unauthenticated);
                let message = "send the gateway's token as metadata: authorization: Bearer …";
                return Ok(Status::unauthenticated(message).into_http());
            }
            Err(Rejection::Busy) => {
                self.gateway.count_request(Fate::Busy);
                return Ok(busy().into_http());
            }
        };
        let answered = timeout(REQUEST_LIMIT, self.service.call(request)).await;
        answered.unwrap_or_else(|_| {
            Ok(Status::deadline_exceeded("the request took too long to arrive").into_http())
        })
    }
}

#[tonic::async_trait]
impl MetricsService for Metrics {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, Status> {
        let sequence = request.metadata().get(sequence::HEADER).and_then(|v| v.to_str().ok()?.parse().ok());
        match self.0.receive(request.into_inner(), sequence.as_ref()) {
            Outcome::Taken(partial_success) => {
                Ok(tonic::Response::new(ExportMetricsServiceResponse { partial_success }))
            }
            Outcome::Busy => Err(busy()),
        }
    }
}

fn busy() -> Status {
    let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(RETRY_AFTER)));
    Status::with_error_details(Code::Unavailable, "the gateway's pipeline is behind", details)
}
