//! The whole path to a real Prometheus, with a simulated meter: what it has of a short process is what the
//! agent attributed, and promtool finds no fault with the text.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic: that is how tests fail"
)]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{interrupt, is_root, metric, read_jsonl, wattrace};
use wattrace_rapl_simulator::{Tree, Zone};

const PATIENCE: Duration = Duration::from_secs(30);

/// Ended with the test, however it ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{program} is missing: cargo xtask test");
        eprintln!("skipped: {program} is missing (Debian: apt install prometheus)");
    }
    found
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The body of an answer to a GET; `None` while nobody listens.
fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.contains(" 200 ").then(|| body.to_owned())
}

/// What `probe` gives as soon as it gives something.
fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < until, "{what} did not come within {PATIENCE:?}");
        sleep(Duration::from_millis(100));
    }
}

/// The results of a query: labels and value.
fn query(port: u16, query: &str) -> Option<Vec<(Value, f64)>> {
    let path: String = query.bytes().map(|b| format!("%{b:02x}")).collect();
    let answer: Value = serde_json::from_str(&get(port, &format!("/api/v1/query?query={path}"))?).ok()?;
    let results = answer["data"]["result"].as_array()?;
    let value = |result: &Value| result["value"][1].as_str()?.parse().ok();
    Some(results.iter().filter_map(|r| Some((r["metric"].clone(), value(r)?))).collect())
}

fn config(target: u16) -> String {
    format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
         scrape_configs: [{{job_name: wattrace, static_configs: [{{targets: ['127.0.0.1:{target}']}}]}}]\n"
    )
}

fn start_prometheus(dir: &Path, port: u16, config: &str) -> Running {
    std::fs::write(dir.join("prometheus.yml"), config).unwrap();
    let log = std::fs::File::create(dir.join("prometheus.log")).unwrap();
    let child = Command::new("prometheus")
        .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stderr(log)
        .spawn()
        .unwrap();
    Running(child)
}

/// A process of a few milliseconds of CPU time; its pid.
fn burst() -> u32 {
    let script = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
    let mut worker = Command::new("sh").args(["-c", script]).spawn().unwrap();
    assert!(worker.wait().unwrap().success());
    worker.id()
}

#[test]
fn prometheus_has_the_joules_of_a_process_that_ended_and_promtool_no_complaint() {
    if !(is_root() && has("prometheus") && has("promtool")) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let _meter = Tree::create(dir.path(), vec![Zone::new("intel-rapl:0", "package-0", 50.0)])
        .unwrap()
        .run(Duration::from_millis(1));
    let (target, port) = (free_port(), free_port());
    let file = dir.path().join("energy.jsonl");
    let agent = wattrace()
        .args(["run", "--plugins", "sched,rapl,attribution,jsonl,prometheus"])
        .args(["--set", "plugins.sched.interval=200ms", "--set", "plugins.rapl.interval=200ms"])
        .args(["--set", "plugins.prometheus.top=0"])
        .args(["--set", &format!("plugins.prometheus.listen=127.0.0.1:{target}")])
        .args(["--set", &format!("plugins.jsonl.path={}", file.display())])
        .args(["--set", &format!("plugins.rapl.sysfs_root={}", dir.path().display())])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut agent = Running(agent);
    let energy = "wattrace_consumer_energy_joules_total";
    let text = first_energy(target);
    check_by_promtool(&text);

    let _prometheus = start_prometheus(dir.path(), port, &config(target));
    eventually("a scrape", || query(port, energy).filter(|all| !all.is_empty()));
    let pid = burst();
    // The last value, even after the series went stale.
    let last = format!("last_over_time({energy}{{process_pid=\"{pid}\",wattrace_domain=\"package-0\"}}[5m])");
    let gone = || {
        let ended = query(port, &format!("{energy}{{process_pid=\"{pid}\"}}"))?.is_empty();
        query(port, &last).filter(|all| ended && !all.is_empty())
    };
    let scraped = eventually("the process that ended", gone);
    assert!(get(target, "/metrics").is_some_and(|text| !text.contains(&format!("pid=\"{pid}\""))));

    interrupt(&agent.0);
    assert!(agent.0.wait().unwrap().success());
    let points = read_jsonl(&file);
    let of_process = |p: &&Value| {
        metric(p) == "wattrace.consumer.energy" && p["attributes"]["process.pid"].as_u64() == Some(pid.into())
    };
    let attributed = points.iter().filter(of_process).filter_map(|p| p["value"].as_f64()).fold(0.0, f64::max);
    let total: f64 = scraped.iter().map(|(_, value)| value).sum();
    assert!(attributed > 0.0, "no energy for a busy process");
    assert!((total - attributed).abs() < 1e-6, "Prometheus has {total} J of {attributed} J: {scraped:?}");
    assert_eq!(scraped[0].0["wattrace_origin"], "simulated");
}

/// What an agent serves as soon as there is energy of processes.
fn first_energy(target: u16) -> String {
    let has_energy = |text: &String| text.contains("wattrace_consumer_energy_joules_total");
    eventually("the first energy", || get(target, "/metrics").filter(has_energy))
}

/// A line of the example's configuration as this test needs it.
fn replaced(config: &str, line: &str, by: &str) -> String {
    assert!(config.contains(line), "no {line} in {config}");
    config.replace(line, by)
}

#[test]
fn prometheus_scrapes_as_in_the_example_and_evaluates_its_rules() {
    if !(is_root() && has("prometheus")) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let _meter = Tree::create(dir.path(), vec![Zone::new("intel-rapl:0", "package-0", 50.0)])
        .unwrap()
        .run(Duration::from_millis(1));
    let (target, port) = (free_port(), free_port());
    let agent = wattrace()
        .args(["run", "--plugins", "sched,rapl,attribution,prometheus", "--set", "agent.control_socket="])
        .args(["--set", "plugins.sched.interval=200ms", "--set", "plugins.rapl.interval=200ms"])
        .args(["--set", &format!("plugins.prometheus.listen=127.0.0.1:{target}")])
        .args(["--set", &format!("plugins.rapl.sysfs_root={}", dir.path().display())])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let _agent = Running(agent);
    first_energy(target);
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboards");
    let rules = "wattrace.rules.yaml";
    std::fs::copy(example.join("rules").join(rules), dir.path().join(rules)).unwrap();
    // The agent stands in the place of the collector, and time goes faster.
    let config = std::fs::read_to_string(example.join("compose/prometheus.yaml")).unwrap();
    let config = replaced(&config, "\"collector:9464\"", &format!("\"127.0.0.1:{target}\""));
    let config = replaced(&config, "scrape_interval: 10s", "scrape_interval: 1s");
    let config = replaced(&config, "evaluation_interval: 15s", "evaluation_interval: 1s");
    let _prometheus = start_prometheus(dir.path(), port, &config);
    let recorded = eventually("a record of the machine's power", || {
        query(port, "instance:wattrace_power_watts:rate1m")
            .filter(|all| all.iter().any(|(_, watts)| *watts > 0.0))
    });
    let [(labels, watts)] = &recorded[..] else { panic!("{recorded:?}") };
    // Of the minute of which it is a rate, only the last seconds were seen.
    assert!(*watts <= 55.0 && labels["wattrace_origin"] == "simulated", "{recorded:?}");
    let answer: Value = serde_json::from_str(&get(port, "/api/v1/rules").unwrap()).unwrap();
    let groups = answer["data"]["groups"].as_array().unwrap();
    let all: Vec<_> = groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    let failed: Vec<_> = all.iter().filter(|rule| rule["health"] == "err").collect();
    assert!(all.len() > 10 && failed.is_empty(), "{failed:#?}");
    assert_eq!(query(port, "ALERTS{alertstate=\"firing\"}"), Some(Vec::new()));
}

fn check_by_promtool(text: &str) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "promtool: {said}\n{text}");
}
