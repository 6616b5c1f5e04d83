//! The command's process and its descendants, among everything that was recorded.

use std::collections::{HashMap, HashSet};

use wattrace_api::{AttributeValue, Consumer, ConsumerKind, Identity};

use super::child::Root;
use super::recorder::ProcessRecord;

/// The difference that the kernel's clock and that of the start of the command may have, ns. A pid is not
/// reused within milliseconds.
const TOLERANCE: u64 = 10_000_000;

/// The command's process and its descendants, as indices of records.
pub(super) struct Tree {
    /// In order of their start.
    pub(super) processes: Vec<usize>,
    /// The same.
    members: HashSet<usize>,
    threads: HashMap<usize, Vec<usize>>,
}

impl Tree {
    /// The process `root`, started at `since` or later, and all its descendants.
    pub(super) fn of(root: Root, since: u64, processes: &[ProcessRecord]) -> Self {
        let mut children: HashMap<&Identity, Vec<usize>> = HashMap::new();
        for (at, p) in processes.iter().enumerate() {
            if let Some(parent) = p.consumer.parent() {
                children.entry(parent).or_default().push(at);
            }
        }
        let first = (0..processes.len()).find(|&at| is_root(&processes[at].consumer, root, since));
        let mut found: Vec<usize> = first.into_iter().collect();
        let mut seen: HashSet<usize> = found.iter().copied().collect();
        let mut threads: HashMap<usize, Vec<usize>> = HashMap::new();
        let mut next = 0;
        while let Some(&at) = found.get(next) {
            next += 1;
            for &child in children.get(processes[at].consumer.identity()).into_iter().flatten() {
                if processes[child].is_thread() {
                    threads.entry(at).or_default().push(child);
                } else if seen.insert(child) {
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
pub(super) fn int(consumer: &Consumer, key: &str) -> i64 {
    match consumer.attribute(key) {
        Some(AttributeValue::Int(value)) => value,
        _ => 0,
    }
}
