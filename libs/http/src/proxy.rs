//! The proxies that the environment names: `HTTPS_PROXY`, `HTTP_PROXY` and `ALL_PROXY`, and in `NO_PROXY` the
//! hosts that are reached without one, all in upper or lower case, with the meaning that curl gives them.
//! This machine itself is never reached through a proxy. `connect` opens the connections.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::Uri;
use hyper::header::HeaderValue;
use hyper_util::client::proxy::matcher::Matcher;

/// Which proxy a request goes through.
#[derive(Clone, Debug)]
pub struct Proxy(Arc<Matcher>);

/// The proxy of one destination.
#[derive(Clone, Debug)]
pub(crate) struct Via {
    /// Where the proxy is, without credentials.
    pub(crate) uri: Uri,
    /// The value of `proxy-authorization`.
    pub(crate) authorization: Option<HeaderValue>,
}

impl Proxy {
    /// The proxies that variables name, which `get` looks up.
    pub fn from_variables(get: impl Fn(&str) -> Option<String>) -> Self {
        let value = |name: &str| get(name).or_else(|| get(&name.to_ascii_lowercase())).unwrap_or_default();
        let matcher = Matcher::builder()
            .all(value("ALL_PROXY"))
            .http(value("HTTP_PROXY"))
            .https(value("HTTPS_PROXY"))
            .no(value("NO_PROXY"));
        Self(Arc::new(matcher.build()))
    }

    /// The address of the proxy for `destination`, without credentials. `None`: it is reached without one.
    pub fn address(&self, destination: &Uri) -> Option<String> {
        self.via(destination).map(|via| via.address())
    }

    pub(crate) fn via(&self, destination: &Uri) -> Option<Via> {
        if is_this_machine(destination) {
            return None;
        }
        let found = self.0.intercept(destination)?;
        Some(Via { uri: found.uri().clone(), authorization: found.basic_auth().cloned() })
    }
}

impl Via {
    pub(crate) fn address(&self) -> String {
        self.uri.to_string().trim_end_matches('/').to_owned()
    }
}

/// Whether `uri` names this machine.
pub fn is_this_machine(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(variables: &[(&str, &str)], destination: &str) -> Option<String> {
        let get = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        Proxy::from_variables(get).address(&destination.parse().unwrap())
    }

    #[test]
    fn the_variables_decide_by_scheme_and_host() {
        let set = [("HTTPS_PROXY", "http://proxy.example:3128"), ("NO_PROXY", "10.0.0.0/8, .inside.example")];
        assert_eq!(address(&set, "https://otlp.example:443").as_deref(), Some("http://proxy.example:3128"));
        for direct in [
            "http://otlp.example",
            "https://10.1.2.3:4317",
            "https://a.inside.example",
            "https://localhost:4317",
            "https://127.0.0.1",
            "https://[::1]:1",
        ] {
            assert_eq!(address(&set, direct), None, "{direct}");
        }
        assert_eq!(address(&[("http_proxy", "p:1")], "http://x").as_deref(), Some("http://p:1"));
        assert_eq!(address(&[("ALL_PROXY", "http://p:1")], "https://x").as_deref(), Some("http://p:1"));
    }

    #[test]
    fn credentials_of_a_proxy_are_not_shown() {
        let set = [("HTTPS_PROXY", "http://user:hush@proxy.example:3128")];
        assert_eq!(address(&set, "https://x").as_deref(), Some("http://proxy.example:3128"));
        let proxy = Proxy::from_variables(|name| (name == "HTTPS_PROXY").then(|| set[0].1.to_owned()));
        let via = proxy.via(&"https://x".parse().unwrap()).unwrap();
        assert!(!format!("{proxy:?} {via:?}").contains("hush"), "{proxy:?} {via:?}");
        assert_eq!(via.authorization.unwrap(), "Basic dXNlcjpodXNo");
    }
}
