//! OTLP as protobuf over HTTP/1.1. The OTLP specification says which answers allow another attempt.

use std::io::Write;
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::Bytes;
use hyper::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER,
    USER_AGENT as USER_AGENT_HEADER,
};
use hyper::{Method, StatusCode, Uri};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use prost::Message;
use tonic_types::pb::Status;
use wattrace_api::Error;
use wattrace_http::{Answer, Client, Limits, chain};

use crate::config::Settings;
use crate::transport::{OtlpClient, Outcome, Sending, Sequence};
use crate::{USER_AGENT, tls};

/// The longest answer that is read, in bytes.
const ANSWER_LIMIT: usize = 64 * 1024;

/// A client that keeps its connection open between requests.
pub(crate) struct Http {
    client: Client,
    endpoint: Uri,
    headers: HeaderMap,
    gzip: bool,
    sequence: Sequence,
}

impl Http {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        let limits = Limits { time: settings.timeout, bytes: ANSWER_LIMIT };
        let client = Client::new(tls::config(settings, &[])?, limits);
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT_HEADER, HeaderValue::from_static(USER_AGENT));
        headers.extend(settings.headers.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        if settings.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let (endpoint, gzip, sequence) = (settings.endpoint.clone(), settings.gzip, Sequence::new());
        Ok(Self { client, endpoint, headers, gzip, sequence })
    }

    fn body(&self, message: &ExportMetricsServiceRequest) -> std::io::Result<Bytes> {
        let plain = message.encode_to_vec();
        if !self.gzip {
            return Ok(plain.into());
        }
        let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 8), Compression::fast());
        encoder.write_all(&plain)?;
        Ok(encoder.finish()?.into())
    }

    async fn exchange(
        &self,
        message: ExportMetricsServiceRequest,
        authorization: Option<HeaderValue>,
    ) -> Result<Outcome, Outcome> {
        let body = self.body(&message).map_err(|e| Outcome::Refused { cause: chain(&e) })?;
        let mut request = hyper::Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.clone();
        *request.headers_mut() = self.headers.clone();
        authorization.map(|token| request.headers_mut().insert(AUTHORIZATION, token));
        self.sequence.next().map(|number| request.headers_mut().insert(Sequence::HEADER, number));
        let sent = self.client.send(request).await;
        sent.map(outcome).map_err(|e| Outcome::Later { cause: chain(&e), after: None })
    }
}

impl OtlpClient for Http {
    fn send(&self, message: ExportMetricsServiceRequest, authorization: Option<HeaderValue>) -> Sending<'_> {
        Box::pin(async move { self.exchange(message, authorization).await.unwrap_or_else(|outcome| outcome) })
    }
}

fn outcome(answer: Answer) -> Outcome {
    let Answer { status, headers, body } = answer;
    // The status counts even if the body could not be read.
    let body = body.unwrap_or_default();
    let header = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let is_html = header(CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/html"));
    if status.is_success() && !is_html {
        // Some collectors answer a success with no body or with one of another type: they have accepted the
        // request.
        let answer = ExportMetricsServiceResponse::decode(body).unwrap_or_default();
        return Outcome::accepted(answer.partial_success);
    }
    if is_html {
        return Outcome::Refused {
            cause: format!("{status} with a web page: this is not an OTLP collector"),
        };
    }
    let mut cause = format!("HTTP status {status}");
    if let Some(message) = Status::decode(body).ok().map(|s| s.message)
        && !message.is_empty()
    {
        cause = format!("{cause}: {message}");
    }
    if let Some(location) = header(LOCATION) {
        cause = format!("{cause}: moved to {location}");
    }
    match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => {
            Outcome::Later { cause, after: header(RETRY_AFTER).and_then(|v| delay(v, SystemTime::now())) }
        }
        _ => Outcome::Refused { cause },
    }
}

/// The wait that a Retry-After header asks for: in seconds, or until a date.
fn delay(value: &str, now: SystemTime) -> Option<Duration> {
    match value.trim().parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(value).ok()?.duration_since(now).ok(),
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsPartialSuccess;

    use super::*;

    fn answer(status: u16, header: (&'static str, &'static str), body: Vec<u8>) -> Outcome {
        let headers = HeaderMap::from_iter([(header.0.parse().unwrap(), header.1.parse().unwrap())]);
        let status = StatusCode::from_u16(status).unwrap();
        outcome(Answer { status, headers, body: Ok(body.into()) })
    }

    #[test]
    fn a_success_counts_even_if_its_body_cannot_be_read() {
        let body = Err(wattrace_http::Error::TooLong(ANSWER_LIMIT));
        let answer = Answer { status: StatusCode::OK, headers: HeaderMap::new(), body };
        assert_eq!(outcome(answer), Outcome::Accepted { rejected: 0, message: String::new() });
    }

    const NONE: (&str, &str) = ("x", "y");

    #[test]
    fn the_status_decides_whether_to_try_again() {
        for status in [429, 502, 503, 504] {
            let got = answer(status, ("retry-after", "7"), Vec::new());
            assert!(
                matches!(got, Outcome::Later { after: Some(after), .. } if after == Duration::from_secs(7)),
                "{got:?}"
            );
        }
        for status in [301, 400, 401, 404, 413, 500, 501] {
            let got = answer(status, ("retry-after", "7"), Vec::new());
            assert!(matches!(got, Outcome::Refused { .. }), "{status}: {got:?}");
        }
    }

    #[test]
    fn a_refusal_carries_the_collectors_message() {
        let status = Status { code: 3, message: "no such tenant".to_owned(), details: Vec::new() };
        let cause = "HTTP status 400 Bad Request: no such tenant".to_owned();
        assert_eq!(answer(400, NONE, status.encode_to_vec()), Outcome::Refused { cause });
    }

    #[test]
    fn a_success_may_report_rejected_points() {
        let partial =
            ExportMetricsPartialSuccess { rejected_data_points: 3, error_message: "dup".to_owned() };
        let body = ExportMetricsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
        let message = "dup".to_owned();
        assert_eq!(answer(200, NONE, body), Outcome::Accepted { rejected: 3, message });
        let nothing = Outcome::Accepted { rejected: 0, message: String::new() };
        assert_eq!(answer(204, NONE, Vec::new()), nothing);
        assert_eq!(answer(200, ("content-type", "application/json"), b"{}".to_vec()), nothing);
    }

    #[test]
    fn a_web_page_is_not_a_collector() {
        let got = answer(200, ("content-type", "text/html; charset=utf-8"), b"<html>".to_vec());
        assert!(matches!(&got, Outcome::Refused { cause } if cause.contains("web page")), "{got:?}");
    }

    #[test]
    fn retry_after_may_be_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:30 GMT").unwrap();
        assert_eq!(delay("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(7)));
        assert_eq!(delay("Sun, 06 Nov 1994 08:49:20 GMT", now), None);
        assert_eq!(delay(" 12 ", now), Some(Duration::from_secs(12)));
        assert_eq!(delay("soon", now), None);
    }
}
