//! Kills of the agent while its collector is away: afterwards the collector knows what the agent's own ledger
//! says, to the microjoule. The ignored test is `cargo xtask chaos`: the same at random, many times.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "that is how tests fail")]

#[allow(dead_code, reason = "the tests use a part of it each")]
mod chaos;

use std::process::Command;
use std::time::{Duration, Instant};

use chaos::ledger::{Difference, Ledger, compare, newest};
use chaos::server::{Collector, MOODS, Mood};
use chaos::{PATIENCE, Site};

const SECOND: u64 = 1_000_000_000;
/// What an agent that is killed may lose: what it measured since it last sent or spooled, which is its
/// interval of 100 ms and its timeout of 1 s, on a busy machine.
const TAIL: u64 = 4 * SECOND;

/// The same where the outage begins again and again.
const CHAOS_TAIL: u64 = 5 * SECOND / 2;

/// A stream whose last value is older than what a kill may lose.
fn has_ended_before_the_tail(ledger: &Ledger) -> bool {
    let covered = newest(ledger).saturating_sub(TAIL + SECOND / 2);
    let ended = |values: &std::collections::BTreeMap<u64, u64>| values.keys().next_back() < Some(&covered);
    ledger.iter().filter(|(key, values)| key.consumer == "process" && ended(values)).count() >= 3
}

/// Waits until the collector lacks nothing of the runs but their last `tail` nanoseconds.
fn arrives(collector: &Collector, runs: &[Ledger], tail: u64) {
    let begun = Instant::now();
    loop {
        let seen = collector.seen.lock().unwrap().newest.clone();
        let missing: Vec<_> = runs.iter().flat_map(|run| compare(run, &seen, tail).missing).collect();
        if missing.is_empty() {
            return;
        }
        let some = &missing[..missing.len().min(3)];
        assert!(begun.elapsed() < PATIENCE, "{} streams are missing: {some:#?}", missing.len());
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn difference(collector: &Collector, run: &Ledger, tail: u64) -> Difference {
    compare(run, &collector.seen.lock().unwrap().newest, tail)
}

fn survives(protocol: &'static str, away: Mood) {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start();
    let mut site = Site::new(dir.path(), &collector.endpoint, protocol);
    collector.set(away);
    let mut runs = Vec::new();
    for _ in 0..2 {
        let mut agent = site.start();
        agent.until(has_ended_before_the_tail);
        runs.push(agent.kill());
    }
    assert!(collector.seen.lock().unwrap().newest.is_empty(), "nothing has arrived so far");
    collector.set(Mood::Well);
    let agent = site.start();
    arrives(&collector, &runs, TAIL);
    let last = agent.stop();
    // What that one has left.
    let agent = site.start();
    arrives(&collector, std::slice::from_ref(&last), 0);
    agent.stop();
    for run in &runs {
        let difference = difference(&collector, run, TAIL);
        assert!(difference.complete >= 3 && difference.wrong.is_empty(), "{difference:#?}");
    }
    let difference = difference(&collector, &last, 0);
    let is_whole = difference.cut_steps == 0 && difference.missing.is_empty() && difference.wrong.is_empty();
    assert!(is_whole && difference.complete > 0, "{difference:#?}\n{}", site.log());
}

#[test]
fn what_waits_survives_kills_over_http() {
    survives("http/protobuf", Mood::Status(503, "away"));
}

#[test]
fn what_waits_survives_kills_over_grpc() {
    survives("grpc", Mood::Grpc(14));
}

/// A number from the environment.
fn parameter(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
#[ignore = "takes minutes: cargo xtask chaos"]
fn chaos() {
    let kills = parameter("WATTRACE_CHAOS_KILLS", 20);
    let seed = parameter("WATTRACE_CHAOS_SEED", fastrand::u64(..));
    let mut random = fastrand::Rng::with_seed(seed);
    println!("{kills} kills, WATTRACE_CHAOS_SEED={seed}");
    let mut failures = 0;
    for protocol in ["http/protobuf", "grpc"] {
        failures += kills_at_random(protocol, kills / 2, &mut random);
    }
    failures += cuts_at_random(kills / 2, &mut random);
    failures += full_disk();
    assert_eq!(failures, 0, "streams that are missing or wrong");
}

/// Changes the collector's mood for about `time`.
fn misbehave(collector: &Collector, time: Duration, random: &mut fastrand::Rng) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        let is_well = random.u8(..3) == 0;
        collector.set(if is_well { Mood::Well } else { MOODS[random.usize(..MOODS.len())] });
        std::thread::sleep(Duration::from_millis(random.u64(20..300)));
    }
}

fn kills_at_random(protocol: &'static str, kills: u64, random: &mut fastrand::Rng) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start();
    let mut site = Site::new(dir.path(), &collector.endpoint, protocol);
    let mut runs = Vec::new();
    for _ in 0..kills {
        let agent = site.start();
        misbehave(&collector, Duration::from_millis(random.u64(500..6000)), random);
        runs.push(agent.kill());
    }
    collector.set(Mood::Well);
    let agent = site.start();
    arrives(&collector, &runs, CHAOS_TAIL);
    let last = agent.stop();
    // What that one has left.
    let agent = site.start();
    arrives(&collector, std::slice::from_ref(&last), 0);
    agent.stop();
    let mut total = Difference::default();
    let tails = runs.iter().map(|_| CHAOS_TAIL).chain([0]);
    for (run, tail) in runs.iter().chain([&last]).zip(tails) {
        add(&mut total, difference(&collector, run, tail));
    }
    report(&format!("kill -9, {protocol}"), kills, &collector, &total)
}

/// The file and its log are cut at random bytes between kills: what is lost is lost, but nothing is wrong,
/// and agents go on.
fn cuts_at_random(cuts: u64, random: &mut fastrand::Rng) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start();
    let mut site = Site::new(dir.path(), &collector.endpoint, "http/protobuf");
    let mut runs = Vec::new();
    for _ in 0..cuts {
        let agent = site.start();
        misbehave(&collector, Duration::from_millis(random.u64(200..2000)), random);
        runs.push(agent.kill());
        let name = if random.bool() { "otlp-metrics.db" } else { "otlp-metrics.db-wal" };
        let Ok(file) = std::fs::File::options().write(true).open(site.spool().with_file_name(name)) else {
            continue;
        };
        let length = file.metadata().unwrap().len();
        file.set_len(random.u64(..=length)).unwrap();
    }
    collector.set(Mood::Well);
    let mut agent = site.start();
    agent.until(has_ended_before_the_tail);
    let last = agent.stop();
    let agent = site.start();
    arrives(&collector, std::slice::from_ref(&last), 0);
    agent.stop();
    let mut total = Difference::default();
    runs.iter().for_each(|run| add(&mut total, difference(&collector, run, u64::MAX)));
    add(&mut total, difference(&collector, &last, 0));
    report("kill -9 and a cut of a file", cuts, &collector, &total)
}

/// A disk that is full while the collector is away: what is spooled waits in memory, and nothing
/// is lost.
fn full_disk() -> usize {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let mount = |command: &mut Command| command.arg(&state).status().is_ok_and(|status| status.success());
    if !mount(Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])) {
        println!("full disk: skipped, since mounting a small file system needs root");
        return 0;
    }
    let collector = Collector::start();
    let mut site = Site::new(dir.path(), &collector.endpoint, "http/protobuf");
    collector.set(Mood::Status(503, "away"));
    let mut agent = site.start();
    agent.until(has_ended_before_the_tail);
    agent.until(|_| site.log().contains("the disk is full"));
    collector.set(Mood::Well);
    agent.until(|ledger| difference(&collector, ledger, SECOND).missing.is_empty());
    let last = agent.stop();
    assert!(mount(&mut Command::new("umount")), "the small file system is still in use");
    report("full disk", 1, &collector, &difference(&collector, &last, 0))
}

fn add(total: &mut Difference, more: Difference) {
    total.complete += more.complete;
    total.cut += more.cut;
    total.cut_steps += more.cut_steps;
    total.missing.extend(more.missing);
    total.wrong.extend(more.wrong);
}

/// Prints a row. Returns the number of failures.
fn report(what: &str, times: u64, collector: &Collector, total: &Difference) -> usize {
    let seen = collector.seen.lock().unwrap();
    println!(
        "{what:28} {times:5} times: {} requests taken, {} disturbed; streams: {} complete, {} cut by a kill \
         ({:.6} J), {} missing, {} wrong",
        seen.taken,
        seen.disturbed,
        total.complete,
        total.cut,
        total.cut_steps as f64 / 1e6,
        total.missing.len(),
        total.wrong.len(),
    );
    total.missing.iter().chain(&total.wrong).take(5).for_each(|line| println!("  {line}"));
    total.missing.len() + total.wrong.len()
}
