//! The configuration and the environment, and which takes precedence.

use std::path::Path;

use wattrace_otlp_client::compression::Compression;
use wattrace_otlp_client::protocol::Protocol;

use super::*;
use crate::signal::METRICS;

fn resolve(table: &str, vars: &[(&str, &str)]) -> Result<Settings, Error> {
    let lookup = |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
    Settings::resolve(toml::from_str(table).unwrap(), &Env::new(METRICS, &lookup))
}

#[test]
fn defaults_serialise_to_what_they_are_read_from() {
    let text = toml::to_string(&OtlpConfig::default()).unwrap();
    let again: OtlpConfig = toml::from_str(&text).unwrap();
    assert_eq!(toml::to_string(&again).unwrap(), text);
    assert_eq!(again.top, 100);
}

#[test]
fn each_key_of_the_client_reaches_it() {
    let table = "
        endpoint = 'https://c:3'
        protocol = 'http/json'
        timeout = '3s'
        compression = 'zstd'
        headers_file = '/h'
        bearer_token_file = '/t'
        certificate = '/ca.pem'
        client_certificate = '/own.pem'
        client_key = '/own.key'
        headers = { a = 'b' }";
    let client = resolve(table, &[]).unwrap().client;
    assert_eq!(client.endpoint, "https://c:3/v1/metrics");
    assert_eq!((client.protocol, client.timeout), (Protocol::Json, Duration::from_secs(3)));
    assert_eq!(client.compression, Compression::Zstd);
    let shown = format!("{client:?}");
    for file in ["/h", "/t", "/ca.pem", "/own.pem", "/own.key"] {
        assert!(shown.contains(&format!("{:?}", Path::new(file))), "{file}: {shown}");
    }
    let config: OtlpConfig = toml::from_str("endpoint = 'https://user:hush@c:4317'").unwrap();
    assert!(!format!("{config:?}").contains("hush"), "{config:?}");
}

#[test]
fn distributions_of_power_are_exported_if_they_are_asked_for() {
    let name = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION";
    let has = |table: &str, value: &str| resolve(table, &[(name, value)]).unwrap().has_powers;
    assert!(!has("", "") && !has("", "explicit_bucket_histogram") && !has("", "some"));
    assert!(has("", "base2_exponential_bucket_histogram"));
    assert!(has("power_histogram = 'exponential'", "explicit_bucket_histogram"));
    assert!(!has("power_histogram = 'none'", "base2_exponential_bucket_histogram"));
    let message = resolve("power_histogram = 'some'", &[]).unwrap_err().to_string();
    assert!(message.starts_with("plugins.otlp.power_histogram: `some`"), "{message}");
}

#[test]
fn increments_need_a_spool() {
    let message = resolve("temporality = 'delta'\nspool = 'none'", &[]).unwrap_err().to_string();
    assert!(message.starts_with("plugins.otlp.spool: ") && message.contains("delta"), "{message}");
    let variable = [("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")];
    assert!(resolve("spool = 'none'", &variable).is_err());
    assert!(resolve("spool = '/tmp/x.db'", &variable).is_ok() && resolve("spool = 'none'", &[]).is_ok());
}

#[test]
fn the_interval_is_configured_or_that_of_the_environment() {
    let interval = |table: &str, value: &str| {
        resolve(table, &[("OTEL_METRIC_EXPORT_INTERVAL", value)]).unwrap().interval
    };
    assert_eq!(interval("", ""), DEFAULT_INTERVAL);
    assert_eq!(interval("", "500"), Duration::from_millis(500));
    assert_eq!(interval("interval = '2s'", "500"), Duration::from_secs(2));
    assert_eq!(interval("", "soon"), DEFAULT_INTERVAL);
}

#[test]
fn the_environment_limits_the_time_of_a_set() {
    let limit = |value: &str| resolve("", &[("OTEL_METRIC_EXPORT_TIMEOUT", value)]).unwrap().set_timeout;
    assert_eq!((limit(""), limit("0"), limit("1500")), (None, None, Some(Duration::from_millis(1500))));
}

#[test]
fn a_pod_is_described_by_the_variables_of_the_downward_api_and_overridden() {
    let pod = [("POD_NAME", "w-7"), ("K8S_NODE_NAME", "n"), ("NODE_NAME", "other"), ("POD_NAMESPACE", "")];
    assert!(resolve("", &pod).unwrap().resource.is_empty(), "outside of Kubernetes");
    let here = [("KUBERNETES_SERVICE_HOST", "10.0.0.1"), ("OTEL_RESOURCE_ATTRIBUTES", "k8s.pod.name=mine")];
    let resource = resolve("", &[&pod[..], &here[..]].concat()).unwrap().resource;
    let expected = [("k8s.node.name", "n"), ("k8s.pod.name", "mine")];
    assert_eq!(resource, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
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
