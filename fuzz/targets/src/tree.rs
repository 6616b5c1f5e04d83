//! Trees of small files, as the kernel's sysfs has them, made of bytes.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

/// A tree of files. The next of the same name takes its place, so that making one costs as little as can be.
#[derive(Debug)]
pub struct Tree(PathBuf);

/// The directory of this thread's trees, in memory if possible; it goes with the thread.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

thread_local! {
    static PLACE: RefCell<Option<Place>> = const { RefCell::new(None) };
}

fn place() -> PathBuf {
    PLACE.with_borrow_mut(|place| {
        let make = || {
            let memory = Path::new("/dev/shm");
            let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
            let thread = std::thread::current().id();
            Place(parent.join(format!("wattrace-fuzz-{}-{thread:?}", std::process::id())))
        };
        place.get_or_insert_with(make).0.clone()
    })
}

impl Tree {
    /// The tree `name`. Of `bytes`, cut at zero bytes, each file gets the next part. One that is left without
    /// a part, or whose part begins with byte 1, is not there.
    ///
    /// # Panics
    /// If a file cannot be made: that says nothing about what is fuzzed.
    pub fn of(name: &str, bytes: &[u8], files: &[&str]) -> Self {
        let root = place().join(name);
        let mut parts = bytes.split(|byte| *byte == 0);
        for file in files {
            let path = root.join(file);
            match parts.next().filter(|part| part.first() != Some(&1)) {
                Some(part) => {
                    if fs::write(&path, part).is_err() {
                        let made = fs::create_dir_all(path.parent().unwrap_or(&root));
                        let written = made.and_then(|()| fs::write(&path, part));
                        assert!(written.is_ok(), "{}: {written:?}", path.display());
                    }
                }
                None => _ = fs::remove_file(&path),
            }
        }
        Self(root)
    }

    /// Its root, for `/sys`.
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// Makes `path` in it lead to `target`.
    pub fn link(&self, path: &str, target: &str) {
        let path = self.0.join(path);
        if fs::read_link(&path).is_ok_and(|found| found == Path::new(target)) {
            return;
        }
        _ = path.parent().map(fs::create_dir_all);
        _ = fs::remove_file(&path);
        _ = std::os::unix::fs::symlink(target, &path);
    }
}
