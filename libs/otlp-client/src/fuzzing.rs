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

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each kind; the targets' own are in `fuzz/corpus`.
    const SEEDS: [&[u8]; 7] = [
        b"\x00\xc8\x00\x0a\x07\x08\x03\x12\x03dup",
        b"\x00\xc8\x01{\"partialSuccess\":{\"rejectedDataPoints\":\"5\",\"errorMessage\":\"x\"}}",
        b"\x01\xad\x01{\"error\":{\"message\":\"dup\"}}",
        b"Fri, 27 Nov 2026 10:00:30 GMT",
        b"120",
        b"X-Scope-OrgID: me\napi-key: a\n",
        b"\x08\x08\x08\x12\x04busy\x1a\x32\x0a\x28type.googleapis.com/google.rpc.RetryInfo\
          \x12\x06\x0a\x04\x08\x1e\x10\x01",
    ];

    #[test]
    fn whatever_is_answered_is_read_without_a_panic() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..20_000 {
            let mut bytes = SEEDS[random.usize(..SEEDS.len())].to_vec();
            for _ in 0..random.usize(..6) {
                let at = random.usize(..=bytes.len());
                match random.u8(..3) {
                    0 => bytes.insert(at, random.u8(..)),
                    1 => bytes.truncate(at),
                    _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.u8(..8)),
                }
            }
            [answer, retry_after, status, headers].iter().for_each(|read| read(&bytes));
        }
    }
}
