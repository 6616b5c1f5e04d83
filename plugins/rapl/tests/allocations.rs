//! In steady state a tick allocates nothing.

use std::time::Duration;

use wattrace_api::testing::{Allocations, Rig};
use wattrace_api::{Batch, Tick, Timestamp};
use wattrace_rapl::{Interface, Rapl, RaplConfig};
use wattrace_rapl_simulator::{Tree, Zone};

#[global_allocator]
static ALLOCATIONS: Allocations = Allocations;

#[test]
fn a_tick_allocates_nothing() {
    let root = tempfile::tempdir().unwrap();
    let names = ["package-0", "core", "dram"];
    // The package wraps at every third tick.
    let zones = names.iter().enumerate().map(|(n, name)| {
        let directory = if n == 0 { "intel-rapl:0".to_owned() } else { format!("intel-rapl:0:{n}") };
        Zone::new(&directory, name, 10.0).range(if n == 0 { 29_999_999 } else { 99_999_999_999 })
    });
    let tree = Tree::create(root.path(), zones.collect()).unwrap();
    let mut rig = Rig::new();
    let sysfs_root = root.path().to_str().unwrap().to_owned();
    rig.start::<Rapl>(RaplConfig { sysfs_root, interface: Interface::Powercap, ..RaplConfig::default() })
        .unwrap();
    let mut batch = Batch::default();
    let mut points = 0;
    for second in 1..=100 {
        tree.write(Duration::from_secs(second)).unwrap();
        rig.clock.set(Timestamp(second * 1_000_000_000));
        batch.clear();
        let before = Allocations::of_this_thread();
        let tick = Tick::at(rig.clock.now());
        rig.sources[0].1.poll(&tick, &mut batch).unwrap();
        // Before the first wrap the batch's columns grow, and at it the series of the anomaly opens.
        if second > 3 {
            assert_eq!(Allocations::of_this_thread(), before, "tick {second}");
            points += batch.len();
        }
    }
    assert_eq!(points, 97 * 3 + 32);
}
