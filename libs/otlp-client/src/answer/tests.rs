//! Answers of collectors and proxies, and what each means.

use super::*;
use crate::transport::PartialSuccess;

fn answer(status: u16, header: (&'static str, &'static str), body: impl Into<Vec<u8>>) -> Outcome {
    let headers = HeaderMap::from_iter([(header.0.parse().unwrap(), header.1.parse().unwrap())]);
    let status = StatusCode::from_u16(status).unwrap();
    outcome(Answer { status, headers, body: Ok(body.into().into()) })
}

fn accepted(rejected: u64, message: &str) -> Outcome {
    Outcome::Accepted { rejected, message: message.to_owned() }
}

const NONE: (&str, &str) = ("x", "y");
const HTML: (&str, &str) = ("content-type", "text/html; charset=utf-8");
const JSON: (&str, &str) = ("content-type", "application/json");
const TEXT: (&str, &str) = ("content-type", "text/plain; charset=utf-8");

#[test]
fn the_status_alone_decides_whether_to_try_again() {
    let page = "<html><head><title>502 Bad Gateway</title></head></html>";
    let json = "{\"message\":\"no\"}";
    for (kind, body) in [(NONE, ""), (HTML, page), (JSON, json), (TEXT, "no"), (NONE, "\u{8}\u{1}")] {
        for status in [408, 425, 429, 502, 503, 504, 520, 521, 522, 523, 524] {
            let got = answer(status, kind, body);
            assert!(matches!(got, Outcome::Later { after: None, .. }), "{status} {kind:?}: {got:?}");
        }
        for status in [301, 307, 400, 401, 403, 404, 405, 415, 431, 500, 501, 505, 511] {
            let got = answer(status, kind, body);
            assert!(matches!(got, Outcome::Refused { .. }), "{status} {kind:?}: {got:?}");
        }
        let got = answer(413, kind, body);
        assert!(matches!(got, Outcome::TooLarge { is_temporary: false, .. }), "{kind:?}: {got:?}");
    }
}

#[test]
fn a_body_that_breaks_off_changes_nothing() {
    let broken = |status: u16| {
        let body = Err(Error::Protocol("end of file".to_owned()));
        outcome(Answer { status: StatusCode::from_u16(status).unwrap(), headers: HeaderMap::new(), body })
    };
    assert_eq!(broken(200), accepted(0, ""));
    assert!(matches!(broken(503), Outcome::Later { .. }));
    assert!(matches!(broken(400), Outcome::Refused { .. }));
}

#[test]
fn a_refusal_carries_the_message_in_any_form_as_one_line() {
    let status = Status { code: 3, message: "no such\ntenant".to_owned(), details: Vec::new() };
    let line = "out of order sample: series hw_energy_joules_total, t=17";
    for (kind, body, message) in [
        (NONE, status.encode_to_vec(), "no such tenant"),
        (TEXT, format!("{line}\n").into_bytes(), line),
        (NONE, line.into(), line),
        (JSON, b"{\"code\":3,\"message\":\"dup\"}".to_vec(), "dup"),
        (JSON, b"{\"error\":{\"message\":\"dup\"}}".to_vec(), "dup"),
        (JSON, b"{\"error\":\"dup\"}".to_vec(), "dup"),
        (JSON, b"{\"status\":\"x\"}".to_vec(), "{\"status\":\"x\"}"),
    ] {
        let cause = format!("HTTP status 400 Bad Request: {message}");
        assert_eq!(answer(400, kind, body), Outcome::Refused { cause });
    }
    let Outcome::Refused { cause } = answer(400, TEXT, "x".repeat(10_000)) else { panic!() };
    assert!(cause.chars().count() < 400 && cause.ends_with('…'), "{cause}");
    let Outcome::Refused { cause } = answer(400, TEXT, "a\u{1b}[31m\u{202e}b") else { panic!() };
    assert!(!cause.contains(['\u{1b}', '\u{202e}']), "{cause:?}");
    let moved = answer(301, ("location", "https://elsewhere/"), "");
    assert!(matches!(&moved, Outcome::Refused { cause } if cause.ends_with("moved to https://elsewhere/")));
}

#[test]
fn a_success_may_report_rejected_points_in_protobuf() {
    let partial = |rejected, error_message: String| {
        ExportResponse { partial_success: Some(PartialSuccess { rejected, error_message }) }.encode_to_vec()
    };
    assert_eq!(answer(200, NONE, partial(3, "dup".to_owned())), accepted(3, "dup"));
    assert_eq!(answer(200, NONE, partial(-3, String::new())), accepted(0, ""));
    let Outcome::Accepted { rejected: 3, message } = answer(200, NONE, partial(3, "x".repeat(1_000_000)))
    else {
        panic!()
    };
    assert!(message.chars().count() <= MOST_SHOWN + 1, "{}", message.len());
    for body in ["", "OK", "\n", "accepted"] {
        assert_eq!(answer(202, TEXT, body), accepted(0, ""), "{body}");
    }
}

#[test]
fn a_success_may_report_rejected_points_in_json_with_numbers_as_text() {
    for (body, expected) in [
        (
            "{\"partialSuccess\":{\"rejectedDataPoints\":\"5\",\"errorMessage\":\"out of order\"}}",
            accepted(5, "out of order"),
        ),
        ("\n {\"partial_success\":{\"rejected_data_points\":5}}", accepted(5, "")),
        ("{\"partialSuccess\":{\"rejectedDataPoints\":9223372036854775808}}", accepted(1 << 63, "")),
        ("{\"partialSuccess\":{\"rejectedDataPoints\":\"99999999999999999999\"}}", accepted(u64::MAX, "")),
        ("{\"partialSuccess\":{\"rejectedDataPoints\":-1}}", accepted(0, "")),
        ("{\"partialSuccess\":{\"rejectedDataPoints\":\"many\"}}", accepted(0, "")),
        ("{\"partialSuccess\":{\"rejectedSpans\":\"2\"}}", accepted(2, "")),
        ("{\"partialSuccess\":null}", accepted(0, "")),
        ("{\"partialSuccess\":{}}", accepted(0, "")),
        ("{}", accepted(0, "")),
        ("{\"partialSuccess\":", accepted(0, "")),
    ] {
        for kind in [JSON, TEXT, NONE, ("content-type", "application/x-protobuf")] {
            assert_eq!(answer(200, kind, body), expected, "{body}");
        }
    }
}

#[test]
fn an_answer_that_is_too_long_counts_all_points() {
    let body = Err(Error::TooLong(ANSWER_LIMIT));
    let got = outcome(Answer { status: StatusCode::OK, headers: HeaderMap::new(), body });
    assert!(matches!(&got, Outcome::Accepted { rejected: u64::MAX, message } if message.contains("longer")));
}

#[test]
fn a_web_page_is_not_a_collector() {
    let got = answer(200, HTML, "<html>");
    assert!(matches!(&got, Outcome::Refused { cause } if cause.contains("web page")), "{got:?}");
}

#[test]
fn retry_after_is_a_wait_whatever_it_is() {
    let got = answer(503, ("retry-after", "7"), "");
    assert!(matches!(got, Outcome::Later { after: Some(after), .. } if after.as_secs() == 7), "{got:?}");
    let got = answer(503, ("retry-after", "soon"), "");
    assert!(matches!(got, Outcome::Later { after: None, .. }), "{got:?}");
}
