//! Memory while the collector is away and very many short processes come and go: their last values are kept
//! in a limited number of bytes, what more they use is in `other`, and no joule is missing in the end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "that is how tests fail")]

mod common;

use std::time::{Duration, Instant};

use common::server::{Answer, Server};
use common::{Fixture, J, PATIENCE, described_process};
use wattrace_otlp::OtlpConfig;

const SECOND: Duration = Duration::from_secs(1);

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn very_many_short_processes_during_an_outage_take_little_memory_and_lose_no_joule() {
    const ROUNDS: u64 = 60;
    const EACH: i64 = 2_000;
    let server = Server::start();
    server.answers(|_| Some(Answer::page(503)));
    let config = OtlpConfig {
        endpoint: server.endpoint.clone(),
        protocol: "http/protobuf".to_owned(),
        interval: SECOND,
        // So that all of them get series of their own.
        top: 5_000,
        ..OtlpConfig::default()
    };
    let mut fixture = Fixture::new(config, 1);
    // Keeps the sum of the others open.
    let keeper = fixture.energy(Some(described_process(1)));
    let (before, mut peak, mut truth) = (resident(), 0, 0);
    for round in 1..=ROUNDS {
        let first = round as i64 * EACH;
        let ids: Vec<_> =
            (first..first + EACH).map(|pid| fixture.energy(Some(described_process(pid)))).collect();
        let mut points: Vec<_> = ids.iter().map(|&id| (id, J)).collect();
        points.push((keeper, round * J));
        truth += EACH as u64 + 1;
        fixture.write(SECOND, &points, &[]);
        fixture.write(SECOND, &[], &ids);
        peak = peak.max(resident());
    }
    let grown = peak.saturating_sub(before) / 1_000_000;
    println!("{} processes during an outage: {grown} MB more, at most", ROUNDS as i64 * EACH);
    assert!(grown < 64, "{grown} MB for {} processes", ROUNDS as i64 * EACH);
    server.answers(|_| None);
    let begun = Instant::now();
    while server.seen.lock().unwrap().joules() != truth as f64 {
        let joules = server.seen.lock().unwrap().joules();
        assert!(begun.elapsed() < PATIENCE, "{joules} J arrived of {truth}");
        fixture.write_nothing(SECOND);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(fixture.losses(), []);
}
