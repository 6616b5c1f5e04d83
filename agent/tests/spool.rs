//! Kills of the agent while its collector is away or misbehaves: afterwards the collector knows what the
//! agent's own ledger says, to the microjoule. The ignored test is `cargo xtask chaos`: the same many times.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "that is how tests fail")]

#[allow(dead_code, reason = "the tests use a part of it each")]
mod chaos;
#[allow(dead_code, reason = "the tests of the plugin use more of it")]
#[path = "../../plugins/otlp/tests/common/rotel.rs"]
mod rotel;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;

use chaos::campaign::{Campaign, Outcome, Way, arrive, difference};
use chaos::conduct::{Body, Conduct, Mood};
use chaos::ledger::{Due, Key, Run};
use chaos::server::Collector;
use chaos::{Agent, PATIENCE, Site};

const SECOND: u64 = 1_000_000_000;
const AWAY: Conduct = Conduct::Always(Mood::Status(503, Body::Text, false));
const WELL: Conduct = Conduct::Always(Mood::Well);

/// Whether the spool holds the last values of some processes that have ended.
fn has_spooled_ended_ones(agent: &Agent) -> bool {
    let (ledger, Some(spooled)) = (agent.ledger(), agent.spooled()) else { return false };
    let newest = |values: &BTreeMap<u64, u64>| values.iter().next_back().map(|(time, steps)| (*time, *steps));
    let now = ledger.values().filter_map(newest).map(|(time, _)| time).max();
    let is_safe = |&(key, values): &(&Key, &BTreeMap<u64, u64>)| {
        let last = newest(values);
        let has_ended = key.consumer == "process" && last.map(|(time, _)| time + SECOND / 2) < now;
        has_ended && spooled.get(key).map(|value| value.steps) == last.map(|(_, steps)| steps)
    };
    ledger.iter().filter(is_safe).count() >= 3
}

fn survives(protocol: &'static str, away: Conduct) {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(0, None);
    let mut site = Site::new(dir.path(), &collector.endpoint, protocol);
    collector.set(away);
    let mut runs = Vec::new();
    for _ in 0..2 {
        let mut agent = site.start();
        agent.until(has_spooled_ended_ones);
        runs.push(agent.kill());
    }
    assert!(collector.seen().newest.is_empty(), "nothing has arrived so far");
    collector.set(WELL);
    let agent = site.start();
    arrive(&collector, &runs);
    let last = agent.stop();
    // What that one has left.
    let agent = site.start();
    arrive(&collector, std::slice::from_ref(&last));
    agent.stop();
    for run in &runs {
        let difference = difference(&collector, run);
        assert!(difference.complete >= 3 && difference.failures() == 0, "{difference:#?}");
    }
    let difference = difference(&collector, &last);
    assert!(difference.is_whole(), "{difference:#?}\n{}", site.log());
}

#[test]
fn what_waits_survives_kills_over_http() {
    survives("http/protobuf", AWAY);
}

#[test]
fn what_waits_survives_kills_over_grpc() {
    survives("grpc", Conduct::Always(Mood::Grpc(14, false)));
}

#[test]
fn agents_that_are_killed_at_random_lose_nothing_that_waits() {
    let campaigns = [(Way::Tls, 5), (Way::Grpc, 5), (Way::Cuts, 3), (Way::Rotel, 3)];
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let campaigns = campaigns.map(|(way, kills)| Campaign { way, kills, seed });
    assert_eq!(run_all(campaigns.to_vec(), 4), 0, "streams that are missing or wrong");
}

/// Statuses that refuse for good, rejected points and errors that pass, but each request is answered. The
/// collector counts what it refuses, and so does the agent.
#[test]
fn what_a_collector_refuses_is_counted_to_the_point() {
    for protocol in ["http/protobuf", "grpc"] {
        let dir = tempfile::tempdir().unwrap();
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let collector = Collector::start(seed, None);
        let mut site = Site::new(dir.path(), &collector.endpoint, protocol);
        // Whether an answer that comes too late was read is unknown.
        site.settings.push("plugins.otlp.timeout=30s".to_owned());
        collector.set(Conduct::Answers);
        let agent = site.start();
        let begun = Instant::now();
        while collector.seen().refused < 200 {
            assert!(begun.elapsed() < PATIENCE, "{} points refused", collector.seen().refused);
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        collector.set(WELL);
        loop {
            let (losses, refused) = (agent.losses(), collector.seen().refused);
            if losses.values().sum::<u64>() == refused {
                assert!(losses.keys().all(|reason| ["refused", "rejected"].contains(&&**reason)));
                break;
            }
            assert!(begun.elapsed() < 2 * PATIENCE, "{losses:?} for {refused} points\n{}", site.log());
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        let last = agent.stop();
        let agent = site.start();
        arrive(&collector, std::slice::from_ref(&last));
        agent.stop();
        let difference = difference(&collector, &last);
        assert!(difference.is_whole(), "{difference:#?}");
    }
}

/// A number from the environment.
fn parameter(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
#[ignore = "takes minutes: cargo xtask chaos"]
fn chaos() {
    let kills = parameter("WATTRACE_CHAOS_KILLS", 40);
    let seed = parameter("WATTRACE_CHAOS_SEED", fastrand::u64(..));
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let jobs = parameter("WATTRACE_CHAOS_JOBS", 4 * cores);
    println!("{kills} kills in {jobs} jobs, WATTRACE_CHAOS_SEED={seed}");
    let begun = Instant::now();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut campaigns = Vec::new();
    for (way, share) in [(Way::Http, 25), (Way::Grpc, 25), (Way::Tls, 15), (Way::Cuts, 25), (Way::Rotel, 10)]
    {
        let mut left = (kills * share).div_ceil(100);
        while left > 0 {
            let kills = left.min(20);
            campaigns.push(Campaign { way, kills, seed: random.u64(..) });
            left -= kills;
        }
    }
    random.shuffle(&mut campaigns);
    let failures = run_all(campaigns, jobs) + full_disk();
    println!("{:.0} s", begun.elapsed().as_secs_f64());
    assert_eq!(failures, 0, "streams that are missing or wrong");
}

/// Runs so many at a time, and prints what came of them. Returns the number of failures.
fn run_all(campaigns: Vec<Campaign>, jobs: u64) -> usize {
    let (campaigns, outcomes) = (Mutex::new(campaigns), Mutex::new(BTreeMap::<Way, Outcome>::new()));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(campaign) = { campaigns.lock().unwrap().pop() } {
                    let Some(outcome) = campaign.run() else { continue };
                    outcomes.lock().unwrap().entry(campaign.way).or_default().add(outcome);
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().unwrap();
    outcomes.iter().map(|(way, outcome)| report(&format!("{way:?}"), outcome)).sum()
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
    let collector = Collector::start(0, None);
    let mut site = Site::new(dir.path(), &collector.endpoint, "http/protobuf");
    collector.set(AWAY);
    let mut agent = site.start();
    agent.until(|_| site.log().contains("the disk is full"));
    collector.set(WELL);
    // What has been measured so far, in memory or not.
    let so_far = Run { ledger: agent.ledger(), due: Due::All };
    arrive(&collector, std::slice::from_ref(&so_far));
    let last = agent.stop();
    assert!(mount(&mut Command::new("umount")), "the small file system is still in use");
    let streams = difference(&collector, &last);
    let seen = collector.seen();
    report("full disk", &Outcome { kills: 0, taken: seen.taken, disturbed: seen.disturbed, streams })
}

/// Prints a row. Returns the number of failures.
fn report(what: &str, outcome: &Outcome) -> usize {
    let Outcome { kills, taken, disturbed, streams } = outcome;
    println!(
        "{what:10} {kills:5} kills: {taken} requests taken, {disturbed} disturbed; streams: {} complete (of \
         {} the last value was refused), {} cut by a kill ({:.6} J, the longest {:.1} s), {} missing, {} \
         wrong",
        streams.complete,
        streams.refused,
        streams.cut,
        streams.cut_steps as f64 / 1e6,
        streams.cut_nanos as f64 / 1e9,
        streams.missing.len(),
        streams.wrong.len(),
    );
    streams.missing.iter().chain(&streams.wrong).take(5).for_each(|line| println!("  {line}"));
    streams.failures()
}
