//! A consumer while the document is made. `summary` makes them, `processes` sorts them.

use std::collections::BTreeMap;

use crate::history::ConsumerInfo;

/// A consumer and its microjoules by domain and bucket.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    pub(crate) info: ConsumerInfo,
    pub(crate) used: BTreeMap<(usize, usize), u64>,
}

impl Entry {
    pub(crate) fn total(&self) -> u64 {
        self.used.values().sum()
    }

    pub(crate) fn add(&mut self, other: &Entry) {
        other.used.iter().for_each(|(&key, &microjoules)| *self.used.entry(key).or_default() += microjoules);
    }
}

/// Whether consumers of a kind count once more what processes count.
pub(crate) fn is_group(kind: &str) -> bool {
    ["unit", "container", "pod", "job", "machine", "user"].contains(&kind)
}
