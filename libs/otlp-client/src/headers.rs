//! Headers that are sent with every request: those of the configuration and of the environment, and the
//! credentials of the endpoint. `credentials` has those that are read from files.

use std::collections::BTreeMap;

use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use tracing::warn;
use wattrace_api::Error;

use crate::endpoint::Endpoint;
use crate::env::{self, Env};

/// The headers that are `configured`, and those of `env` beside them.
///
/// # Errors
/// A configured header that HTTP does not allow. One of the environment is ignored.
pub(crate) fn resolve(configured: &BTreeMap<String, String>, env: &Env<'_>) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    if let Some((name, list)) = env.exporter("HEADERS") {
        for (key, value) in env::headers(&name, &list) {
            match header(&key, &value) {
                Some((key, value)) => _ = headers.insert(key, value),
                None => warn!("header `{key}` of {name} is ignored: HTTP does not allow its name or value"),
            }
        }
    }
    for (key, value) in configured {
        let bad = || env.bad(&format!("headers.{key}"), "HTTP does not allow this name or value");
        let (key, value) = header(key, value).ok_or_else(bad)?;
        headers.insert(key, value);
    }
    Ok(headers)
}

/// `headers` with the credentials of the endpoint, if it has any and no token takes their place.
///
/// # Errors
/// Both credentials and a token.
pub(crate) fn authorized(
    mut headers: HeaderMap,
    endpoint: &Endpoint,
    has_token: bool,
    env: &Env<'_>,
) -> Result<HeaderMap, Error> {
    let Some(value) = &endpoint.authorization else { return Ok(headers) };
    let from = &endpoint.from;
    if has_token {
        let problem = format!("there are a user and a password in {from} as well: keep one");
        return Err(env.bad("bearer_token", problem));
    }
    if headers.contains_key(AUTHORIZATION) {
        warn!("user and password in {from} are ignored: there is a header `authorization`");
        return Ok(headers);
    }
    headers.insert(AUTHORIZATION, value.clone());
    Ok(headers)
}

/// The headers in the text of a file: `Name: value` in each line, `#` before comments.
///
/// # Errors
/// The number of the first line that is no header, and why. Its text is not shown: it may be a secret.
pub(crate) fn of_text(text: &str) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (at, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let pair = line.split_once(':').and_then(|(key, value)| header(key.trim(), value.trim()));
        let Some((key, value)) = pair else {
            return Err(format!("line {} is no header: write `Name: value`", at + 1));
        };
        headers.insert(key, value);
    }
    Ok(headers)
}

fn header(key: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    let mut value = HeaderValue::from_str(value).ok()?;
    // Headers hold credentials: printed as `Sensitive`.
    value.set_sensitive(true);
    Some((HeaderName::from_bytes(key.as_bytes()).ok()?, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_header_in_each_line_and_errors_show_none_of_it() {
        let text = "# of the tenant\nX-Scope-OrgID: me\n\n  api-key:a: b=% \r\n";
        let headers = of_text(text).unwrap();
        assert_eq!((headers.len(), &headers["x-scope-orgid"]), (2, &"me".parse().unwrap()));
        assert_eq!(headers["api-key"], "a: b=%");
        assert!(!format!("{headers:?}").contains("me"), "{headers:?}");
        for bad in ["a: b\nhush", "a: b\nhu sh: c", "a: b\nx: hush\u{7f}"] {
            let error = of_text(bad).unwrap_err();
            assert!(error.starts_with("line 2 is no header") && !error.contains("hu"), "{error}");
        }
    }
}
