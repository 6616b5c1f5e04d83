//! From a pid to the consumer that all plugins share (the directory's), or to one of our own where nobody
//! follows the processes. Our own is read once from /proc, and known by its start time from whoever gets its
//! pid later.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustc_hash::FxHashMap;
use wattrace_api::{Attribute, Clock, Consumer, ConsumerKind, Directory, Identity};

/// Finds processes by their pids. One serves all GPUs of a plugin, so that these speak of the same consumers.
#[derive(Debug)]
pub struct Who {
    directory: Directory,
    clock: Clock,
    proc_root: PathBuf,
    tick_nanos: u64,
    /// Consumers of our own, with their start in ticks since boot.
    own: FxHashMap<u32, (u64, Arc<Consumer>)>,
}

impl Who {
    /// Looks in `directory` first, and then below `proc_root` (`/proc`).
    pub fn new(directory: Directory, clock: Clock, proc_root: impl Into<PathBuf>) -> Self {
        // SAFETY: it has no preconditions.
        let hz = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
        let tick_nanos = 1_000_000_000 / u64::try_from(hz).unwrap_or(100).max(1);
        Self { directory, clock, proc_root: proc_root.into(), tick_nanos, own: FxHashMap::default() }
    }

    /// The process that has `pid` now, if it is known. Where the directory is kept, one that it does not know
    /// yet is worth waiting for, but not for ever: it learns of a process that was there before it only when
    /// that runs, and one that sleeps may hold a GPU all the same. So if it is `urgent`, it is a consumer of
    /// our own until then.
    pub(crate) fn find(&mut self, pid: u32, urgent: bool) -> Option<Arc<Consumer>> {
        if let Some(known) = self.directory.process(pid) {
            self.own.remove(&pid);
            return Some(known);
        }
        if self.directory.is_kept() && !urgent {
            return None;
        }
        let (start, name) = living(&self.proc_root, pid)?;
        if let Some((known, consumer)) = self.own.get(&pid)
            && *known == start
        {
            return Some(consumer.clone());
        }
        let consumer = Arc::new(self.describe(pid, start, &name));
        self.own.insert(pid, (start, consumer.clone()));
        Some(consumer)
    }

    /// Whether `consumer` still is the process that has `pid`. Forgets it if not.
    pub(crate) fn lives(&mut self, pid: u32, consumer: &Arc<Consumer>) -> bool {
        if let Some((start, own)) = self.own.get(&pid)
            && Arc::ptr_eq(own, consumer)
        {
            let lives = living(&self.proc_root, pid).is_some_and(|(now, _)| now == *start);
            // The directory knows it better by now.
            let known = self.directory.process(pid).is_some();
            if !lives || known {
                self.own.remove(&pid);
            }
            return lives && !known;
        }
        consumer.end_unix_nano().is_none()
            && self.directory.process(pid).is_some_and(|known| Arc::ptr_eq(&known, consumer))
    }

    fn describe(&self, pid: u32, start_ticks: u64, name: &str) -> Consumer {
        let start_unix_nano = self.clock.unix_nanos_of_boottime(start_ticks.saturating_mul(self.tick_nanos));
        let identity =
            Identity { kind: ConsumerKind::Process, id: Cow::Owned(pid.to_string()), start_unix_nano };
        let path = fs::read_link(self.proc_root.join(format!("{pid}/exe"))).ok();
        let path = path.map(|p| p.to_string_lossy().trim_end_matches(" (deleted)").to_owned());
        let base = path.as_deref().and_then(|p| p.rsplit('/').next()).filter(|n| !n.is_empty());
        let mut attributes = vec![
            Attribute::new("process.pid", pid),
            Attribute::new("process.executable.name", base.unwrap_or(name)),
            Attribute::new("wattrace.process.comm", name),
        ];
        attributes.extend(path.as_deref().map(|path| Attribute::new("process.executable.path", path)));
        Consumer::new(identity, None, attributes)
    }
}

/// A living process's start in ticks since boot, and its name. `pid (comm) state ppid … starttime …`; the
/// name may hold spaces and parentheses.
fn living(proc_root: &Path, pid: u32) -> Option<(u64, String)> {
    let stat = fs::read(proc_root.join(format!("{pid}/stat"))).ok()?;
    let open = stat.iter().position(|&b| b == b'(')?;
    let close = stat.iter().rposition(|&b| b == b')')?;
    let name = String::from_utf8_lossy(stat.get(open + 1..close)?).into_owned();
    let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
    let start = rest.split_ascii_whitespace().nth(19)?.parse().ok()?;
    Some((start, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wattrace_api::{Registry, Timestamp};

    fn stat(pid: u32, start: u64) -> String {
        format!("{pid} (a) b (c) R 1 {}{start} 0 0\n", "0 ".repeat(17))
    }

    fn write(root: &Path, pid: u32, start: u64) {
        fs::create_dir_all(root.join(pid.to_string())).unwrap();
        fs::write(root.join(format!("{pid}/stat")), stat(pid, start)).unwrap();
    }

    #[test]
    fn without_a_directory_a_process_is_read_once_and_its_pid_s_next_owner_is_another() {
        let root = tempfile::tempdir().unwrap();
        let registry = Registry::new();
        let mut who = Who::new(registry.directory().clone(), Clock::manual(Timestamp(0)), root.path());
        assert!(who.find(7, false).is_none());
        write(root.path(), 7, 300);
        let first = who.find(7, false).unwrap();
        assert_eq!(first.identity().start_unix_nano, 3_000_000_000);
        assert_eq!(first.attribute("process.executable.name").unwrap().to_string(), "a) b (c");
        assert!(Arc::ptr_eq(&first, &who.find(7, false).unwrap()));
        assert!(who.lives(7, &first));
        write(root.path(), 7, 301);
        assert!(!who.lives(7, &first));
        assert_ne!(who.find(7, false).unwrap().identity(), first.identity());
    }

    #[test]
    fn who_the_directory_will_know_is_waited_for_unless_it_is_urgent_and_then_handed_over() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), 7, 300);
        let registry = Registry::new();
        let keeper = registry.directory().keep();
        let mut who = Who::new(registry.directory().clone(), Clock::manual(Timestamp(0)), root.path());
        assert!(who.find(7, false).is_none());
        let ours = who.find(7, true).unwrap();
        assert!(who.lives(7, &ours));
        let identity = Identity { kind: ConsumerKind::Process, id: "7".into(), start_unix_nano: 1 };
        let theirs = Arc::new(Consumer::new(identity, None, Vec::new()));
        keeper.announce(7, theirs.clone());
        assert!(!who.lives(7, &ours), "the directory's takes over");
        assert!(Arc::ptr_eq(&who.find(7, false).unwrap(), &theirs) && who.lives(7, &theirs));
        keeper.withdraw(7, &theirs);
        assert!(!who.lives(7, &theirs));
    }
}
