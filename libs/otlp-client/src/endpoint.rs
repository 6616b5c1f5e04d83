//! The collector's URL: where it is configured, the path that is appended to it, and the credentials in it,
//! which are sent as Basic authentication and shown nowhere.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hyper::Uri;
use hyper::header::HeaderValue;
use percent_encoding::percent_decode_str;
use tracing::warn;
use wattrace_api::Error;
use wattrace_api::secret::HIDDEN;

use crate::env::{Env, flag};
use crate::protocol::Protocol;

/// Where requests go.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// Without credentials.
    pub(crate) uri: Uri,
    /// The value of `authorization`, if the URL has credentials.
    pub(crate) authorization: Option<HeaderValue>,
    /// The key or the variable that it is from.
    pub(crate) from: String,
}

impl Endpoint {
    /// The endpoint by `configured` or, if that is empty, by `env`. Over HTTP the path is appended, except to
    /// the metrics' own variable.
    ///
    /// # Errors
    /// No URL; the message names the key or the variable.
    pub(crate) fn resolve(configured: &str, protocol: Protocol, env: &Env<'_>) -> Result<Self, Error> {
        let key = || format!("{}.endpoint", env.signal.section);
        let (from, mut url) = if !configured.is_empty() {
            (key(), configured.to_owned())
        } else if let Some((from, url)) = env.exporter("ENDPOINT") {
            let url = with_scheme(&from, url, protocol, env);
            (from, url)
        } else {
            (key(), format!("http://localhost:{}", protocol.port()))
        };
        let credentials = take_credentials(&mut url);
        if credentials.as_deref() == Some(HIDDEN) {
            let problem = "`…@` stands for credentials that are not shown: put them there";
            return Err(Error::fatal(format!("{from}: {problem}")));
        }
        let hidden = hidden(&url);
        let uri: Uri = url.parse().map_err(|e| Error::fatal(format!("{from}: `{hidden}` is no URL: {e}")))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || !has_place(&uri) {
            return Err(Error::fatal(format!(
                "{from}: `{hidden}` is no URL of a collector; write http://HOST:PORT or https://HOST:PORT"
            )));
        }
        let uri = match protocol {
            Protocol::Http | Protocol::Json if from != env.own("ENDPOINT") => {
                with_path(uri, env.signal.path, &from)?
            }
            Protocol::Grpc if !matches!(uri.path(), "" | "/") || uri.query().is_some() => {
                warn!("{from}: path and query of {} are not used: gRPC has its own", shown(&uri));
                uri
            }
            _ => uri,
        };
        let authorization = credentials.map(|text| basic(&text)).transpose();
        let authorization =
            authorization.map_err(|()| Error::fatal(format!("{from}: its user or password is no text")))?;
        Ok(Self { uri, authorization, from })
    }
}

/// Whether it has a host, and a number after the colon if there is one.
fn has_place(uri: &Uri) -> bool {
    uri.authority().is_some_and(|authority| {
        let host = authority.host();
        !host.is_empty() && (host.len() == authority.as_str().len() || authority.port_u16().is_some())
    })
}

/// A URL as it is shown: its query may hold a key.
pub fn shown(uri: &Uri) -> String {
    match uri.to_string().split_once('?') {
        Some((before, _)) => format!("{before}?…"),
        None => uri.to_string(),
    }
}

/// A variable's value without a scheme is what gRPC calls a target. The specification says that it means TLS,
/// unless another variable says that it does not.
fn with_scheme(from: &str, url: String, protocol: Protocol, env: &Env<'_>) -> String {
    if protocol != Protocol::Grpc || url.contains("://") {
        return url;
    }
    let insecure = env.exporter("INSECURE").is_some_and(|(name, value)| flag(&name, &value));
    let (scheme, other) = if insecure { ("http", "false") } else { ("https", "true") };
    warn!(
        "{from} has no scheme: {scheme}:// is used; write http:// or https://, or set \
         OTEL_EXPORTER_OTLP_INSECURE={other}"
    );
    format!("{scheme}://{url}")
}

/// Takes `user:password@` out of `url`. The last @ before the path ends it, so that a password may contain
/// one.
fn take_credentials(url: &mut String) -> Option<String> {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |at| start + at);
    let at = start + url[start..end].rfind('@')?;
    let credentials = url[start..at].to_owned();
    url.replace_range(start..=at, "");
    Some(credentials)
}

/// `url` without what may be credentials, though it is no URL.
fn hidden(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let start = url.find("://").map_or(0, |at| at + 3);
    match url[start..].rfind('@') {
        Some(at) => format!("{}…{}", &url[..start], &url[start + at..]),
        None => url.to_owned(),
    }
}

fn basic(credentials: &str) -> Result<HeaderValue, ()> {
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let decoded = |text| percent_decode_str(text).collect::<Vec<u8>>();
    let text = BASE64_STANDARD.encode([decoded(user), decoded(password)].join(&b':'));
    let mut value = HeaderValue::from_str(&format!("Basic {text}")).map_err(drop)?;
    // Printed as `Sensitive`.
    value.set_sensitive(true);
    Ok(value)
}

/// `uri` with the signal's path after its own, before its query, unless it is there already.
fn with_path(uri: Uri, signal: &str, from: &str) -> Result<Uri, Error> {
    let path = uri.path().trim_end_matches('/');
    let path = path.strip_suffix(signal).unwrap_or(path);
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let whole = format!("{path}{signal}{query}");
    let mut parts = uri.into_parts();
    parts.path_and_query = Some(whole.parse().map_err(|e| Error::fatal(format!("{from}: {e}")))?);
    Uri::from_parts(parts).map_err(|e| Error::fatal(format!("{from}: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::tests::{METRICS, of};

    const GENERAL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const SIGNAL: &str = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT";

    fn resolve(configured: &str, protocol: Protocol, vars: &[(&str, &str)]) -> Result<Endpoint, String> {
        Endpoint::resolve(configured, protocol, &Env::new(METRICS, &of(vars))).map_err(|e| e.to_string())
    }

    fn http(url: &str) -> String {
        resolve("", Protocol::Http, &[(GENERAL, url)]).unwrap().uri.to_string()
    }

    #[test]
    fn the_path_comes_after_a_base_path_and_before_a_query() {
        for base in ["/api/otel", "/api/otel/", "/api/otel/v1/metrics", "/api/otel/v1/metrics/"] {
            let url = http(&format!("http://backend.example:3000{base}"));
            assert_eq!(url, "http://backend.example:3000/api/otel/v1/metrics", "{base}");
        }
        assert_eq!(http("https://h.example/otlp?tenant=7"), "https://h.example/otlp/v1/metrics?tenant=7");
        assert_eq!(http("https://h.example?tenant=7"), "https://h.example/v1/metrics?tenant=7");
        assert_eq!(http("https://h.example/v1/metrics?a=/"), "https://h.example/v1/metrics?a=/");
        let mine = resolve("", Protocol::Http, &[(SIGNAL, "http://backend.example:3000/mine")]).unwrap();
        assert_eq!(mine.uri, "http://backend.example:3000/mine");
    }

    #[test]
    fn credentials_are_sent_as_basic_authentication_and_are_not_part_of_the_url() {
        for (url, host, sent) in [
            ("http://user:pass@c.example:4317", "c.example:4317", "user:pass"),
            ("https://user:p%40s%3As%25@c.example/x?y=@", "c.example", "user:p@s:s%"),
            ("https://user:p@ss:w@c.example/", "c.example", "user:p@ss:w"),
            ("https://token@[::1]:4317", "[::1]:4317", "token:"),
            ("https://:pass@c.example", "c.example", ":pass"),
        ] {
            let endpoint = resolve(url, Protocol::Grpc, &[]).unwrap();
            let text = BASE64_STANDARD.encode(sent);
            assert_eq!(endpoint.authorization.as_ref().unwrap(), &format!("Basic {text}"), "{url}");
            assert_eq!(endpoint.uri.authority().unwrap(), host);
            assert!(!format!("{endpoint:?}{}", shown(&endpoint.uri)).contains("pass"), "{endpoint:?}");
        }
        assert_eq!(resolve("http://c.example/a@b", Protocol::Http, &[]).unwrap().authorization, None);
    }

    #[test]
    fn an_error_does_not_show_credentials_or_a_query() {
        for url in [
            "http://user:hush@",
            "http://user:hu/sh@c:1",
            "http://user:hush@c:port",
            "user:hush@c",
            "ftp://user:hush@c",
            "http://…@c",
            "http://c:port/?key=hush",
        ] {
            for protocol in [Protocol::Grpc, Protocol::Http] {
                let error = resolve(url, protocol, &[]).unwrap_err();
                assert!(error.starts_with("plugins.otlp.endpoint: "), "{error}");
                assert!(!error.contains("hush") && !error.contains("hu/sh"), "{error}");
            }
        }
        assert_eq!(shown(&"https://h.example/x?key=hush".parse().unwrap()), "https://h.example/x?…");
    }

    #[test]
    fn a_variable_without_a_scheme_is_a_target_of_grpc_and_no_url_of_http() {
        let of = |insecure: &str, protocol| {
            resolve("", protocol, &[(GENERAL, "collector:4317"), ("OTEL_EXPORTER_OTLP_INSECURE", insecure)])
        };
        assert_eq!(of("true", Protocol::Grpc).unwrap().uri, "http://collector:4317/");
        for secure in ["", "false"] {
            assert_eq!(of(secure, Protocol::Grpc).unwrap().uri, "https://collector:4317/");
        }
        assert!(of("true", Protocol::Http).unwrap_err().starts_with(GENERAL));
        let error = resolve("localhost:4317", Protocol::Grpc, &[]).unwrap_err();
        assert!(error.starts_with("plugins.otlp.endpoint:") && error.contains("http://HOST"), "{error}");
    }
}
