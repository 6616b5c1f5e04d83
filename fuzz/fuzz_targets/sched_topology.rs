//! Which CPU is in which package and core: lists of CPUs.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wattrace_fuzz::Tree;
use wattrace_sched::topology::Topology;

const FILES: [&str; 5] = [
    "devices/system/cpu/possible",
    "devices/system/cpu/cpu0/topology/physical_package_id",
    "devices/system/cpu/cpu0/topology/thread_siblings_list",
    "devices/system/cpu/cpu1/topology/physical_package_id",
    "devices/system/cpu/cpu1/topology/thread_siblings_list",
];

fuzz_target!(|bytes: &[u8]| {
    let tree = Tree::of(bytes, &FILES);
    if let Ok(topology) = Topology::read(tree.root()) {
        let cpus = topology.package_of.len();
        assert_eq!((topology.core_of.len(), topology.sibling_of.len()), (cpus, cpus));
        assert!(topology.sibling_of.iter().flatten().all(|&cpu| cpu < cpus), "a sibling is one of the CPUs");
        _ = (topology.packages(), topology.cores());
    }
});
