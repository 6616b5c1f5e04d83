//! Reads a service's answer: its status, and its JSON, compressed or not. `client.rs` requests it, `model.rs`
//! says what the JSON means.

use std::io::Read;

use flate2::read::{MultiGzDecoder, ZlibDecoder};
use hyper::body::Bytes;
use serde_json::Value;
use wattrace_http::Answer;

use super::model;

/// More bytes than any answer that is asked for.
pub(super) const LONGEST_ANSWER: usize = 1 << 20;
/// The first bytes of gzip's format.
const GZIP: [u8; 2] = [0x1f, 0x8b];
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum RequestError {
    /// The account is not accepted: a wrong name or password, or it may not log in.
    Refused(String),
    /// The account is accepted, but this resource is not shown to it: rights, or a licence.
    Forbidden(String),
    /// There is nothing at that path.
    Absent(String),
    /// It may work later: the network, a busy or restarting BMC, an answer that is not JSON.
    Later(String),
}

impl std::fmt::Display for RequestError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (RequestError::Refused(what)
        | RequestError::Forbidden(what)
        | RequestError::Absent(what)
        | RequestError::Later(what)) = self;
        f.write_str(what)
    }
}

/// The JSON of the answer of `place`; null if the answer is empty.
pub(super) fn read(place: &str, answer: &Answer) -> Result<Value, RequestError> {
    let status = answer.status.as_u16();
    let at = |what: &str| format!("{place}: HTTP {status}{what}");
    match status {
        200..=299 => json(place, answer),
        401 => {
            let remedy =
                ": check plugins.bmc.username and password_file, and that the account may log in and read";
            Err(RequestError::Refused(at(remedy)))
        }
        403 => Err(RequestError::Forbidden(at(&forbidden(answer)))),
        400 | 404 | 405 | 410 | 501 => Err(RequestError::Absent(at(""))),
        300..=399 => {
            let to = answer.header("location").unwrap_or("elsewhere");
            let why = format!(": redirects to {to}; give that as plugins.bmc.endpoint");
            Err(RequestError::Later(at(&why)))
        }
        _ => Err(RequestError::Later(at(""))),
    }
}

/// The ids of the messages of an answer that is an error.
pub(super) fn message_ids(answer: &Answer) -> Vec<String> {
    let body = json("", answer).unwrap_or_default();
    model::message_ids(&body).into_iter().map(str::to_owned).collect()
}

fn forbidden(answer: &Answer) -> String {
    let ids = message_ids(answer);
    let licence = ids.iter().find(|id| {
        let id = id.to_ascii_lowercase();
        id.contains("license") || id.contains("licence")
    });
    match (licence, ids.first()) {
        (Some(id), _) => format!(": the BMC has no licence for it ({id})"),
        (None, Some(id)) => format!(": the account of plugins.bmc.username may not read it ({id})"),
        (None, None) => ": the account of plugins.bmc.username may not read it".to_owned(),
    }
}

fn json(place: &str, answer: &Answer) -> Result<Value, RequestError> {
    let later = |what: String| RequestError::Later(format!("{place}: {what}"));
    let body = answer.body.as_ref().map_err(|e| later(e.to_string()))?;
    let coding = answer.header("content-encoding").unwrap_or_default().trim().to_ascii_lowercase();
    let unpacked = unpack(body, &coding).map_err(|e| later(format!("unpacking {coding}: {e}")))?;
    let text = unpacked.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&unpacked).trim_ascii();
    if text.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(text).map_err(|e| match text.first() {
        Some(b'<') => later("is a web page and not Redfish; check plugins.bmc.endpoint".to_owned()),
        _ => later(format!("is not JSON: {e}")),
    })
}

/// Services may store answers compressed, and send them so unasked; not all of them say so.
fn unpack(body: &Bytes, coding: &str) -> std::io::Result<Bytes> {
    let mut decoder: Box<dyn Read + '_> = match coding {
        _ if body.starts_with(&GZIP) => Box::new(MultiGzDecoder::new(&body[..])),
        "deflate" => Box::new(ZlibDecoder::new(&body[..])),
        _ => return Ok(body.clone()),
    };
    let mut unpacked = Vec::new();
    decoder.by_ref().take(LONGEST_ANSWER as u64 + 1).read_to_end(&mut unpacked)?;
    if unpacked.len() > LONGEST_ANSWER {
        return Err(std::io::Error::other(format!("it is longer than {LONGEST_ANSWER} bytes")));
    }
    Ok(unpacked.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use serde_json::json;

    use super::*;

    fn answer(status: u16, coding: Option<&str>, body: &[u8]) -> Answer {
        let mut response = hyper::Response::builder().status(status);
        if let Some(coding) = coding {
            response = response.header("content-encoding", coding);
        }
        let (head, ()) = response.body(()).unwrap().into_parts();
        Answer { status: head.status, headers: head.headers, body: Ok(Bytes::copy_from_slice(body)) }
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn answers_are_unpacked_whether_or_not_they_say_how_they_are_packed() {
        let text = br#"{"Id":"Power"}"#;
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(text).unwrap();
        let zlib = zlib.finish().unwrap();
        for (coding, body) in [
            (None, text.to_vec()),
            (Some("identity"), text.to_vec()),
            // A proxy has unpacked it, and left the header.
            (Some("gzip"), text.to_vec()),
            (Some("gzip"), gzip(text)),
            (Some(" X-GZIP"), gzip(text)),
            (None, gzip(text)),
            (Some("deflate"), zlib),
            (None, [BYTE_ORDER_MARK, text, b"\r\n"].concat()),
        ] {
            let read = read("here", &answer(200, coding, &body));
            assert_eq!(read.unwrap(), json!({"Id": "Power"}), "{coding:?}");
        }
        assert_eq!(read("here", &answer(204, None, b"")).unwrap(), Value::Null);
    }

    #[test]
    fn what_cannot_be_read_is_later_and_says_why() {
        let bomb = gzip(&vec![b' '; LONGEST_ANSWER + 1]);
        for (body, says) in [
            (&b"<!DOCTYPE html><title>Log in</title>"[..], "here: is a web page and not Redfish; check"),
            (b"{", "here: is not JSON"),
            (&bomb, "here: unpacking gzip: it is longer than 1048576 bytes"),
            (&gzip(b"{}")[..9], "here: unpacking gzip: "),
        ] {
            let error = read("here", &answer(200, Some("gzip"), body)).unwrap_err();
            assert!(matches!(error, RequestError::Later(_)) && error.to_string().contains(says), "{error}");
        }
    }

    #[test]
    fn a_licence_and_missing_rights_are_about_the_resource() {
        let body = |id: &str| json!({"error": {"@Message.ExtendedInfo": [{"MessageId": id}]}}).to_string();
        for (body, says) in [
            (body("SMC.1.0.OemLicenseNotPassed"), "has no licence for it (SMC.1.0.OemLicenseNotPassed)"),
            (body("Base.1.8.InsufficientPrivilege"), "may not read it (Base.1.8.InsufficientPrivilege)"),
            ("no JSON".to_owned(), "may not read it"),
        ] {
            let error = read("here", &answer(403, None, body.as_bytes())).unwrap_err();
            let message = error.to_string();
            assert!(matches!(error, RequestError::Forbidden(_)) && message.contains(says), "{message}");
        }
    }
}
