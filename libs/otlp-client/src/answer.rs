//! What an HTTP answer means, from a collector or from a proxy before it. The status alone decides whether to
//! try again; the body only says why, or what of an accepted request was rejected. `http` and `grpc` use it.

use std::time::SystemTime;

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, LOCATION};
use prost::Message;
use serde::Deserialize;
use serde_json::Value;
use tonic_types::pb::Status;
use wattrace_http::{Answer, Error, retry_after};

use crate::shown::{MOST_SHOWN, shown};
use crate::transport::{ExportResponse, Outcome};

/// The longest answer that is read, in bytes. A partial success may carry a line for every point.
pub(crate) const ANSWER_LIMIT: usize = 4 * 1024 * 1024;

/// The statuses that stand for a state that passes. OTLP names 429, 502, 503 and 504. 408 and 425 say by
/// their definition (RFC 9110, RFC 8470) that the request may be repeated; 520 to 524 come from Cloudflare's
/// proxies when they do not reach the server behind them.
const TEMPORARY: [u16; 11] = [408, 425, 429, 502, 503, 504, 520, 521, 522, 523, 524];

/// What `answer` to an OTLP/HTTP request means.
pub(crate) fn outcome(answer: Answer) -> Outcome {
    let Answer { status, headers, body } = answer;
    if !status.is_success() {
        return failure(status, &headers, &body.unwrap_or_default());
    }
    if is_web_page(&headers) {
        let cause = format!("{status} with a web page: this is not an OTLP collector");
        return Outcome::Refused { cause };
    }
    match body {
        Ok(body) => success(&body),
        // What it rejected is unknown. Losses are never understated.
        Err(Error::TooLong(limit)) => {
            let message = format!("its answer is longer than {limit} bytes, so all points count as rejected");
            Outcome::Accepted { rejected: u64::MAX, message }
        }
        Err(_) => Outcome::accepted(ExportResponse::default()),
    }
}

/// What the body of a success says. Collectors also answer with no body, with JSON or with other text: they
/// have accepted the request.
fn success(body: &[u8]) -> Outcome {
    // A protobuf answer never begins with a brace.
    if body.trim_ascii_start().starts_with(b"{") {
        let partial = serde_json::from_slice::<JsonSuccess>(body).unwrap_or_default().partial_success;
        let JsonPartial { rejected, message } = partial.unwrap_or_default();
        return Outcome::Accepted { rejected: count(&rejected), message: text_of(&message) };
    }
    Outcome::accepted(ExportResponse::decode(body).unwrap_or_default())
}

/// An answer of success in JSON, in the names of the specification and in those of protobuf.
#[derive(Default, Deserialize)]
#[serde(default)]
struct JsonSuccess {
    #[serde(rename = "partialSuccess", alias = "partial_success")]
    partial_success: Option<JsonPartial>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct JsonPartial {
    #[serde(
        rename = "rejectedDataPoints",
        alias = "rejected_data_points",
        alias = "rejectedSpans",
        alias = "rejected_spans"
    )]
    rejected: Value,
    #[serde(rename = "errorMessage", alias = "error_message")]
    message: Value,
}

/// A count: JSON writes 64-bit numbers as text.
fn count(value: &Value) -> u64 {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return 0,
    };
    let float = || text.parse::<f64>().ok().filter(|number| *number > 0.0).map(|number| number as u64);
    text.parse().ok().or_else(float).unwrap_or(0)
}

fn text_of(value: &Value) -> String {
    value.as_str().map(shown).unwrap_or_default()
}

/// What an answer with this status means, which is not one of success.
pub(crate) fn failure(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Outcome {
    let cause = cause(status, headers, body);
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => Outcome::TooLarge { cause, is_temporary: false },
        status if TEMPORARY.contains(&status.as_u16()) => {
            Outcome::Later { cause, after: retry_after(headers, SystemTime::now()) }
        }
        _ => Outcome::Refused { cause },
    }
}

fn cause(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> String {
    let mut cause = format!("HTTP status {status}");
    if is_web_page(headers) {
        cause = format!("{cause} with a web page");
    } else if let Some(message) = Some(message(body)).filter(|message| !message.is_empty()) {
        cause = format!("{cause}: {message}");
    }
    match header(headers, LOCATION) {
        Some(location) => format!("{cause}: moved to {}", shown(location)),
        None => cause,
    }
}

/// The message in the body of an error: a protobuf or JSON status, or text.
fn message(body: &[u8]) -> String {
    let is_text = body.first().is_some_and(|&byte| byte >= b' ' || byte.is_ascii_whitespace());
    if !is_text {
        return Status::decode(body).map(|status| shown(&status.message)).unwrap_or_default();
    }
    if let Ok(json) = serde_json::from_slice::<Value>(body) {
        let found = ["message", "error", "detail"].into_iter().find_map(|key| match &json[key] {
            Value::String(text) => Some(shown(text)),
            inner => inner["message"].as_str().map(shown),
        });
        if let Some(found) = found {
            return found;
        }
    }
    shown(&String::from_utf8_lossy(&body[..body.len().min(4 * MOST_SHOWN)]))
}

fn header(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn is_web_page(headers: &HeaderMap) -> bool {
    header(headers, CONTENT_TYPE).is_some_and(|kind| kind.trim_start().starts_with("text/html"))
}

/// What a body is for the user, as its header says.
pub(crate) fn kind(headers: &HeaderMap) -> String {
    shown(header(headers, CONTENT_TYPE).unwrap_or("an unknown type"))
}

#[cfg(test)]
mod tests;
