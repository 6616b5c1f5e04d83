//! Files that an earlier run has left, and others may have changed.

use std::path::Path;
use std::time::Duration;

use wattrace_api::{Clock, Timestamp};
use wattrace_spool::{Class, Entry, Settings, Spool};

/// A spool's file: whatever it holds, what is pushed afterwards waits behind what can be read of it.
pub fn spool(bytes: &[u8]) {
    // In memory if possible: each push is synced.
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let Ok(dir) = tempfile::tempdir_in(place) else { return };
    let file = dir.path().join("spool.db");
    if std::fs::write(&file, bytes).is_err() {
        return;
    }
    let settings = Settings {
        key: "spool",
        file,
        max_size: 1 << 20,
        max_age: Duration::from_secs(3600),
        max_memory: 1 << 20,
    };
    let mut spool = Spool::new(settings, Clock::manual(Timestamp(1)));
    let pushed = Entry { class: Class::Last, points: 1, payload: b"pushed".to_vec() };
    spool.push(vec![pushed.clone()]);
    let (mut last, mut after) = (None, None);
    loop {
        let waiting = spool.oldest(after, 1 << 16);
        let Some(newest) = waiting.last() else { break };
        (after, last) = (Some(newest.id), Some(newest.entry.clone()));
    }
    assert_eq!(last, Some(pushed));
}
