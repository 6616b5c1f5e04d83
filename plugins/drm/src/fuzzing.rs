//! Entries for fuzzers: the functions that parse what the kernel writes. Not part of the plugin's interface.
//! Each must return soon and without a panic, whatever it is given.

use std::hint::black_box;
use std::path::Path;

use wattrace_api::Timestamp;
use wattrace_meter::sysfs::NumberFile;

use crate::cards;
use crate::clients::{Clients, Taken};
use crate::dies;
use crate::fdinfo::parse;

/// Parses fdinfo of several readings, a second apart. A line of two dashes separates the readings.
pub fn fdinfo(text: &str) {
    let (mut clients, mut cycles) = (Clients::default(), Vec::new());
    for (second, reading) in text.split("--\n").enumerate() {
        clients.begin();
        for descriptor in reading.split("\n\n") {
            let Some(found) = parse(descriptor, &mut cycles) else {
                continue;
            };
            assert!(found.nanos.is_none() || cycles.is_empty(), "time is used instead of cycles");
            let taken = clients.take(1, &found, &cycles, Timestamp(second as u64 * 1_000_000_000));
            assert!(
                second > 0 || matches!(taken, Taken::Used(0) | Taken::Again),
                "nothing was used before the first reading"
            );
            _ = black_box((found.memory.bytes(false), found.memory.bytes(true)));
        }
        clients.end();
    }
}

/// Finds the GPUs of a tree, and reads their sensors.
pub fn cards(sysfs_root: &Path) {
    _ = black_box(dies::by_meter(cards::find(sysfs_root)));
    for card in cards::find(sysfs_root) {
        assert!(!card.id.is_empty() && !card.driver.is_empty());
        _ = black_box((card.is_suspended(), card.is_of("", "amdgpu"), card.unprofiled()));
        for sensor in &card.sensors {
            _ = black_box(NumberFile::new(sensor.path.clone()).read());
        }
        let mut parts: Vec<_> = card.sensors.iter().map(|sensor| &sensor.part).collect();
        parts.sort_unstable();
        assert!(parts.windows(2).all(|two| two[0] != two[1]), "each part is metered once: {parts:?}");
    }
}
