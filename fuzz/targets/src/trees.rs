//! Trees of small files.

use std::hint::black_box;

use wattrace_context::Frequency;
use wattrace_context::fuzzing::{frequencies, temperature_sensors};
use wattrace_sched::fuzzing::last_cpu;
use wattrace_topology::Topology;

use crate::tree::Tree;

/// Power supplies.
pub fn battery(bytes: &[u8]) {
    const FILES: [&str; 14] = [
        "class/power_supply/AC/type",
        "class/power_supply/AC/online",
        "class/power_supply/BAT0/type",
        "class/power_supply/BAT0/scope",
        "class/power_supply/BAT0/present",
        "class/power_supply/BAT0/status",
        "class/power_supply/BAT0/power_now",
        "class/power_supply/BAT0/voltage_now",
        "class/power_supply/BAT0/current_now",
        "class/power_supply/BAT0/energy_now",
        "class/power_supply/BAT0/charge_now",
        "class/power_supply/BAT1/type",
        "class/power_supply/BAT1/status",
        "class/power_supply/BAT1/energy_now",
    ];
    _ = black_box(wattrace_battery::fuzzing::read_state(Tree::of("battery", bytes, &FILES).root()));
}

/// CPU frequencies and thermometers, and a list of CPUs.
pub fn context(bytes: &[u8]) {
    const FILES: [&str; 14] = [
        "devices/system/cpu/cpu0/topology/physical_package_id",
        "devices/system/cpu/cpu0/topology/thread_siblings_list",
        "devices/system/cpu/cpu0/cpufreq/scaling_cur_freq",
        "devices/system/cpu/cpu1/topology/physical_package_id",
        "devices/system/cpu/cpu1/topology/thread_siblings_list",
        "devices/system/cpu/cpu1/cpufreq/scaling_cur_freq",
        "class/hwmon/hwmon0/name",
        "class/hwmon/hwmon0/temp1_input",
        "class/hwmon/hwmon0/temp1_label",
        "class/hwmon/hwmon0/temp2_input",
        "class/hwmon/hwmon0/temp2_label",
        "class/hwmon/hwmon1/name",
        "class/hwmon/hwmon1/temp1_input",
        "class/thermal/thermal_zone0/type",
    ];
    let tree = Tree::of("context", bytes, &FILES);
    let mut ids: Vec<_> = temperature_sensors(tree.root()).into_iter().map(|gauge| gauge.id).collect();
    ids.sort_unstable();
    let differ = ids.windows(2).all(|two| two[0] != two[1]);
    assert!(differ && ids.iter().all(|id| !id.is_empty()), "thermometers have distinct ids: {ids:?}");
    for of in [Frequency::Package, Frequency::Core] {
        _ = black_box(frequencies(tree.root(), of));
    }
    if let Ok(list) = std::str::from_utf8(bytes) {
        _ = black_box(wattrace_topology::parse_list(list));
    }
}

/// GPUs: the first byte decides the driver.
pub fn drm(bytes: &[u8]) {
    const FILES: [&str; 12] = [
        "class/drm/card0/device/power/runtime_status",
        "class/drm/card0/device/hwmon/hwmon0/name",
        "class/drm/card0/device/hwmon/hwmon0/energy1_input",
        "class/drm/card0/device/hwmon/hwmon0/energy1_label",
        "class/drm/card0/device/hwmon/hwmon0/energy2_input",
        "class/drm/card0/device/hwmon/hwmon0/energy2_label",
        "class/drm/card0/device/hwmon/hwmon0/power1_average",
        "class/drm/card0/device/hwmon/hwmon0/power1_input",
        "class/drm/card0/device/hwmon/hwmon0/in1_label",
        "class/drm/card0/device/hwmon/hwmon1/name",
        "class/drm/card0/device/hwmon/hwmon1/energy1_input",
        "class/drm/card0/device/hwmon/hwmon1/energy01_input",
    ];
    let Some((first, bytes)) = bytes.split_first() else { return };
    let driver = match first {
        b'a' => "drivers/amdgpu",
        b'i' => "drivers/i915",
        _ => "drivers/xe",
    };
    let tree = Tree::of("drm", bytes, &FILES);
    tree.link("class/drm/card0/device/driver", driver);
    wattrace_drm::fuzzing::cards(tree.root());
}

/// The files of hwmon and iio.
pub fn hwmon(bytes: &[u8]) {
    const FILES: [&str; 14] = [
        "class/hwmon/hwmon0/name",
        "class/hwmon/hwmon0/power1_input",
        "class/hwmon/hwmon0/power1_average",
        "class/hwmon/hwmon0/power1_label",
        "class/hwmon/hwmon0/energy2_input",
        "class/hwmon/hwmon0/energy2_label",
        "class/hwmon/hwmon0/in1_input",
        "class/hwmon/hwmon0/in1_label",
        "class/hwmon/hwmon0/curr1_input",
        "class/hwmon/hwmon1/name",
        "class/hwmon/hwmon1/power1_oem_info",
        "bus/iio/devices/iio:device0/name",
        "bus/iio/devices/iio:device0/in_power0_input",
        "bus/iio/devices/iio:device0/rail_name_0",
    ];
    let mut domains = wattrace_hwmon::fuzzing::domains(Tree::of("hwmon", bytes, &FILES).root());
    domains.sort_unstable();
    let differ = domains.windows(2).all(|two| two[0] != two[1]);
    assert!(differ && domains.iter().all(|name| !name.is_empty()), "meters have distinct names: {domains:?}");
}

/// Which CPU is in which package and core: lists of CPUs.
pub fn topology(bytes: &[u8]) {
    const FILES: [&str; 5] = [
        "devices/system/cpu/possible",
        "devices/system/cpu/cpu0/topology/physical_package_id",
        "devices/system/cpu/cpu0/topology/thread_siblings_list",
        "devices/system/cpu/cpu1/topology/physical_package_id",
        "devices/system/cpu/cpu1/topology/thread_siblings_list",
    ];
    let possible = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    // Each CPU that there may be costs looking for its files.
    if str::from_utf8(possible).ok().and_then(last_cpu).is_some_and(|last| last >= 16) {
        return;
    }
    let tree = Tree::of("topology", bytes, &FILES);
    let Ok(topology) = Topology::read(tree.root()) else { return };
    let cpus = topology.package_of.len();
    assert_eq!((topology.core_of.len(), topology.sibling_of.len()), (cpus, cpus));
    assert!(topology.sibling_of.iter().flatten().all(|&cpu| cpu < cpus), "a sibling is one of the CPUs");
    _ = black_box((topology.packages(), topology.cores()));
}
