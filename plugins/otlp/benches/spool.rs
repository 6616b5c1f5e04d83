//! What an outage costs at 10,000 series a second: CPU time, memory and bytes while each second's values go
//! to the spool; beside the same output whose collector takes everything, and beside a plain log, to which
//! the same requests are appended, compressed and synced. Simulated seconds follow each other as fast as they
//! can. Each round is a program of its own, so that memory is that of one kind; the kinds' rounds alternate.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark may panic")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::server::Server;
use common::{Fixture, J, described_process};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message as _;
use rustix::time::{ClockId, clock_gettime};
use wattrace_api::SeriesId;
use wattrace_otlp::OtlpConfig;

const SERIES: u32 = 10_000;
/// Simulated seconds of a round, and rounds of each kind.
const SECONDS: u32 = 120;
const ROUNDS: usize = 3;
const SECOND: Duration = Duration::from_secs(1);
/// Nobody listens there.
const ABSENT: &str = "http://127.0.0.1:9";

/// CPU time, in seconds.
fn cpu(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// A line of `/proc/self/status` in kB, as MB.
fn memory(what: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.trim_matches([':', '\t', ' ', 'k', 'B']).parse::<f64>().unwrap() * 1024.0 / 1e6
}

/// Processes, each of which uses a joule a second.
struct Load {
    fixture: Fixture,
    ids: Vec<SeriesId>,
    points: Vec<(SeriesId, u64)>,
    joules: u64,
}

impl Load {
    fn new(endpoint: &str, spool: &Path) -> Self {
        let config = OtlpConfig {
            endpoint: endpoint.to_owned(),
            protocol: "http/protobuf".to_owned(),
            interval: SECOND,
            top: 0,
            spool: spool.to_owned(),
            spool_max_age: Duration::from_secs(1_000_000_000),
            ..OtlpConfig::default()
        };
        let mut fixture = Fixture::new(config, 1);
        let mut open = |pid| fixture.energy(Some(described_process(i64::from(pid))));
        let ids: Vec<_> = (1..=SERIES).map(&mut open).collect();
        Self { fixture, points: Vec::with_capacity(ids.len()), ids, joules: 0 }
    }

    fn run(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.joules += 1;
            self.points.clear();
            self.points.extend(self.ids.iter().map(|&id| (id, self.joules * J)));
            self.fixture.write(SECOND, &self.points, &[]);
        }
    }
}

/// The collector takes everything: each second's values before the next second. Reports also what a plain log
/// costs.
fn taken(spool: &Path) {
    let server = Server::start();
    let mut load = Load::new(&server.endpoint, spool);
    let mut output = 0.0;
    for second in 0..SECONDS + 5 {
        let begun = cpu(ClockId::ThreadCPUTime);
        load.run(1);
        let (sent, all) = (Instant::now(), (load.joules * u64::from(SERIES)) as f64);
        let mut spent = cpu(ClockId::ThreadCPUTime) - begun;
        while server.seen.lock().unwrap().joules() != all {
            assert!(sent.elapsed() < Duration::from_secs(60), "it does not arrive");
            std::thread::sleep(Duration::from_millis(5));
            let begun = cpu(ClockId::ThreadCPUTime);
            load.fixture.write_nothing(Duration::ZERO);
            spent += cpu(ClockId::ThreadCPUTime) - begun;
        }
        // The first ones describe the series.
        output += if second < 5 { 0.0 } else { spent };
    }
    let log = plain_log(&server.seen.lock().unwrap().largest);
    println!("cpu {} log {log}", output / f64::from(SECONDS));
}

/// There is no collector, so that each second's values are spooled.
fn spooled(spool: &Path) {
    let mut load = Load::new(ABSENT, spool);
    let begun = Instant::now();
    while spool.metadata().map_or(0, |file| file.len()) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing is spooled");
        load.run(1);
        std::thread::sleep(Duration::from_millis(5));
    }
    let (bytes, resident) = (|| spool.metadata().unwrap().len() as f64, memory("VmRSS"));
    let (at, begun) = (bytes(), [ClockId::ThreadCPUTime, ClockId::ProcessCPUTime].map(cpu));
    load.run(SECONDS);
    let output = (cpu(ClockId::ThreadCPUTime) - begun[0]) / f64::from(SECONDS);
    let all = (cpu(ClockId::ProcessCPUTime) - begun[1]) / f64::from(SECONDS);
    let per_point = (bytes() - at) / f64::from(SERIES) / f64::from(SECONDS);
    let most = memory("VmHWM");
    assert_eq!(load.fixture.losses(), []);
    println!("cpu {output} all {all} bytes {per_point} resident {resident} most {most}");
}

/// Appends a request, compressed, to a file and syncs it, repeatedly. Returns the CPU time of as many points
/// as a second has.
fn plain_log(request: &[u8]) -> f64 {
    let metrics = ExportMetricsServiceRequest::decode(request).unwrap().resource_metrics;
    let metrics = metrics.iter().flat_map(|r| &r.scope_metrics).flat_map(|s| &s.metrics);
    let points = metrics.map(|metric| match &metric.data {
        Some(Data::Sum(sum)) => sum.data_points.len(),
        _ => 0,
    });
    let payload = request.repeat(SERIES as usize / points.sum::<usize>());
    let mut file = tempfile::tempfile().unwrap();
    let begun = cpu(ClockId::ThreadCPUTime);
    for _ in 0..SECONDS {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&payload).unwrap();
        file.write_all(&encoder.finish().unwrap()).unwrap();
        file.sync_data().unwrap();
    }
    (cpu(ClockId::ThreadCPUTime) - begun) / f64::from(SECONDS)
}

/// Runs a round of this kind in a program of its own. Returns what it measured, by name.
fn round(kind: &str) -> BTreeMap<String, f64> {
    let output = Command::new(std::env::current_exe().unwrap()).arg(kind).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let words: Vec<_> = text.split_whitespace().collect();
    words.chunks(2).map(|pair| (pair[0].to_owned(), pair[1].parse().unwrap())).collect()
}

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool.db");
    match std::env::args().nth(1).as_deref() {
        Some("taken") => return taken(&spool),
        Some("spooled") => return spooled(&spool),
        _ => {}
    }
    let rounds: Vec<_> = (0..ROUNDS).map(|_| [round("taken"), round("spooled")]).collect();
    let best = |kind: usize, what: &str| rounds.iter().map(|r| r[kind][what]).fold(f64::MAX, f64::min);
    let most = |what: &str| rounds.iter().map(|r| r[1][what]).fold(0.0, f64::max);
    let (well, log, away) = (best(0, "cpu"), best(0, "log"), best(1, "cpu"));
    println!("{SERIES} series a second, best of {ROUNDS} rounds of {SECONDS} s; CPU of the output's thread:");
    println!("  the collector takes them   {:.2} % of a core", well * 100.0);
    println!(
        "  it is away, they spool     {:.2} % of a core, {:.2} times as much",
        away * 100.0,
        away / well
    );
    let plain = well + log;
    println!(
        "  with a plain log instead   {:.2} % of a core, {:.2} of the spool's",
        plain * 100.0,
        plain / away
    );
    println!("  all threads while they spool, and the points' making: {:.2} %", best(1, "all") * 100.0);
    println!("  bytes of the file per point: {:.1}", most("bytes"));
    println!("  resident: {:.1} MB with the series, {:.1} MB at most", most("resident"), most("most"));
}
