//! Which processes hold a GPU's file open. Nobody tells, so that it has to be looked for, at a cost that is
//! bounded: each reading looks at a share of all processes, so that every one has its turn once a sweep, and
//! at those that started lately. The files that were found are read at each reading by `source.rs`, without
//! looking for them again.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use wattrace_api::events::{ConsumerStarted, Events, Received};
use wattrace_api::{ConsumerKind, Subscription, Timestamp};

/// What a descriptor of a GPU leads to.
const DEVICES: &str = "/dev/dri/";
/// Most processes that started lately and are looked at in one reading: the latest.
const MOST_YOUNG: usize = 128;

/// The holders, and the search for them.
pub(crate) struct Holders {
    proc_root: PathBuf,
    sweep: Duration,
    /// Descriptors of GPUs, by pid.
    known: BTreeMap<u32, Vec<u32>>,
    /// Who is still to be looked at in this sweep.
    queue: Vec<u32>,
    /// When this sweep began, and with how many.
    began: (Timestamp, usize),
    young: VecDeque<(u32, Timestamp)>,
    started: Subscription<ConsumerStarted>,
}

impl Holders {
    /// Looks at every process once.
    pub(crate) fn open(proc_root: PathBuf, sweep: Duration, events: &Events, now: Timestamp) -> Self {
        let started = events.subscribe();
        let mut holders = Self {
            proc_root,
            sweep,
            known: BTreeMap::new(),
            queue: Vec::new(),
            began: (now, 0),
            young: VecDeque::new(),
            started,
        };
        holders.begin(now);
        while let Some(pid) = holders.queue.pop() {
            holders.look_at(pid);
        }
        holders
    }

    /// Pids and descriptors.
    pub(crate) fn known(&self) -> impl Iterator<Item = (u32, &[u32])> {
        self.known.iter().map(|(pid, descriptors)| (*pid, &**descriptors))
    }

    /// Goes on looking: those that started lately, and the share of all that is due.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        while let Some(heard) = self.started.try_next() {
            // What was missed meanwhile is found by the sweep.
            let Received::Event(ConsumerStarted(consumer)) = heard else { continue };
            if consumer.kind() == ConsumerKind::Process
                && let Ok(pid) = consumer.identity().id.parse()
            {
                self.young.push_back((pid, now));
            }
        }
        while self.young.len() > MOST_YOUNG
            || self.young.front().is_some_and(|(_, met)| now.since(*met) > self.sweep)
        {
            self.young.pop_front();
        }
        for at in 0..self.young.len() {
            self.look_at(self.young[at].0);
        }
        let (began, all) = self.began;
        let (sweep, elapsed) = (self.sweep.as_nanos(), now.since(began).as_nanos());
        let rest = (all as u128 * sweep.saturating_sub(elapsed)).div_ceil(sweep.max(1)) as usize;
        while self.queue.len() > rest
            && let Some(pid) = self.queue.pop()
        {
            self.look_at(pid);
        }
        if elapsed >= sweep {
            self.begin(now);
        }
    }

    fn begin(&mut self, now: Timestamp) {
        self.queue.clear();
        if let Ok(entries) = fs::read_dir(&self.proc_root) {
            let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
            self.queue.extend(pids);
        }
        self.began = (now, self.queue.len());
    }

    /// Looks which descriptors of GPUs `pid` has now.
    pub(crate) fn look_at(&mut self, pid: u32) {
        let mut found = Vec::new();
        if let Ok(entries) = fs::read_dir(self.proc_root.join(format!("{pid}/fd"))) {
            let descriptors = entries.filter_map(Result::ok).filter(|entry| {
                fs::read_link(entry.path())
                    .is_ok_and(|to| to.as_os_str().as_encoded_bytes().starts_with(DEVICES.as_bytes()))
            });
            found.extend(descriptors.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()));
        }
        found.sort_unstable();
        if found.is_empty() {
            self.known.remove(&pid);
        } else {
            self.known.insert(pid, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use wattrace_api::{Consumer, Identity};

    fn hold(root: &Path, pid: u32, descriptor: u32, to: &str) {
        let fd = root.join(format!("{pid}/fd"));
        fs::create_dir_all(&fd).unwrap();
        symlink(to, fd.join(descriptor.to_string())).unwrap();
    }

    fn known(holders: &Holders) -> Vec<(u32, Vec<u32>)> {
        holders.known().map(|(pid, descriptors)| (pid, descriptors.to_vec())).collect()
    }

    fn at(second: u64) -> Timestamp {
        Timestamp(second * 1_000_000_000)
    }

    const SWEEP: Duration = Duration::from_secs(10);

    #[test]
    fn only_descriptors_of_gpus_count() {
        let root = tempfile::tempdir().unwrap();
        hold(root.path(), 7, 3, "/dev/dri/renderD128");
        hold(root.path(), 7, 4, "/dev/null");
        hold(root.path(), 7, 12, "/dev/dri/card0");
        hold(root.path(), 8, 3, "socket:[123]");
        fs::create_dir(root.path().join("self")).unwrap();
        let holders = Holders::open(root.path().into(), SWEEP, &Events::default(), at(0));
        assert_eq!(known(&holders), [(7, vec![3, 12])]);
    }

    #[test]
    fn everyone_has_a_turn_within_a_sweep_and_no_reading_looks_at_all() {
        let root = tempfile::tempdir().unwrap();
        for pid in 1..=40 {
            fs::create_dir_all(root.path().join(format!("{pid}/fd"))).unwrap();
        }
        let mut holders = Holders::open(root.path().into(), SWEEP, &Events::default(), at(0));
        for pid in 1..=40 {
            hold(root.path(), pid, 3, "/dev/dri/card0");
        }
        holders.advance(at(10));
        assert_eq!(known(&holders).len(), 0, "a new sweep has begun");
        let found: Vec<_> = (11..=20)
            .map(|second| {
                holders.advance(at(second));
                known(&holders).len()
            })
            .collect();
        assert_eq!(found, [4, 8, 12, 16, 20, 24, 28, 32, 36, 40]);
    }

    #[test]
    fn who_starts_is_looked_at_in_each_reading() {
        let root = tempfile::tempdir().unwrap();
        let events = Events::default();
        let mut holders = Holders::open(root.path().into(), SWEEP, &events, at(0));
        let identity = Identity { kind: ConsumerKind::Process, id: "7".into(), start_unix_nano: 1 };
        events.publish(ConsumerStarted(Arc::new(Consumer::new(identity, None, Vec::new()))));
        holders.advance(at(1));
        assert!(known(&holders).is_empty());
        hold(root.path(), 7, 3, "/dev/dri/card0");
        holders.advance(at(2));
        assert_eq!(known(&holders), [(7, vec![3])]);
        fs::remove_dir_all(root.path().join("7")).unwrap();
        holders.advance(at(3));
        assert!(known(&holders).is_empty());
        holders.advance(at(13));
        assert!(holders.young.is_empty());
    }
}
