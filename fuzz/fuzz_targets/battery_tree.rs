//! A tree of power supplies.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wattrace_fuzz::Tree;

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

fuzz_target!(|bytes: &[u8]| {
    let tree = Tree::of(bytes, &FILES);
    _ = wattrace_battery::fuzzing::look(tree.root());
});
