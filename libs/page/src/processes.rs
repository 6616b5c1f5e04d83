//! Who forked whom, and which processes are few enough to be shown one by one. `summary` counts the others
//! with their programs.

use std::cmp::Reverse;
use std::collections::HashMap;

use crate::entry::Entry;

/// The processes among entries, by the entries' indices.
pub(crate) struct Tree {
    parents: Vec<Option<usize>>,
    fates: Vec<Fate>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    NoProcess,
    Kept,
    /// It used something, and there are too many processes.
    LeftOut,
    /// Neither it nor a descendant used anything.
    Unused,
}

impl Tree {
    /// The tree of the processes among `entries`, of which those of most energy and their ancestors are kept.
    pub(crate) fn of(entries: &[Entry], most: usize) -> Self {
        let is_process = |entry: &Entry| entry.info.kind == "process";
        let parents = parents(entries);
        let mut fates: Vec<Fate> = (entries.iter())
            .map(|entry| match (is_process(entry), entry.used.is_empty()) {
                (false, _) => Fate::NoProcess,
                (true, false) => Fate::LeftOut,
                (true, true) => Fate::Unused,
            })
            .collect();
        let mut ranking: Vec<usize> = (0..entries.len()).filter(|&at| fates[at] == Fate::LeftOut).collect();
        ranking.sort_by_cached_key(|&at| Reverse(entries[at].total()));
        for at in ranking.into_iter().take(most) {
            let mut next = Some(at);
            while let Some(at) = next.filter(|&at| fates[at] != Fate::Kept) {
                fates[at] = Fate::Kept;
                next = parents[at];
            }
        }
        Self { parents, fates }
    }

    /// The process that forked the one at `at`.
    pub(crate) fn parent(&self, at: usize) -> Option<usize> {
        self.parents.get(at).copied().flatten()
    }

    /// Whether the process at `at` is shown; `None` if it is no process.
    pub(crate) fn keeps(&self, at: usize) -> Option<bool> {
        let fate = self.fates.get(at).filter(|fate| **fate != Fate::NoProcess)?;
        Some(*fate == Fate::Kept)
    }

    /// The processes that used something and are not shown.
    pub(crate) fn left_out(&self) -> impl Iterator<Item = usize> {
        self.fates.iter().enumerate().filter(|(_, fate)| **fate == Fate::LeftOut).map(|(at, _)| at)
    }
}

/// The parent of each process: of those that had its pid, the last one that began before the child. So there
/// is no loop.
fn parents(entries: &[Entry]) -> Vec<Option<usize>> {
    let mut by_pid: HashMap<&str, Vec<usize>> = HashMap::new();
    let order = |at: usize| (entries[at].info.start_unix_nano, at);
    for (at, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.info.kind == "process") {
        by_pid.entry(&entry.info.id).or_default().push(at);
    }
    by_pid.values_mut().for_each(|owners| owners.sort_unstable_by_key(|&at| order(at)));
    let parent = |(at, entry): (usize, &Entry)| {
        let owners = by_pid.get(entry.info.parent.as_deref()?)?;
        owners.iter().rev().copied().find(|&owner| order(owner) < order(at))
    };
    entries.iter().enumerate().map(parent).collect()
}
