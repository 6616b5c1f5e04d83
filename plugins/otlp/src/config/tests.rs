//! The configuration and the environment, and which takes precedence.

use super::*;
use crate::env::tests::of;

fn resolve(table: &str, vars: &[(&str, &str)]) -> Result<Settings, Error> {
    Settings::resolve(toml::from_str(table).unwrap(), Env(&of(vars)))
}

fn endpoint_of(table: &str, vars: &[(&str, &str)]) -> String {
    resolve(table, vars).unwrap().endpoint.to_string()
}

const GENERAL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const SIGNAL: &str = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT";
const HTTP: (&str, &str) = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");

#[test]
fn defaults_serialise_to_what_they_are_read_from() {
    let text = toml::to_string(&OtlpConfig::default()).unwrap();
    let again: OtlpConfig = toml::from_str(&text).unwrap();
    assert_eq!(toml::to_string(&again).unwrap(), text);
    assert_eq!(again.top, 100);
}

#[test]
fn the_endpoint_follows_the_specification() {
    assert_eq!(endpoint_of("", &[]), "http://localhost:4317/");
    assert_eq!(endpoint_of("protocol = 'http/protobuf'", &[]), "http://localhost:4318/v1/metrics");
    assert_eq!(endpoint_of("", &[(GENERAL, "http://a:1/p/"), HTTP]), "http://a:1/p/v1/metrics");
    assert_eq!(endpoint_of("", &[(GENERAL, "http://a:1/"), (SIGNAL, "http://b:2/x"), HTTP]), "http://b:2/x");
    assert_eq!(endpoint_of("endpoint = 'http://c:3/v1/metrics'", &[HTTP]), "http://c:3/v1/metrics");
    assert_eq!(
        endpoint_of("endpoint = 'http://c:3'", &[(SIGNAL, "http://b:2"), HTTP]),
        "http://c:3/v1/metrics"
    );
    assert_eq!(endpoint_of("endpoint = 'https://c:3'", &[]), "https://c:3/");
}

#[test]
fn a_variable_that_is_no_url_is_named() {
    let message = resolve("", &[(SIGNAL, "ftp://x")]).unwrap_err().to_string();
    assert!(message.starts_with(SIGNAL), "{message}");
}

#[test]
fn credentials_of_the_endpoint_are_a_header_beside_which_no_token_can_be() {
    let table = "endpoint = 'https://user:hush@c:4317'";
    let s = resolve(table, &[]).unwrap();
    assert_eq!(s.headers["authorization"], "Basic dXNlcjpodXNo");
    assert_eq!(s.endpoint, "https://c:4317/");
    let config: OtlpConfig = toml::from_str(table).unwrap();
    assert!(!format!("{s:?} {config:?}").contains("hush"), "{s:?} {config:?}");
    let message = resolve(&format!("{table}\nbearer_token = 'x'"), &[]).unwrap_err().to_string();
    assert!(message.starts_with("plugins.otlp.bearer_token: ") && !message.contains("hush"), "{message}");
    let s = resolve(&format!("{table}\nheaders = {{ authorization = 'mine' }}"), &[]).unwrap();
    assert_eq!(s.headers["authorization"], "mine");
}

#[test]
fn a_proxy_of_the_environment_is_used() {
    let vars = [("HTTPS_PROXY", "http://proxy.example:3128"), ("NO_PROXY", "10.0.0.0/8")];
    let proxy = |endpoint: &str| {
        let s = resolve(&format!("endpoint = '{endpoint}'"), &vars).unwrap();
        s.proxy.address(&s.endpoint)
    };
    assert_eq!(proxy("https://otlp.example:443").as_deref(), Some("http://proxy.example:3128"));
    assert_eq!(proxy("https://10.2.3.4:443"), None);
    assert_eq!(proxy("https://localhost:4317"), None);
}

#[test]
fn a_header_whose_key_has_an_escape_is_left_out() {
    let s = resolve("", &[("OTEL_EXPORTER_OTLP_HEADERS", "x%2Dkey=v,api-key=a%3Db")]).unwrap();
    assert_eq!((s.headers.len(), &s.headers["api-key"]), (1, &"a=b".parse().unwrap()));
}

#[test]
fn the_configuration_overrides_the_environment_which_overrides_the_defaults() {
    let vars = [
        ("OTEL_METRIC_EXPORT_INTERVAL", "500"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "700"),
        ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "900"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/protobuf"),
    ];
    let s = resolve("", &[]).unwrap();
    assert_eq!(
        (s.interval, s.timeout, s.gzip, s.protocol),
        (DEFAULT_INTERVAL, DEFAULT_TIMEOUT, false, Protocol::Grpc)
    );
    let s = resolve("", &vars).unwrap();
    let ms = Duration::from_millis;
    assert_eq!((s.interval, s.timeout, s.gzip, s.protocol), (ms(500), ms(900), true, Protocol::Http));
    let table = "interval = '2s'\ntimeout = '3s'\ncompression = 'none'\nprotocol = 'grpc'";
    let s = resolve(table, &vars).unwrap();
    assert_eq!((s.interval, s.timeout, s.gzip, s.protocol), (ms(2000), ms(3000), false, Protocol::Grpc));
}

#[test]
fn headers_of_both_are_sent_and_not_debug_printed() {
    let s = resolve(
        "headers = { Authorization = 'mine' }",
        &[("OTEL_EXPORTER_OTLP_HEADERS", "authorization=theirs,x-tenant=a%20b")],
    )
    .unwrap();
    assert_eq!(
        (&s.headers["authorization"], &s.headers["x-tenant"]),
        (&"mine".parse().unwrap(), &"a b".parse().unwrap())
    );
    assert!(!format!("{s:?}").contains("mine"));
    let message = resolve("headers = { 'a b' = 'x' }", &[]).unwrap_err().to_string();
    assert!(message.starts_with("plugins.otlp.headers.a b:"), "{message}");
}

#[test]
fn the_service_name_is_taken_from_the_most_specific_place() {
    let name =
        |table: &str, vars: &[(&str, &str)]| resolve(table, vars).unwrap().resource.remove("service.name");
    let attributes = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,team=x%2Cy");
    assert_eq!(name("", &[]), None);
    assert_eq!(name("", &[attributes]).unwrap(), "a");
    assert_eq!(name("", &[attributes, ("OTEL_SERVICE_NAME", "b")]).unwrap(), "b");
    assert_eq!(name("service_name = 'c'", &[attributes, ("OTEL_SERVICE_NAME", "b")]).unwrap(), "c");
    assert_eq!(resolve("", &[attributes]).unwrap().resource["team"], "x,y");
}

#[test]
fn unknown_values_are_refused_in_the_configuration_and_ignored_in_the_environment() {
    for (table, key) in [("protocol = 'udp'", "protocol"), ("compression = 'zip'", "compression")] {
        let message = resolve(table, &[]).unwrap_err().to_string();
        assert!(message.starts_with(&format!("plugins.otlp.{key}: ")), "{message}");
    }
    let s = resolve(
        "",
        &[
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "udp"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "soon"),
        ],
    )
    .unwrap();
    assert_eq!((s.protocol, s.gzip, s.interval), (Protocol::Grpc, false, DEFAULT_INTERVAL));
}
