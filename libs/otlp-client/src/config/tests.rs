//! The configuration and the environment, and which takes precedence.

use super::*;
use crate::env::tests::{METRICS, of};

fn resolve(change: impl FnOnce(&mut Config), vars: &[(&str, &str)]) -> Result<Settings, Error> {
    let mut config = Config::default();
    change(&mut config);
    Settings::resolve(config, &Env::new(METRICS, &of(vars)))
}

fn at(endpoint: &str, vars: &[(&str, &str)]) -> String {
    resolve(|config| config.endpoint = endpoint.to_owned(), vars).unwrap().endpoint.to_string()
}

const GENERAL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const SIGNAL: &str = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT";
const HTTP: (&str, &str) = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");

#[test]
fn the_endpoint_follows_the_specification() {
    assert_eq!(at("", &[]), "http://localhost:4317/");
    for protocol in ["http/protobuf", "http/json"] {
        let s = resolve(|config| config.protocol = protocol.to_owned(), &[]).unwrap();
        assert_eq!(s.endpoint, "http://localhost:4318/v1/metrics");
    }
    assert_eq!(at("", &[(GENERAL, "http://a:1/p/"), HTTP]), "http://a:1/p/v1/metrics");
    assert_eq!(at("", &[(GENERAL, "http://a:1/"), (SIGNAL, "http://b:2/x"), HTTP]), "http://b:2/x");
    assert_eq!(at("http://c:3/v1/metrics", &[HTTP]), "http://c:3/v1/metrics");
    assert_eq!(at("http://c:3", &[(SIGNAL, "http://b:2"), HTTP]), "http://c:3/v1/metrics");
    assert_eq!(at("https://c:3", &[]), "https://c:3/");
}

#[test]
fn a_variable_that_is_no_url_is_named() {
    let message = resolve(|_| (), &[(SIGNAL, "ftp://x")]).unwrap_err().to_string();
    assert!(message.starts_with(SIGNAL), "{message}");
}

#[test]
fn credentials_of_the_endpoint_are_a_header_beside_which_no_token_can_be() {
    let there = |config: &mut Config| config.endpoint = "https://user:hush@c:4317".to_owned();
    let s = resolve(there, &[]).unwrap();
    assert_eq!(s.headers["authorization"], "Basic dXNlcjpodXNo");
    assert_eq!(s.endpoint, "https://c:4317/");
    assert!(!format!("{s:?}").contains("hush"), "{s:?}");
    let with_token = |config: &mut Config| {
        there(config);
        config.bearer_token = Secret("x".to_owned());
    };
    let message = resolve(with_token, &[]).unwrap_err().to_string();
    assert!(message.starts_with("plugins.otlp.bearer_token: ") && !message.contains("hush"), "{message}");
    let with_header = |config: &mut Config| {
        there(config);
        config.headers = [("authorization".to_owned(), "mine".to_owned())].into();
    };
    assert_eq!(resolve(with_header, &[]).unwrap().headers["authorization"], "mine");
}

#[test]
fn a_proxy_of_the_environment_is_used() {
    let vars = [("HTTPS_PROXY", "http://proxy.example:3128"), ("NO_PROXY", "10.0.0.0/8")];
    let proxy = |endpoint: &str| {
        let s = resolve(|config| config.endpoint = endpoint.to_owned(), &vars).unwrap();
        s.proxy.address(&s.endpoint)
    };
    assert_eq!(proxy("https://otlp.example:443").as_deref(), Some("http://proxy.example:3128"));
    assert_eq!(proxy("https://10.2.3.4:443"), None);
    assert_eq!(proxy("https://localhost:4317"), None);
}

#[test]
fn a_header_whose_key_has_an_escape_is_left_out() {
    let s = resolve(|_| (), &[("OTEL_EXPORTER_OTLP_HEADERS", "x%2Dkey=v,api-key=a%3Db")]).unwrap();
    assert_eq!((s.headers.len(), &s.headers["api-key"]), (1, &"a=b".parse().unwrap()));
}

#[test]
fn the_configuration_overrides_the_environment_which_overrides_the_defaults() {
    let vars = [
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "700"),
        ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "900"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "GZip"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "HTTP/json"),
    ];
    let of = |s: Settings| (s.timeout, s.compression, s.protocol);
    assert_eq!(of(resolve(|_| (), &[]).unwrap()), (DEFAULT_TIMEOUT, Compression::None, Protocol::Grpc));
    let ms = Duration::from_millis;
    assert_eq!(of(resolve(|_| (), &vars).unwrap()), (ms(900), Compression::Gzip, Protocol::Json));
    let change = |config: &mut Config| {
        config.timeout = ms(3000);
        config.compression = "zstd".to_owned();
        config.protocol = "grpc".to_owned();
    };
    assert_eq!(of(resolve(change, &vars).unwrap()), (ms(3000), Compression::Zstd, Protocol::Grpc));
    let none = [("OTEL_EXPORTER_OTLP_COMPRESSION", "none")];
    assert_eq!(resolve(|_| (), &none).unwrap().compression, Compression::None);
}

#[test]
fn headers_of_both_are_sent_and_not_debug_printed() {
    let s = resolve(
        |config| config.headers = [("Authorization".to_owned(), "mine".to_owned())].into(),
        &[("OTEL_EXPORTER_OTLP_HEADERS", "authorization=theirs,x-tenant=a%20b")],
    )
    .unwrap();
    assert_eq!(
        (&s.headers["authorization"], &s.headers["x-tenant"]),
        (&"mine".parse().unwrap(), &"a b".parse().unwrap())
    );
    assert!(!format!("{s:?}").contains("mine"));
    let bad = |config: &mut Config| config.headers = [("a b".to_owned(), "x".to_owned())].into();
    let message = resolve(bad, &[]).unwrap_err().to_string();
    assert!(message.starts_with("plugins.otlp.headers.a b:"), "{message}");
}

#[test]
fn files_of_tls_are_from_both_and_a_certificate_needs_its_key() {
    let vars = [
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/e/ca.pem"),
        ("OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE", "/e/own.pem"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/e/own.key"),
    ];
    let files = |authority: &str, certificate: &str, key: &str| TlsFiles {
        authority: Some(authority.into()),
        identity: Some((certificate.into(), key.into())),
    };
    assert_eq!(resolve(|_| (), &vars).unwrap().tls, files("/e/ca.pem", "/e/own.pem", "/e/own.key"));
    let change = |config: &mut Config| {
        config.certificate = "/c/ca.pem".into();
        config.client_key = "/c/own.key".into();
    };
    assert_eq!(resolve(change, &vars).unwrap().tls, files("/c/ca.pem", "/e/own.pem", "/c/own.key"));
    let message = resolve(change, &[]).unwrap_err().to_string();
    assert!(message.starts_with("plugins.otlp.client_key: it needs client_certificate too"), "{message}");
    assert_eq!(resolve(|_| (), &vars[..2]).unwrap().tls.identity, None, "of the environment it is ignored");
}

#[test]
fn unknown_values_are_refused_in_the_configuration_and_ignored_in_the_environment() {
    let protocol = |config: &mut Config| config.protocol = "udp".to_owned();
    let message = resolve(protocol, &[]).unwrap_err().to_string();
    assert!(message.starts_with("plugins.otlp.protocol: "), "{message}");
    let message = resolve(|config| config.compression = "zip".to_owned(), &[]).unwrap_err().to_string();
    assert!(message.starts_with("plugins.otlp.compression: "), "{message}");
    let vars = [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "udp"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
    ];
    let s = resolve(|_| (), &vars).unwrap();
    assert_eq!((s.protocol, s.compression, s.timeout), (Protocol::Grpc, Compression::None, DEFAULT_TIMEOUT));
}
