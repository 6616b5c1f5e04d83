//! The processes that a report is about, among everything that was recorded: a command's process with its
//! descendants, or whatever `wattrace watch` was attached to.

use std::collections::{HashMap, HashSet};

use wattrace_api::{AttributeValue, Consumer, ConsumerKind, Identity};

use super::child::Root;
use super::recorder::{ProcessRecord, Recording};

/// The difference that the kernel's clock and ours may have, ns. A pid is not reused within milliseconds.
pub(in crate::cli) const TOLERANCE: u64 = 10_000_000;

/// Processes, as indices of records.
pub(in crate::cli) struct Selection {
    /// In order of their start.
    pub(super) processes: Vec<usize>,
    /// The same.
    members: HashSet<usize>,
    threads: HashMap<usize, Vec<usize>>,
}

impl Selection {
    /// The process `root`, started at `since` or later, and all its descendants.
    pub(super) fn of_command(root: Root, since: u64, processes: &[ProcessRecord]) -> Self {
        let first = (0..processes.len()).find(|&at| is_root(&processes[at].consumer, root, since));
        Self::new(first.into_iter().collect(), true, processes)
    }

    /// Every process that is `wanted` and, `with_descendants`, all of theirs.
    pub(in crate::cli) fn of_all(
        wanted: impl Fn(&Consumer) -> bool,
        with_descendants: bool,
        recording: &Recording,
    ) -> Self {
        let processes = &recording.processes;
        let is_wanted = |p: &ProcessRecord| !p.is_thread() && wanted(&p.consumer);
        let roots = (0..processes.len()).filter(|&at| is_wanted(&processes[at])).collect();
        Self::new(roots, with_descendants, processes)
    }

    fn new(roots: Vec<usize>, with_descendants: bool, processes: &[ProcessRecord]) -> Self {
        let mut children: HashMap<&Identity, Vec<usize>> = HashMap::new();
        for (at, p) in processes.iter().enumerate() {
            if let Some(parent) = p.consumer.parent() {
                children.entry(parent).or_default().push(at);
            }
        }
        let mut found = roots;
        let mut seen: HashSet<usize> = found.iter().copied().collect();
        let mut threads: HashMap<usize, Vec<usize>> = HashMap::new();
        let mut next = 0;
        while let Some(&at) = found.get(next) {
            next += 1;
            for &child in children.get(processes[at].consumer.identity()).into_iter().flatten() {
                if processes[child].is_thread() {
                    threads.entry(at).or_default().push(child);
                } else if with_descendants && seen.insert(child) {
                    found.push(child);
                }
            }
        }
        found.sort_by_key(|&at| processes[at].consumer.identity().start_unix_nano);
        Self { processes: found, members: seen, threads }
    }

    /// Whether it has the process at `record`.
    pub(super) fn contains(&self, record: usize) -> bool {
        self.members.contains(&record)
    }

    /// The threads of a process, if they are consumers of their own.
    pub(super) fn threads_of(&self, process: usize) -> &[usize] {
        self.threads.get(&process).map_or(&[], Vec::as_slice)
    }
}

/// Whether a process is `root`, started at `since` or later.
pub(super) fn is_root(process: &Consumer, root: Root, since: u64) -> bool {
    let identity = process.identity();
    let is_ours = |parent| int(process, "process.parent_pid") == i64::from(parent);
    process.kind() == ConsumerKind::Process
        && identity.id.parse() == Ok(root.pid)
        && root.parent.is_none_or(is_ours)
        && identity.start_unix_nano + TOLERANCE >= since
}

/// An attribute that is a whole number; 0 if there is none.
pub(in crate::cli) fn int(consumer: &Consumer, key: &str) -> i64 {
    match consumer.attribute(key) {
        Some(AttributeValue::Int(value)) => value,
        _ => 0,
    }
}
