//! In steady state a point costs no allocation: that of the csv output's too, for what they share is `wattrace-lines`.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic: that is how tests fail")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use wattrace_api::testing::Rig;
use wattrace_api::{Resource, Timestamp, Window, metric};
use wattrace_jsonl::{Jsonl, JsonlConfig};

/// The system's allocator, counting what this thread asks of it.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: everything is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that is ending may have no counter any more.
        let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
        // SAFETY: as the caller promised for this call.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised for this call.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
        // SAFETY: as the caller promised for this call.
        unsafe { System.realloc(at, layout, size) }
    }
}

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
    let before = ALLOCATIONS.get();
    rig.pass(batch).unwrap();
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert!(before > 1000, "the counter counts");
}
