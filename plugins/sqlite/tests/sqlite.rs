//! The database as a reader sees it: while the agent writes, after the agent was killed, and after another
//! program wrote to it.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic: that is how tests fail")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use wattrace_api::testing::Rig;
use wattrace_api::{
    Attribute, Batch, Consumer, ConsumerKind, Domain, ErrorKind, Follows, Identity, Metric, Origin, Plugin,
    Resource, ResourceKind, SeriesId, SeriesSpec, Timestamp, Window, metric,
};
use wattrace_sqlite::{Sqlite, SqliteConfig};

fn started(path: &Path, commit_interval: Duration) -> Rig {
    let mut rig = Rig::new();
    rig.start::<Sqlite>(SqliteConfig { path: path.into(), commit_interval, ..SqliteConfig::default() })
        .unwrap();
    rig
}

fn batch_at(rig: &Rig, time: u64, points: &[(SeriesId, u64)]) -> Batch {
    rig.batch(Window::new(Timestamp(time - 1), Timestamp(time)), points)
}

fn one<T: rusqlite::types::FromSql>(db: &Connection, sql: &str) -> T {
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

fn points(db: &Connection) -> i64 {
    one(db, "SELECT count(*) FROM points")
}

fn process(rig: &Rig, name: &str) -> (Arc<Consumer>, SeriesId) {
    let identity = Identity { kind: ConsumerKind::Process, id: "1234".into(), start_unix_nano: 77 };
    let consumer =
        Arc::new(Consumer::new(identity, None, vec![Attribute::new("process.executable.name", name)]));
    let domain = Domain {
        name: "package-0".into(),
        origin: Origin::Simulated,
        follows: Follows::Package(0),
        within: None,
        idle_microwatts: None,
    };
    let series = rig.registry.open(SeriesSpec {
        metric: rig.registry.metric(&metric::CONSUMER_ENERGY).unwrap(),
        resource: Resource::package(0),
        domain: Some(Arc::new(domain)),
        consumer: Some(consumer.clone()),
        attributes: Vec::new(),
        start: Timestamp(40),
    });
    (consumer, series)
}

#[test]
fn the_view_of_energy_has_each_consumers_last_joules_and_half_width() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.db");
    let mut rig = started(&path, Duration::ZERO);
    let (consumer, energy) = process(&rig, "make");
    let domain = rig.registry.get(energy).unwrap().domain.clone();
    let metric = rig.registry.metric(&metric::CONSUMER_ENERGY_UNCERTAINTY).unwrap();
    let half_width = rig.registry.open(SeriesSpec {
        domain,
        consumer: Some(consumer),
        ..SeriesSpec::new(metric, Resource::package(0), Timestamp(40))
    });
    rig.pass(batch_at(&rig, 50, &[(energy, 1_000_000), (half_width, 0.5_f64.to_bits())])).unwrap();
    rig.pass(batch_at(&rig, 60, &[(energy, 12_345_678), (half_width, 0.25_f64.to_bits())])).unwrap();
    let db = Connection::open(&path).unwrap();
    let shown =
        "SELECT group_concat(consumer_id || ' ' || domain || ' ' || joules || ' ' || half_width) FROM energy";
    assert_eq!(one::<String>(&db, shown), "1234 package-0 12.345678 0.25");
    // A database from before the view gets it.
    db.execute_batch("DELETE FROM points WHERE value IS NOT NULL; DROP VIEW energy").unwrap();
    drop(started(&path, Duration::ZERO));
    assert_eq!(one::<Option<f64>>(&db, "SELECT half_width FROM energy"), None);
    assert_eq!(one::<f64>(&db, "SELECT joules FROM energy"), 12.345678);
}

#[test]
fn a_reader_sees_what_is_committed_while_the_writer_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.db");
    let mut rig = started(&path, Duration::from_secs(1));
    let energy = rig.series(&metric::HW_ENERGY, Resource::package(0));
    let reader = Connection::open(&path).unwrap();
    rig.clock.set(Timestamp(999_999_999));
    rig.pass(batch_at(&rig, 10, &[(energy, 1)])).unwrap();
    assert_eq!(points(&reader), 0);
    rig.clock.set(Timestamp(1_000_000_000));
    rig.pass(batch_at(&rig, 20, &[(energy, 2)])).unwrap();
    assert_eq!(points(&reader), 2);
    rig.pass(batch_at(&rig, 30, &[(energy, 3)])).unwrap();
    assert_eq!(points(&reader), 2);
    rig.outputs[0].1.flush().unwrap();
    assert_eq!(points(&reader), 3);
}

#[test]
fn values_are_exact_and_the_view_gives_them_in_their_unit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.db");
    let mut rig = started(&path, Duration::ZERO);
    let (_, energy) = process(&rig, "burn");
    let residual = rig.series(&metric::DOMAIN_RESIDUAL, Resource::package(1));
    let exact = (1 << 53) + 1;
    let nan = f64::NAN.to_bits();
    rig.pass(batch_at(&rig, 50, &[(energy, 123_456), (residual, 0.5_f64.to_bits())])).unwrap();
    rig.pass(batch_at(&rig, 60, &[(energy, exact), (residual, nan)])).unwrap();

    let db = Connection::open(&path).unwrap();
    let of = |columns: &str, time: u64, metric: &str| {
        format!("SELECT {columns} FROM measurements WHERE time_unix_nano = {time} AND metric = '{metric}'")
    };
    assert_eq!(one::<f64>(&db, &of("value", 50, "wattrace.consumer.energy")), 0.123456);
    assert_eq!(one::<i64>(&db, &of("steps", 60, "wattrace.consumer.energy")), exact as i64);
    assert_eq!(one::<f64>(&db, &of("value", 50, "wattrace.domain.residual")), 0.5);
    assert_eq!(one::<Option<f64>>(&db, &of("value", 60, "wattrace.domain.residual")), None);
    let subject = "concat_ws(' ', unit, kind, start_unix_nano, resource_type, resource_id, domain, origin, \
                   consumer_type, consumer_id, consumer_start_unix_nano)";
    assert_eq!(
        one::<String>(&db, &of(subject, 50, "wattrace.consumer.energy")),
        "J counter 40 package 0 package-0 simulated process 1234 77"
    );
    assert_eq!(one::<Option<String>>(&db, &of("consumer_type", 50, "wattrace.domain.residual")), None);
}

#[test]
fn an_exec_updates_the_row_and_a_reused_series_id_gets_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.db");
    let mut rig = started(&path, Duration::from_secs(1));
    let (shell, id) = process(&rig, "sh");
    rig.pass(batch_at(&rig, 10, &[(id, 1)])).unwrap();
    rig.outputs[0].1.flush().unwrap();
    shell.update(vec![Attribute::new("process.executable.name", "l\"s")]);
    let mut last = batch_at(&rig, 20, &[(id, 2)]);
    last.end(id);
    rig.pass(last).unwrap();
    rig.registry.release(&[id]);
    let (_, reused) = process(&rig, "cat");
    assert_eq!(reused, id);
    rig.pass(batch_at(&rig, 30, &[(reused, 3)])).unwrap();
    rig.outputs[0].1.flush().unwrap();

    let db = Connection::open(&path).unwrap();
    let names = "SELECT group_concat( \
                 attributes ->> '$.\"process.executable.name\"' || '@' || time_unix_nano, ' ') \
                 FROM measurements";
    assert_eq!(one::<String>(&db, names), "l\"s@10 l\"s@20 cat@30");
    let attributes: String = one(&db, "SELECT attributes FROM series WHERE id = 1");
    let attributes: serde_json::Value = serde_json::from_str(&attributes).unwrap();
    assert_eq!(attributes["wattrace.origin"], "simulated");
}

#[test]
fn while_another_writer_has_the_lock_batches_are_refused_and_then_written_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.db");
    let mut rig = started(&path, Duration::ZERO);
    let energy = rig.series(&metric::HW_ENERGY, Resource::package(0));
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // The first is taken into memory; the second is not.
    rig.pass(batch_at(&rig, 10, &[(energy, 1)])).unwrap();
    let second = batch_at(&rig, 20, &[(energy, 2)]);
    for _ in 0..2 {
        let error = rig.pass(second.clone()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Retry);
        assert!(error.to_string().starts_with("plugins.sqlite.path: "), "{error}");
    }
    other.execute_batch("ROLLBACK").unwrap();
    rig.pass(second).unwrap();
    assert_eq!(one::<String>(&other, "SELECT group_concat(steps, ' ') FROM points"), "1 2");
    assert_eq!(one::<i64>(&other, "SELECT count(*) FROM series"), 1);
}

#[test]
fn a_second_run_adds_to_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.db");
    for run in 1..=2 {
        // Committed as the output is dropped.
        let mut rig = started(&path, Duration::from_secs(3600));
        let energy = rig.series(&metric::HW_ENERGY, Resource::package(0));
        rig.pass(batch_at(&rig, run, &[(energy, run)])).unwrap();
    }
    let db = Connection::open(&path).unwrap();
    assert_eq!(
        one::<String>(&db, "SELECT group_concat(series_id || ':' || steps, ' ') FROM points"),
        "1:1 2:2"
    );
}

#[test]
fn another_database_and_another_version_are_refused_and_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |path: &Path| {
        let config = SqliteConfig { path: path.into(), ..SqliteConfig::default() };
        let error = Rig::new().start::<Sqlite>(config).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fatal);
        error.to_string()
    };
    let newer = dir.path().join("newer.db");
    drop(started(&newer, Duration::ZERO));
    Connection::open(&newer).unwrap().pragma_update(None, "user_version", 3).unwrap();
    let message = refused(&newer);
    assert!(message.contains("has schema version 3") && message.contains("writes version 2"), "{message}");

    let foreign = dir.path().join("foreign.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE notes (entry TEXT)").unwrap();
    let before = std::fs::read(&foreign).unwrap();
    assert!(refused(&foreign).contains("move the file away"));
    assert_eq!(std::fs::read(&foreign).unwrap(), before);

    let text = dir.path().join("text.db");
    std::fs::write(&text, "Some notes, ".repeat(100)).unwrap();
    assert!(refused(&text).contains("file is not a database"));

    let message = refused(Path::new("/nowhere/at/all.db"));
    assert!(message.contains("plugins.sqlite.path: /nowhere/at/all.db"), "{message}");
    assert!(message.contains("`mkdir -p /nowhere/at`"), "{message}");
}

/// The value of each point with its process, of the database `name`.
fn values(dir: &Path, name: &str) -> String {
    let db = Connection::open(dir.join(name)).unwrap();
    assert_eq!(one::<String>(&db, "PRAGMA integrity_check"), "ok");
    let sql = "SELECT ifnull(group_concat(steps || coalesce(consumer_type, ''), ' '), '') \
               FROM (SELECT * FROM measurements ORDER BY time_unix_nano)";
    one(&db, sql)
}

#[test]
fn a_database_that_is_renamed_deleted_or_emptied_is_left_and_another_one_begun() {
    for (command, kept, begun) in [
        ("mv w.db old.db", "1 2process", "3 4process"),
        ("cp w.db seen.db; mv w.db old.db; touch w.db", "1 2process", "3 4process"),
        ("cat w.db w.db-wal >/dev/null; rm w.db", "", "3 4process"),
        ("truncate -s 0 w.db", "", "3 4process"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut rig = started(&dir.path().join("w.db"), Duration::ZERO);
        let (meter, (_, process)) =
            (rig.series(&metric::HW_ENERGY, Resource::package(0)), process(&rig, "a"));
        rig.pass(batch_at(&rig, 10, &[(meter, 1)])).unwrap();
        rig.pass(batch_at(&rig, 20, &[(process, 2)])).unwrap();
        let status = Command::new("sh").args(["-ec", command]).current_dir(dir.path()).status().unwrap();
        assert!(status.success(), "{command}");
        rig.pass(batch_at(&rig, 30, &[(meter, 3)])).unwrap();
        rig.pass(batch_at(&rig, 40, &[(process, 4)])).unwrap();
        assert_eq!(values(dir.path(), "w.db"), begun, "{command}");
        if !kept.is_empty() {
            // Its write-ahead log does not bear its name any more.
            assert_eq!(values(dir.path(), "old.db"), kept, "{command}");
        }
    }
}

#[test]
fn points_wait_while_the_path_of_a_renamed_database_cannot_be_opened() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("data")).unwrap();
    let mut rig = started(&dir.path().join("data/w.db"), Duration::ZERO);
    let meter = rig.series(&metric::HW_ENERGY, Resource::package(0));
    rig.pass(batch_at(&rig, 10, &[(meter, 1)])).unwrap();
    std::fs::rename(dir.path().join("data"), dir.path().join("away")).unwrap();
    rig.pass(batch_at(&rig, 20, &[(meter, 2)])).unwrap();
    let third = batch_at(&rig, 30, &[(meter, 3)]);
    let error = rig.pass(third.clone()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Retry);
    assert!(error.to_string().contains("`mkdir -p "), "{error}");
    assert_eq!((rig.outputs[0].1.trouble(), rig.outputs[0].1.undelivered()), (Some(&*error.to_string()), 1));
    std::fs::create_dir(dir.path().join("data")).unwrap();
    rig.pass(third).unwrap();
    assert_eq!(values(dir.path(), "away/w.db"), "1");
    assert_eq!(values(dir.path(), "data/w.db"), "2 3");
}

#[test]
fn a_database_is_readable_by_its_owner_and_group_alone_and_never_behind_a_link_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.db");
    let mut rig = started(&path, Duration::ZERO);
    let meter = rig.series(&metric::HW_ENERGY, Resource::package(0));
    rig.pass(batch_at(&rig, 10, &[(meter, 1)])).unwrap();
    for name in ["w.db", "w.db-wal", "w.db-shm"] {
        let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640, "{name}");
    }
    let shared = dir.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o1777)).unwrap();
    std::os::unix::fs::symlink(dir.path().join("target"), shared.join("w.db")).unwrap();
    let config = SqliteConfig { path: shared.join("w.db"), ..SqliteConfig::default() };
    let error = Rig::new().start::<Sqlite>(config).unwrap_err().to_string();
    assert!(error.contains("symbolic link"), "{error}");
    assert!(!dir.path().join("target").exists());
}

/// The first query of the user guide's section on sqlite.
fn first_query_of_the_guide() -> Option<String> {
    let guide = std::fs::read_to_string("../../docs/user-guide.md").ok()?;
    let section = guide.split_once("\n### sqlite\n")?.1;
    Some(section.split_once("```sql\n")?.1.split_once("```")?.0.to_owned())
}

#[test]
fn the_guides_first_query_counts_a_process_and_its_joules_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.db");
    let mut rig = started(&path, Duration::ZERO);
    let domain = |name: &str, origin, within: Option<&str>| {
        let (name, within) = (name.to_owned(), within.map(str::to_owned));
        Arc::new(Domain { name, origin, follows: Follows::Cpus, within, idle_microwatts: None })
    };
    let domains = [
        (domain("package-0", Origin::Measured, None), Resource::package(0)),
        (domain("dram-0", Origin::Estimated, None), Resource { kind: ResourceKind::Dram, id: "0".into() }),
        (domain("core-0", Origin::Measured, Some("package-0")), Resource::package(0)),
        (domain("psys", Origin::Measured, None), Resource { kind: ResourceKind::Psys, id: "0".into() }),
    ];
    for (domain, resource) in &domains {
        let open = |metric: &Metric, consumer| {
            let metric = rig.registry.metric(metric).unwrap();
            let (resource, domain, attributes) = (resource.clone(), Some(domain.clone()), Vec::new());
            let start = Timestamp(40);
            rig.registry.open(SeriesSpec { metric, resource, domain, consumer, attributes, start })
        };
        let mut points = vec![(open(&metric::HW_ENERGY, None), 100_000_000)];
        for (pid, name, joules) in [(1_u64, "rustc", 20), (2, "rustc", 10), (3, "bash", 1)] {
            let id = pid.to_string().into();
            let identity = Identity { kind: ConsumerKind::Process, id, start_unix_nano: pid };
            let attributes = vec![Attribute::new("process.executable.name", name)];
            let process = Arc::new(Consumer::new(identity, None, attributes));
            points.push((open(&metric::CONSUMER_ENERGY, Some(process)), joules * 1_000_000));
        }
        for time in [50, 60] {
            rig.pass(batch_at(&rig, time, &points)).unwrap();
        }
    }
    let db = Connection::open(&path).unwrap();
    let mut query = db.prepare(&first_query_of_the_guide().unwrap()).unwrap();
    assert_eq!(query.column_count(), 4);
    let row = |row: &rusqlite::Row<'_>| -> rusqlite::Result<(String, i64, f64, String)> {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
    };
    let rows: Vec<_> = query.query_map([], row).unwrap().map(Result::unwrap).collect();
    let expected = [("rustc", 2, 60.0), ("bash", 1, 2.0)];
    assert_eq!(rows.iter().map(|r| (&*r.0, r.1, r.2)).collect::<Vec<_>>(), expected);
    assert!(rows.iter().all(|r| r.3.contains("measured") && r.3.contains("estimated")), "{rows:?}");
}

const KILLED: &str = "WATTRACE_TEST_DATABASE";

/// Not a test: the next test runs it as a process and kills it.
#[test]
fn a_writer_to_be_killed() {
    let Some(path) = std::env::var_os(KILLED) else { return };
    let mut rig = started(Path::new(&path), Duration::ZERO);
    let (a, b) = (rig.series(&metric::HW_ENERGY, Resource::package(0)), process(&rig, "burn").1);
    for time in 1.. {
        rig.pass(batch_at(&rig, time, &[(a, time), (b, time)])).unwrap();
    }
}

#[test]
fn a_killed_writer_leaves_whole_commits_and_a_database_that_opens() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.db");
    drop(started(&path, Duration::ZERO));
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_writer_to_be_killed"])
        .env(KILLED, &path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let db = Connection::open(&path).unwrap();
    while points(&db) < 100 {
        assert!(writer.try_wait().unwrap().is_none(), "the writer ended by itself");
    }
    writer.kill().unwrap();
    writer.wait().unwrap();
    drop(db);

    drop(started(&path, Duration::ZERO));
    let db = Connection::open(&path).unwrap();
    assert_eq!(one::<String>(&db, "PRAGMA integrity_check"), "ok");
    let incomplete =
        "SELECT count(*) FROM (SELECT 1 FROM points GROUP BY time_unix_nano HAVING count(*) <> 2)";
    assert_eq!(one::<i64>(&db, incomplete), 0);
    let last: i64 = one(&db, "SELECT max(time_unix_nano) FROM points");
    assert_eq!(points(&db), 2 * last, "every commit up to the last is there");
}

#[test]
fn every_key_has_a_default() {
    let config: SqliteConfig = toml::from_str("").unwrap();
    let defaults = "path = \"wattrace.db\"\ncommit_interval = \"1s\"\nkeep_points = \"1h\"\n\
                    keep_minutes = \"7days\"\nmax_age = \"1year\"\nmax_size = \"1 GiB\"\n";
    assert_eq!(toml::to_string(&config).unwrap(), defaults);
    assert!(!Sqlite::on_by_default());
}
