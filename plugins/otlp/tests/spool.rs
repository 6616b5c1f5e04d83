//! The spool end to end: long outages lose no joule. The ignored test is `cargo xtask chaos --volume`: an
//! outage with as many points as two hours of 1,000 processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "that is how tests fail")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use common::PATIENCE;
use common::machine::Machine;
use common::server::{Answer, Server};

/// A sender that starts at the time `now`.
fn machine(now: u64, server: &Server, file: &Path) -> Machine {
    Machine::start_at(now, server, "http/protobuf", |config| {
        config.spool = file.to_owned();
        // The clock runs fast while the test waits.
        config.spool_max_age = Duration::from_secs(1_000_000_000);
    })
}

/// An outage of so many seconds, in each of which one process in a hundred ends and another begins. In the
/// middle the agent is replaced by another one.
fn outage(processes: usize, seconds: u64, patience: Duration) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("spool.db");
    let server = Server::start();
    server.answers(|_| Some(Answer::page(503)));
    let (begun, mut truth, mut ledger) = (Instant::now(), 0.0, BTreeMap::new());
    let mut machine = machine(1, &server, &file);
    for part in 0..2 {
        if part == 1 {
            let why = machine.fixture.flush().unwrap_err().to_string();
            assert!(why.contains("they wait in"), "{why}");
            assert_eq!(machine.fixture.losses(), []);
            truth += machine.truth;
            ledger = machine.ledger();
            let now = machine.fixture.rig.clock.now().0;
            // It gives the file up.
            drop(machine);
            machine = self::machine(now, &server, &file);
        }
        machine.fork(processes);
        for _ in 0..seconds / 2 {
            machine.second(processes / 100);
            machine.fork(processes / 100);
        }
    }
    machine.truth += truth;
    let points = processes as u64 * seconds;
    let bytes = file.metadata().unwrap().len();
    let spooled = begun.elapsed();
    server.answers(|_| None);
    machine.recover_within(&server, patience);
    assert_eq!(machine.fixture.losses(), []);
    ledger.extend(machine.ledger());
    let processes = server.seen.lock().unwrap().processes();
    assert!(processes == ledger, "{} of {} processes have arrived", processes.len(), ledger.len());
    println!(
        "{points} points of {} processes: {} B each in the spool; spooled in {:.1} s; {:.0} J arrived in \
         {:.1} s, those of each process to the microjoule",
        ledger.len(),
        bytes / points,
        spooled.as_secs_f64(),
        machine.truth,
        (begun.elapsed() - spooled).as_secs_f64(),
    );
}

#[test]
fn a_long_outage_with_a_restart_loses_no_joule() {
    outage(100, 400, PATIENCE);
}

#[test]
#[ignore = "takes minutes: cargo xtask chaos --volume"]
fn two_hours_of_a_thousand_processes_lose_no_joule() {
    // A part of it, for a try: as many processes for a shorter time.
    let seconds = std::env::var("WATTRACE_CHAOS_SECONDS").map_or(7200, |seconds| seconds.parse().unwrap());
    outage(1000, seconds, Duration::from_secs(300));
}
