//! What reads text and trees that somebody else wrote, for fuzzers to throw bytes at. Nothing here is for
//! use; each function must return, whatever it is given, soon and without a panic.

use std::hint::black_box;
use std::path::Path;

use wattrace_api::Timestamp;
use wattrace_meter::sysfs::NumberFile;

use crate::cards;
use crate::clients::Clients;
use crate::fdinfo::parse;

/// What descriptors tell, look by look, a second apart: the looks are parted by a line of two dashes.
pub fn fdinfo(text: &str) {
    let (mut clients, mut cycles) = (Clients::default(), Vec::new());
    for (second, look) in text.split("--\n").enumerate() {
        clients.begin();
        for descriptor in look.split("\n\n") {
            let Some(found) = parse(descriptor, &mut cycles) else { continue };
            assert!(found.nanos.is_none() || cycles.is_empty(), "told both ways, time is what is wanted");
            let used = clients.take(&found, &cycles, Timestamp(second as u64 * 1_000_000_000));
            assert!(
                second > 0 || used.is_none_or(|used| used == 0),
                "nothing was used before the first look"
            );
        }
        clients.end();
    }
}

/// The GPUs of a tree, and their meters.
pub fn cards(sysfs_root: &Path) {
    for card in cards::find(sysfs_root) {
        assert!(!card.id.is_empty() && !card.driver.is_empty());
        _ = black_box((card.sleeps(), card.is_of("", "amdgpu")));
        for meter in &card.meters {
            _ = black_box(NumberFile::new(meter.path.clone()).read());
        }
        let mut parts: Vec<_> = card.meters.iter().map(|meter| &meter.part).collect();
        parts.sort_unstable();
        assert!(parts.windows(2).all(|two| two[0] != two[1]), "each part is metered once: {parts:?}");
    }
}
