//! A tree of CPU frequencies and thermometers, and a list of CPUs.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wattrace_context::Frequency;
use wattrace_fuzz::Tree;

const FILES: [&str; 9] = [
    "devices/system/cpu/cpu0/topology/physical_package_id",
    "devices/system/cpu/cpu0/topology/package_cpus_list",
    "devices/system/cpu/cpufreq/policy0/scaling_cur_freq",
    "devices/system/cpu/cpufreq/policy0/affected_cpus",
    "devices/system/cpu/cpufreq/policy0/related_cpus",
    "class/hwmon/hwmon0/name",
    "class/hwmon/hwmon0/temp1_input",
    "class/hwmon/hwmon0/temp1_label",
    "class/thermal/thermal_zone0/type",
];

fuzz_target!(|bytes: &[u8]| {
    let tree = Tree::of(bytes, &FILES);
    _ = wattrace_context::fuzzing::thermometers(tree.root());
    for of in [Frequency::Package, Frequency::Core] {
        _ = wattrace_context::fuzzing::clocks(tree.root(), of);
    }
    if let Ok(list) = std::str::from_utf8(bytes) {
        _ = wattrace_context::fuzzing::lowest(list);
    }
});
