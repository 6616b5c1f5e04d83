//! The source reads what the jsonl output writes, and the exec output writes the same again, to the last
//! digit.

use std::fs;

use wattrace_api::testing::Rig;
use wattrace_api::{
    Attribute, Consumer, ConsumerKind, Domain, Follows, Identity, Origin, Resource, SeriesSpec, Value,
    Window, metric,
};
use wattrace_jsonl::{Jsonl, JsonlConfig};

use super::*;
use crate::encode::Encoder;

#[test]
fn an_exec_source_reads_jsonl_and_an_exec_output_writes_the_same_again() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut rig = Rig::new();
    rig.start::<Jsonl>(JsonlConfig { path: file.path().into(), append: false, ..JsonlConfig::default() })
        .unwrap();
    let scene = jsonl_scene(&mut rig);
    rig.pass(scene).unwrap();
    rig.outputs[0].1.flush().unwrap();
    let written = fs::read_to_string(file.path()).unwrap();
    assert_eq!(written.lines().count(), 5, "{written}");

    let script = format!("echo '{{\"wattrace\":\"exec/1\"}}'; cat {}", file.path().display());
    let scene = Scene::new(&script, "own");
    let mut source = scene.open();
    let read = scene.until_gone(&mut source);
    assert_eq!(scene.counts.total(), 0);
    let (mut encoder, mut again) = (Encoder::new(scene.registry.clone(), scene.clock.clone()), Vec::new());
    for segment in read.segments() {
        encoder.points(&segment, &mut again);
    }
    let parsed = |text: &str| {
        text.lines().map(|l| serde_json::from_str(l).unwrap()).collect::<Vec<serde_json::Value>>()
    };
    let again = String::from_utf8(again).unwrap();
    assert_eq!(parsed(&again), parsed(&written));
    // Parsing to floats may hide the last digits.
    assert!(again.contains(r#""value":9007199254.740993,"#), "{again}");
}

/// Points of every kind, in one second.
fn jsonl_scene(rig: &mut Rig) -> Batch {
    let [energy, consumed, residual] =
        [&metric::HW_ENERGY, &metric::CONSUMER_ENERGY, &metric::DOMAIN_RESIDUAL]
            .map(|metric| rig.registry.metric(metric).unwrap());
    let domain = |name: &str, within: Option<&str>| {
        let within = within.map(str::to_owned);
        let (name, origin) = (name.to_owned(), Origin::Simulated);
        Some(Arc::new(Domain { name, origin, follows: Follows::Package(0), within, idle_microwatts: None }))
    };
    let identity = Identity { kind: ConsumerKind::Process, id: "77".into(), start_unix_nano: 5 };
    let facts =
        vec![Attribute::new("process.pid", 77_i64), Attribute::new("process.executable.name", "a \"b\"")];
    let process = Some(Arc::new(Consumer::new(identity, None, facts)));
    let idle = Some(Arc::new(Consumer::closing(ConsumerKind::Idle)));
    let plain = |metric| SeriesSpec::new(metric, Resource::package(0), Timestamp(500_000_000));
    let specs = [
        SeriesSpec { domain: domain("package-0", None), ..plain(energy) },
        SeriesSpec { domain: domain("core-0", Some("package-0")), ..plain(energy) },
        SeriesSpec { domain: domain("package-0", None), consumer: process, ..plain(consumed) },
        SeriesSpec { domain: domain("package-0", None), consumer: idle, ..plain(consumed) },
        SeriesSpec { attributes: vec![Attribute::new("k", 1.5)], ..plain(residual) },
    ];
    let mut batch = Batch::default();
    batch.begin(Window::new(Timestamp(500_000_000), Timestamp(900_000_000)));
    for (at, spec) in specs.into_iter().enumerate() {
        let value = match at {
            4 => Value::of_gauge(-0.25),
            _ => Value::of_steps(9_007_199_254_740_993 + at as u64),
        };
        batch.push(rig.registry.open(spec), value);
    }
    batch
}
