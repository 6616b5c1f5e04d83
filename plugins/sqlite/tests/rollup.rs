//! Sums of old points: any span has the joules that its points had, to the microjoule, while the database
//! stays small. Random histories are written into a database that sums up and into one that keeps every
//! point, and both are asked the same.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use rusqlite::Connection;
use wattrace_api::testing::Rig;
use wattrace_api::{
    Attribute, Batch, Consumer, ConsumerKind, Domain, Follows, Identity, Metric, Origin, Resource,
    ResourceKind, SeriesId, SeriesSpec, Timestamp, Window, metric,
};
use wattrace_sqlite::{By, EnergyReport, Reader, Span, Sqlite, SqliteConfig};

const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60;
const HOUR: u64 = 3600;
/// A whole hour, in seconds since the Unix epoch.
const BEGIN: u64 = 1_800_000_000;

fn at(second: u64) -> Timestamp {
    Timestamp(second * SECOND)
}

fn domain(name: &str) -> Arc<Domain> {
    Arc::new(Domain {
        name: name.into(),
        origin: Origin::Simulated,
        follows: Follows::Cpus,
        within: None,
        idle_microwatts: None,
    })
}

struct Counter {
    id: SeriesId,
    steps: u64,
}

struct Process {
    energy: Counter,
    cpu: Counter,
    is_in_unit: bool,
}

/// A simulated machine with a meter whose books close in every window, and a slow meter that nobody
/// attributes, which reports long after its windows.
struct World {
    rig: Rig,
    second: u64,
    package: Arc<Domain>,
    meter: Counter,
    idle: Counter,
    unattributed: Counter,
    unit: Counter,
    board: Counter,
    board_second: u64,
    processes: Vec<Process>,
    started: u64,
}

fn config(path: &Path, keep_points: u64, keep_minutes: u64) -> SqliteConfig {
    SqliteConfig {
        path: path.into(),
        commit_interval: Duration::ZERO,
        keep_points: Duration::from_secs(keep_points),
        keep_minutes: Duration::from_secs(keep_minutes),
        ..SqliteConfig::default()
    }
}

fn open(rig: &Rig, metric: &Metric, domain: Option<&Arc<Domain>>, consumer: Option<Consumer>) -> Counter {
    let metric = rig.registry.metric(metric).unwrap();
    let (domain, consumer) = (domain.cloned(), consumer.map(Arc::new));
    let resource = match &domain {
        Some(domain) if domain.name == "board" => {
            Resource { kind: ResourceKind::Other("board".into()), id: "".into() }
        }
        _ => Resource::package(0),
    };
    let spec = SeriesSpec { domain, consumer, ..SeriesSpec::new(metric, resource, rig.clock.now()) };
    Counter { id: rig.registry.open(spec), steps: 0 }
}

fn group(id: &'static str, second: u64) -> Consumer {
    let identity = Identity { kind: ConsumerKind::Unit, id: id.into(), start_unix_nano: second * SECOND };
    Consumer::new(identity, None, vec![Attribute::new("systemd.unit", id)])
}

impl World {
    fn new(configs: &[SqliteConfig], second: u64) -> Self {
        let mut rig = Rig::new();
        rig.clock.set(at(second));
        for config in configs {
            rig.start::<Sqlite>(config.clone()).unwrap();
        }
        let package = domain("package-0");
        let energy = |consumer| open(&rig, &metric::CONSUMER_ENERGY, Some(&package), Some(consumer));
        let [idle, unattributed] =
            [ConsumerKind::Idle, ConsumerKind::Unattributed].map(|kind| energy(Consumer::closing(kind)));
        let unit = energy(group("a.service", second));
        let meter = open(&rig, &metric::HW_ENERGY, Some(&package), None);
        let board = open(&rig, &metric::HW_ENERGY, Some(&domain("board")), None);
        let (processes, started, board_second) = (Vec::new(), second, second);
        Self {
            rig,
            second,
            package,
            meter,
            idle,
            unattributed,
            unit,
            board,
            board_second,
            processes,
            started,
        }
    }

    fn spawn(&mut self, program: &str, is_in_unit: bool) {
        self.started += 1;
        let start_unix_nano = self.second * SECOND;
        let id = self.started.to_string().into();
        let identity = || Identity { kind: ConsumerKind::Process, id, start_unix_nano };
        let attributes = vec![Attribute::new("process.executable.name", program)];
        let consumer = Arc::new(Consumer::new(identity(), None, attributes));
        let series = |metric: &Metric, domain: Option<&Arc<Domain>>| {
            let metric = self.rig.registry.metric(metric).unwrap();
            let spec = SeriesSpec {
                domain: domain.cloned(),
                consumer: Some(consumer.clone()),
                ..SeriesSpec::new(metric, Resource::package(0), at(self.second))
            };
            Counter { id: self.rig.registry.open(spec), steps: 0 }
        };
        let energy = series(&metric::CONSUMER_ENERGY, Some(&self.package));
        let cpu = series(&metric::CONSUMER_CPU_TIME, None);
        self.processes.push(Process { energy, cpu, is_in_unit });
    }

    /// A window of random length and use. Sometimes processes begin, sleep or end.
    fn tick(&mut self, rng: &mut Rng) {
        while self.processes.len() < 3 || rng.u8(..) < 40 {
            self.spawn(["cc", "ld", "sh"][rng.usize(..3)], rng.bool());
        }
        let begin = self.second;
        self.second += rng.u64(1..40);
        self.rig.clock.set(at(self.second));
        let (mut points, mut ended, mut total) = (Vec::new(), Vec::new(), 0);
        let mut add = |counter: &mut Counter, steps: u64| {
            counter.steps += steps;
            points.push((counter.id, counter.steps));
        };
        for process in &mut self.processes {
            if rng.u8(..) < 100 {
                continue;
            }
            let energy = rng.u64(..5_000_000);
            total += energy;
            add(&mut process.energy, energy);
            add(&mut process.cpu, energy * 11);
            if process.is_in_unit {
                add(&mut self.unit, energy);
            }
        }
        for closing in [&mut self.idle, &mut self.unattributed] {
            let energy = rng.u64(..3_000_000);
            total += energy;
            add(closing, energy);
        }
        add(&mut self.meter, total);
        self.processes.retain(|process| {
            let lives = rng.u8(..) > 30;
            if !lives {
                ended.extend([process.energy.id, process.cpu.id]);
            }
            lives
        });
        // The last value of a series counts, as in a batch of the agent.
        let mut last = BTreeMap::new();
        last.extend(points);
        let points: Vec<_> = last.into_iter().collect();
        let mut batch = self.rig.batch(Window::new(at(begin), at(self.second)), &points);
        ended.iter().for_each(|&id| batch.end(id));
        self.pass(batch);
        self.rig.registry.release(&ended);
        if self.second > self.board_second + 3000 {
            let begin = self.board_second;
            self.board_second += 1000;
            self.board.steps += rng.u64(1..1_000_000_000);
            let points = [(self.board.id, self.board.steps)];
            let batch = self.rig.batch(Window::new(at(begin), at(self.board_second)), &points);
            self.pass(batch);
        }
    }

    fn pass(&mut self, batch: Batch) {
        self.rig.pass(batch).unwrap();
    }
}

type Amounts = BTreeMap<(String, String), (u64, u64)>;

/// Energy and CPU time by row; and the meters.
fn amounts(report: &EnergyReport) -> (Amounts, Vec<(String, u64)>) {
    let rows = report.consumers.iter().chain(&report.closing);
    let rows = rows.filter(|row| row.microjoules + row.cpu_nanos > 0);
    let rows = rows.map(|row| ((row.kind.clone(), row.id.clone()), (row.microjoules, row.cpu_nanos)));
    let meters = report.domains.iter().map(|domain| (domain.name.clone(), domain.microjoules));
    (rows.collect(), meters.collect())
}

fn ask(path: &Path, from: u64, to: u64, by: By) -> EnergyReport {
    let span = Span { from: from * SECOND, to: to * SECOND };
    let report = Reader::open(path).unwrap().energy(span, by, None).unwrap();
    assert_eq!(report.span, span, "the span is whole");
    report
}

fn one(path: &Path, sql: &str) -> i64 {
    Connection::open(path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

struct Files {
    _dir: tempfile::TempDir,
    summed: PathBuf,
    whole: PathBuf,
}

fn files() -> Files {
    let dir = tempfile::tempdir().unwrap();
    let [summed, whole] = ["summed.db", "whole.db"].map(|name| dir.path().join(name));
    Files { _dir: dir, summed, whole }
}

const FOREVER: u64 = 100 * 31_557_600;

#[test]
fn a_span_of_sums_has_the_joules_of_its_points_to_the_microjoule() {
    for seed in 0..3 {
        let (files, mut rng) = (files(), Rng::with_seed(seed));
        let configs = [config(&files.summed, 600, 3 * HOUR), config(&files.whole, FOREVER, FOREVER)];
        let mut world = World::new(&configs, BEGIN);
        for hours in [3, 5, 9] {
            while world.second < BEGIN + hours * HOUR {
                world.tick(&mut rng);
            }
            // As after kill -9: no series has ended.
            world = World::new(&configs, world.second);
        }
        let now = world.second;
        assert_eq!(one(&files.whole, "SELECT count(*) FROM sums"), 0);
        for seconds in [60, 3600] {
            assert!(one(&files.summed, &format!("SELECT count(*) FROM sums WHERE seconds = {seconds}")) > 0);
        }
        let oldest = one(&files.summed, "SELECT min(time_unix_nano) / 1000000000 FROM points");
        assert!(oldest.unsigned_abs() > now - 700, "points are kept for ten minutes and their minute");
        let mut borders: Vec<u64> = (0..10).map(|_| BEGIN + rng.u64(..10) * HOUR).collect();
        borders.extend((0..10).map(|_| (now / MINUTE - rng.u64(..110)) * MINUTE));
        borders.extend((0..5).map(|_| now - rng.u64(..500)));
        borders.extend([BEGIN, now]);
        borders.sort_unstable();
        borders.dedup();
        for by in [By::Program, By::Group("unit")] {
            let mut sum = 0;
            for (n, &from) in borders.iter().enumerate() {
                for &to in borders[n + 1..].iter().take(3) {
                    let [summed, whole] = [&files.summed, &files.whole].map(|path| ask(path, from, to, by));
                    assert_eq!(amounts(&summed), amounts(&whole), "seed {seed}: {from} to {to} by {by:?}");
                    assert_eq!(summed.microjoules(), summed.measured_microjoules());
                    for (summed, whole) in summed.consumers.iter().zip(&whole.consumers) {
                        assert!(summed.processes <= whole.processes, "{summed:?} {whole:?}");
                    }
                }
                if let Some(&next) = borders.get(n + 1) {
                    sum += ask(&files.summed, from, next, by).microjoules();
                }
            }
            assert_eq!(sum, ask(&files.summed, BEGIN, now, by).microjoules(), "parts sum to the whole");
            assert!(sum > 0);
        }
    }
}

#[test]
fn short_processes_leave_nothing_behind_but_their_programs() {
    let (files, mut rng) = (files(), Rng::with_seed(7));
    let mut world = World::new(&[config(&files.summed, 300, HOUR)], BEGIN);
    while world.second < BEGIN + 4 * HOUR {
        (0..20).for_each(|_| world.spawn("cc", true));
        world.tick(&mut rng);
    }
    let started = world.started - BEGIN;
    assert!(started > 10_000);
    let series = one(&files.summed, "SELECT count(*) FROM series");
    let alive = 2 * world.processes.len() + 6;
    let recent = one(&files.summed, "SELECT count(DISTINCT series_id) FROM points");
    assert!(
        series <= recent + i64::try_from(alive).unwrap(),
        "{series} rows for {recent} series with points"
    );
    assert!(one(&files.summed, "SELECT count(*) FROM subjects") <= 20);
    // From the whole hour before the oldest points, all of them are known.
    let report = ask(&files.summed, BEGIN, world.second, By::Program);
    let processes: u64 = report.consumers.iter().map(|row| row.processes).sum();
    assert!(processes <= started && processes > started / 2, "{processes} of {started}");
}

#[test]
fn a_border_within_a_sum_moves_to_its_begin_and_the_report_says_so() {
    let (files, mut rng) = (files(), Rng::with_seed(3));
    let mut world = World::new(&[config(&files.summed, 600, HOUR)], BEGIN);
    while world.second < BEGIN + 6 * HOUR {
        world.tick(&mut rng);
    }
    let reader = Reader::open(&files.summed).unwrap();
    let asked =
        Span { from: (BEGIN + HOUR + 17) * SECOND, to: (BEGIN + 5 * HOUR + 30 * MINUTE + 1) * SECOND };
    let report = reader.energy(asked, By::Program, None).unwrap();
    let (from, to) = (BEGIN + HOUR, BEGIN + 5 * HOUR + 30 * MINUTE);
    assert_eq!(report.span, Span { from: from * SECOND, to: to * SECOND });
    assert_eq!(amounts(&report), amounts(&ask(&files.summed, from, to, By::Program)));
    let extent = reader.extent().unwrap().unwrap();
    assert_eq!((extent.from, extent.to), (BEGIN * SECOND, world.second * SECOND));
}

#[test]
fn what_is_too_old_is_deleted_and_the_next_point_counts_from_there() {
    let (files, mut rng) = (files(), Rng::with_seed(5));
    let config = SqliteConfig { max_age: Duration::from_secs(2 * HOUR), ..config(&files.summed, 600, HOUR) };
    let mut world = World::new(&[config], BEGIN);
    while world.second < BEGIN + 8 * HOUR {
        world.tick(&mut rng);
    }
    let first = one(&files.summed, "SELECT min(end_unix_s - seconds) FROM sums").unsigned_abs();
    assert!(first >= world.second - 3 * HOUR - MINUTE, "{} s", world.second - first);
    let report = ask(&files.summed, BEGIN, world.second, By::Program);
    assert!(report.microjoules() < world.meter.steps + world.board.steps);
    assert_eq!(report.microjoules(), report.measured_microjoules());
}

/// Another agent that opens the database removes series without points, also those that still live.
#[test]
fn a_series_whose_row_another_agent_removed_goes_on_where_it_was() {
    let (files, mut rng) = (files(), Rng::with_seed(9));
    let configs = [config(&files.summed, 120, HOUR)];
    let mut world = World::new(&configs, BEGIN);
    world.spawn("daemon", false);
    let mut daemon = world.processes.pop().unwrap();
    let write = |world: &mut World, daemon: &mut Process, steps: u64| {
        daemon.energy.steps += steps;
        let points = [(daemon.energy.id, daemon.energy.steps)];
        let batch = world.rig.batch(Window::new(at(world.second - 1), at(world.second)), &points);
        world.pass(batch);
    };
    world.tick(&mut rng);
    write(&mut world, &mut daemon, 1_000);
    while world.second < BEGIN + HOUR {
        world.tick(&mut rng);
    }
    let rows = "SELECT count(*) FROM series WHERE attributes LIKE '%daemon%'";
    assert_eq!(one(&files.summed, rows), 1);
    let _other = World::new(&configs, world.second);
    assert_eq!(one(&files.summed, rows), 0);
    world.tick(&mut rng);
    write(&mut world, &mut daemon, 234);
    let report = ask(&files.summed, BEGIN, world.second, By::Program);
    let row = report.consumers.iter().find(|row| row.id == "daemon").unwrap();
    assert_eq!(row.microjoules, 1_234);
    assert_eq!(one(&files.summed, rows), 1);
}

/// The columns of each table.
fn tables(path: &Path) -> Vec<String> {
    let db = Connection::open(path).unwrap();
    let sql = "SELECT m.name || ': ' || group_concat(c.name || ' ' || c.type || c.\"notnull\" || c.pk, ', ') \
               FROM sqlite_schema AS m JOIN pragma_table_info(m.name) AS c \
               WHERE m.name NOT LIKE 'sqlite_%' GROUP BY m.name ORDER BY m.name";
    let mut tables = db.prepare(sql).unwrap();
    tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// As the release before wrote it.
fn version_1(path: &Path) {
    let db = Connection::open(path).unwrap();
    db.execute_batch(include_str!("schema_1.sql")).unwrap();
    db.execute_batch(
        "PRAGMA application_id = 0x57617474; PRAGMA user_version = 1; PRAGMA journal_mode = wal;
         CREATE VIEW energy AS SELECT * FROM points JOIN series ON series.id = points.series_id;
         INSERT INTO series VALUES
             (1, 'hw.energy', 'J', 'counter', 1e-6, 0, 'package', '0', 'package-0', 'measured',
                 NULL, NULL, NULL, '{\"hw.id\":\"package-0\"}'),
             (2, 'wattrace.consumer.energy', 'J', 'counter', 1e-6, 0, 'package', '0', 'package-0', 'measured',
                 'process', '77', 5, '{\"process.executable.name\":\"make\"}'),
             (3, 'wattrace.consumer.energy', 'J', 'counter', 1e-6, 0, 'package', '0', 'package-0', 'measured',
                 'idle', '', 0, '{}');",
    )
    .unwrap();
    db.execute_batch("BEGIN").unwrap();
    let mut insert = db.prepare("INSERT INTO points VALUES (?1, ?2, ?3, NULL)").unwrap();
    for second in 1..=7200_i64 {
        let time = (i64::try_from(BEGIN).unwrap() + second) * 1_000_000_000;
        for (series, steps) in [(1, 5), (2, 2), (3, 3)] {
            insert.execute([time, series, second * steps]).unwrap();
        }
    }
    db.execute_batch("COMMIT").unwrap();
}

#[test]
fn a_database_of_the_release_before_is_read_and_migrated_with_all_its_joules() {
    let files = files();
    version_1(&files.whole);
    let (from, to) = (BEGIN + 60, BEGIN + 7140);
    let before = ask(&files.whole, from, to, By::Program);
    assert_eq!(before.measured_microjoules(), 7080 * 5);
    let of_make = |report: &EnergyReport| (report.consumers[0].id.clone(), report.consumers[0].microjoules);
    assert_eq!(of_make(&before), ("make".into(), 7080 * 2));

    let config = config(&files.whole, 1800, FOREVER);
    let mut world = World::new(std::slice::from_ref(&config), BEGIN + 7200);
    drop(World::new(&[SqliteConfig { path: files.summed.clone(), ..config }], BEGIN));
    assert_eq!(tables(&files.whole), tables(&files.summed));
    assert_eq!(one(&files.whole, "SELECT count(*) FROM measurements"), 3 * 7200);
    let mut rng = Rng::with_seed(1);
    (0..100).for_each(|_| world.tick(&mut rng));
    assert!(one(&files.whole, "SELECT count(*) FROM points") < 3 * 3000);
    let after = ask(&files.whole, from, to, By::Program);
    assert_eq!((amounts(&after), of_make(&after)), (amounts(&before), of_make(&before)));
}
