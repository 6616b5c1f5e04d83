//! OTLP over HTTP/1.1, as protobuf or as JSON. `answer` says what the answers mean.

use hyper::body::Bytes;
use hyper::header::{
    CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT as USER_AGENT_HEADER,
};
use hyper::{Method, Uri};
use wattrace_api::Error;
use wattrace_http::{Client, Limits, chain};

use crate::answer::{ANSWER_LIMIT, outcome};
use crate::compression::Compression;
use crate::config::Settings;
use crate::protocol::Protocol;
use crate::signal::ToJson;
use crate::transport::{OtlpClient, Outcome, Sending, Sequence};
use crate::{USER_AGENT, tls};

/// A client that keeps its connection open between requests.
pub(crate) struct Http {
    client: Client,
    endpoint: Uri,
    headers: HeaderMap,
    /// Makes JSON of a request. `None`: it is sent as it is, as protobuf.
    json: Option<ToJson>,
    compression: Compression,
    sequence: Sequence,
}

impl Http {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        let limits = Limits { time: settings.timeout, bytes: ANSWER_LIMIT };
        let client = Client::proxied(tls::config(settings, &[])?, limits, settings.proxy.clone());
        let json = (settings.protocol == Protocol::Json).then_some(settings.signal.json);
        let kind = if json.is_some() { "application/json" } else { "application/x-protobuf" };
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT_HEADER, HeaderValue::from_static(USER_AGENT));
        headers.extend(settings.headers.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        let compression = settings.compression;
        if let Some(encoding) = compression.http() {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        let (endpoint, sequence) = (settings.endpoint.clone(), Sequence::new());
        Ok(Self { client, endpoint, headers, json, compression, sequence })
    }

    /// What is sent for an encoded request.
    fn body(&self, request: Bytes) -> Result<Bytes, String> {
        let plain = match self.json {
            Some(json) => json(&request)?.into(),
            None => request,
        };
        self.compression.compress(plain).map_err(|e| chain(&e))
    }

    async fn exchange(&self, request: Bytes, credentials: HeaderMap) -> Result<Outcome, Outcome> {
        let body = self.body(request).map_err(|cause| Outcome::Refused { cause })?;
        let mut request = hyper::Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.clone();
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        headers.extend(credentials);
        self.sequence.next().map(|number| headers.insert(Sequence::HEADER, number));
        let sent = self.client.send(request).await;
        sent.map(outcome).map_err(|e| Outcome::unreached(&e))
    }
}

impl OtlpClient for Http {
    fn send(&self, request: Bytes, credentials: HeaderMap) -> Sending<'_> {
        Box::pin(async move { self.exchange(request, credentials).await.unwrap_or_else(|outcome| outcome) })
    }
}
