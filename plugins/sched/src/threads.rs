//! The threads that ran, if those are asked for: each is a consumer of its own, in addition to its process.
//! `processes.rs` calls this.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use slab::Slab;
use wattrace_api::{Attribute, Batch, Clock, Consumer, ConsumerKind, Identity, Registry, Timestamp};
use wattrace_common::COMM_LEN;
use wattrace_common::ledger::Entry;
use wattrace_procfs::{Procfs, TICK_NANOS};

use crate::exited::ExitedQueue;
use crate::reader::Quantities;
use crate::usage::{ConsumerUsage, CpuGroup};

/// The id of a thread, or of a process by its leader, and the start time (`CLOCK_BOOTTIME`, ns).
type Key = (u32, u64);

struct Thread {
    key: Key,
    process: Key,
    usage: ConsumerUsage,
    comm: [u8; COMM_LEN],
    /// The last pass in which it had an entry.
    ran_at: Timestamp,
    exited: bool,
}

/// The table of threads.
pub(crate) struct Threads {
    clock: Clock,
    by_key: FxHashMap<Key, usize>,
    of_process: FxHashMap<Key, Vec<usize>>,
    all: Slab<Thread>,
    dirty: Vec<usize>,
    exited: ExitedQueue,
}

impl Threads {
    pub(crate) fn new(clock: Clock, cpus: usize) -> Self {
        Self {
            clock,
            by_key: FxHashMap::default(),
            of_process: FxHashMap::default(),
            all: Slab::new(),
            dirty: Vec::new(),
            exited: ExitedQueue::new(cpus),
        }
    }

    /// Charges what the thread of `entry` used of the package `group`, in the pass at `pass`. Its process
    /// is `process`.
    pub(crate) fn charge(
        &mut self,
        entry: &Entry,
        used: &Quantities,
        group: usize,
        pass: Timestamp,
        process: &Consumer,
    ) {
        let key = (entry.tid, entry.thread_start);
        let at = match self.by_key.get(&key) {
            Some(&at) => at,
            // Its process has the time anyway.
            None if self.exited.is_full() => return,
            None => self.insert(key, entry, process.identity()),
        };
        let thread = &mut self.all[at];
        thread.ran_at = pass;
        if thread.comm != entry.comm {
            thread.comm = entry.comm;
            thread.usage.consumer.update(vec![name(&entry.comm)]);
        }
        if thread.usage.charge(used, &[group]) {
            self.dirty.push(at);
        }
    }

    fn insert(&mut self, key: Key, entry: &Entry, parent: &Identity) -> usize {
        let identity = Identity {
            kind: ConsumerKind::Thread,
            id: key.0.to_string().into(),
            start_unix_nano: self.clock.unix_nanos_of_boottime(key.1),
        };
        let ids = [Attribute::new("thread.id", key.0), Attribute::new("process.pid", entry.pid)];
        let attributes = ids.into_iter().chain([name(&entry.comm)]).collect();
        let consumer = Arc::new(Consumer::new(identity, Some(parent.clone()), attributes));
        let process = (entry.pid, entry.process_start);
        let (usage, comm) = (ConsumerUsage::new(consumer), entry.comm);
        let at = self.all.insert(Thread {
            key,
            process,
            usage,
            comm,
            ran_at: Timestamp::default(),
            exited: false,
        });
        self.by_key.insert(key, at);
        self.of_process.entry(process).or_default().push(at);
        at
    }

    /// A thread is exiting, at `unix_nano`, which is seen in the pass at `pass`. More slices may follow.
    pub(crate) fn exited(&mut self, key: Key, unix_nano: u64, pass: Timestamp) {
        if let Some(&at) = self.by_key.get(&key) {
            let thread = &mut self.all[at];
            thread.usage.consumer.ended_at(unix_nano);
            if !std::mem::replace(&mut thread.exited, true) {
                self.exited.push(at, pass);
            }
        }
    }

    /// Events were lost: marks the threads that are gone as exited.
    pub(crate) fn repair(&mut self, unix_nano: u64, pass: Timestamp) {
        let procfs = Procfs::default();
        let start_ticks = |tid| procfs.stat(tid).map(|stat| stat.start_ticks);
        let gone = |t: &Thread| start_ticks(t.key.0) != Some(t.key.1 / TICK_NANOS);
        let gone: Vec<Key> = self.all.iter().filter(|(_, t)| gone(t)).map(|(_, t)| t.key).collect();
        gone.into_iter().for_each(|key| self.exited(key, unix_nano, pass));
    }

    /// Pushes what changed, and ends the threads that have exited and will have no other slice. New series
    /// begin at `start`.
    pub(crate) fn emit(
        &mut self,
        groups: &[CpuGroup],
        registry: &Registry,
        start: Timestamp,
        pass: Timestamp,
        out: &mut Batch,
    ) {
        for at in self.dirty.drain(..) {
            if let Some(thread) = self.all.get_mut(at) {
                thread.usage.emit(groups, registry, start, out);
            }
        }
        let all = &self.all;
        let ran_at = |at| all.get(at).map_or(pass, |thread: &Thread| thread.ran_at);
        let over: Vec<usize> = std::iter::from_fn(|| self.exited.next(pass, ran_at)).collect();
        over.into_iter().for_each(|at| self.remove(at, out));
    }

    /// Ends the threads of a process that has ended.
    pub(crate) fn end_all_of(&mut self, process: Key, out: &mut Batch) {
        for at in self.of_process.remove(&process).unwrap_or_default() {
            self.remove(at, out);
        }
    }

    fn remove(&mut self, at: usize, out: &mut Batch) {
        let Some(thread) = self.all.try_remove(at) else { return };
        self.by_key.remove(&thread.key);
        if thread.exited {
            self.exited.remove(at);
        }
        if let Some(threads) = self.of_process.get_mut(&thread.process) {
            threads.retain(|&other| other != at);
        }
        thread.usage.end(out);
    }
}

fn name(comm: &[u8; COMM_LEN]) -> Attribute {
    let end = comm.iter().position(|&b| b == 0).unwrap_or(COMM_LEN);
    Attribute::new("thread.name", &*String::from_utf8_lossy(&comm[..end]))
}
