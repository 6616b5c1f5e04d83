//! Requests to the running output, over TCP and TLS: what is answered, and to whom.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic: that is how tests fail")]

use std::net::TcpListener;
use std::time::Duration;

use hyper::Request;
use hyper::body::Bytes;
use tokio::runtime::Runtime;
use wattrace_api::testing::Rig;
use wattrace_api::{Resource, Secret, Timestamp, Window, metric};
use wattrace_http::testing::Authority;
use wattrace_http::{Answer, BlockingClient, Client, ClientTls, Limits, Trust};
use wattrace_prometheus::{Prometheus, PrometheusConfig};

const SECOND: u64 = 1_000_000_000;

fn config() -> PrometheusConfig {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    PrometheusConfig { listen: format!("127.0.0.1:{port}"), ..PrometheusConfig::default() }
}

/// A running output that has taken 1 J of package 0.
fn start(config: &PrometheusConfig) -> Rig {
    let mut rig = Rig::new();
    rig.start::<Prometheus>(config.clone()).unwrap();
    let series = rig.series(&metric::HW_ENERGY, Resource::package(0));
    let batch = rig.batch(Window::new(Timestamp(0), Timestamp(SECOND)), &[(series, 1_000_000)]);
    rig.write("metrics", &batch).unwrap();
    rig
}

fn client(runtime: &Runtime, tls: Option<ClientTls>) -> BlockingClient {
    let limits = Limits { time: Duration::from_secs(10), bytes: 1 << 20 };
    let tls = tls.map(|tls| tls.config(&[]).unwrap());
    BlockingClient::new(Client::new(tls, limits), runtime.handle().clone())
}

fn request(method: &str, url: &str, headers: &[(&str, &str)]) -> Request<Bytes> {
    let builder = Request::builder().method(method).uri(url);
    let builder = headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
    builder.body(Bytes::new()).unwrap()
}

fn status(answer: &Answer) -> u16 {
    answer.status.as_u16()
}

#[test]
fn metrics_are_served_and_everything_else_is_refused_with_a_hint() {
    let config = config();
    let (_rig, runtime) = (start(&config), Runtime::new().unwrap());
    let client = client(&runtime, None);
    let url = |path: &str| format!("http://{}{path}", config.listen);
    let get =
        |path: &str, headers: &[(&str, &str)]| client.send(request("GET", &url(path), headers)).unwrap();
    let text = |answer: &Answer| String::from_utf8(answer.body.as_ref().unwrap().to_vec()).unwrap();

    let plain = get("/metrics", &[]);
    assert_eq!(plain.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(text(&plain).contains("hw_energy_joules_total"), "{}", text(&plain));
    let open_metrics = get("/metrics", &[("accept", "application/openmetrics-text;version=1.0.0")]);
    assert!(open_metrics.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    assert!(text(&open_metrics).ends_with("# EOF\n"));
    let compressed = get("/metrics", &[("accept-encoding", "deflate, gzip;q=0.8")]);
    assert_eq!(compressed.header("content-encoding"), Some("gzip"));

    assert!(text(&get("/", &[])).contains("/metrics"));
    let missing = get("/metric", &[]);
    assert_eq!((status(&missing), text(&missing)), (404, "there is no /metric: scrape /metrics\n".into()));
    let post = client.send(request("POST", &url("/metrics"), &[])).unwrap();
    assert_eq!((status(&post), post.header("allow")), (405, Some("GET")));
}

#[test]
fn tls_and_a_login_are_asked_for_where_they_are_configured() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let identity = authority.issue(directory.path(), "server", "localhost");
    let mut config = config();
    (config.certificate, config.key) = (identity.certificate, identity.key);
    (config.username, config.password) = ("me".to_owned(), Secret("hush".to_owned()));
    let (_rig, runtime) = (start(&config), Runtime::new().unwrap());
    let trust = Trust::Authority(authority.write(directory.path(), "authority.pem"));
    let client = client(&runtime, Some(ClientTls { trust, identity: None }));
    let url = format!("https://localhost:{}/metrics", config.listen.rsplit(':').next().unwrap());
    let refused = client.send(request("GET", &url, &[])).unwrap();
    assert_eq!((status(&refused), refused.header("www-authenticate")), (401, Some("Basic")));
    let granted = client.send(request("GET", &url, &[("authorization", "Basic bWU6aHVzaA==")])).unwrap();
    assert_eq!(status(&granted), 200);
}

#[test]
fn an_address_that_is_taken_is_an_error_that_names_key_and_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let config = PrometheusConfig { listen: listen.clone(), ..PrometheusConfig::default() };
    let error = Rig::new().start::<Prometheus>(config).unwrap_err().to_string();
    assert!(error.starts_with(&format!("plugins.prometheus.listen: cannot listen on {listen}")), "{error}");
    assert!(error.contains("ss -ltnp"), "{error}");
}
