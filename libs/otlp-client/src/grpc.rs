//! OTLP over gRPC: the client, and what its answers mean. `grpc_wire` has the codec, and finds answers that
//! are not gRPC.

use std::error::Error as _;

use hyper::Uri;
use hyper::body::Bytes;
use hyper::header::HeaderMap;
use hyper::http::uri::PathAndQuery;
use tonic::metadata::MetadataMap;
use tonic::transport::Endpoint;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use wattrace_api::{Error, ResultExt};
use wattrace_http::{Connector, chain, find};

use crate::answer::{self, ANSWER_LIMIT};
use crate::config::Settings;
use crate::grpc_wire::{Checked, Codec, NotGrpc};
use crate::shown::shown;
use crate::transport::{OtlpClient, Outcome, Problem, Sending, Sequence};
use crate::{USER_AGENT, tls};

/// A connection that is opened when it is first needed, and reopened after it broke.
pub(crate) struct Grpc {
    client: tonic::client::Grpc<Checked>,
    method: PathAndQuery,
    headers: HeaderMap,
    sequence: Sequence,
}

impl Grpc {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        let third = settings.timeout / 3;
        let endpoint = Endpoint::from(origin(&settings.endpoint).or_fatal()?)
            .user_agent(USER_AGENT)
            .or_fatal()?
            .connect_timeout(settings.timeout)
            // So that a request notices a connection that is dead but not closed.
            .http2_keep_alive_interval(third)
            .keep_alive_timeout(third);
        let connector = Connector::tcp(tls::config(settings, &[b"h2"])?, settings.timeout);
        let channel = endpoint.connect_with_connector_lazy(connector.through(settings.proxy.clone()));
        let mut client = tonic::client::Grpc::new(Checked(channel)).max_decoding_message_size(ANSWER_LIMIT);
        if let Some(encoding) = settings.compression.grpc() {
            client = client.send_compressed(encoding).accept_compressed(encoding);
        }
        let method = PathAndQuery::from_static(settings.signal.method);
        Ok(Self { client, method, headers: settings.headers.clone(), sequence: Sequence::new() })
    }
}

/// Scheme, host and port: gRPC has paths of its own.
fn origin(endpoint: &Uri) -> Result<Uri, hyper::http::Error> {
    let mut parts = endpoint.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::from_static("/"));
    Ok(Uri::from_parts(parts)?)
}

impl OtlpClient for Grpc {
    fn send(&self, request: Bytes, credentials: HeaderMap) -> Sending<'_> {
        let mut request = tonic::Request::new(request);
        let mut headers = self.headers.clone();
        headers.extend(credentials);
        self.sequence.next().map(|number| headers.insert(Sequence::HEADER, number));
        *request.metadata_mut() = MetadataMap::from_headers(headers);
        let (mut client, method) = (self.client.clone(), self.method.clone());
        Box::pin(async move {
            if let Err(e) = client.ready().await {
                return outcome(&Status::from_error(e));
            }
            match client.unary(request, method, Codec).await {
                Ok(response) => Outcome::accepted(response.into_inner()),
                Err(status) => outcome(&status),
            }
        })
    }
}

/// The OTLP specification says which codes allow another attempt. The two that servers also use for a message
/// that is too large mean that first.
pub(crate) fn outcome(status: &Status) -> Outcome {
    if let Some(source) = status.source() {
        return unanswered(source);
    }
    let cause = format!("{:?}: {}", status.code(), shown(status.message()));
    let after = status.get_details_retry_info().and_then(|info| info.retry_delay);
    match status.code() {
        Code::Cancelled | Code::DeadlineExceeded | Code::Aborted | Code::Unavailable | Code::DataLoss => {
            Outcome::Later { cause, after }
        }
        Code::OutOfRange | Code::ResourceExhausted if after.is_some() => Outcome::Later { cause, after },
        Code::OutOfRange => Outcome::TooLarge { cause, is_temporary: true },
        Code::ResourceExhausted => Outcome::TooLarge { cause, is_temporary: false },
        _ => Outcome::Refused { cause },
    }
}

/// A status made on this side: the connection failed, or what came over it is not gRPC.
fn unanswered(source: &(dyn std::error::Error + 'static)) -> Outcome {
    if let Some(NotGrpc { status, headers, body }) = find::<NotGrpc>(source) {
        return match status.is_success() {
            true => Outcome::Refused {
                cause: format!("{status} with {}: this is not a gRPC collector", answer::kind(headers)),
            },
            false => answer::failure(*status, headers, body),
        };
    }
    match find::<wattrace_http::Error>(source) {
        Some(error) => Outcome::unreached(error),
        None => Outcome::Unreached { cause: chain(source), problem: Problem::Exchange },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn the_code_decides_whether_to_try_again() {
        use Code::*;
        for code in [Cancelled, DeadlineExceeded, Aborted, Unavailable, DataLoss] {
            assert!(
                matches!(outcome(&Status::new(code, "x")), Outcome::Later { after: None, .. }),
                "{code:?}"
            );
        }
        for code in [Unknown, InvalidArgument, NotFound, PermissionDenied, Unimplemented, Internal] {
            assert!(matches!(outcome(&Status::new(code, "x")), Outcome::Refused { .. }), "{code:?}");
        }
        for (code, temporary) in [(OutOfRange, true), (ResourceExhausted, false)] {
            let got = outcome(&Status::new(code, "x"));
            assert!(matches!(got, Outcome::TooLarge { is_temporary, .. } if is_temporary == temporary));
        }
    }

    #[test]
    fn an_error_of_the_connection_is_not_an_answer() {
        let status = Status::from_error("frame with invalid size".into());
        assert_eq!(status.code(), Code::Unknown);
        let cause = "frame with invalid size".to_owned();
        assert_eq!(outcome(&status), Outcome::Unreached { cause, problem: Problem::Exchange });
    }

    #[test]
    fn resource_exhausted_with_a_delay_is_about_the_rate_and_not_the_size() {
        let delay = Some(Duration::from_millis(2500));
        let details = ErrorDetails::with_retry_info(delay);
        let status = Status::with_error_details(Code::ResourceExhausted, "busy", details);
        let cause = "ResourceExhausted: busy".to_owned();
        assert_eq!(outcome(&status), Outcome::Later { cause, after: delay });
    }
}
