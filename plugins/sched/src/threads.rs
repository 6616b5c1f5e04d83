//! The threads that ran, where they are asked for: each a consumer of its own, beside the process that it is
//! a part of (`processes.rs`, which calls this).

use std::sync::Arc;

use rustc_hash::FxHashMap;
use slab::Slab;
use wattrace_api::{Attribute, Batch, Clock, Consumer, ConsumerKind, Identity, Registry, Timestamp};
use wattrace_common::COMM_LEN;
use wattrace_common::ledger::Entry;

use crate::proc::{start_ticks, tick_nanos};
use crate::reader::Quantities;
use crate::tally::{Place, Tally};

/// A thread, or a process by its leader, is (id, start time in ns of `CLOCK_BOOTTIME`).
type Key = (u32, u64);

struct Thread {
    key: Key,
    process: Key,
    tally: Tally,
    comm: [u8; COMM_LEN],
    /// Number of the reading in which it last had an entry.
    ran_in: u64,
    exited: bool,
}

/// The table of threads.
#[derive(Default)]
pub(crate) struct Threads {
    by_key: FxHashMap<Key, usize>,
    of_process: FxHashMap<Key, Vec<usize>>,
    all: Slab<Thread>,
    dirty: Vec<usize>,
    exited: Vec<usize>,
}

impl Threads {
    /// Charges what the thread of `entry` used, at `places`, in reading number `reading`; its process is
    /// `of`.
    pub(crate) fn charge(
        &mut self,
        entry: &Entry,
        used: &Quantities,
        places: &[usize],
        reading: u64,
        of: &Identity,
        clock: &Clock,
    ) {
        let key = (entry.tid, entry.thread_start);
        let at = match self.by_key.get(&key) {
            Some(&at) => at,
            None => self.insert(key, entry, of, clock),
        };
        let thread = &mut self.all[at];
        thread.ran_in = reading;
        if thread.comm != entry.comm {
            thread.comm = entry.comm;
            thread.tally.consumer.update(vec![name(&entry.comm)]);
        }
        if thread.tally.charge(used, places) {
            self.dirty.push(at);
        }
    }

    fn insert(&mut self, key: Key, entry: &Entry, of: &Identity, clock: &Clock) -> usize {
        let identity = Identity {
            kind: ConsumerKind::Thread,
            id: key.0.to_string().into(),
            start_unix_nano: clock.unix_nanos_of_boottime(key.1),
        };
        let ids = [Attribute::new("thread.id", key.0), Attribute::new("process.pid", entry.pid)];
        let attributes = ids.into_iter().chain([name(&entry.comm)]).collect();
        let consumer = Arc::new(Consumer::new(identity, Some(of.clone()), attributes));
        let process = (entry.pid, entry.process_start);
        let (tally, comm) = (Tally::new(consumer), entry.comm);
        let at = self.all.insert(Thread { key, process, tally, comm, ran_in: 0, exited: false });
        self.by_key.insert(key, at);
        self.of_process.entry(process).or_default().push(at);
        at
    }

    /// A thread is exiting, at `unix_nano`. It may have slices to come.
    pub(crate) fn exited(&mut self, key: Key, unix_nano: u64) {
        if let Some(&at) = self.by_key.get(&key) {
            let thread = &mut self.all[at];
            thread.tally.consumer.ended_at(unix_nano);
            if !std::mem::replace(&mut thread.exited, true) {
                self.exited.push(at);
            }
        }
    }

    /// Events were lost: looks for threads that ended unseen.
    pub(crate) fn repair(&mut self, unix_nano: u64) {
        let gone = |t: &Thread| start_ticks(t.key.0) != Some(t.key.1 / tick_nanos());
        let gone: Vec<Key> = self.all.iter().filter(|(_, t)| gone(t)).map(|(_, t)| t.key).collect();
        gone.into_iter().for_each(|key| self.exited(key, unix_nano));
    }

    /// Pushes what changed, and ends the threads that have exited and had no slice in the last reading.
    pub(crate) fn emit(
        &mut self,
        places: &[Place],
        registry: &Registry,
        start: Timestamp,
        reading: u64,
        out: &mut Batch,
    ) {
        for at in self.dirty.drain(..) {
            if let Some(thread) = self.all.get_mut(at) {
                thread.tally.emit(places, registry, start, out);
            }
        }
        let done =
            |all: &Slab<Thread>, at: usize| all.get(at).is_some_and(|t| t.exited && t.ran_in != reading);
        let exited = std::mem::take(&mut self.exited);
        for at in exited {
            match done(&self.all, at) {
                true => self.remove(at, out),
                false if self.all.contains(at) => self.exited.push(at),
                false => {}
            }
        }
    }

    /// A process has ended, and with it its threads.
    pub(crate) fn end_of(&mut self, process: Key, out: &mut Batch) {
        for at in self.of_process.remove(&process).unwrap_or_default() {
            self.remove(at, out);
        }
    }

    fn remove(&mut self, at: usize, out: &mut Batch) {
        let Some(thread) = self.all.try_remove(at) else { return };
        self.by_key.remove(&thread.key);
        self.exited.retain(|&exited| exited != at);
        if let Some(threads) = self.of_process.get_mut(&thread.process) {
            threads.retain(|&other| other != at);
        }
        thread.tally.end(out);
    }
}

fn name(comm: &[u8; COMM_LEN]) -> Attribute {
    let end = comm.iter().position(|&b| b == 0).unwrap_or(COMM_LEN);
    Attribute::new("thread.name", &*String::from_utf8_lossy(&comm[..end]))
}
