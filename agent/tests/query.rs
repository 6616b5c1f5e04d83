//! `wattrace query` on a database whose truth is known: rows and closing entries sum to the meter, to the
//! microjoule, in every span and format.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use support::wattrace;
use wattrace_api::testing::Rig;
use wattrace_api::{
    Attribute, Consumer, ConsumerKind, Domain, Follows, Identity, Metric, Origin, Resource, ResourceKind,
    SeriesId, SeriesSpec, Timestamp, Window, metric,
};
use wattrace_sqlite::{Sqlite, SqliteConfig};

/// 2026-11-26T12:00:00Z, in seconds.
const NOON: u64 = 1_795_694_400;
const SECOND: u64 = 1_000_000_000;

fn at(second: u64) -> Timestamp {
    Timestamp((NOON + second) * SECOND)
}

/// A simulated machine for ten seconds: the meters psys, package-0 and core-0, which lies in package-0;
/// processes in the unit `build.service`, and one in none. In each second a package of 10 J gives 4 J and
/// 2 J to two `rustc`, 1.000001 J to a process with a hostile name, 2 J to nobody, and the rest to idle.
struct Machine {
    dir: tempfile::TempDir,
    rig: Rig,
    /// With their increments in each second; first the meter package-0.
    counters: Vec<(SeriesId, u64)>,
}

fn domain(name: &str, within: Option<&str>) -> Arc<Domain> {
    Arc::new(Domain {
        name: name.into(),
        origin: Origin::Simulated,
        follows: Follows::Package(0),
        within: within.map(str::to_owned),
        idle_microwatts: None,
    })
}

fn consumer(kind: ConsumerKind, id: &str, attributes: &[(&'static str, &str)]) -> Arc<Consumer> {
    let start_unix_nano = if id.is_empty() { 0 } else { NOON * SECOND };
    let identity = Identity { kind, id: id.to_owned().into(), start_unix_nano };
    let attributes = attributes.iter().map(|&(key, value)| Attribute::new(key, value)).collect();
    Arc::new(Consumer::new(identity, None, attributes))
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut rig = Rig::new();
        rig.clock.set(at(0));
        let config = SqliteConfig {
            path: dir.path().join("w.db"),
            commit_interval: Duration::ZERO,
            ..Default::default()
        };
        rig.start::<Sqlite>(config).unwrap();
        let mut it = Self { dir, rig, counters: Vec::new() };
        let package = domain("package-0", None);
        it.open(&metric::HW_ENERGY, Resource::package(0), Some(&package), None, 10_000_000);
        let psys = Resource { kind: ResourceKind::Psys, id: "0".into() };
        it.open(&metric::HW_HOST_ENERGY, psys, Some(&domain("psys", None)), None, 30_000_000);
        let core = Resource { kind: ResourceKind::Core, id: "0".into() };
        let core_domain = domain("core-0", Some("package-0"));
        it.open(&metric::HW_ENERGY, core.clone(), Some(&core_domain), None, 5_000_000);
        let name = "process.executable.name";
        let unit = ("systemd.unit", "build.service");
        let consumers = [
            (consumer(ConsumerKind::Process, "11", &[(name, "rustc"), unit]), 4_000_000),
            (consumer(ConsumerKind::Process, "12", &[(name, "rustc"), unit]), 2_000_000),
            (consumer(ConsumerKind::Process, "13", &[(name, "=cmd\u{1b}[2J")]), 1_000_001),
            (consumer(ConsumerKind::Unit, "build.service", &[unit]), 6_000_000),
            (consumer(ConsumerKind::Unit, "", &[]), 1_000_001),
            (consumer(ConsumerKind::Idle, "", &[]), 999_999),
            (consumer(ConsumerKind::Unattributed, "", &[]), 2_000_000),
        ];
        for (consumer, energy) in &consumers {
            let of = Some(consumer);
            it.open(&metric::CONSUMER_ENERGY, Resource::package(0), Some(&package), of, *energy);
            it.open(&metric::CONSUMER_ENERGY, core.clone(), Some(&core_domain), of, energy / 2);
            it.open(&metric::CONSUMER_CPU_TIME, Resource::package(0), None, of, energy * 100);
        }
        it.seconds(1..=10);
        it
    }

    fn open(
        &mut self,
        metric: &Metric,
        resource: Resource,
        domain: Option<&Arc<Domain>>,
        consumer: Option<&Arc<Consumer>>,
        increment: u64,
    ) -> SeriesId {
        let metric = self.rig.registry.metric(metric).unwrap();
        let (domain, consumer) = (domain.cloned(), consumer.cloned());
        let spec = SeriesSpec { domain, consumer, ..SeriesSpec::new(metric, resource, at(0)) };
        let id = self.rig.registry.open(spec);
        self.counters.push((id, increment));
        id
    }

    fn seconds(&mut self, seconds: std::ops::RangeInclusive<u64>) {
        for second in seconds {
            self.rig.clock.set(at(second));
            let points: Vec<_> = self.counters.iter().map(|&(id, step)| (id, step * second)).collect();
            self.pass(second, &points);
        }
    }

    fn pass(&mut self, second: u64, points: &[(SeriesId, u64)]) {
        let batch = self.rig.batch(Window::new(at(second - 1), at(second)), points);
        self.rig.pass(batch).unwrap();
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("w.db")
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let (code, output) = query(&self.path(), &[arguments, &["--format", "json"]].concat());
        assert_eq!(code, Some(0), "{output}");
        serde_json::from_str(&output).unwrap()
    }
}

/// The exit code, and what was written: to standard error if it failed.
fn query(db: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output =
        wattrace().args(["query", "--db"]).arg(db).args(arguments).env("TZ", "CET-1").output().unwrap();
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// Type, name, microjoules and processes of each row.
fn rows(answer: &Value) -> Vec<(&str, &str, u64, u64)> {
    let rows = answer["rows"].as_array().unwrap().iter();
    rows.map(|row| {
        let number = |key: &str| row[key].as_u64().unwrap();
        let text = |key: &str| row[key].as_str().unwrap();
        (text("type"), text("name"), number("energy_uj"), number("processes"))
    })
    .collect()
}

#[test]
fn rows_and_closing_entries_sum_to_the_meter_to_the_microjoule() {
    let mut machine = Machine::new();
    // The meter was read once more, and its energy is not attributed yet.
    machine.pass(11, &[(machine.counters[0].0, 110_000_000)]);
    let all = machine.json(&[]);
    assert_eq!((all["schema"].as_str(), all["by"].as_str()), (Some("wattrace.query/1"), Some("program")));
    let expected = [
        ("program", "rustc", 60_000_000, 2),
        ("program", "=cmd\u{1b}[2J", 10_000_010, 1),
        ("idle", "idle", 9_999_990, 0),
        ("unattributed", "unattributed", 20_000_000, 0),
    ];
    assert_eq!(rows(&all), expected);
    for key in ["energy_uj", "measured_uj"] {
        assert_eq!(all["total"][key], 100_000_000, "{key}");
    }
    assert_eq!(all["rows"][1]["energy_j"], 10.00001);
    assert_eq!(all["rows"][0]["cpu_time_s"], 6.0);
    assert_eq!(all["total"]["origin"], serde_json::json!(["simulated"]));
    let in_total = |name: &str| {
        let domains = all["domains"].as_array().unwrap();
        domains.iter().find(|domain| domain["domain"] == name).unwrap()["in_total"].as_bool().unwrap()
    };
    assert_eq!([in_total("package-0"), in_total("core-0"), in_total("psys")], [true, false, false]);
}

#[test]
fn a_span_holds_the_windows_that_end_in_it() {
    let machine = Machine::new();
    let two = machine.json(&["--from", "2026-11-26 13:00:03", "--to", "2026-11-26T12:00:05Z"]);
    assert_eq!(two["total"]["energy_uj"], 20_000_000);
    assert_eq!(two["total"]["watts"], 10.0);
    assert_eq!(two["span"]["from"], "2026-11-26T13:00:03+01:00");
    let parts: u64 = [("12:00:00", "12:00:04"), ("12:00:04", "12:00:09"), ("12:00:09", "12:01:00")]
        .map(|(from, to)| {
            let [from, to] = [from, to].map(|time| format!("2026-11-26T{time}Z"));
            rows(&machine.json(&["--by", "process", "--from", &from, "--to", &to]))
                .iter()
                .find(|row| row.1.starts_with("=cmd"))
                .map_or(0, |row| row.2)
        })
        .iter()
        .sum();
    assert_eq!(parts, 10_000_010);
}

#[test]
fn each_level_has_what_its_groups_used_and_what_is_in_none() {
    let machine = Machine::new();
    let units = machine.json(&["--by", "unit"]);
    let expected = [
        ("unit", "build.service", 60_000_000, 2),
        ("unit", "(no unit)", 10_000_010, 1),
        ("idle", "idle", 9_999_990, 0),
        ("unattributed", "unattributed", 20_000_000, 0),
    ];
    assert_eq!(rows(&units), expected);
    let pods = machine.json(&["--by", "pod"]);
    assert_eq!(rows(&pods)[0], ("pod", "(no pod)", 70_000_010, 3));
    let processes = machine.json(&["--by", "process", "--limit", "1"]);
    let expected = [("process", "rustc [11]", 40_000_000, 1), ("other", "other", 30_000_010, 2)];
    assert_eq!(rows(&processes)[..2], expected);
    assert_eq!(processes["total"]["energy_uj"], 100_000_000);
    assert_eq!(processes["rows"][0]["start_unix_nano"], NOON * SECOND);
}

#[test]
fn a_domain_that_no_total_counts_can_be_asked_for() {
    let machine = Machine::new();
    let psys = machine.json(&["--domain", "psys"]);
    let unattributed = rows(&psys).into_iter().find(|row| row.0 == "unattributed").unwrap();
    assert_eq!((unattributed.2, &psys["total"]["energy_uj"]), (300_000_000, &Value::from(300_000_000_u64)));
    let core = machine.json(&["--domain", "core-0"]);
    assert_eq!(rows(&core)[0], ("program", "rustc", 30_000_000, 2));
    let (code, message) = query(&machine.path(), &["--domain", "gpu-7"]);
    assert_eq!(code, Some(2));
    assert!(message.contains("no meter gpu-7") && message.contains("package-0"), "{message}");
}

#[test]
fn the_table_fits_and_no_name_reaches_the_terminal_or_a_spreadsheet_as_it_is() {
    let machine = Machine::new();
    let (_, table) = query(&machine.path(), &["--by", "process"]);
    let expected = "\
2026-11-26 13:00:00 to 2026-11-26 13:00:10 (UTC+01:00), 10s

  process        J (simulated)   share   avg W  CPU s  processes
  rustc [11]            40.000  40.0 %   4.000  4.000          1
  rustc [12]            20.000  20.0 %   2.000  2.000          1
  =cmd?[2J [13]         10.000  10.0 %   1.000  1.000          1
  idle                  10.000  10.0 %   1.000  1.000
  unattributed          20.000  20.0 %   2.000  2.000
  total                100.000          10.000

Not in the total: core-0 50.000 J, psys 300.000 J (--domain NAME).
";
    assert_eq!(table, expected);
    let (_, csv) = query(&machine.path(), &["--format", "csv"]);
    let expected = "\
type,name,id,energy_j,share,watts,cpu_time_s,processes,origin
program,rustc,rustc,60.000000,0.600000,6.000000,6.000000000,2,simulated
program,'=cmd\\u{1b}[2J,'=cmd\\u{1b}[2J,10.000010,0.100000,1.000001,1.000001000,1,simulated
idle,idle,,9.999990,0.100000,0.999999,0.999999000,0,simulated
unattributed,unattributed,,20.000000,0.200000,2.000000,2.000000000,0,simulated
";
    assert_eq!(csv, expected);
}

#[test]
fn what_cannot_be_answered_says_why_and_what_there_is() {
    let machine = Machine::new();
    let failed = |db: &Path, arguments: &[&str], code: i32| {
        let (found, message) = query(db, arguments);
        assert_eq!(found, Some(code), "{message}");
        message
    };
    let nowhere = failed(Path::new("/nowhere/w.db"), &[], 1);
    assert!(nowhere.contains("/nowhere/w.db: no such file: --db names a database"), "{nowhere}");
    let other = machine.dir.path().join("other.db");
    std::fs::write(&other, "Some notes, ".repeat(100)).unwrap();
    assert!(failed(&other, &[], 1).contains("is no database of Wattrace"));
    let early = failed(&machine.path(), &["--to", "2026-11-25"], 1);
    assert!(
        early.contains("it has those from 2026-11-26 13:00:00 to 2026-11-26 13:00:10 (UTC+01:00)"),
        "{early}"
    );
    let swapped = failed(&machine.path(), &["--from", "today", "--to", "yesterday"], 2);
    assert!(swapped.contains("--from: is not before --to"), "{swapped}");
    let no_time = failed(&machine.path(), &["--from", "gestern"], 2);
    assert!(no_time.contains("yesterday"), "{no_time}");
}

#[test]
fn who_may_read_the_file_but_not_write_its_directory_can_ask_once_the_agent_has_stopped() {
    if !support::is_root() {
        return;
    }
    let mut machine = Machine::new();
    machine.rig.outputs.clear();
    let dir = machine.dir.path();
    // Others may not be allowed to enter the directory that the program was built in.
    let program = dir.join("wattrace");
    std::fs::copy(wattrace().get_program(), &program).unwrap();
    for (path, mode) in [(dir.to_owned(), 0o755), (machine.path(), 0o644)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut query = Command::new(program);
    let output = query.uid(65534).args(["query", "--db"]).arg(machine.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("100.000"));
}

/// From the first window to the last, and before any point has been summed up.
#[test]
fn what_a_running_agent_wrote_sums_to_its_meters() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("w.db");
    let status = wattrace()
        .args(["run", "--duration", "2s", "--plugins", "simulator,attribution,sqlite"])
        .args(["--set", "plugins.simulator.threads=[{ process = 'one', run = '6ms', sleep = '4ms' }]"])
        .args(["--set", "plugins.simulator.schedule=script", "--set", "plugins.simulator.interval=20ms"])
        .args(["--set", &format!("plugins.sqlite.path={}", db.display())])
        .status()
        .unwrap();
    assert!(status.success());
    let (code, json) = query(&db, &["--format", "json"]);
    assert_eq!(code, Some(0), "{json}");
    let answer: Value = serde_json::from_str(&json).unwrap();
    assert!(answer["total"]["energy_uj"].as_u64().unwrap() > 1_000_000, "{json}");
    assert_eq!(answer["total"]["energy_uj"], answer["total"]["measured_uj"], "{json}");
    assert_eq!(answer["total"]["origin"], serde_json::json!(["simulated"]));
}
