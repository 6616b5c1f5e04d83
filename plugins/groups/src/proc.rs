//! What only /proc knows of a process: its places in v1 hierarchies, its parents. It may be gone by the time
//! it is read.

use std::fs;
use std::path::{Path, PathBuf};

/// `/proc`, or a test's stand-in for it.
#[derive(Debug, Clone)]
pub(crate) struct Proc {
    root: PathBuf,
    /// Whether there are v1 hierarchies that know more than the unified one.
    pub(crate) has_legacy: bool,
}

/// A living process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Living {
    pub(crate) parent: u32,
    /// When it was started, in ticks since boot.
    pub(crate) start: u64,
    /// It has exited; its v1 hierarchies are forgotten.
    pub(crate) is_zombie: bool,
}

impl Living {
    /// Nanoseconds per tick (`USER_HZ`, which is 100 wherever Linux runs).
    pub(crate) const RESOLUTION: u64 = 10_000_000;

    /// When it was started, in nanoseconds since boot.
    pub(crate) fn start_nanos(self) -> u64 {
        self.start.saturating_mul(Self::RESOLUTION)
    }
}

impl Proc {
    pub(crate) fn open(root: &Path) -> Self {
        let own = fs::read_to_string(root.join("self/cgroup")).unwrap_or_default();
        Self { root: root.to_owned(), has_legacy: crate::path::has_legacy(&own) }
    }

    fn read(&self, pid: u32, file: &str) -> Option<String> {
        let bytes = fs::read(self.root.join(format!("{pid}/{file}"))).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Its lines about cgroups.
    pub(crate) fn cgroups(&self, pid: u32) -> Option<String> {
        self.read(pid, "cgroup")
    }

    /// Its parent and its start.
    pub(crate) fn living(&self, pid: u32) -> Option<Living> {
        parse(&self.read(pid, "stat")?)
    }
}

/// `pid (name) state parent …`: the name may hold anything.
pub(crate) fn parse(stat: &str) -> Option<Living> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let is_zombie = matches!(fields.next()?, "Z" | "X" | "x");
    let parent = fields.next()?.parse().ok()?;
    let start = fields.nth(17)?.parse().ok()?;
    Some(Living { parent, start, is_zombie })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_and_what_is_not_there_is_not() {
        let proc = Proc::open(Path::new("/proc"));
        let pid = std::process::id();
        assert_eq!(proc.living(pid).unwrap().parent, std::os::unix::process::parent_id());
        assert!(proc.cgroups(pid).unwrap().contains("::/"));
        let nowhere = Proc::open(Path::new("/nonexistent"));
        assert!(nowhere.living(1).is_none() && !nowhere.has_legacy);
    }

    #[test]
    fn a_name_may_look_like_anything() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("7")).unwrap();
        let tail = "S 3 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        fs::write(dir.path().join("7/stat"), format!("7 (x) R 1 (y) {tail}")).unwrap();
        assert_eq!(
            Proc::open(dir.path()).living(7),
            Some(Living { parent: 3, start: 4242, is_zombie: false })
        );
        fs::write(dir.path().join("7/stat"), "7 (x) S 3").unwrap();
        assert_eq!(Proc::open(dir.path()).living(7), None);
    }
}
