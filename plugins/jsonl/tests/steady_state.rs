//! In steady state a point costs no allocation. That holds for the csv output too: both are built on
//! `wattrace-text-output`.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic: that is how tests fail")]

use std::time::Duration;

use wattrace_api::testing::{Allocations, Rig};
use wattrace_api::{Resource, Timestamp, Window, metric};
use wattrace_jsonl::{Jsonl, JsonlConfig};

#[global_allocator]
static ALLOCATIONS: Allocations = Allocations;

#[test]
fn a_thousand_points_of_known_series_allocate_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.jsonl");
    let mut rig = Rig::new();
    rig.start::<Jsonl>(JsonlConfig { path, flush_interval: Duration::ZERO, ..JsonlConfig::default() })
        .unwrap();
    let mut points: Vec<_> =
        (0..999).map(|n| (rig.series(&metric::HW_ENERGY, Resource::package(n)), u64::MAX)).collect();
    let residual = rig.series(&metric::DOMAIN_RESIDUAL, Resource::package(0));
    points.push((residual, 0.1_f64.to_bits()));
    let batch = rig.batch(Window::new(Timestamp(0), Timestamp(5)), &points);

    let batch = rig.pass(batch).unwrap();
    let before = Allocations::of_this_thread();
    rig.pass(batch).unwrap();
    assert_eq!(Allocations::of_this_thread() - before, 0);
    assert!(before > 1000, "the counter counts");
}
