//! How long `wattrace query` takes over millions of points: a database of an hour of 1,000 processes at 1 s,
//! asked for its last minutes and for all of it; beside the least that any answer costs, SQLite's own sum
//! over the same points. Rounds alternate, and the best counts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark may panic")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use wattrace_api::testing::Rig;
use wattrace_api::{
    Attribute, Consumer, ConsumerKind, Domain, Follows, Identity, Origin, Resource, SeriesSpec, Timestamp,
    Window, metric,
};
use wattrace_sqlite::{By, Reader, Span, Sqlite, SqliteConfig};

const SECOND: u64 = 1_000_000_000;
const BEGIN: u64 = 1_800_000_000;
const PROCESSES: u64 = 1000;
const SECONDS: u64 = 3600;
const ROUNDS: usize = 3;

/// Writes the database.
fn write(path: &Path) {
    let mut rig = Rig::new();
    rig.clock.set(Timestamp(BEGIN * SECOND));
    // Every point stays.
    let config = SqliteConfig {
        path: path.into(),
        keep_points: Duration::from_secs(100 * 86_400),
        ..SqliteConfig::default()
    };
    rig.start::<Sqlite>(config).unwrap();
    let (name, origin) = ("package-0".to_owned(), Origin::Simulated);
    let domain =
        Arc::new(Domain { name, origin, follows: Follows::Package(0), within: None, idle_microwatts: None });
    let energy = rig.registry.metric(&metric::CONSUMER_ENERGY).unwrap();
    let open = |pid: u64| {
        let identity = Identity {
            kind: ConsumerKind::Process,
            id: pid.to_string().into(),
            start_unix_nano: BEGIN * SECOND,
        };
        let name = Attribute::new("process.executable.name", format!("program-{}", pid % 50));
        let consumer = Some(Arc::new(Consumer::new(identity, None, vec![name])));
        let spec = SeriesSpec::new(energy, Resource::package(0), Timestamp(BEGIN * SECOND));
        rig.registry.open(SeriesSpec { domain: Some(domain.clone()), consumer, ..spec })
    };
    let ids: Vec<_> = (1..=PROCESSES).map(open).collect();
    for second in 1..=SECONDS {
        let end = Timestamp((BEGIN + second) * SECOND);
        rig.clock.set(end);
        let points: Vec<_> = ids.iter().zip(1..).map(|(&id, watts)| (id, second * watts * 1000)).collect();
        let batch = rig.batch(Window::new(Timestamp(end.0 - SECOND), end), &points);
        rig.pass(batch).unwrap();
    }
    rig.outputs[0].1.flush().unwrap();
}

fn timed<T>(act: impl Fn() -> T) -> (Duration, T) {
    let begun = Instant::now();
    let found = act();
    (begun.elapsed(), found)
}

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("energy.db");
    let (written, ()) = timed(|| write(&path));
    let points = PROCESSES * SECONDS;
    let bytes = path.metadata().unwrap().len();
    println!(
        "{points} points: written in {:.1} s ({:.1} µs each), {} B each",
        written.as_secs_f64(),
        written.as_secs_f64() * 1e6 / points as f64,
        bytes / points
    );
    let raw = || {
        let connection = Connection::open(&path).unwrap();
        let sql = "SELECT sum(steps) FROM points";
        connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let ask = |seconds: u64, by: By| {
        let end = (BEGIN + SECONDS) * SECOND;
        let span = Span { from: end - seconds * SECOND, to: end };
        let report = Reader::open(&path).unwrap().energy(span, by, None).unwrap();
        let expected = seconds * (1..=PROCESSES).map(|watts| watts * 1000).sum::<u64>();
        assert_eq!(report.microjoules(), expected);
    };
    let mut best = [Duration::MAX; 4];
    for _ in 0..ROUNDS {
        let times = [
            timed(raw).0,
            timed(|| ask(300, By::Program)).0,
            timed(|| ask(SECONDS, By::Program)).0,
            timed(|| ask(SECONDS, By::Process)).0,
        ];
        best.iter_mut().zip(times).for_each(|(best, time)| *best = time.min(*best));
    }
    let names =
        ["SQLite's sum over all points", "the last 5 min by program", "all by program", "all by process"];
    for (name, time) in names.iter().zip(best) {
        println!("  {name:30} {:7.3} s, {:.2} of the sum", time.as_secs_f64(), ratio(time, best[0]));
    }
}

fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}
