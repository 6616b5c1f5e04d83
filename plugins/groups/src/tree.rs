//! The process tree that a process belongs to: that of its oldest ancestor below init and kthreadd. What is
//! known already saves the walk: a child's tree is its parent's.

use std::sync::Arc;

use crate::proc::Proc;

/// A tree's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) pid: u32,
    /// Tells it from another process that had the same pid.
    pub(crate) key: Arc<str>,
}

/// More ancestors than that nobody has.
const DEEPEST: usize = 10_000;

/// Init, kthreadd, and what comes from outside of this pid namespace.
fn is_top(pid: u32) -> bool {
    pid <= 2
}

/// The tree of the process `pid`, child of `parent`. `known` says the tree of a process that has been met
/// before.
pub(crate) fn root(pid: u32, parent: u32, proc: &Proc, known: impl Fn(u32) -> Option<Root>) -> Root {
    let (mut oldest, mut next) = (pid, parent);
    for _ in 0..DEEPEST {
        if is_top(next) {
            break;
        }
        if let Some(root) = known(next) {
            return root;
        }
        // An ancestor that is gone has left its children to init.
        let Some(living) = proc.living(next) else { break };
        (oldest, next) = (next, living.parent);
    }
    let start = proc.living(oldest).map_or(0, |living| living.start);
    Root { pid: oldest, key: format!("{oldest}@{start}").into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A /proc with (pid, parent)s.
    fn processes(all: &[(u32, u32)]) -> (tempfile::TempDir, Proc) {
        let dir = tempfile::tempdir().unwrap();
        for (pid, parent) in all {
            fs::create_dir(dir.path().join(pid.to_string())).unwrap();
            let stat = format!("{pid} (x) S {parent} 0 0 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {} 0 0", pid * 10);
            fs::write(dir.path().join(format!("{pid}/stat")), stat).unwrap();
        }
        let proc = Proc::open(dir.path());
        (dir, proc)
    }

    #[test]
    fn the_walk_ends_below_init_at_what_is_known_or_at_what_is_gone() {
        let (_dir, proc) = processes(&[(1, 0), (2, 0), (10, 1), (11, 10), (12, 11), (20, 2), (31, 30)]);
        let nobody = |_| None;
        let of = |pid, parent| root(pid, parent, &proc, nobody);
        assert_eq!((of(10, 1).pid, of(12, 11).pid, of(20, 2).pid, of(1, 0).pid), (10, 10, 20, 1));
        assert_eq!(&*of(12, 11).key, "10@100");
        assert_eq!(of(32, 31).pid, 31, "30 is gone");
        let known = Root { pid: 9, key: "9@1".into() };
        assert_eq!(root(12, 11, &proc, |pid| (pid == 10).then(|| known.clone())), known);
    }
}
