//! For fuzzing: what a collector answers, as functions of bytes. Each returns, whatever it is given.

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use tonic::{Code, Status};
use wattrace_http::Answer;

use crate::{answer as answers, grpc, headers as files};

/// An answer over HTTP: two bytes for the status, one that chooses the type, and the body.
pub fn answer(bytes: &[u8]) {
    let [high, low, kind, body @ ..] = bytes else { return };
    let Ok(status) = StatusCode::from_u16(u16::from_be_bytes([*high, *low])) else { return };
    let kinds = ["application/x-protobuf", "application/json", "text/plain", "text/html"];
    let kind = HeaderValue::from_static(kinds[usize::from(*kind) % kinds.len()]);
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, kind)]);
    _ = std::hint::black_box(answers::outcome(Answer { status, headers, body: Ok(body.to_vec().into()) }));
}

/// The value of Retry-After in an answer that asks to wait.
pub fn retry_after(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    let headers = HeaderMap::from_iter([(RETRY_AFTER, value)]);
    _ = std::hint::black_box(answers::failure(StatusCode::SERVICE_UNAVAILABLE, &headers, &[]));
}

/// gRPC's trailers: a byte for the code, and `grpc-status-details-bin`, which holds RetryInfo.
pub fn status(bytes: &[u8]) {
    let [code, details @ ..] = bytes else { return };
    let code = Code::from_i32(i32::from(*code));
    let status = Status::with_details(code, "message", details.to_vec().into());
    _ = std::hint::black_box(grpc::outcome(&status));
}

/// A file of headers.
pub fn headers(bytes: &[u8]) {
    _ = std::hint::black_box(files::of_text(&String::from_utf8_lossy(bytes)));
}
