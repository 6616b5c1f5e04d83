//! Who used how much when: increments of meters and of consumers, as they are collected. `summary` divides
//! them into buckets.
//!
//! An increment belongs to the moment at which its window ends. What the increments of a consumer add up to
//! never changes; how finely they are kept in time does. When there are too many, neighbours are merged, so
//! that a history of hours takes no more memory than one of minutes.

use crate::axis::Axis;
use crate::increments::{Increments, Window};

/// What is known of a consumer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerInfo {
    /// `process`, `program`, `unit`, …, `idle`, `unattributed`.
    pub kind: String,
    /// Which one of that kind: a process's pid. Empty for closing entries, and for what is in no group.
    pub id: String,
    /// A name for people, as it came from outside. A process has that of its program.
    pub name: String,
    /// When it began, in nanoseconds since the Unix epoch; 0: not known.
    pub start_unix_nano: u64,
    /// When it ended; `None`: it lives, or that is not known.
    pub end_unix_nano: Option<u64>,
    /// For a process: the pid of the one that forked it.
    pub parent: Option<String>,
}

/// An energy counter of the hardware.
#[derive(Clone, Debug)]
pub(crate) struct DomainHistory {
    pub(crate) name: String,
    pub(crate) origin: String,
    pub(crate) is_in_total: bool,
    pub(crate) measured: Increments,
}

/// Who used energy.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConsumerHistory {
    pub(crate) info: ConsumerInfo,
    /// By domain. Shorter if the last domains have none.
    pub(crate) used: Vec<Increments>,
}

/// Who used how much when.
#[derive(Clone, Debug)]
pub struct History {
    pub(crate) domains: Vec<DomainHistory>,
    pub(crate) consumers: Vec<ConsumerHistory>,
    /// Increments that are kept, and how many there may be.
    count: usize,
    limit: usize,
    /// Where merged increments end. What comes late is rounded as what was there, so that a meter and its
    /// consumers stay in the same bucket of any later axis: its edges are among these.
    edges: Vec<u64>,
}

/// 24 MB.
const LIMIT: usize = 1_000_000;
/// Into so many buckets the time is divided when increments are merged, the first time.
const FINEST: usize = 16_384;
/// It is never divided into fewer.
const COARSEST: usize = 512;

impl Default for History {
    fn default() -> Self {
        Self::with_limit(LIMIT)
    }
}

impl History {
    /// An empty history that keeps about `limit` increments at most.
    pub fn with_limit(limit: usize) -> Self {
        Self { domains: Vec::new(), consumers: Vec::new(), count: 0, limit, edges: Vec::new() }
    }

    /// The index of the domain of this name, which is added if it is new. `is_in_total`: a sum over all
    /// domains counts it.
    pub fn domain(&mut self, name: &str, origin: &str, is_in_total: bool) -> usize {
        if let Some(known) = self.domains.iter().position(|d| d.name == name && d.origin == origin) {
            return known;
        }
        let (name, origin) = (name.to_owned(), origin.to_owned());
        self.domains.push(DomainHistory { name, origin, is_in_total, measured: Increments::default() });
        self.domains.len() - 1
    }

    /// Adds a consumer. Returns its index.
    pub fn consumer(&mut self, info: ConsumerInfo) -> usize {
        self.consumers.push(ConsumerHistory { info, used: Vec::new() });
        self.consumers.len() - 1
    }

    /// What is known of a consumer, to be changed: its program's name is another one after an exec.
    pub fn info_mut(&mut self, consumer: usize) -> Option<&mut ConsumerInfo> {
        self.consumers.get_mut(consumer).map(|consumer| &mut consumer.info)
    }

    /// Everything counts from zero again. Domains and consumers stay.
    pub fn clear(&mut self) {
        self.domains.iter_mut().for_each(|domain| domain.measured.0.clear());
        self.consumers.iter_mut().for_each(|consumer| consumer.used.clear());
        self.edges.clear();
        self.count = 0;
    }

    /// What the meter of a domain counted in a window.
    pub fn measured(&mut self, domain: usize, window: Window, microjoules: u64) {
        let window = rounded(window, &self.edges);
        let Some(domain) = self.domains.get_mut(domain) else { return };
        // A window without energy is one that was covered.
        domain.measured.0.push((window, microjoules));
        self.counted();
    }

    /// What a consumer used of a domain in a window.
    pub fn used(&mut self, consumer: usize, domain: usize, window: Window, microjoules: u64) {
        let window = rounded(window, &self.edges);
        let Some(consumer) = self.consumers.get_mut(consumer).filter(|_| microjoules > 0) else { return };
        consumer.in_domain(domain).0.push((window, microjoules));
        self.counted();
    }

    /// Lets everything that `from` has used count as used by `into`.
    pub fn merge(&mut self, from: usize, into: usize) {
        let Some(source) = self.consumers.get_mut(from).filter(|_| from != into) else { return };
        let used = std::mem::take(&mut source.used);
        let Some(target) = self.consumers.get_mut(into) else { return };
        for (domain, increments) in used.into_iter().enumerate() {
            target.in_domain(domain).0.extend(increments.0);
        }
    }

    /// Forgets what ended at `time` or before. Consumers that are left with nothing and are not needed are
    /// gone. Returns the new index of each consumer.
    pub fn forget_before(&mut self, time: u64, is_needed: impl Fn(usize) -> bool) -> Vec<Option<usize>> {
        let forget = |increments: &mut Increments| increments.0.retain(|(window, _)| window.end > time);
        self.domains.iter_mut().for_each(|domain| forget(&mut domain.measured));
        let mut places = Vec::new();
        let mut kept = Vec::new();
        for (at, mut consumer) in std::mem::take(&mut self.consumers).into_iter().enumerate() {
            consumer.used.iter_mut().for_each(forget);
            let is_kept = is_needed(at) || consumer.used.iter().any(|increments| !increments.0.is_empty());
            places.push(is_kept.then_some(kept.len()));
            kept.extend(Some(consumer).filter(|_| is_kept));
        }
        self.consumers = kept;
        self.count = self.increments().map(|increments| increments.0.len()).sum();
        places
    }

    /// The division of its time into at most about so many buckets.
    pub(crate) fn axis(&self, buckets: usize) -> Axis {
        let meters = self.domains.iter().map(|domain| (domain.is_in_total, &domain.measured));
        Axis::new(&meters.collect::<Vec<_>>(), buckets)
    }

    fn increments(&self) -> impl Iterator<Item = &Increments> {
        let used = self.consumers.iter().flat_map(|consumer| &consumer.used);
        used.chain(self.domains.iter().map(|domain| &domain.measured))
    }

    fn counted(&mut self) {
        self.count += 1;
        if self.count > self.limit {
            self.thin_out();
        }
    }

    /// Merges increments that are next to each other in time, until half of them are left.
    fn thin_out(&mut self) {
        let mut buckets = FINEST;
        while self.count > self.limit / 2 && buckets >= COARSEST {
            self.edges = self.axis(buckets).edges;
            let edges = &self.edges;
            let used = self.consumers.iter_mut().flat_map(|consumer| &mut consumer.used);
            let measured = self.domains.iter_mut().map(|domain| &mut domain.measured);
            used.chain(measured).for_each(|increments| merge_within(increments, edges));
            self.count = self.increments().map(|increments| increments.0.len()).sum();
            buckets /= 2;
        }
        // What cannot be merged any more is consumers, which the caller has anyway.
        self.limit = self.limit.max(2 * self.count);
    }
}

impl ConsumerHistory {
    fn in_domain(&mut self, domain: usize) -> &mut Increments {
        if self.used.len() <= domain {
            self.used.resize_with(domain + 1, Increments::default);
        }
        &mut self.used[domain]
    }
}

/// The window with its end moved to the next of `edges`, if there is one.
fn rounded(window: Window, edges: &[u64]) -> Window {
    let end = edges.get(edges.partition_point(|&edge| edge < window.end)).copied();
    Window { end: end.unwrap_or(window.end), ..window }
}

/// Merges the increments between two edges into one.
fn merge_within(increments: &mut Increments, edges: &[u64]) {
    increments.0.sort_unstable_by_key(|(window, _)| window.end);
    let mut kept: Vec<(Window, u64)> = Vec::new();
    for &(window, microjoules) in &increments.0 {
        let window = rounded(window, edges);
        match kept.last_mut().filter(|(last, _)| last.end == window.end) {
            Some((_, sum)) => *sum += microjoules,
            None => kept.push((window, microjoules)),
        }
    }
    increments.0 = kept;
}
