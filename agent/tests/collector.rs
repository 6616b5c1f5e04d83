//! The whole path, from context switches and a simulated meter to a real collector (rotel) and an independent
//! decoder.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic: that is how tests fail"
)]

#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    dead_code,
    reason = "that is how tests fail"
)]
#[path = "../../plugins/otlp/tests/common/collector.rs"]
mod collector;
mod support;

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use collector::Line;
use support::load_meter::{PER_CPU, zone_of_the_cpus};
use support::{is_root, wattrace};
use wattrace_rapl_simulator::Tree;

fn unix_nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}

/// The identity of a stream: everything but time and value.
fn stream(line: &Line) -> String {
    let mut attributes: Vec<_> = line.attributes.iter().collect();
    attributes.sort_by_key(|(key, _)| *key);
    format!("{} {attributes:?} from {}", line.name, line.start)
}

fn arrives(protocol: &str, receiver: &str) {
    if !is_root() {
        return;
    }
    let decoder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/otlp/tests/decoder.py");
    let Some(pipe) = collector::start(receiver, &decoder) else { return };
    let dir = tempfile::tempdir().unwrap();
    // Power that follows the load: a package whose power never changes has nothing to charge to a process.
    let _meter = Tree::create(dir.path(), vec![zone_of_the_cpus()]).unwrap().run(Duration::from_millis(1));
    let begun = unix_nanos();
    let mut agent = wattrace()
        .args(["run", "--plugins", "sched,rapl,attribution,otlp"])
        .args(["--set", "plugins.sched.interval=200ms", "--set", "plugins.rapl.interval=200ms"])
        .args(["--set", "plugins.otlp.interval=500ms"])
        .args(["--set", &format!("plugins.otlp.protocol={protocol}")])
        .args(["--set", &format!("plugins.otlp.endpoint={}", pipe.endpoint)])
        .args(["--set", &format!("plugins.rapl.sysfs_root={}", dir.path().display())])
        .spawn()
        .unwrap();
    // After the first points have arrived: a process whose start and end are known.
    let mut lines = pipe.until(|line| line.name == "wattrace.consumer.energy");
    let script = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
    let mut worker = Command::new("sh").args(["-c", script]).spawn().unwrap();
    let pid = worker.id();
    assert!(worker.wait().unwrap().success());
    lines.extend(pipe.until(|line| {
        let is_energy = line.name == "wattrace.consumer.energy";
        is_energy && line.ended && line.attributes.get("process.pid").is_some_and(|p| *p == pid)
    }));
    // SAFETY: the call has no preconditions; the agent is not reaped yet, so the pid is its own.
    unsafe { libc::kill(agent.id() as libc::pid_t, libc::SIGTERM) };
    assert!(agent.wait().unwrap().success());
    check(&lines, pid, begun);
}

fn check(lines: &[Line], pid: u32, begun: u64) {
    let now = unix_nanos();
    let units = HashMap::from([
        ("hw.energy", "J"),
        ("wattrace.consumer.energy", "J"),
        ("wattrace.consumer.cpu.time", "s"),
        ("wattrace.domain.residual", "J"),
    ]);
    for name in units.keys() {
        assert!(lines.iter().any(|line| line.name == *name), "{name} did not arrive");
    }
    let mut last: HashMap<String, (u64, f64)> = HashMap::new();
    for line in lines {
        if let Some(unit) = units.get(line.name.as_str()) {
            assert_eq!(line.unit, *unit, "{line:?}");
        }
        assert!(line.time <= now && line.start <= line.time, "{line:?}");
        assert_eq!(line.resource["service.name"], "wattrace");
        assert!(line.resource["host.name"].as_str().is_some_and(|h| !h.is_empty()));
        if !line.monotonic {
            continue;
        }
        assert_eq!(line.temporality, "AGGREGATION_TEMPORALITY_CUMULATIVE");
        // A series starts with the agent, or with the window in which its consumer first ran.
        assert!(line.start >= begun, "{line:?} starts before the agent");
        let Some(value) = line.value else { continue };
        let (time, before) = last.insert(stream(line), (line.time, value)).unwrap_or_default();
        assert!(line.time >= time && value >= before, "{line:?} goes back from {before}");
    }
    let worker: Vec<_> =
        lines.iter().filter(|l| l.attributes.get("process.pid").is_some_and(|p| *p == pid)).collect();
    let total =
        |name: &str| worker.iter().filter(|l| l.name == name).filter_map(|l| l.value).fold(0.0, f64::max);
    let (joules, seconds) = (total("wattrace.consumer.energy"), total("wattrace.consumer.cpu.time"));
    assert!(seconds > 0.01, "{seconds} s of CPU time for a busy process");
    let truth = PER_CPU * seconds;
    assert!((truth * 0.5..truth * 1.5).contains(&joules), "{joules} J for {seconds} s, not about {truth} J");
    let ended = worker.iter().filter(|l| l.ended).map(|l| l.name.as_str()).collect::<Vec<_>>();
    assert!(!ended.is_empty() && worker.iter().all(|l| l.ended == l.value.is_none()));
    let energy = worker.iter().find(|l| l.name == "wattrace.consumer.energy").unwrap();
    assert_eq!(energy.attributes["wattrace.domain"], "package-0");
    assert_eq!(energy.attributes["wattrace.origin"], "simulated");
    assert_eq!(energy.attributes["wattrace.consumer.type"], "process");
    assert!(energy.attributes["process.creation.time"].as_str().is_some_and(|t| t.ends_with('Z')));
}

#[test]
fn a_joule_arrives_over_grpc() {
    arrives("grpc", "grpc");
}

#[test]
fn a_joule_arrives_over_http() {
    arrives("http/protobuf", "http");
}
