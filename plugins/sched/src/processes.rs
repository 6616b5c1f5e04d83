//! The processes that ran since accounting began: made from fork events, or from the first ledger entry that
//! names them; charged from entries; ended when they have exited and no slice of theirs is outstanding.
//!
//! A process that never runs is never looked at: this is what makes a tick's cost follow the work.

use std::borrow::Cow;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use slab::Slab;
use wattrace_api::directory::Keeper;
use wattrace_api::events::ConsumerStarted;
use wattrace_api::{Attribute, Batch, Clock, Consumer, ConsumerKind, Identity, Registry, Timestamp};
use wattrace_common::COMM_LEN;
use wattrace_common::ledger::Entry;
use wattrace_common::log::Event;

use crate::command_line;
use crate::proc::{Cgroups, Living, executable, user};
use crate::reader::Quantities;
use crate::tally::{Place, Tally};
use crate::threads::Threads;

/// A process is (pid, start time of its leader in ns of `CLOCK_BOOTTIME`).
type Key = (u32, u64);

struct Process {
    key: Key,
    tally: Tally,
    comm: [u8; COMM_LEN],
    /// When an event last told its name (`CLOCK_MONOTONIC`, ns).
    named_at: u64,
    cgroup: u64,
    executable: Option<Arc<str>>,
    uid: Option<u32>,
    /// Number of the reading in which it last had an entry.
    ran_in: u64,
    exited: bool,
}

impl Process {
    /// Its user, as an event or /proc tells.
    fn belongs_to(&mut self, uid: u32) {
        if self.uid.replace(uid) != Some(uid) {
            self.tally.consumer.update(vec![Attribute::new("process.real_user.id", uid)]);
        }
    }
}

/// The table of processes.
pub(crate) struct Processes {
    /// By which other plugins find a process of which they know the pid alone.
    directory: Keeper,
    registry: Arc<Registry>,
    clock: Clock,
    places: Vec<Place>,
    /// Where threads are asked for.
    threads: Option<Threads>,
    cgroups: Cgroups,
    by_key: FxHashMap<Key, usize>,
    all: Slab<Process>,
    dirty: Vec<usize>,
    exited: Vec<usize>,
    reading: u64,
}

impl Processes {
    pub(crate) fn new(registry: Arc<Registry>, clock: Clock, places: Vec<Place>, threads: bool) -> Self {
        Self {
            directory: registry.directory().keep(),
            registry,
            clock,
            places,
            threads: threads.then(Threads::default),
            cgroups: Cgroups::new(),
            by_key: FxHashMap::default(),
            all: Slab::new(),
            dirty: Vec::new(),
            exited: Vec::new(),
            reading: 0,
        }
    }

    /// Begins a reading of all ledgers.
    pub(crate) fn begin_reading(&mut self) {
        self.reading += 1;
    }

    /// A process was forked.
    pub(crate) fn forked(&mut self, event: &Event) {
        let key = (event.pid, event.start);
        if self.by_key.contains_key(&key) {
            return;
        }
        let parent_key = (event.parent_pid, event.parent_start);
        let parent = self.by_key.get(&parent_key).map(|&at| &self.all[at]);
        let inherited = parent.and_then(|p| p.executable.clone());
        let parent = self.identity(parent_key);
        let at = self.insert(key, Some(parent), event.parent_pid, event.comm, event.cgroup, inherited);
        self.all[at].belongs_to(event.uid);
    }

    /// A cgroup was made, at `path`.
    pub(crate) fn cgroup_made(&mut self, event: &Event, path: &[u8]) {
        self.cgroups.made(event.cgroup, &String::from_utf8_lossy(path));
    }

    /// A process executed a program: its name changes, its identity does not. `arguments` is its command
    /// line, if that is read: each argument ended by a zero.
    pub(crate) fn executed(&mut self, event: &Event, path: &[u8], arguments: &[u8]) {
        let at = self.get_or_discover((event.pid, event.start), event.comm, event.cgroup);
        let given = String::from_utf8_lossy(path);
        // A relative path says little without its directory. If the process is still there, /proc knows the
        // whole one.
        let whole = (!given.starts_with('/')).then(|| executable(event.pid)).flatten();
        let path: Option<Arc<str>> = match whole {
            Some(whole) => Some(whole.into()),
            None if given.is_empty() => None,
            None => Some(given.into()),
        };
        let process = &mut self.all[at];
        process.comm = event.comm;
        process.named_at = event.at_ns;
        process.executable = path;
        let mut changes = names(&process.comm, process.executable.as_deref());
        if !arguments.is_empty() {
            changes.push(Attribute::new("process.command_line", command_line::readable(arguments)));
        }
        process.tally.consumer.update(changes);
        process.belongs_to(event.uid);
    }

    /// The last thread of a process is exiting. It may have slices to come.
    pub(crate) fn exited(&mut self, event: &Event) {
        let at = self.get_or_discover((event.pid, event.start), event.comm, event.cgroup);
        let code = exit_code(event.wait_status);
        self.all[at].tally.consumer.update(vec![Attribute::new("process.exit.code", code)]);
        self.mark_exited(at, self.clock.unix_nanos(Timestamp(event.at_ns)));
    }

    /// A thread is exiting that is not the last of its process.
    pub(crate) fn thread_exited(&mut self, event: &Event) {
        if let Some(threads) = &mut self.threads {
            let unix_nano = self.clock.unix_nanos(Timestamp(event.at_ns));
            threads.exited((event.parent_pid, event.parent_start), unix_nano);
        }
    }

    fn mark_exited(&mut self, at: usize, unix_nano: u64) {
        let process = &mut self.all[at];
        process.tally.consumer.ended_at(unix_nano);
        if !std::mem::replace(&mut process.exited, true) {
            self.exited.push(at);
        }
    }

    /// Charges what the thread of `entry` used, at each of `places`. Its page began at `page_start`.
    pub(crate) fn charge(&mut self, entry: &Entry, used: &Quantities, page_start: u64, places: &[usize]) {
        let at = self.get_or_discover((entry.pid, entry.process_start), entry.comm, entry.cgroup);
        let process = &mut self.all[at];
        process.ran_in = self.reading;
        if process.tally.charge(used, places) {
            self.dirty.push(at);
        }
        if let Some(threads) = &mut self.threads {
            let of = process.tally.consumer.identity();
            // Threads are not told of per core.
            threads.charge(entry, used, &places[..1], self.reading, of, &self.clock);
        }
        if process.cgroup != entry.cgroup {
            process.cgroup = entry.cgroup;
            let path = self.cgroups.path(entry.cgroup);
            process.tally.consumer.update(path.map(cgroup_attribute).into_iter().collect());
        }
        // The leader's name can change without an exec (prctl), and an exec's event can be lost. But the
        // entry has the name from when the thread first ran on this page: an event since then knows better.
        if entry.tid == entry.pid && process.named_at < page_start && process.comm != entry.comm {
            process.comm = entry.comm;
            process.tally.consumer.update(names(&process.comm, process.executable.as_deref()));
        }
    }

    /// Finds a process, or makes one that no fork event told of: it was there before us, or the event was
    /// lost.
    fn get_or_discover(&mut self, key: Key, comm: [u8; COMM_LEN], cgroup: u64) -> usize {
        if let Some(&at) = self.by_key.get(&key) {
            return at;
        }
        let living = Living::read(key.0, key.1);
        let path = living.as_ref().and_then(|_| executable(key.0)).map(Into::into);
        let parent_pid = living.as_ref().map_or(0, |p| p.parent_pid);
        let comm = living.as_ref().map_or(comm, |p| comm_bytes(&p.comm));
        let at = self.insert(key, None, parent_pid, comm, cgroup, path);
        if let Some(uid) = living.as_ref().and_then(|_| user(key.0)) {
            self.all[at].belongs_to(uid);
        }
        if living.is_none() {
            self.mark_exited(at, self.clock.unix_nanos(self.clock.now()));
        }
        at
    }

    fn insert(
        &mut self,
        key: Key,
        parent: Option<Identity>,
        parent_pid: u32,
        comm: [u8; COMM_LEN],
        cgroup: u64,
        executable: Option<Arc<str>>,
    ) -> usize {
        let identity = self.identity(key);
        let created = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(identity.start_unix_nano);
        let mut attributes = vec![
            Attribute::new("process.pid", key.0),
            Attribute::new("process.parent_pid", parent_pid),
            Attribute::new("process.creation.time", humantime::format_rfc3339_nanos(created).to_string()),
        ];
        attributes.extend(names(&comm, executable.as_deref()));
        attributes.extend(self.cgroups.path(cgroup).map(cgroup_attribute));
        let consumer = Arc::new(Consumer::new(identity, parent, attributes));
        if self.registry.events().wanted::<ConsumerStarted>() {
            self.registry.events().publish(ConsumerStarted(consumer.clone()));
        }
        self.directory.announce(key.0, consumer.clone());
        let at = self.all.insert(Process {
            key,
            tally: Tally::new(consumer),
            comm,
            named_at: 0,
            cgroup,
            executable,
            uid: None,
            ran_in: self.reading,
            exited: false,
        });
        self.by_key.insert(key, at);
        at
    }

    fn identity(&self, (pid, start): Key) -> Identity {
        Identity {
            kind: ConsumerKind::Process,
            id: Cow::Owned(pid.to_string()),
            start_unix_nano: self.clock.unix_nanos_of_boottime(start),
        }
    }

    /// Events were lost: looks for processes that ended unseen.
    pub(crate) fn repair(&mut self) {
        let now = self.clock.unix_nanos(self.clock.now());
        let gone = |p: &Process| !p.exited && Living::read(p.key.0, p.key.1).is_none();
        let gone: Vec<usize> = self.all.iter().filter(|(_, p)| gone(p)).map(|(at, _)| at).collect();
        for at in gone {
            self.mark_exited(at, now);
        }
        if let Some(threads) = &mut self.threads {
            threads.repair(now);
        }
    }

    /// Pushes what changed since the last time, with `start` as the start of series that are new, and ends
    /// the processes that have exited: those that had no slice in the last reading, or all if there is no
    /// other reading (`last`).
    pub(crate) fn emit(&mut self, start: Timestamp, last: bool, out: &mut Batch) {
        for at in self.dirty.drain(..) {
            if let Some(process) = self.all.get_mut(at) {
                process.tally.emit(&self.places, &self.registry, start, out);
            }
        }
        if let Some(threads) = &mut self.threads {
            threads.emit(&self.places, &self.registry, start, self.reading, out);
        }
        let (all, by_key, reading) = (&mut self.all, &mut self.by_key, self.reading);
        let (directory, threads) = (&self.directory, &mut self.threads);
        self.exited.retain(|&at| {
            if all[at].ran_in == reading && !last {
                return true;
            }
            let process = all.remove(at);
            by_key.remove(&process.key);
            directory.withdraw(process.key.0, &process.tally.consumer);
            process.tally.end(out);
            if let Some(threads) = &mut *threads {
                threads.end_of(process.key, out);
            }
            false
        });
    }

    /// Processes known now.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }
}

/// `wait`'s status as shells tell it: the exit code, or 128 plus the signal.
fn exit_code(wait_status: u32) -> i64 {
    match wait_status & 0x7f {
        0 => i64::from(wait_status >> 8 & 0xff),
        signal => i64::from(128 + signal),
    }
}

fn names(comm: &[u8; COMM_LEN], executable: Option<&str>) -> Vec<Attribute> {
    let end = comm.iter().position(|&b| b == 0).unwrap_or(COMM_LEN);
    let comm = String::from_utf8_lossy(&comm[..end]);
    // OpenTelemetry: the base name of /proc/PID/exe; a kernel thread has only its own name.
    let name = executable.and_then(|p| p.rsplit('/').next()).filter(|n| !n.is_empty()).unwrap_or(&comm);
    let mut names = vec![
        Attribute::new("process.executable.name", name),
        Attribute::new("wattrace.process.comm", &*comm),
    ];
    names.extend(executable.map(|path| Attribute::new("process.executable.path", path)));
    names
}

fn cgroup_attribute(path: Arc<str>) -> Attribute {
    Attribute::new("process.linux.cgroup", &*path)
}

fn comm_bytes(comm: &str) -> [u8; COMM_LEN] {
    let mut bytes = [0; COMM_LEN];
    let len = comm.len().min(COMM_LEN - 1);
    bytes[..len].copy_from_slice(&comm.as_bytes()[..len]);
    bytes
}

#[cfg(test)]
mod tests;
