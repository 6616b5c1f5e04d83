//! OTLP over gRPC. The OTLP specification says which answers allow another attempt.

use std::error::Error as _;

use hyper::header::{AUTHORIZATION, HeaderValue};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use wattrace_api::{Error, ResultExt};
use wattrace_http::{Connector, chain};

use crate::config::Settings;
use crate::transport::{OtlpClient, Outcome, Sending, Sequence};
use crate::{USER_AGENT, tls};

/// A connection that is opened when it is first needed, and reopened after it broke.
pub(crate) struct Grpc {
    client: MetricsServiceClient<Channel>,
    headers: MetadataMap,
    sequence: Sequence,
}

impl Grpc {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        let third = settings.timeout / 3;
        let endpoint = Endpoint::from(settings.endpoint.clone())
            .user_agent(USER_AGENT)
            .or_fatal()?
            .connect_timeout(settings.timeout)
            // So that a request notices a connection that is dead but not closed.
            .http2_keep_alive_interval(third)
            .keep_alive_timeout(third);
        let connector = Connector::tcp(tls::config(settings, &[b"h2"])?, settings.timeout);
        let mut client = MetricsServiceClient::new(endpoint.connect_with_connector_lazy(connector));
        if settings.gzip {
            client = client.send_compressed(CompressionEncoding::Gzip);
        }
        let headers = MetadataMap::from_headers(settings.headers.clone());
        Ok(Self { client, headers, sequence: Sequence::new() })
    }
}

impl OtlpClient for Grpc {
    fn send(&self, message: ExportMetricsServiceRequest, authorization: Option<HeaderValue>) -> Sending<'_> {
        let mut request = tonic::Request::new(message);
        let mut headers = self.headers.clone().into_headers();
        authorization.map(|token| headers.insert(AUTHORIZATION, token));
        self.sequence.next().map(|number| headers.insert(Sequence::HEADER, number));
        *request.metadata_mut() = MetadataMap::from_headers(headers);
        let mut client = self.client.clone();
        Box::pin(async move {
            match client.export(request).await {
                Ok(response) => Outcome::accepted(response.into_inner().partial_success),
                Err(status) => outcome(&status),
            }
        })
    }
}

fn outcome(status: &Status) -> Outcome {
    if let Some(source) = status.source() {
        // Made on this side: the connection failed, or what came over it is not gRPC.
        return Outcome::Later { cause: chain(source), after: None };
    }
    let cause = format!("{:?}: {}", status.code(), status.message());
    let after = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let retryable = match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::ResourceExhausted => after.is_some(),
        _ => false,
    };
    if retryable { Outcome::Later { cause, after } } else { Outcome::Refused { cause } }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn the_code_decides_whether_to_try_again() {
        use Code::*;
        let later = [Cancelled, DeadlineExceeded, Aborted, OutOfRange, Unavailable, DataLoss];
        let refused = [
            Unknown,
            InvalidArgument,
            NotFound,
            PermissionDenied,
            ResourceExhausted,
            Unimplemented,
            Internal,
        ];
        for code in later {
            assert!(
                matches!(outcome(&Status::new(code, "x")), Outcome::Later { after: None, .. }),
                "{code:?}"
            );
        }
        for code in refused {
            assert!(matches!(outcome(&Status::new(code, "x")), Outcome::Refused { .. }), "{code:?}");
        }
    }

    #[test]
    fn an_error_of_the_connection_is_not_an_answer() {
        let status = Status::from_error("frame with invalid size".into());
        assert_eq!(status.code(), Code::Unknown);
        let cause = "frame with invalid size".to_owned();
        assert_eq!(outcome(&status), Outcome::Later { cause, after: None });
    }

    #[test]
    fn resource_exhausted_is_retried_only_after_a_given_delay() {
        let delay = Some(Duration::from_millis(2500));
        let details = ErrorDetails::with_retry_info(delay);
        let status = Status::with_error_details(Code::ResourceExhausted, "busy", details);
        let cause = "ResourceExhausted: busy".to_owned();
        assert_eq!(outcome(&status), Outcome::Later { cause, after: delay });
    }
}
