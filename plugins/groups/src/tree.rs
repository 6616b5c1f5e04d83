//! The process tree that a process belongs to: that of its oldest ancestor below init and kthreadd. The walk
//! stops at an ancestor whose tree is known.

use std::sync::Arc;

use wattrace_procfs::Procfs;

/// A tree's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) pid: u32,
    /// Unique over time: `pid@start`.
    pub(crate) key: Arc<str>,
}

/// More ancestors than any process has.
const DEEPEST: usize = 10_000;

/// Init, kthreadd, and 0 for a parent outside of this pid namespace.
fn is_top(pid: u32) -> bool {
    pid <= 2
}

/// The tree of the process `pid`, child of `parent`. `known` returns the tree of a process that has been seen
/// before.
pub(crate) fn root(pid: u32, parent: u32, procfs: &Procfs, known: impl Fn(u32) -> Option<Root>) -> Root {
    let (mut oldest, mut next) = (pid, parent);
    for _ in 0..DEEPEST {
        if is_top(next) {
            break;
        }
        if let Some(root) = known(next) {
            return root;
        }
        // When an ancestor exits, init adopts its children.
        let Some(stat) = procfs.stat(next) else { break };
        (oldest, next) = (next, stat.parent);
    }
    let start = procfs.stat(oldest).map_or(0, |stat| stat.start_ticks);
    Root { pid: oldest, key: format!("{oldest}@{start}").into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A /proc with (pid, parent)s.
    fn processes(all: &[(u32, u32)]) -> (tempfile::TempDir, Procfs) {
        let dir = tempfile::tempdir().unwrap();
        for (pid, parent) in all {
            fs::create_dir(dir.path().join(pid.to_string())).unwrap();
            let stat = format!("{pid} (x) S {parent} 0 0 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {} 0 0", pid * 10);
            fs::write(dir.path().join(format!("{pid}/stat")), stat).unwrap();
        }
        let procfs = Procfs::at(dir.path());
        (dir, procfs)
    }

    #[test]
    fn the_walk_ends_below_init_at_a_known_ancestor_or_at_a_missing_one() {
        let (_dir, procfs) = processes(&[(1, 0), (2, 0), (10, 1), (11, 10), (12, 11), (20, 2), (31, 30)]);
        let nobody = |_| None;
        let of = |pid, parent| root(pid, parent, &procfs, nobody);
        assert_eq!((of(10, 1).pid, of(12, 11).pid, of(20, 2).pid, of(1, 0).pid), (10, 10, 20, 1));
        assert_eq!(&*of(12, 11).key, "10@100");
        assert_eq!(of(32, 31).pid, 31, "30 has exited");
        let known = Root { pid: 9, key: "9@1".into() };
        assert_eq!(root(12, 11, &procfs, |pid| (pid == 10).then(|| known.clone())), known);
    }
}
