//! Points in a real PostgreSQL, over TLS: what is read back equals what the agent wrote into a file beside,
//! though the server is killed meanwhile, and each row is there once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic: that is how tests fail"
)]

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use support::feed;
use support::services::{Running, eventually, free_port, has};
use support::{consumer, interrupt, is_root, metric, read_jsonl, wattrace};
use wattrace_rapl_simulator::{Tree, Zone};

const PASSWORD: &str = "open sesame";
/// The server refuses to run as root.
const NOBODY: u32 = 65_534;

/// A program of the newest server that is installed: Debian keeps them out of PATH.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin").join(name)).filter(|path| path.exists());
    found.max().unwrap_or_else(|| name.into())
}

/// A command that runs as nobody if this runs as root.
fn as_nobody(name: &str) -> Command {
    let mut command = Command::new(program(name));
    // SAFETY: the call has no preconditions.
    if unsafe { libc::geteuid() } == 0 {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.env_clear().env("PATH", "/usr/bin:/bin").stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A directory that the server owns, with a database cluster and a certificate for `localhost`.
fn make_cluster(dir: &Path) {
    std::fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).unwrap();
    let home = dir.join("postgres");
    std::fs::create_dir(&home).unwrap();
    std::fs::write(home.join("password"), PASSWORD).unwrap();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .arg("-keyout")
        .arg(home.join("key.pem"))
        .arg("-out")
        .arg(home.join("certificate.pem"))
        .stderr(Stdio::null())
        .status();
    assert!(made.unwrap().success());
    // SAFETY: the call has no preconditions.
    if unsafe { libc::geteuid() } == 0 {
        for path in [home.clone(), home.join("password"), home.join("key.pem")] {
            chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
    let mut initdb = as_nobody("initdb");
    initdb.arg("-D").arg(home.join("data")).arg("--pwfile").arg(home.join("password"));
    initdb.args(["-U", "wattrace", "-A", "scram-sha-256", "--no-locale", "-E", "UTF8", "--no-sync"]);
    assert!(initdb.status().unwrap().success());
}

fn start_postgres(dir: &Path, port: u16) -> Running {
    let home = dir.join("postgres");
    // What a killed server leaves.
    let _ = std::fs::remove_file(home.join("data/postmaster.pid"));
    let mut server = as_nobody("postgres");
    server.arg("-D").arg(home.join("data")).args([
        "-p",
        &port.to_string(),
        "-c",
        "listen_addresses=localhost",
    ]);
    server.args(["-c", "unix_socket_directories=", "-c", "ssl=on"]);
    server.arg("-c").arg(format!("ssl_cert_file={}", home.join("certificate.pem").display()));
    server.arg("-c").arg(format!("ssl_key_file={}", home.join("key.pem").display()));
    // It ends with its parent's death only if asked to: it is killed by its group.
    let server = Running(server.process_group(0).spawn().unwrap());
    eventually("PostgreSQL", || query(port, "postgres", "SELECT 1"));
    server
}

/// The rows of a query as JSON; `None` if it fails.
fn query(port: u16, database: &str, query: &str) -> Option<Value> {
    let output = Command::new(program("psql"))
        .args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "wattrace", "-h", "localhost"])
        .args(["-p", &port.to_string(), "-d", database])
        .args(["-c", &format!("SELECT coalesce(json_agg(row_to_json(r)), '[]') FROM ({query}) AS r")])
        .env("PGPASSWORD", PASSWORD)
        .output()
        .unwrap();
    output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
}

fn execute(port: u16, database: &str, statement: &str) {
    let status = Command::new(program("psql"))
        .args(["-X", "-q", "-U", "wattrace", "-h", "localhost", "-p", &port.to_string(), "-d", database])
        .args(["-c", statement])
        .env("PGPASSWORD", PASSWORD)
        .status();
    assert!(status.unwrap().success(), "{statement}");
}

/// An agent that feeds the database `energy`, and a file.
fn start_agent(dir: &Path, port: u16, plugins: &str, more: &[&String]) -> Running {
    let url = format!("postgresql://wattrace@localhost:{port}/energy?sslmode=verify-full");
    let authority = dir.join("postgres/certificate.pem");
    let agent = wattrace()
        .args(["run", "--plugins", plugins])
        .args(feed::arguments(dir))
        .args(["--set", &format!("plugins.jsonl.path={}", dir.join("all.jsonl").display())])
        .args(["--set", &format!("plugins.postgres.url={url}")])
        .args(["--set", &format!("plugins.postgres.authority={}", authority.display())])
        .args(["--set", "plugins.postgres.commit_interval=100ms"])
        .args(more.iter().flat_map(|set| ["--set", set.as_str()]))
        .env("PGPASSWORD", PASSWORD)
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(dir.join("agent.log")).unwrap())
        .spawn()
        .unwrap();
    Running(agent)
}

/// Kills the server with all its processes, as a power cut does.
fn kill_all(server: &mut Running) {
    // SAFETY: the call has no preconditions; the group is that of the server alone.
    assert_eq!(unsafe { libc::kill(-(server.0.id() as libc::pid_t), libc::SIGKILL) }, 0);
    server.kill();
}

fn millionths(value: &Value) -> i64 {
    (value.as_f64().unwrap() * 1e6).round() as i64
}

/// Joules of all processes by program in the file, as the last point of each series says, in microjoules.
fn energy_in(points: &[Value]) -> BTreeMap<String, i64> {
    let mut last = BTreeMap::new();
    for point in points.iter().filter(|p| metric(p) == "wattrace.consumer.energy" && consumer(p) == "process")
    {
        let name = point["attributes"]["process.executable.name"].as_str().unwrap_or_default().to_owned();
        let series = (point["consumer"].to_string(), point["attributes"]["wattrace.domain"].to_string());
        last.insert(series, (name, millionths(&point["value"])));
    }
    let mut sums = BTreeMap::new();
    last.into_values().for_each(|(name, joules)| *sums.entry(name).or_insert(0) += joules);
    sums
}

/// Values in millionths by metric, text and time in microseconds.
type Points = BTreeMap<(String, String, u64), i64>;

/// The points of the feed among those of a file.
fn fed_points(points: &[Value]) -> Points {
    let of_feed = points.iter().filter(|point| metric(point).starts_with("fed."));
    of_feed
        .map(|p| {
            let micros = p["time_unix_nano"].as_u64().unwrap() / 1000;
            let key = (p["metric"].to_string(), p["attributes"]["fed.text"].to_string(), micros);
            (key, millionths(&p["value"]))
        })
        .collect()
}

/// Those in the database, of the rows that fit.
fn stored_points(port: u16, condition: &str) -> Points {
    let sql = format!(
        "SELECT metric, attributes -> 'fed.text' AS text, (extract(epoch FROM time) * 1000000)::bigint AS t, \
         value FROM wattrace.measurements WHERE metric LIKE 'fed.%' AND {condition}"
    );
    let rows = query(port, "energy", &sql).unwrap();
    let row = |row: &Value| {
        let key = (row["metric"].to_string(), row["text"].to_string(), row["t"].as_u64().unwrap());
        (key, millionths(&row["value"]))
    };
    rows.as_array().unwrap().iter().map(row).collect()
}

#[test]
fn postgres_has_every_point_once_though_it_was_killed_meanwhile() {
    if !(is_root() && has(program("initdb").to_str().unwrap(), "postgresql") && has("openssl", "openssl")) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    make_cluster(dir.path());
    let port = free_port();
    let mut server = start_postgres(dir.path(), port);
    let _meter = Tree::create(dir.path(), vec![Zone::new("intel-rapl:0", "package-0", 50.0)])
        .unwrap()
        .run(Duration::from_millis(1));
    let rapl = ["sched.interval=200ms", "rapl.interval=200ms"].map(|set| format!("plugins.{set}"));
    let root = format!("plugins.rapl.sysfs_root={}", dir.path().display());
    let settings = [&rapl[0], &rapl[1], &root];
    let mut agent = start_agent(dir.path(), port, "sched,rapl,attribution,exec,jsonl,postgres", &settings);
    let log = || std::fs::read_to_string(dir.path().join("agent.log")).unwrap();
    // Points wait until somebody creates the database.
    eventually("the missing database in the log", || log().contains("create the database").then_some(()));
    execute(port, "postgres", "CREATE DATABASE energy");
    let count = || query(port, "energy", "SELECT count(*) AS n FROM wattrace.points")?[0]["n"].as_u64();
    eventually("the first points", || count().filter(|n| *n > 0));
    kill_all(&mut server);
    let fed = || feed::points_in(&dir.path().join("all.jsonl"));
    let before = fed();
    eventually("points during the outage", || (fed() > before + 50).then_some(()));
    let mut server = start_postgres(dir.path(), port);
    eventually("the end of the feed", || (fed() >= feed::POINTS).then_some(()));
    interrupt(&agent.0);
    assert!(agent.0.wait().unwrap().success(), "{}", log());
    assert!(!log().contains(PASSWORD));

    let points = read_jsonl(&dir.path().join("all.jsonl"));
    let read = |sql: &str| query(port, "energy", sql).unwrap();
    assert_eq!(count(), Some(points.len() as u64), "{}", log());
    assert_eq!(read("SELECT count(*) AS n FROM wattrace.runs")[0]["n"], 1);

    let written = fed_points(&points);
    assert_eq!(written.len(), feed::POINTS);
    assert_eq!(stored_points(port, "true"), written);

    let rows = read("SELECT coalesce(program, '') AS program, joules FROM wattrace.energy_by_program");
    let by_program: BTreeMap<_, _> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["program"].as_str().unwrap().to_owned(), millionths(&row["joules"])))
        .collect();
    assert!(!by_program.is_empty());
    assert_eq!(by_program, energy_in(&points));
    kill_all(&mut server);
}

/// An agent is killed while the database is away. The next one writes what waits; and once more, from a copy
/// of the spool, as one does that was killed between a commit and the removal of what it committed.
#[test]
fn points_of_an_agent_that_was_killed_during_an_outage_are_written_once() {
    if !(has(program("initdb").to_str().unwrap(), "postgresql") && has("openssl", "openssl")) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    make_cluster(dir.path());
    let port = free_port();
    let mut server = start_postgres(dir.path(), port);
    execute(port, "postgres", "CREATE DATABASE energy");
    let spool = dir.path().join("spool.db");
    let settings = format!("plugins.postgres.spool={}", spool.display());
    let agent = || start_agent(dir.path(), port, "exec,jsonl,postgres", &[&settings]);
    let mut first = agent();
    let points =
        || query(port, "energy", "SELECT FROM wattrace.points LIMIT 1").filter(|rows| *rows != json!([]));
    eventually("the first points", points);
    kill_all(&mut server);
    let file = dir.path().join("all.jsonl");
    let fed = || feed::points_in(&file);
    eventually("the end of the feed", || (fed() >= feed::POINTS).then_some(()));
    let log = || std::fs::read_to_string(dir.path().join("agent.log")).unwrap();
    eventually("the outage in the log", || log().contains("takes no points").then_some(()));
    first.kill();
    let written = fed_points(&read_jsonl(&file));
    // Of the last second some points may not have been in the spool.
    let last = written.keys().map(|(_, _, time)| *time).max().unwrap();
    let is_due = |time: u64| time < last - 1_000_000;
    std::fs::remove_file(&file).unwrap();
    let copies = [".db", ".db-wal"]
        .map(|end| (spool.with_extension(&end[1..]), dir.path().join(format!("copy{end}"))));
    copies.iter().for_each(|(from, to)| drop(std::fs::copy(from, to)));

    let mut server = start_postgres(dir.path(), port);
    let mut counts = Vec::new();
    for round in 1..=2 {
        let mut next = agent();
        // Its own come last.
        let own = format!("SELECT FROM wattrace.runs OFFSET {round}");
        eventually("the next run", || query(port, "energy", &own).filter(|rows| *rows != json!([])));
        eventually("the end of the feed", || (fed() >= feed::POINTS).then_some(()));
        interrupt(&next.0);
        assert!(next.0.wait().unwrap().success(), "{}", log());
        let stored = stored_points(port, "series_id >> 32 = 1");
        assert!(stored.iter().all(|(key, value)| written.get(key) == Some(value)), "round {round}");
        let missing = written.keys().filter(|key| is_due(key.2) && !stored.contains_key(*key));
        assert_eq!(missing.count(), 0, "round {round}: {}", log());
        let rows =
            query(port, "energy", "SELECT count(*) AS n FROM wattrace.points WHERE series_id >> 32 = 1");
        counts.push(rows.unwrap()[0]["n"].as_u64().unwrap());
        std::fs::remove_file(&file).unwrap();
        copies.iter().for_each(|(from, to)| drop(std::fs::copy(to, from)));
    }
    assert_eq!(counts[0], counts[1], "each row is there once");
    kill_all(&mut server);
}

#[test]
fn rows_that_a_constraint_refuses_are_reported_and_those_after_them_arrive() {
    if !(has(program("initdb").to_str().unwrap(), "postgresql") && has("openssl", "openssl")) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    make_cluster(dir.path());
    let port = free_port();
    let mut server = start_postgres(dir.path(), port);
    execute(port, "postgres", "CREATE DATABASE energy");
    // A first agent makes the tables. The second one's first commit, with its series, is refused.
    let mut agent = start_agent(dir.path(), port, "exec,jsonl,postgres", &[]);
    eventually("the tables", || query(port, "energy", "SELECT FROM wattrace.points LIMIT 1"));
    interrupt(&agent.0);
    assert!(agent.0.wait().unwrap().success());
    let refused = feed::microjoules(0, 1);
    let check = format!("ALTER TABLE wattrace.points ADD CHECK (steps <> {refused}) NOT VALID");
    execute(port, "energy", &check);
    let mut agent = start_agent(dir.path(), port, "exec,jsonl,postgres", &[]);
    let log = || std::fs::read_to_string(dir.path().join("agent.log")).unwrap();
    eventually("the refusal in the log", || log().contains("violates check constraint").then_some(()));
    let number = "(attributes ->> 'fed.number')::bigint";
    let last = format!(
        "SELECT DISTINCT {number} FROM wattrace.measurements \
         WHERE metric = 'fed.energy' AND {number} > 0 AND steps = ({number} + 1) * 1000003 * {}",
        feed::ROUNDS
    );
    let texts = feed::TEXTS.len() - 1;
    let all =
        || query(port, "energy", &last).filter(|rows| rows.as_array().is_some_and(|r| r.len() == texts));
    eventually("the last points with their series", all);
    interrupt(&agent.0);
    assert!(agent.0.wait().unwrap().success(), "{}", log());
    kill_all(&mut server);
}

#[test]
fn a_password_in_the_url_is_not_shown() {
    let url = "plugins.postgres.url=postgresql://me:hush@db.example/energy";
    let shown = wattrace().args(["config", "show", "--set", url]).output().unwrap();
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(text.contains("…@db.example/energy") && !text.contains("hush"), "{text}");
}
