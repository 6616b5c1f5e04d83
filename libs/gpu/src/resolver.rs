//! Resolves a pid to the consumer that all plugins share (the directory's). Where no source keeps the
//! directory, it makes a consumer from /proc. Such a consumer is recognised by its start time, so that the
//! next process with its pid is another one.

use std::borrow::Cow;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use wattrace_api::{Attribute, Clock, Consumer, ConsumerKind, Directory, Identity};
use wattrace_procfs::{Procfs, Stat};

/// Resolves pids. One serves all GPUs of a plugin, so that they share the consumers that it makes.
#[derive(Debug)]
pub struct ProcessResolver {
    directory: Directory,
    clock: Clock,
    procfs: Procfs,
    /// Consumers made here, with their start in ticks since boot.
    own: FxHashMap<u32, (u64, Arc<Consumer>)>,
}

impl ProcessResolver {
    /// Looks in `directory` first, then in `procfs`.
    pub fn new(directory: Directory, clock: Clock, procfs: Procfs) -> Self {
        Self { directory, clock, procfs, own: FxHashMap::default() }
    }

    /// The process that has `pid` now, if it is known.
    ///
    /// If the directory is kept but does not have the process, the caller should ask again later: the process
    /// appears there once it runs. A process that sleeps since before the agent started may hold a GPU
    /// without ever running. So with `urgent` it gets a consumer made here until the directory has it.
    pub(crate) fn resolve(&mut self, pid: u32, urgent: bool) -> Option<Arc<Consumer>> {
        if let Some(known) = self.directory.process(pid) {
            self.own.remove(&pid);
            return Some(known);
        }
        if self.directory.is_kept() && !urgent {
            return None;
        }
        let stat = self.procfs.stat(pid)?;
        if let Some((start, consumer)) = self.own.get(&pid)
            && *start == stat.start_ticks
        {
            return Some(consumer.clone());
        }
        let consumer = Arc::new(self.describe(pid, &stat));
        self.own.insert(pid, (stat.start_ticks, consumer.clone()));
        Some(consumer)
    }

    /// Whether `consumer` is still what [`ProcessResolver::resolve`] returns for `pid`. If not, it is
    /// forgotten.
    pub(crate) fn is_current(&mut self, pid: u32, consumer: &Arc<Consumer>) -> bool {
        if let Some((start, own)) = self.own.get(&pid)
            && Arc::ptr_eq(own, consumer)
        {
            let lives = self.procfs.stat(pid).is_some_and(|stat| stat.start_ticks == *start);
            let is_in_directory = self.directory.process(pid).is_some();
            if !lives || is_in_directory {
                self.own.remove(&pid);
            }
            return lives && !is_in_directory;
        }
        consumer.end_unix_nano().is_none()
            && self.directory.process(pid).is_some_and(|known| Arc::ptr_eq(&known, consumer))
    }

    fn describe(&self, pid: u32, stat: &Stat) -> Consumer {
        let start_unix_nano = self.clock.unix_nanos_of_boottime(stat.start_nanos());
        let identity =
            Identity { kind: ConsumerKind::Process, id: Cow::Owned(pid.to_string()), start_unix_nano };
        let path = self.procfs.executable(pid);
        let base = path.as_deref().and_then(|path| path.rsplit('/').next()).filter(|name| !name.is_empty());
        let mut attributes = vec![
            Attribute::new("process.pid", pid),
            Attribute::new("process.executable.name", base.unwrap_or(&stat.comm)),
            Attribute::new("wattrace.process.comm", stat.comm.as_str()),
        ];
        attributes.extend(path.as_deref().map(|path| Attribute::new("process.executable.path", path)));
        Consumer::new(identity, None, attributes)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use wattrace_api::{Registry, Timestamp};

    fn write(root: &Path, pid: u32, start: u64) {
        fs::create_dir_all(root.join(pid.to_string())).unwrap();
        let stat = format!("{pid} (a) b (c) R 1 {}{start} 0 0\n", "0 ".repeat(17));
        fs::write(root.join(format!("{pid}/stat")), stat).unwrap();
    }

    fn resolver(registry: &Registry, root: &Path) -> ProcessResolver {
        let clock = Clock::manual(Timestamp(0));
        ProcessResolver::new(registry.directory().clone(), clock, Procfs::at(root))
    }

    #[test]
    fn without_a_directory_a_process_is_read_once_and_the_next_with_its_pid_is_another() {
        let root = tempfile::tempdir().unwrap();
        let registry = Registry::new();
        let mut resolver = resolver(&registry, root.path());
        assert!(resolver.resolve(7, false).is_none());
        write(root.path(), 7, 300);
        let first = resolver.resolve(7, false).unwrap();
        assert_eq!(first.identity().start_unix_nano, 3_000_000_000);
        assert_eq!(first.attribute("process.executable.name").unwrap().to_string(), "a) b (c");
        assert!(Arc::ptr_eq(&first, &resolver.resolve(7, false).unwrap()));
        assert!(resolver.is_current(7, &first));
        write(root.path(), 7, 301);
        assert!(!resolver.is_current(7, &first));
        assert_ne!(resolver.resolve(7, false).unwrap().identity(), first.identity());
    }

    #[test]
    fn a_process_that_a_kept_directory_lacks_is_resolved_if_urgent_until_the_directory_has_it() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), 7, 300);
        let registry = Registry::new();
        let keeper = registry.directory().keep();
        let mut resolver = resolver(&registry, root.path());
        assert!(resolver.resolve(7, false).is_none());
        let ours = resolver.resolve(7, true).unwrap();
        assert!(resolver.is_current(7, &ours));
        let identity = Identity { kind: ConsumerKind::Process, id: "7".into(), start_unix_nano: 1 };
        let theirs = Arc::new(Consumer::new(identity, None, Vec::new()));
        keeper.announce(7, theirs.clone());
        assert!(!resolver.is_current(7, &ours), "the directory's takes over");
        assert!(Arc::ptr_eq(&resolver.resolve(7, false).unwrap(), &theirs));
        assert!(resolver.is_current(7, &theirs));
        keeper.withdraw(7, &theirs);
        assert!(!resolver.is_current(7, &theirs));
    }
}
