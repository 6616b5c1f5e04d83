//! OTLP as protobuf over HTTP/1.1. Which answers may be followed by another try is the OTLP specification's
//! table.

use std::io::Write;
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER,
    USER_AGENT as USER_AGENT_HEADER,
};
use hyper::{Method, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use prost::Message;
use tonic_types::pb::Status;
use wattrace_api::Error;

use crate::config::Settings;
use crate::token::Wire;
use crate::transport::{Outcome, Sending, Sequence, chain};
use crate::{USER_AGENT, tls};

/// Most bytes of an answer that are read.
const ANSWER_LIMIT: usize = 64 * 1024;

/// A client that keeps its connection open between requests.
pub(crate) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    endpoint: Uri,
    headers: HeaderMap,
    gzip: bool,
    sequence: Sequence,
}

impl Http {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        let mut connect = HttpConnector::new();
        connect.enforce_http(false);
        connect.set_nodelay(true);
        connect.set_connect_timeout(Some(settings.timeout));
        // Without roots for a scheme that needs none: a host without certificates can still speak plain HTTP.
        let tls = if settings.endpoint.scheme_str() == Some("https") {
            tls::for_http(&settings.tls)?
        } else {
            tls::none()?
        };
        let connect = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connect);
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT_HEADER, HeaderValue::from_static(USER_AGENT));
        headers.extend(settings.headers.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        if settings.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connect);
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
        let refused = |e: &dyn std::error::Error| Outcome::Refused { cause: chain(e) };
        let body = self.body(&message).map_err(|e| refused(&e))?;
        let mut request = hyper::Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.clone();
        *request.headers_mut() = self.headers.clone();
        authorization.map(|token| request.headers_mut().insert(AUTHORIZATION, token));
        self.sequence.next().map(|number| request.headers_mut().insert(Sequence::HEADER, number));
        let later = |e: &dyn std::error::Error| Outcome::Later { cause: chain(e), after: None };
        let response = self.client.request(request).await.map_err(|e| later(&e))?;
        let (head, body) = response.into_parts();
        // An answer whose text cannot be read still has its status.
        let body = Limited::new(body, ANSWER_LIMIT).collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        Ok(outcome(&Response::from_parts(head, body)))
    }
}

impl Wire for Http {
    fn send(&self, message: ExportMetricsServiceRequest, authorization: Option<HeaderValue>) -> Sending<'_> {
        Box::pin(async move { self.exchange(message, authorization).await.unwrap_or_else(|outcome| outcome) })
    }
}

fn outcome(response: &Response<Bytes>) -> Outcome {
    let header = |name| response.headers().get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    let status = response.status();
    let is_html = header(CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/html"));
    if status.is_success() && !is_html {
        // Some collectors answer success with no body, or one of another kind: they took the request all the
        // same.
        let answer = ExportMetricsServiceResponse::decode(response.body().clone()).unwrap_or_default();
        return Outcome::accepted(answer.partial_success);
    }
    if is_html {
        return Outcome::Refused { cause: format!("{status} with a web page: this is no OTLP collector") };
    }
    let mut cause = format!("HTTP status {status}");
    if let Some(message) = Status::decode(response.body().clone()).ok().map(|s| s.message)
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

/// The time that a Retry-After header asks for: seconds, or a date.
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
        outcome(&Response::builder().status(status).header(header.0, header.1).body(body.into()).unwrap())
    }

    const NONE: (&str, &str) = ("x", "y");

    #[test]
    fn the_specifications_table_decides() {
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
    fn a_refusal_says_what_the_collector_said() {
        let status = Status { code: 3, message: "no such tenant".to_owned(), details: Vec::new() };
        let cause = "HTTP status 400 Bad Request: no such tenant".to_owned();
        assert_eq!(answer(400, NONE, status.encode_to_vec()), Outcome::Refused { cause });
    }

    #[test]
    fn success_says_how_much_was_rejected_and_need_not_say_anything() {
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
    fn a_web_page_is_no_collector() {
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
