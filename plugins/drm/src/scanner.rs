//! Finds the processes that have a GPU's device file open. The kernel does not notify about these, so it
//! scans the processes' descriptors, at a bounded cost: each tick scans a share of all processes, so that
//! each is scanned once a sweep, and the processes that started recently. `source.rs` reads the descriptors
//! found at each tick.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use wattrace_api::events::{ConsumerStarted, Events, Received};
use wattrace_api::privilege::for_kernel_file;
use wattrace_api::{Clock, ConsumerKind, Directory, Subscription, Timestamp};
use wattrace_procfs::Procfs;

use crate::holders::{self, DEVICES, Holder};

/// Most recently started processes that are scanned in one tick; older ones wait for the sweep.
const MAX_RECENT: usize = 128;

/// The processes found, and the state of the sweep.
pub(crate) struct ClientScanner {
    proc_root: PathBuf,
    sweep: Duration,
    /// Processes that have a GPU open.
    known: BTreeMap<u32, Holder>,
    /// Pids that this sweep has not scanned yet.
    queue: Vec<u32>,
    /// When this sweep began, and with how many pids.
    began: (Timestamp, usize),
    /// Processes that started within the last sweep's time.
    recent: VecDeque<(u32, Timestamp)>,
    started: Subscription<ConsumerStarted>,
}

impl ClientScanner {
    /// Scans every process once.
    pub(crate) fn open(proc_root: PathBuf, sweep: Duration, events: &Events, now: Timestamp) -> Self {
        let started = events.subscribe();
        let mut scanner = Self {
            proc_root,
            sweep,
            known: BTreeMap::new(),
            queue: Vec::new(),
            began: (now, 0),
            recent: VecDeque::new(),
            started,
        };
        scanner.begin(now);
        while let Some(pid) = scanner.queue.pop() {
            scanner.scan(pid);
        }
        scanner
    }

    /// Pids with their descriptors of GPUs, in the order in which they are asked.
    pub(crate) fn known(&self, directory: &Directory, clock: &Clock) -> Vec<(u32, &[u32])> {
        let mut holders: Vec<&Holder> = self.known.values().collect();
        holders::sort(&mut holders, directory, clock);
        holders.iter().map(|holder| (holder.pid, &*holder.descriptors)).collect()
    }

    /// `pid` has shown a client that another process has shown, too. From the next reading on it is known
    /// which of them works with it.
    pub(crate) fn shares(&mut self, pid: u32) {
        if let Some(holder) = self.known.get_mut(&pid).filter(|holder| !holder.shares) {
            holder.look_up_mappings(&self.proc_root);
        }
    }

    /// Scans the processes that started recently, and the share of all processes that is due.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        while let Some(received) = self.started.try_next() {
            // The sweep finds the processes whose events were missed.
            let Received::Event(ConsumerStarted(consumer)) = received else {
                continue;
            };
            if consumer.kind() == ConsumerKind::Process
                && let Ok(pid) = consumer.identity().id.parse()
            {
                self.recent.push_back((pid, now));
            }
        }
        while self.recent.len() > MAX_RECENT
            || self.recent.front().is_some_and(|(_, started)| now.since(*started) > self.sweep)
        {
            self.recent.pop_front();
        }
        for at in 0..self.recent.len() {
            self.scan(self.recent[at].0);
        }
        let (began, all) = self.began;
        let (sweep, elapsed) = (self.sweep.as_nanos(), now.since(began).as_nanos());
        let rest = (all as u128 * sweep.saturating_sub(elapsed)).div_ceil(sweep.max(1)) as usize;
        while self.queue.len() > rest
            && let Some(pid) = self.queue.pop()
        {
            self.scan(pid);
        }
        if elapsed >= sweep {
            self.begin(now);
        }
    }

    /// Starts a sweep.
    fn begin(&mut self, now: Timestamp) {
        self.queue.clear();
        if let Ok(entries) = fs::read_dir(&self.proc_root) {
            let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
            self.queue.extend(pids);
        }
        self.began = (now, self.queue.len());
    }

    /// Finds the descriptors of GPUs that `pid` has now.
    pub(crate) fn scan(&mut self, pid: u32) {
        let mut found = Vec::new();
        let directory = self.proc_root.join(format!("{pid}/fd"));
        for_kernel_file(&directory, || {
            let Ok(entries) = fs::read_dir(&directory) else {
                return;
            };
            let descriptors = entries.filter_map(Result::ok).filter(|entry| {
                fs::read_link(entry.path())
                    .is_ok_and(|to| to.as_os_str().as_encoded_bytes().starts_with(DEVICES.as_bytes()))
            });
            found.extend(descriptors.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()));
        });
        found.sort_unstable();
        let before = self.known.remove(&pid);
        if !found.is_empty() {
            let mut holder = Holder::new(pid, found, Procfs::at(&self.proc_root).stat(pid));
            if before.is_some_and(|before| before.shares) {
                holder.look_up_mappings(&self.proc_root);
            }
            self.known.insert(pid, holder);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use wattrace_api::{Consumer, Identity, Registry};

    fn open(root: &Path, pid: u32, descriptor: u32, to: &str) {
        let fd = root.join(format!("{pid}/fd"));
        fs::create_dir_all(&fd).unwrap();
        symlink(to, fd.join(descriptor.to_string())).unwrap();
    }

    fn known(scanner: &ClientScanner) -> Vec<(u32, Vec<u32>)> {
        let (registry, clock) = (Registry::new(), Clock::manual(at(0)));
        let known = scanner.known(registry.directory(), &clock);
        known.into_iter().map(|(pid, descriptors)| (pid, descriptors.to_vec())).collect()
    }

    fn at(second: u64) -> Timestamp {
        Timestamp(second * 1_000_000_000)
    }

    const SWEEP: Duration = Duration::from_secs(10);

    #[test]
    fn only_descriptors_of_gpus_are_found() {
        let root = tempfile::tempdir().unwrap();
        open(root.path(), 7, 3, "/dev/dri/renderD128");
        open(root.path(), 7, 4, "/dev/null");
        open(root.path(), 7, 12, "/dev/dri/card0");
        open(root.path(), 8, 3, "socket:[123]");
        fs::create_dir(root.path().join("self")).unwrap();
        let scanner = ClientScanner::open(root.path().into(), SWEEP, &Events::default(), at(0));
        assert_eq!(known(&scanner), [(7, vec![3, 12])]);
    }

    #[test]
    fn each_process_is_scanned_once_a_sweep_and_no_tick_scans_all() {
        let root = tempfile::tempdir().unwrap();
        for pid in 1..=40 {
            fs::create_dir_all(root.path().join(format!("{pid}/fd"))).unwrap();
        }
        let mut scanner = ClientScanner::open(root.path().into(), SWEEP, &Events::default(), at(0));
        for pid in 1..=40 {
            open(root.path(), pid, 3, "/dev/dri/card0");
        }
        scanner.advance(at(10));
        assert_eq!(known(&scanner).len(), 0, "a new sweep has begun");
        let found: Vec<_> = (11..=20)
            .map(|second| {
                scanner.advance(at(second));
                known(&scanner).len()
            })
            .collect();
        assert_eq!(found, [4, 8, 12, 16, 20, 24, 28, 32, 36, 40]);
    }

    #[test]
    fn a_process_that_starts_is_scanned_at_each_tick() {
        let root = tempfile::tempdir().unwrap();
        let events = Events::default();
        let mut scanner = ClientScanner::open(root.path().into(), SWEEP, &events, at(0));
        let identity = Identity { kind: ConsumerKind::Process, id: "7".into(), start_unix_nano: 1 };
        events.publish(ConsumerStarted(Arc::new(Consumer::new(identity, None, Vec::new()))));
        scanner.advance(at(1));
        assert!(known(&scanner).is_empty());
        open(root.path(), 7, 3, "/dev/dri/card0");
        scanner.advance(at(2));
        assert_eq!(known(&scanner), [(7, vec![3])]);
        fs::remove_dir_all(root.path().join("7")).unwrap();
        scanner.advance(at(3));
        assert!(known(&scanner).is_empty());
        scanner.advance(at(13));
        assert!(scanner.recent.is_empty());
    }
}
