//! What fuzz targets share: trees of small files, as the kernel's sysfs has them, made of bytes. A target is in
//! `fuzz_targets/`, what it begins with in `corpus/`.
//!
//! ```sh
//! cargo +nightly fuzz run rapl_text -- -max_total_time=600
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Where trees are made: in memory, if possible.
fn place() -> &'static Path {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        parent.join(format!("wattrace-fuzz-{}", std::process::id()))
    })
}

/// A tree of files; the next one takes its place.
#[derive(Debug)]
pub struct Tree(());

impl Tree {
    /// Of `bytes`, cut at zero bytes, each file gets the next part. One that is left without a part, or whose part begins with
    /// byte 1, is not there.
    ///
    /// # Panics
    /// If a file cannot be made: that says nothing about what is fuzzed.
    pub fn of(bytes: &[u8], files: &[&str]) -> Self {
        let mut parts = bytes.split(|byte| *byte == 0);
        for file in files {
            let path = place().join(file);
            match parts.next().filter(|part| part.first() != Some(&1)) {
                Some(part) => {
                    if fs::write(&path, part).is_err() {
                        let directory = path.parent().unwrap_or(place());
                        fs::create_dir_all(directory).expect("a directory for the tree");
                        fs::write(&path, part).expect("a file of the tree");
                    }
                }
                None => _ = fs::remove_file(&path),
            }
        }
        Self(())
    }

    /// Its root, for `/sys`.
    pub fn root(&self) -> &Path {
        place()
    }
}
