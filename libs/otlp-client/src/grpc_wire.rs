//! gRPC below the level of codes: requests that are encoded already, and answers that are not gRPC, as
//! proxies give them. tonic reads the body of such an answer as a message, whatever the HTTP status is; here
//! the status comes first.

use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::{BodyExt, Limited};
use hyper::body::{Buf, Bytes};
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::{Request, Response, StatusCode};
use prost::Message;
use prost::bytes::BufMut;
use tonic::Status;
use tonic::body::Body;
use tonic::codec::{DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::Service;
use tonic::transport::Channel;

use crate::transport::ExportResponse;

/// How much of a body that is not gRPC is read, to say why.
const MOST_READ: usize = 16 * 1024;

/// An answer over HTTP that is not gRPC.
#[derive(Debug)]
pub(crate) struct NotGrpc {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl std::fmt::Display for NotGrpc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HTTP status {}", self.status)
    }
}

impl std::error::Error for NotGrpc {}

/// A channel that fails with [`NotGrpc`] where an answer is not gRPC.
#[derive(Clone)]
pub(crate) struct Checked(pub(crate) Channel);

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Service<Request<Body>> for Checked {
    type Response = Response<Body>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Failure>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.0.call(request);
        Box::pin(async move {
            let response = answer.await?;
            if is_grpc(response.status(), response.headers()) {
                return Ok(response);
            }
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MOST_READ).collect().await;
            let body = body.map(|body| body.to_bytes()).unwrap_or_default();
            Err(NotGrpc { status: head.status, headers: head.headers, body }.into())
        })
    }
}

fn is_grpc(status: StatusCode, headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(|kind| kind.as_bytes());
    match kind {
        _ if headers.contains_key("grpc-status") => true,
        Some(kind) => kind.starts_with(b"application/grpc"),
        None => status == StatusCode::OK,
    }
}

/// Sends bytes, receives answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Codec;

impl tonic::codec::Codec for Codec {
    type Encode = Bytes;
    type Decode = ExportResponse;
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
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Codec {
    type Item = ExportResponse;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        let body = from.copy_to_bytes(from.remaining());
        // The call has succeeded, whatever is in the body.
        Ok(Some(ExportResponse::decode(body).unwrap_or_default()))
    }
}
