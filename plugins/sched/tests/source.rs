//! Tests the source on the running kernel: what is read early is emitted with the next tick. Needs root, as
//! `kernel.rs` does.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic: that is how tests fail"
)]

mod support;

use std::collections::HashSet;
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::time::{Duration, Instant};

use support::{is_root, pin_to};
use wattrace_api::{Batch, Clock, Registry, Source as _, Tick, TickCause};
use wattrace_sched::{SchedConfig, SchedSource};

/// Whether the source wants a poll within `timeout`.
fn wants_poll(source: &SchedSource, timeout: Duration) -> bool {
    let fd = source.wakeup().expect("the source has a wake-up descriptor").as_raw_fd();
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: `poll` is valid for the call.
    unsafe { libc::poll(&mut poll, 1, timeout.as_millis() as i32) == 1 }
}

fn poll(source: &mut SchedSource, cause: TickCause) -> Batch {
    let mut batch = Batch::default();
    let tick = Tick { cause, ..Tick::at(Clock::system().now()) };
    source.poll(&tick, &mut batch).unwrap();
    batch
}

#[test]
fn a_page_that_fills_up_is_read_early_and_emitted_with_the_next_tick() {
    if !is_root() {
        return;
    }
    // The smallest page has 256 entries.
    let config = SchedConfig { ledger_mib: 0, ..SchedConfig::default() };
    let registry = Registry::new();
    let mut source = SchedSource::open(&config, registry.clone(), Clock::system()).unwrap();
    pin_to(0);
    let (mut spawned, mut early) = (HashSet::new(), 0);
    for _ in 0..600 {
        let mut child = Command::new("/bin/true").spawn().unwrap();
        spawned.insert(child.id().to_string());
        child.wait().unwrap();
        if wants_poll(&source, Duration::ZERO) {
            early += 1;
            assert!(poll(&mut source, TickCause::Wakeup).is_empty(), "an early read emits nothing");
        }
    }
    assert!(early >= 2, "600 processes need at least two early reads");
    let batch = poll(&mut source, TickCause::Timer);
    let mut overflows = None;
    for (id, value) in batch.segments().flat_map(|segment| segment.points().collect::<Vec<_>>()) {
        let series = registry.get(id).unwrap();
        if let Some(consumer) = &series.consumer {
            spawned.remove(&*consumer.identity().id);
        } else if series.attributes.iter().any(|a| a.value == "ledger_overflow".into()) {
            overflows = Some(value.steps());
        }
    }
    assert!(spawned.is_empty(), "{} of 600 processes have no time", spawned.len());
    assert_eq!(overflows, Some(0), "every page was read before it was full");
}

#[test]
fn what_the_programs_cost_is_measured_in_a_burst_and_emitted_with_the_next_tick() {
    if !is_root() {
        return;
    }
    let registry = Registry::new();
    let mut source = SchedSource::open(&SchedConfig::default(), registry.clone(), Clock::system()).unwrap();
    let measures = |batch: &Batch| {
        let mut points = batch.segments().flat_map(|segment| segment.points().collect::<Vec<_>>());
        points.any(|(id, _)| &*registry.get(id).unwrap().metric.name == "wattrace.agent.probe.cost")
    };
    assert!(!measures(&poll(&mut source, TickCause::Timer)), "the burst has just begun");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        assert!(wants_poll(&source, Duration::from_secs(5)), "the burst ends after 100 ms");
        assert!(poll(&mut source, TickCause::Wakeup).is_empty());
        if measures(&poll(&mut source, TickCause::Timer)) {
            return;
        }
    }
    panic!("no cost was emitted within 5 s");
}
