//! OTLP as protobuf over HTTP/1.1. `answer` says what the answers mean.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::Bytes;
use hyper::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT as USER_AGENT_HEADER,
};
use hyper::{Method, Uri};
use wattrace_api::Error;
use wattrace_http::{Client, Limits, chain};

use crate::answer::{ANSWER_LIMIT, outcome};
use crate::config::Settings;
use crate::transport::{OtlpClient, Outcome, Sending, Sequence};
use crate::{USER_AGENT, tls};

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
        let client = Client::proxied(tls::config(settings, &[])?, limits, settings.proxy.clone());
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

    fn body(&self, plain: Bytes) -> std::io::Result<Bytes> {
        if !self.gzip {
            return Ok(plain);
        }
        let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 8), Compression::fast());
        encoder.write_all(&plain)?;
        Ok(encoder.finish()?.into())
    }

    async fn exchange(&self, request: Bytes, authorization: Option<HeaderValue>) -> Result<Outcome, Outcome> {
        let body = self.body(request).map_err(|e| Outcome::Refused { cause: chain(&e) })?;
        let mut request = hyper::Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.clone();
        *request.headers_mut() = self.headers.clone();
        authorization.map(|token| request.headers_mut().insert(AUTHORIZATION, token));
        self.sequence.next().map(|number| request.headers_mut().insert(Sequence::HEADER, number));
        let sent = self.client.send(request).await;
        sent.map(outcome).map_err(|e| Outcome::unreached(&e))
    }
}

impl OtlpClient for Http {
    fn send(&self, request: Bytes, authorization: Option<HeaderValue>) -> Sending<'_> {
        Box::pin(async move { self.exchange(request, authorization).await.unwrap_or_else(|outcome| outcome) })
    }
}
