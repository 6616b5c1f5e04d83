//! A tree of hwmon's and iio's files.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wattrace_fuzz::Tree;

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

fuzz_target!(|bytes: &[u8]| {
    let tree = Tree::of(bytes, &FILES);
    _ = wattrace_hwmon::fuzzing::find(tree.root());
});
