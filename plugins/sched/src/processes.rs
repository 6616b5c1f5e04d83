//! The processes that ran since accounting began. A process is created by its fork event, or by the first
//! ledger entry that names it; it is charged from entries; and it ends when it has exited and no slice of it
//! is outstanding (`exited.rs`).
//!
//! A process that never runs is never looked at, so the cost of a tick depends on what ran, not on what
//! exists.

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
use wattrace_common::process_stats::{LivingThread, ProcessStats};
use wattrace_procfs::{Procfs, Stat, TICK_NANOS};

use crate::cgroups::Cgroups;
use crate::command_line;
use crate::exited::ExitedQueue;
use crate::names::{Names, comm_bytes, shared_text};
use crate::process_stats::{Figures, Key, ProcessStatsEmitter};
use crate::reader::Quantities;
use crate::threads::Threads;
use crate::usage::{ConsumerUsage, CpuGroup};

/// For how many more processes the table grows.
const GROWTH: usize = 1024;

struct Process {
    key: Key,
    usage: ConsumerUsage,
    comm: [u8; COMM_LEN],
    /// When an event last set its name (`CLOCK_MONOTONIC`, ns).
    named_at: u64,
    cgroup: u64,
    executable: Option<Arc<str>>,
    uid: Option<u32>,
    /// The last pass in which it had an entry.
    ran_at: Timestamp,
    exited: bool,
    /// What else it used.
    figures: Figures,
}

/// What is asked for besides CPU time.
#[derive(Default)]
pub(crate) struct Details {
    /// Whether threads are consumers of their own.
    pub(crate) threads: bool,
    /// What else a process used.
    pub(crate) stats: Option<ProcessStatsEmitter>,
}

/// What is known of a process when it is created.
struct NewProcess {
    parent: Option<Identity>,
    parent_pid: u32,
    comm: [u8; COMM_LEN],
    cgroup: u64,
    executable: Option<Arc<str>>,
    uid: Option<u32>,
}

impl Process {
    /// Sets its user.
    fn set_user(&mut self, uid: u32) {
        if self.uid.replace(uid) != Some(uid) {
            self.usage.consumer.update(vec![user_attribute(uid)]);
        }
    }
}

/// The table of processes.
pub(crate) struct Processes {
    /// Where other plugins find a process by its pid.
    directory: Keeper,
    registry: Arc<Registry>,
    clock: Clock,
    groups: Vec<CpuGroup>,
    /// If threads are asked for.
    threads: Option<Threads>,
    stats: Option<ProcessStatsEmitter>,
    procfs: Procfs,
    cgroups: Cgroups,
    names: Names,
    by_key: FxHashMap<Key, usize>,
    all: Slab<Process>,
    dirty: Vec<usize>,
    exited: ExitedQueue,
    /// When the last pass began.
    pass: Timestamp,
}

impl Processes {
    /// No processes yet, on a machine of `cpus` CPUs in `groups`.
    pub(crate) fn new(
        registry: Arc<Registry>,
        clock: Clock,
        cpus: usize,
        groups: Vec<CpuGroup>,
        details: Details,
    ) -> Self {
        Self {
            directory: registry.directory().keep(),
            registry,
            groups,
            threads: details.threads.then(|| Threads::new(clock.clone(), cpus)),
            stats: details.stats,
            clock,
            procfs: Procfs::default(),
            cgroups: Cgroups::new(),
            names: Names::default(),
            by_key: FxHashMap::default(),
            all: Slab::new(),
            dirty: Vec::new(),
            exited: ExitedQueue::new(cpus),
            pass: Timestamp::default(),
        }
    }

    /// Begins a pass over all ledgers, at `now`.
    pub(crate) fn begin_pass(&mut self, now: Timestamp) {
        self.pass = now;
    }

    /// A process was forked.
    pub(crate) fn forked(&mut self, event: &Event) {
        let key = (event.pid, event.start);
        if self.by_key.contains_key(&key) || self.exited.is_full() {
            return;
        }
        let parent_key = (event.parent_pid, event.parent_start);
        let parent = self.by_key.get(&parent_key).map(|&at| &self.all[at]);
        let inherited = parent.and_then(|p| p.executable.clone());
        let parent = self.identity(parent_key);
        let (parent_pid, comm, cgroup) = (event.parent_pid, event.comm, event.cgroup);
        let uid = Some(event.uid);
        self.insert(
            key,
            NewProcess { parent: Some(parent), parent_pid, comm, cgroup, executable: inherited, uid },
        );
    }

    /// A cgroup was created at `path`.
    pub(crate) fn cgroup_created(&mut self, event: &Event, path: &[u8]) {
        self.cgroups.created(event.cgroup, &String::from_utf8_lossy(path));
    }

    /// A process executed a program: its name changes, its identity does not. `arguments` is its command
    /// line, if those are read: each argument terminated by a zero.
    pub(crate) fn executed(&mut self, event: &Event, path: &[u8], arguments: &[u8]) {
        let known = self.get_or_discover((event.pid, event.start), event.comm, event.cgroup);
        let Some(at) = known else { return };
        let given = String::from_utf8_lossy(path);
        // A relative path is of little use without its directory. While the process lives, /proc has the
        // absolute one.
        let absolute = if given.starts_with('/') { None } else { self.procfs.executable(event.pid) };
        let path: Option<Arc<str>> = match absolute {
            Some(absolute) => Some(self.names.shared(&absolute)),
            None if given.is_empty() => None,
            None => Some(self.names.shared(&given)),
        };
        let process = &mut self.all[at];
        process.comm = event.comm;
        process.named_at = event.at_ns;
        process.executable = path;
        let mut changes = self.names.attributes(&process.comm, process.executable.as_ref());
        if !arguments.is_empty() {
            changes.push(Attribute::new("process.command", command_line::command(arguments)));
            changes.push(Attribute::new("process.command_line", command_line::readable(arguments)));
        }
        process.usage.consumer.update(changes);
        process.set_user(event.uid);
    }

    /// The last thread of a process is exiting. More slices of it may follow.
    pub(crate) fn exited(&mut self, event: &Event, stats: Option<ProcessStats>) {
        let known = self.get_or_discover((event.pid, event.start), event.comm, event.cgroup);
        let Some(at) = known else { return };
        let code = exit_code(event.wait_status);
        let process = &mut self.all[at];
        process.usage.consumer.update(vec![Attribute::new("process.exit.code", code)]);
        process.figures.exited(stats);
        self.mark_exited(at, self.clock.unix_nanos(Timestamp(event.at_ns)));
    }

    /// A thread is exiting that is not the last of its process.
    pub(crate) fn thread_exited(&mut self, event: &Event, stats: Option<ProcessStats>) {
        if stats.is_some() {
            let known = self.get_or_discover((event.pid, event.start), event.comm, event.cgroup);
            if let Some(at) = known {
                self.all[at].figures.exited(stats);
            }
        }
        if let Some(threads) = &mut self.threads {
            let unix_nano = self.clock.unix_nanos(Timestamp(event.at_ns));
            threads.exited((event.parent_pid, event.parent_start), unix_nano, self.pass);
        }
    }

    fn mark_exited(&mut self, at: usize, unix_nano: u64) {
        let process = &mut self.all[at];
        process.usage.consumer.ended_at(unix_nano);
        if !std::mem::replace(&mut process.exited, true) {
            self.exited.push(at, self.pass);
        }
    }

    /// Charges what the thread of `entry` used of each of `groups`, a package and perhaps a core. The page
    /// began at `page_start`. Returns whether the process is followed: in a fork storm some are not.
    pub(crate) fn charge(
        &mut self,
        entry: &Entry,
        used: &Quantities,
        page_start: u64,
        groups: &[usize],
    ) -> bool {
        let known = self.get_or_discover((entry.pid, entry.process_start), entry.comm, entry.cgroup);
        let Some(at) = known else { return false };
        let process = &mut self.all[at];
        process.ran_at = self.pass;
        if process.usage.charge(used, groups) {
            self.dirty.push(at);
        }
        if let Some(threads) = &mut self.threads {
            // Threads have no time per core.
            threads.charge(entry, used, groups[0], self.pass, &process.usage.consumer);
        }
        if process.cgroup != entry.cgroup {
            process.cgroup = entry.cgroup;
            let path = self.cgroups.path(entry.cgroup);
            process.usage.consumer.update(path.map(cgroup_attribute).into_iter().collect());
        }
        // The leader's name can change without an exec (prctl), and the event of an exec can be lost. But the
        // entry has the name of when the thread first ran on this page: an event since then is newer.
        if entry.tid == entry.pid && process.named_at < page_start && process.comm != entry.comm {
            process.comm = entry.comm;
            let names = self.names.attributes(&process.comm, process.executable.as_ref());
            process.usage.consumer.update(names);
        }
        true
    }

    /// Finds a process, or creates one without a fork event: it is older than the agent, or the event was
    /// lost. `None`: no more are followed for now.
    fn get_or_discover(&mut self, key: Key, comm: [u8; COMM_LEN], cgroup: u64) -> Option<usize> {
        if let Some(&at) = self.by_key.get(&key) {
            return Some(at);
        }
        if self.exited.is_full() {
            return None;
        }
        let stat = stat_of(&self.procfs, key);
        let path = stat.as_ref().and_then(|_| self.procfs.executable(key.0));
        let path = path.map(|path| self.names.shared(&path));
        let comm = stat.as_ref().map_or(comm, |stat| comm_bytes(&stat.comm));
        let parent_pid = stat.as_ref().map_or(0, |stat| stat.parent);
        let uid = stat.as_ref().and_then(|_| self.procfs.real_uid(key.0));
        let at =
            self.insert(key, NewProcess { parent: None, parent_pid, comm, cgroup, executable: path, uid });
        if stat.is_none() {
            self.mark_exited(at, self.clock.unix_nanos(self.clock.now()));
        }
        Some(at)
    }

    fn insert(&mut self, key: Key, new: NewProcess) -> usize {
        let NewProcess { parent, parent_pid, comm, cgroup, executable, uid } = new;
        let identity = self.identity(key);
        let created = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(identity.start_unix_nano);
        let mut attributes = vec![
            Attribute::new("process.pid", key.0),
            Attribute::new("process.parent_pid", parent_pid),
            Attribute::new("process.creation.time", humantime::format_rfc3339_nanos(created).to_string()),
        ];
        attributes.extend(self.names.attributes(&comm, executable.as_ref()));
        attributes.extend(self.cgroups.path(cgroup).map(cgroup_attribute));
        attributes.extend(uid.map(user_attribute));
        let figures = self.figures(key, identity.start_unix_nano, parent.is_some());
        let consumer = Arc::new(Consumer::new(identity, parent, attributes));
        if self.registry.events().wanted::<ConsumerStarted>() {
            self.registry.events().publish(ConsumerStarted(consumer.clone()));
        }
        self.directory.announce(key.0, consumer.clone());
        if self.all.len() == self.all.capacity() {
            // Not twice as many: there are many of them at once in a fork storm only.
            self.all.reserve_exact(GROWTH);
        }
        let at = self.all.insert(Process {
            key,
            usage: ConsumerUsage::new(consumer),
            comm,
            named_at: 0,
            cgroup,
            executable,
            uid,
            ran_at: self.pass,
            exited: false,
            figures,
        });
        self.by_key.insert(key, at);
        at
    }

    /// Those of a new process, if they are asked for.
    fn figures(&mut self, key: Key, start_unix_nano: u64, is_new: bool) -> Figures {
        let Some(stats) = &mut self.stats else { return Figures::default() };
        let now = self.clock.now();
        let age = self.clock.unix_nanos(now).saturating_sub(start_unix_nano);
        stats.figures(key, Timestamp(now.0.saturating_sub(age)), is_new)
    }

    fn identity(&self, (pid, start): Key) -> Identity {
        Identity {
            kind: ConsumerKind::Process,
            id: Cow::Owned(pid.to_string()),
            start_unix_nano: self.clock.unix_nanos_of_boottime(start),
        }
    }

    /// Events were lost: marks the processes that are gone as exited.
    pub(crate) fn repair(&mut self) {
        let now = self.clock.unix_nanos(self.clock.now());
        let gone = |p: &Process| !p.exited && stat_of(&self.procfs, p.key).is_none();
        let gone: Vec<usize> = self.all.iter().filter(|(_, p)| gone(p)).map(|(at, _)| at).collect();
        for at in gone {
            self.mark_exited(at, now);
        }
        if let Some(threads) = &mut self.threads {
            threads.repair(now, self.pass);
        }
    }

    /// Pushes what changed since the last call, and ends the processes that have exited and will have no
    /// other slice, or all that have exited if no other pass follows (`last`). New series begin at `start`.
    pub(crate) fn emit(&mut self, start: Timestamp, last: bool, out: &mut Batch) {
        for at in self.dirty.drain(..) {
            if let Some(process) = self.all.get_mut(at) {
                process.usage.emit(&self.groups, &self.registry, start, out);
            }
        }
        if let Some(threads) = &mut self.threads {
            threads.emit(&self.groups, &self.registry, start, self.pass, out);
        }
        while let Some(at) = self.next_to_end(last) {
            self.end(at, out);
        }
    }

    /// What else processes used, if it is asked for.
    pub(crate) fn stats(&mut self) -> Option<&mut ProcessStatsEmitter> {
        self.stats.as_mut()
    }

    /// Takes in what a living thread used besides CPU time.
    pub(crate) fn living(&mut self, thread: &LivingThread) {
        let Some(stats) = &mut self.stats else { return };
        let of = self.by_key.get(&(thread.pid, thread.process_start)).map(|&at| &mut self.all[at].figures);
        stats.living(thread, of);
    }

    /// Takes in what all living processes used, after the listing of their threads.
    pub(crate) fn listed(&mut self) {
        let Some(stats) = &mut self.stats else { return };
        for (_, process) in &mut self.all {
            stats.listed(&process.usage.consumer, &mut process.figures);
        }
    }

    fn next_to_end(&mut self, last: bool) -> Option<usize> {
        let all = &self.all;
        match last {
            true => self.exited.next_of_all(),
            false => self.exited.next(self.pass, |at| all.get(at).map_or(self.pass, |p| p.ran_at)),
        }
    }

    fn end(&mut self, at: usize, out: &mut Batch) {
        let Some(mut process) = self.all.try_remove(at) else { return };
        self.by_key.remove(&process.key);
        self.directory.withdraw(process.key.0, &process.usage.consumer);
        if let Some(stats) = &mut self.stats {
            stats.ended(&process.usage.consumer, &mut process.figures, out);
        }
        process.usage.end(out);
        if let Some(threads) = &mut self.threads {
            threads.end_all_of(process.key, out);
        }
    }

    /// The number of processes.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }
}

/// The `stat` of a process; `None` if it is gone, or if its pid now belongs to another one.
fn stat_of(procfs: &Procfs, (pid, start): Key) -> Option<Stat> {
    procfs.stat(pid).filter(|stat| stat.start_ticks == start / TICK_NANOS)
}

/// The status of `wait` as shells show it: the exit code, or 128 plus the signal.
fn exit_code(wait_status: u32) -> i64 {
    match wait_status & 0x7f {
        0 => i64::from(wait_status >> 8 & 0xff),
        signal => i64::from(128 + signal),
    }
}

fn cgroup_attribute(path: Arc<str>) -> Attribute {
    shared_text("process.linux.cgroup", path)
}

fn user_attribute(uid: u32) -> Attribute {
    Attribute::new("process.real_user.id", uid)
}

#[cfg(test)]
mod tests;
