//! The example of the docs, the effect of an exec, and that no step is lost or reported twice.

use wattrace_api::testing::Rig;
use wattrace_api::{Attribute, AttributeValue, metric};
use wattrace_transform_testing::Fixture;

use crate::{Relabel, RelabelConfig};

/// The example of docs/transforms.md.
const EXAMPLE: &str = r#"[[plugins.relabel.rules]]
select = { metric = "wattrace.consumer.energy", consumer = "process" }
rename = "app.energy"
set = { site = "fra1" }
rename_attributes = { "process.executable.name" = "app" }
drop = ["process.pid"]

[[plugins.relabel.rules.extract]]
from = "process.linux.cgroup"
regex = '/(?<unit>[^/]+)\.service$'
to = "unit"
value = "${unit}"
"#;

fn example() -> RelabelConfig {
    let config: toml::Table = EXAMPLE.parse().unwrap();
    config["plugins"]["relabel"].clone().try_into().unwrap()
}

#[test]
fn a_relabelled_series_replaces_its_original_as_the_docs_show() {
    let mut s = Fixture::of::<Relabel>(example());
    let db = s.process(7, "postgres");
    db.update(vec![Attribute::new("process.linux.cgroup", "/system.slice/postgresql.service")]);
    let (energy, time) = (s.energy(Some(&db)), s.cpu_time(&db));
    let batch = s.pass(0, 1, &[(energy, 1_500_000), (time, 500_000_000)]);
    let points = s.rig.points(&batch);
    let line = |i: usize| {
        let series = &points[i].series;
        let all = series.all_attributes();
        let all: String = all.iter().map(|a| format!("\n    {}={}", a.key, a.value)).collect();
        format!("{} {} {}{all}", points[i].metric, points[i].value, series.metric.unit.ucum())
    };
    let lines = [line(0), line(1)].join("\n");
    assert_eq!(
        lines,
        [
            "app.energy 1.5 J",
            "    wattrace.domain=package-0",
            "    wattrace.origin=simulated",
            "    wattrace.consumer.type=process",
            "    site=fra1",
            "    app=postgres",
            "    process.linux.cgroup=/system.slice/postgresql.service",
            "    unit=postgresql",
            "wattrace.consumer.cpu.time 0.5 s",
            "    wattrace.consumer.type=process",
            "    cpu.package=0",
            "    process.pid=7",
            "    process.executable.name=postgres",
            "    process.linux.cgroup=/system.slice/postgresql.service",
        ]
        .join("\n")
    );
    let docs = include_str!("../../../../docs/transforms.md");
    assert!(docs.contains(EXAMPLE) && docs.contains(&lines), "docs/transforms.md differs");

    db.ended_at(42);
    let last = s.pass_ending(1, 2, &[(energy, 2_000_000)], &[energy]);
    let renamed = points[0].id;
    assert_eq!(last.ended(), &[energy, renamed]);
    assert_eq!(s.rig.points(&last)[0].steps, 2_000_000);
    let consumer = points[0].series.consumer.clone().unwrap();
    assert_eq!((consumer.identity(), consumer.end_unix_nano()), (db.identity(), Some(42)));
}

#[test]
fn after_an_exec_increments_have_the_new_name_and_none_is_reported_twice() {
    let mut s = Fixture::of::<Relabel>(example());
    let p = s.process(7, "bash");
    let energy = s.energy(Some(&p));
    let first = s.pass(0, 1, &[(energy, 10)]);
    p.update(vec![Attribute::new("process.executable.name", "make")]);
    let second = s.pass(1, 2, &[(energy, 25)]);
    let (a, b) = (&s.rig.points(&first)[0], &s.rig.points(&second)[0]);
    assert_eq!((a.steps, b.steps), (10, 15));
    assert_eq!(second.ended(), &[a.id], "the series with the old name has ended");
    assert_eq!(b.series.start, b.window.start);
    let name = |p: &wattrace_api::testing::Point| p.series.consumer.as_ref().unwrap().attribute("app");
    assert_eq!(name(b), Some(AttributeValue::from("make")));
}

#[test]
fn a_rule_that_matches_only_after_an_exec_applies_from_then_on() {
    let text = r#"
        [[rules]]
        select = { attributes = { "process.executable.name" = "make" } }
        rename = "build.energy"
    "#;
    let mut s = Fixture::of::<Relabel>(toml::from_str(text).unwrap());
    let p = s.process(7, "bash");
    let energy = s.energy(Some(&p));
    let first = s.pass(0, 1, &[(energy, 10)]);
    assert_eq!(s.rig.points(&first)[0].id, energy);
    p.update(vec![Attribute::new("process.executable.name", "make")]);
    let second = s.pass(1, 2, &[(energy, 25)]);
    let b = &s.rig.points(&second)[0];
    assert_eq!((&*b.metric, b.steps), ("build.energy", 15));
    let consumer = b.series.consumer.clone().unwrap();
    assert!(std::sync::Arc::ptr_eq(&consumer, &p), "a rule that changes no attribute keeps the consumer");
    p.update(vec![Attribute::new("process.executable.name", "cc1")]);
    let third = s.pass(2, 3, &[(energy, 30)]);
    assert_eq!(s.rig.points(&third)[0].steps, 20, "it keeps its new name");
}

#[test]
fn a_series_keeps_its_name_if_the_new_one_is_taken() {
    let text = "rules = [{ select = { metric = \"hw.energy\" }, rename = \"wattrace.consumer.cpu.time\" }]";
    let mut s = Fixture::of::<Relabel>(toml::from_str(text).unwrap());
    s.rig.registry.metric(&metric::CONSUMER_CPU_TIME).unwrap();
    let energy = s.energy(None);
    let batch = s.pass(0, 1, &[(energy, 5)]);
    let point = &s.rig.points(&batch)[0];
    assert_eq!((&*point.metric, point.steps), ("hw.energy", 5));
}

#[test]
fn an_error_names_the_key_of_the_invalid_value() {
    for (text, start) in [
        ("rules = [{}]", "plugins.relabel.rules[0]: changes nothing"),
        ("rules = [{ set = { \"wattrace.origin\" = \"measured\" } }]", "plugins.relabel.rules[0].set: "),
        ("rules = [{ drop = [\"wattrace.origin\"] }]", "plugins.relabel.rules[0].drop[0]: "),
        (
            "rules = [{ rename_attributes = { a = \"\" } }]",
            "plugins.relabel.rules[0].rename_attributes.\"a\": ",
        ),
        (
            "rules = [{ extract = [{ from = \"a\", to = \"b\", regex = \"(\" }] }]",
            "plugins.relabel.rules[0].extract[0].regex: ",
        ),
        ("rules = [{ extract = [{ to = \"b\" }] }]", "plugins.relabel.rules[0].extract[0].from: "),
    ] {
        let config = toml::from_str(text).unwrap();
        let message = Rig::new().start::<Relabel>(config).unwrap_err().to_string();
        assert!(message.starts_with(start), "{message}");
    }
}

#[test]
fn a_glob_that_drops_everything_keeps_the_origin() {
    let mut s = Fixture::of::<Relabel>(toml::from_str("rules = [{ drop = [\"*\"] }]").unwrap());
    let p = s.process(7, "bash");
    let energy = s.energy(Some(&p));
    let batch = s.pass(0, 1, &[(energy, 5)]);
    let all = s.rig.points(&batch)[0].series.all_attributes();
    let keys: Vec<_> = all.iter().map(|a| &*a.key).collect();
    assert_eq!(keys, ["wattrace.domain", "wattrace.origin", "wattrace.consumer.type"]);
}
