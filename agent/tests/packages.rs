//! Two packages with a meter and a load each: a load gets no joules of the other package. Needs a machine
//! with two packages (`cargo xtask vm` has such); elsewhere the test reports that it was skipped.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic: that is how tests fail"
)]

mod support;

use std::collections::HashMap;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use support::{consumer, is_root, metric, read_jsonl, wattrace};
use wattrace_rapl_simulator::{Tree, Zone};
use wattrace_topology::Topology;

/// A shell that spins on one CPU until it is dropped.
struct Spinner(Child);

impl Spinner {
    fn on(cpu: usize) -> Self {
        let child = Command::new("/bin/sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        support::pin(child.id(), cpu);
        Self(child)
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The number of windows so far in which `spinner` got energy.
fn windows_of(spinner: &Spinner, out: &Path) -> usize {
    let consumer = format!("\"id\":\"{}\"", spinner.pid());
    let text = std::fs::read_to_string(out).unwrap_or_default();
    text.lines()
        .filter(|line| line.contains("\"wattrace.consumer.energy\"") && line.contains(&consumer))
        .count()
}

#[test]
fn a_load_gets_joules_of_its_own_package_only() {
    if !is_root() {
        return;
    }
    let topology = Topology::read(Path::new("/sys")).unwrap();
    let packages = topology.packages();
    if packages.len() < 2 {
        eprintln!("skipped: this machine has one CPU package");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.jsonl");
    // 20 W, 40 W, ...
    let watts = |n: u32| 20.0 * f64::from(n + 1);
    let zone = |&n: &u32| Zone::new(&format!("intel-rapl:{n}"), &format!("package-{n}"), watts(n));
    let tree = Tree::create(dir.path(), packages.iter().map(zone).collect()).unwrap();
    let running = tree.run(Duration::from_millis(5));
    let last_cpu = |&n: &u32| topology.package_of.iter().rposition(|p| *p == n).unwrap();
    let spinners: Vec<Spinner> = packages.iter().map(|n| Spinner::on(last_cpu(n))).collect();
    let mut agent = wattrace()
        .args(["run", "--plugins", "sched,rapl,attribution,jsonl"])
        // The meters are constant: all of their power would be static.
        .args(["--set", "plugins.attribution.idle=none"])
        .args(["--set", &format!("plugins.rapl.sysfs_root={}", dir.path().display())])
        .args(["--set", &format!("plugins.jsonl.path={}", out.display())])
        .spawn()
        .unwrap();
    // On emulated CPUs it takes long to load the kernel programs; energy before that is unattributed.
    let deadline = Instant::now() + Duration::from_secs(300);
    while !spinners.iter().all(|spinner| windows_of(spinner, &out) >= 5) {
        assert!(
            Instant::now() < deadline && agent.try_wait().unwrap().is_none(),
            "no windows of the spinners"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    support::interrupt(&agent);
    let status = agent.wait().unwrap();
    drop(running);
    assert!(status.success());

    let points = read_jsonl(&out);
    // The last value of each consumer, by domain and consumer, and of each meter.
    let (mut attributed, mut meters) = (HashMap::new(), HashMap::new());
    for point in &points {
        let domain = point["attributes"]["wattrace.domain"].as_str().unwrap_or_default().to_owned();
        let value = point["value"].as_f64().unwrap();
        match metric(point) {
            "wattrace.consumer.energy" => {
                let who =
                    format!("{} {}", consumer(point), point["consumer"]["id"].as_str().unwrap_or_default());
                attributed.insert((domain, who), value);
            }
            "wattrace.domain.residual" => assert_eq!(value, 0.0, "{domain}"),
            "hw.energy" => drop(meters.insert(domain, value)),
            _ => {}
        }
    }
    for (n, spinner) in packages.iter().zip(&spinners) {
        let (own, who) = (format!("package-{n}"), format!("process {}", spinner.pid()));
        for m in &packages {
            let domain = format!("package-{m}");
            let joules = attributed.get(&(domain.clone(), who.clone())).copied();
            match domain == own {
                true => {
                    let known = meters[&own] - attributed[&(own.clone(), "unattributed ".to_owned())];
                    // The other CPU of the package may be as busy: with the agent, and on a real-time kernel
                    // with the kernel's threads.
                    let is_large = joules.is_some_and(|joules| joules > known / 4.0);
                    assert!(
                        is_large && known > 0.0,
                        "{who} has {joules:?} J of {own}: {meters:?}, {attributed:?}"
                    );
                }
                false => assert_eq!(joules, None, "{who} runs on {own} and has joules of {domain}"),
            }
        }
        let sum: f64 =
            attributed.iter().filter(|((domain, _), _)| *domain == own).map(|(_, joules)| joules).sum();
        assert!((sum - meters[&own]).abs() < 1e-5, "{sum} J of {} are attributed in {own}", meters[&own]);
    }
}
