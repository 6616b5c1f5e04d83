//! The file as a reader sees it: valid JSON whatever characters names have, all keys, no line lost between
//! runs.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic: that is how tests fail")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use wattrace_api::testing::Rig;
use wattrace_api::{
    Attribute, Batch, Consumer, ConsumerKind, Domain, ErrorKind, Follows, Identity, Origin, Plugin, Resource,
    SeriesSpec, Timestamp, Window, metric,
};
use wattrace_jsonl::{Jsonl, JsonlConfig};

fn config(path: &Path) -> JsonlConfig {
    JsonlConfig { path: path.into(), flush_interval: Duration::ZERO, ..JsonlConfig::default() }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn hardware_batch(rig: &mut Rig) -> Batch {
    let energy = rig.series(&metric::HW_ENERGY, Resource::package(0));
    rig.batch(Window::new(Timestamp(0), Timestamp(5)), &[(energy, 1_500_000)])
}

#[test]
fn a_process_series_has_all_keys_whatever_characters_its_name_has() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.jsonl");
    let mut rig = Rig::new();
    rig.start::<Jsonl>(config(&path)).unwrap();
    let nasty = "a\"b\\c\nd\u{1b}[31m,{\u{7f}é\u{9b}\u{202e}\u{e0041}";
    let identity = Identity { kind: ConsumerKind::Process, id: "1234".into(), start_unix_nano: 77 };
    let attributes = vec![
        Attribute::new("process.pid", 1234_i64),
        Attribute::new("process.executable.name", nasty),
        Attribute::new("ratio", 0.5),
        Attribute::new("nan", f64::NAN),
        Attribute::new("yes", true),
    ];
    let domain = Domain {
        name: "package-0".into(),
        origin: Origin::Estimated,
        follows: Follows::Package(0),
        within: None,
        idle_microwatts: None,
    };
    let energy = rig.registry.metric(&metric::CONSUMER_ENERGY).unwrap();
    let series = rig.registry.open(SeriesSpec {
        metric: energy,
        resource: Resource::package(0),
        domain: Some(Arc::new(domain)),
        consumer: Some(Arc::new(Consumer::new(identity, None, attributes))),
        attributes: Vec::new(),
        start: Timestamp(40),
    });
    let batch = rig.batch(Window::new(Timestamp(50), Timestamp(60)), &[(series, 12_000_001)]);
    rig.pass(batch).unwrap();

    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(r"\u007fé\u009b\u202e\udb40\udc41"), "safe on a terminal: {text}");
    assert_eq!(
        lines(&path),
        [json!({
            "metric": "wattrace.consumer.energy", "unit": "J", "kind": "counter",
            "start_unix_nano": 40, "time_unix_nano": 60, "value": 12.000001,
            "resource": {"type": "package", "id": "0"},
            "consumer": {"type": "process", "id": "1234", "start_unix_nano": 77},
            "attributes": {
                "wattrace.domain": "package-0", "wattrace.origin": "estimated",
                "wattrace.consumer.type": "process",
                "process.pid": 1234, "process.executable.name": nasty, "ratio": 0.5, "nan": null, "yes": true,
            },
        })]
    );
}

#[test]
fn hardware_has_no_consumer_and_a_gauge_that_is_not_a_number_is_null() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.jsonl");
    let mut rig = Rig::new();
    rig.start::<Jsonl>(config(&path)).unwrap();
    let residual = rig.series(&metric::DOMAIN_RESIDUAL, Resource::package(1));
    let batch =
        rig.batch(Window::new(Timestamp(0), Timestamp(5)), &[(residual, f64::NAN.to_bits()), (residual, 0)]);
    rig.pass(batch).unwrap();
    let lines = lines(&path);
    assert_eq!(lines[0]["value"], Value::Null);
    assert_eq!(lines[1]["value"], json!(0));
    assert_eq!(lines[0]["kind"], "gauge");
    assert!(lines[0].get("consumer").is_none());
}

#[test]
fn a_second_run_appends_to_the_first_or_overwrites_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.jsonl");
    let run = |config| {
        let mut rig = Rig::new();
        rig.start::<Jsonl>(config).unwrap();
        let batch = hardware_batch(&mut rig);
        rig.pass(batch).unwrap();
        drop(rig);
        lines(&path).len()
    };
    assert_eq!([run(config(&path)), run(config(&path))], [1, 2]);
    assert_eq!(run(JsonlConfig { append: false, ..config(&path) }), 1);
}

#[test]
fn a_full_device_is_retried_and_named() {
    let mut rig = Rig::new();
    rig.start::<Jsonl>(config(Path::new("/dev/full"))).unwrap();
    let batch = hardware_batch(&mut rig);
    let batch = rig.pass(batch).unwrap();
    let error = rig.pass(batch).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Retry);
    let message = error.to_string();
    assert!(
        message.contains("plugins.jsonl.path: /dev/full: ") && message.contains("file ends: 1;"),
        "{message}"
    );
}

#[test]
fn every_key_has_a_default_and_an_empty_path_is_refused_with_its_key() {
    let config: JsonlConfig = toml::from_str("").unwrap();
    assert_eq!(
        toml::to_string(&config).unwrap(),
        "path = \"wattrace.jsonl\"\nappend = true\nflush_interval = \"1s\"\nrotate_size = \"0\"\n\
         rotate_every = \"0s\"\nrotate_keep = 0\ncompression = \"none\"\n"
    );
    assert!(toml::from_str::<JsonlConfig>("paht = \"x\"").is_err());
    let error = Rig::new().start::<Jsonl>(JsonlConfig { path: "".into(), ..config }).unwrap_err();
    assert!(error.to_string().starts_with("plugins.jsonl.path: "), "{error}");
    assert!(!Jsonl::on_by_default());
}
