//! What a server's answer means. What it rejects for its content is lost, and counted; what it does not take
//! for another reason may be taken later.

use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use serde_json::Value;
use wattrace_api::text::is_unsafe;
use wattrace_http::{Answer, retry_after};

/// The longest answer that is read, in bytes.
pub(crate) const ANSWER_LIMIT: usize = 64 * 1024;
/// Most characters of an answer that are shown.
const MOST_SHOWN: usize = 300;

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All lines are taken.
    Accepted,
    /// The server never takes this request, or these lines of it.
    Refused {
        /// Why.
        cause: String,
        /// Lines that it left out; `None`: all of them, or it did not say.
        lines: Option<u64>,
    },
    /// It takes only shorter requests.
    TooLarge {
        /// Its message.
        cause: String,
    },
    /// It may take the request later.
    Later {
        /// Why not now.
        cause: String,
        /// Not sooner than this from now, if it said so.
        after: Option<Duration>,
    },
}

impl Outcome {
    /// There is no answer.
    pub(crate) fn unreached(cause: impl std::fmt::Display) -> Self {
        Outcome::Later { cause: cause.to_string(), after: None }
    }
}

/// What `answer` means. The login (401, 403) and the database (404) are not about the content: an operator
/// may put them right, so the points wait.
pub(crate) fn outcome(answer: Answer) -> Outcome {
    let Answer { status, headers, body } = answer;
    if status.is_success() {
        return Outcome::Accepted;
    }
    let message = message(&body.unwrap_or_default());
    let separator = if message.is_empty() { "" } else { ": " };
    let mut cause = format!("HTTP status {status}{separator}{message}");
    if status.is_redirection() {
        let place = headers.get("location").and_then(|at| at.to_str().ok()).map(shown);
        cause = format!("{cause}: it is moved to {}", place.unwrap_or_default());
    }
    match status.as_u16() {
        413 => Outcome::TooLarge { cause },
        401 | 403 | 404 | 408 | 425 | 429 => Outcome::Later { cause, after: after(status, &headers) },
        400..=499 => Outcome::Refused { cause, lines: dropped(&message) },
        _ => Outcome::Later { cause, after: after(status, &headers) },
    }
}

fn after(status: StatusCode, headers: &hyper::HeaderMap) -> Option<Duration> {
    let is_busy = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
    retry_after(headers, SystemTime::now()).filter(|_| is_busy)
}

/// InfluxDB says at the end of an error how many points of a request it left out, if it took the others. It
/// does not count lines that it could not read.
fn dropped(message: &str) -> Option<u64> {
    let is_partial = message.starts_with("partial write") && !message.contains("unable to parse");
    let number = message.rsplit_once("dropped=")?.1;
    number.trim().parse().ok().filter(|lines| is_partial && *lines > 0)
}

/// The message in the body of an error: InfluxDB's JSON, or text.
fn message(body: &[u8]) -> String {
    let json = serde_json::from_slice::<Value>(body).unwrap_or_default();
    let found = ["error", "message"].into_iter().find_map(|key| json[key].as_str());
    found.map_or_else(|| shown(&String::from_utf8_lossy(body)), shown)
}

/// `text` from outside as it may stand in a line of the log: one line, cut, without control characters.
fn shown(text: &str) -> String {
    let (start, rest) = match text.char_indices().nth(MOST_SHOWN) {
        // The end says how many points are lost.
        Some((cut, _)) => (&text[..cut], text.rsplit_once(' ').map_or("", |(_, last)| last)),
        None => (text, ""),
    };
    let visible: String = start.chars().map(|c| if is_unsafe(c) { ' ' } else { c }).collect();
    match rest.strip_prefix("dropped=") {
        Some(number) if number.parse::<u64>().is_ok() => format!("{}… {rest}", visible.trim()),
        _ if rest.is_empty() => visible.trim().to_owned(),
        _ => format!("{}…", visible.trim()),
    }
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;
    use hyper::header::{HeaderValue, RETRY_AFTER};

    use super::*;

    fn of(status: u16, body: &str) -> Outcome {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("7"))]);
        let body = Ok(body.to_owned().into());
        outcome(Answer { status: StatusCode::from_u16(status).unwrap(), headers, body })
    }

    #[test]
    fn the_status_decides() {
        assert_eq!(of(204, ""), Outcome::Accepted);
        let refused = |lines| move |o: Outcome| matches!(o, Outcome::Refused { lines: l, .. } if l == lines);
        assert!(refused(None)(of(400, r#"{"error":"unable to parse 'x': bad"}"#)));
        assert!(refused(None)(of(400, r#"{"error":"partial write: unable to parse 'x' dropped=0"}"#)));
        assert!(refused(Some(3))(of(400, r#"{"error":"partial write: field type conflict dropped=3"}"#)));
        assert!(refused(None)(of(422, "")));
        assert!(matches!(of(413, ""), Outcome::TooLarge { .. }));
        let seven = Some(Duration::from_secs(7));
        for (status, wait) in [(401, None), (404, None), (429, seven), (503, seven), (500, seven)] {
            assert!(matches!(of(status, ""), Outcome::Later { after, .. } if after == wait), "{status}");
        }
    }

    #[test]
    fn a_long_message_is_cut_and_keeps_the_count_at_its_end() {
        let error = format!("partial write: \u{1b}[31m{} dropped=5", "a".repeat(1000));
        let body = serde_json::json!({ "error": error }).to_string();
        let Outcome::Refused { cause, lines } = of(400, &body) else { panic!() };
        assert_eq!(lines, Some(5));
        assert!(cause.starts_with("HTTP status 400 Bad Request: partial write:  [31maaa"), "{cause}");
        assert!(cause.len() < 400 && !cause.contains('\u{1b}'), "{cause}");
    }
}
