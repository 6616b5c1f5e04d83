//! The directory of processes: the living processes by pid, each with the one [`Consumer`] that all plugins
//! share. One source follows the processes and writes the directory. A source that gets pids from elsewhere
//! (a GPU's driver) looks them up here, so that both report the same consumer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::subject::Consumer;

/// The living processes by pid.
#[derive(Clone, Debug, Default)]
pub struct Directory(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    processes: RwLock<HashMap<u32, Arc<Consumer>>>,
    keepers: AtomicUsize,
}

impl Directory {
    /// The process that has `pid` now. If the directory [is kept](Directory::is_kept), a process that is
    /// missing here is added within a reading or two: keep what it used until then.
    pub fn process(&self, pid: u32) -> Option<Arc<Consumer>> {
        self.0.processes.read().unwrap_or_else(PoisonError::into_inner).get(&pid).cloned()
    }

    /// Whether a source writes the directory. If none does, create consumers of your own.
    pub fn is_kept(&self) -> bool {
        self.0.keepers.load(Ordering::Acquire) > 0
    }

    /// Begins to write the directory.
    pub fn keep(&self) -> Keeper {
        self.0.keepers.fetch_add(1, Ordering::AcqRel);
        Keeper(self.clone())
    }
}

/// The right to write the directory. Dropping it removes its entries.
#[derive(Debug)]
pub struct Keeper(Directory);

impl Keeper {
    /// Adds the process `consumer`, which has `pid` now, in place of an earlier one with that pid.
    pub fn announce(&self, pid: u32, consumer: Arc<Consumer>) {
        self.0.0.processes.write().unwrap_or_else(PoisonError::into_inner).insert(pid, consumer);
    }

    /// Removes the process `consumer`. If another process has its pid by now, that one stays.
    pub fn withdraw(&self, pid: u32, consumer: &Arc<Consumer>) {
        let mut processes = self.0.0.processes.write().unwrap_or_else(PoisonError::into_inner);
        if processes.get(&pid).is_some_and(|known| Arc::ptr_eq(known, consumer)) {
            processes.remove(&pid);
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if self.0.0.keepers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.0.processes.write().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::{ConsumerKind, Identity};

    fn process(start_unix_nano: u64) -> Arc<Consumer> {
        let identity = Identity { kind: ConsumerKind::Process, id: "7".into(), start_unix_nano };
        Arc::new(Consumer::new(identity, None, Vec::new()))
    }

    #[test]
    fn a_reused_pid_is_its_new_owners() {
        let directory = Directory::default();
        assert!(!directory.is_kept());
        let keeper = directory.keep();
        assert!(directory.is_kept());
        let (old, new) = (process(1), process(2));
        keeper.announce(7, old.clone());
        keeper.announce(7, new.clone());
        keeper.withdraw(7, &old);
        assert!(Arc::ptr_eq(&directory.process(7).unwrap(), &new));
        keeper.withdraw(7, &new);
        assert!(directory.process(7).is_none());
        keeper.announce(7, new);
        drop(keeper);
        assert!(directory.process(7).is_none() && !directory.is_kept());
    }
}
