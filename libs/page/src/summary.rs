//! The document of a history: its increments by bucket, as small as a browser can handle at once.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::axis::Axis;
use crate::document::{Amounts, ConsumerFields, Document, DomainFields};
use crate::entry::{Entry, is_group};
use crate::history::{ConsumerHistory, ConsumerInfo, History};
use crate::increments::Increments;
use crate::processes::Tree;

/// What the document says of itself.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// Of what it is.
    pub title: String,
    /// Whether times count from the beginning.
    pub is_relative: bool,
    /// After how many milliseconds there is more to see.
    pub refresh_ms: Option<u64>,
    /// What is called `other` that a meter measured and nobody is known to have used; `None`: nothing is
    /// added, so that the page shows by how much the books differ.
    pub rest: Option<String>,
    /// All that there is: its begin and end, in nanoseconds since the Unix epoch.
    pub extent: Option<[u64; 2]>,
}

/// Buckets of a document: a screen has hardly more columns.
const BUCKETS: usize = 1000;
/// With fewer there is little left to see.
const FEWEST_BUCKETS: usize = 60;
/// Amounts of a document: 5 MB of JSON.
const MOST_AMOUNTS: usize = 400_000;
/// Processes of a document: 3 MB of JSON. Those of least energy are counted with their programs.
const MOST_PROCESSES: usize = 20_000;

/// The document of `history`.
pub fn summarise(history: &History, about: &About) -> Document {
    let mut buckets = BUCKETS;
    loop {
        let document = with_buckets(history, about, buckets);
        if document.amounts() <= MOST_AMOUNTS || buckets / 2 < FEWEST_BUCKETS {
            return document;
        }
        buckets /= 2;
    }
}

fn with_buckets(history: &History, about: &About, buckets: usize) -> Document {
    let axis = history.axis(buckets);
    let mut entries: Vec<Entry> = history.consumers.iter().map(|consumer| entry(consumer, &axis)).collect();
    let domains: Vec<DomainFields> = (history.domains.iter().enumerate())
        .map(|(at, domain)| {
            let closed = closed_until(history, at);
            let measured = by_bucket(&domain.measured, &axis, closed.unwrap_or(u64::MAX));
            if closed.is_none() {
                // Without attribution, nobody says whose it is.
                let own = measured.iter().map(|(&bucket, &microjoules)| ((at, bucket), microjoules));
                named(&mut entries, "unattributed", "").used.extend(own);
            }
            let (name, origin) = (domain.name.clone(), domain.origin.clone());
            DomainFields { name, origin, in_total: domain.is_in_total, measured_uj: amounts(&measured) }
        })
        .collect();
    if let Some(name) = &about.rest {
        let rest = rest(&entries, &domains);
        let other = named(&mut entries, "other", "");
        other.info.name.clone_from(name);
        other.add(&rest);
    }
    let tree = Tree::of(&entries, MOST_PROCESSES);
    let mut left_out: BTreeMap<String, Entry> = BTreeMap::new();
    for process in tree.left_out().map(|at| &entries[at]) {
        left_out.entry(process.info.name.clone()).or_default().add(process);
    }
    left_out.iter().for_each(|(name, sum)| named(&mut entries, "program", name).add(sum));
    let measured = domains.iter().flat_map(|domain| domain.measured_uj.iter().step_by(2));
    let covered: HashSet<usize> = measured.filter_map(|bucket| usize::try_from(*bucket).ok()).collect();
    Document {
        schema: "wattrace.view/1",
        title: about.title.clone(),
        is_relative: about.is_relative,
        refresh_ms: about.refresh_ms,
        extent_us: about.extent.map(|extent| extent.map(micros)),
        edges_us: axis.edges.iter().map(|&edge| micros(edge)).collect(),
        gaps: axis.gaps.iter().copied().filter(|bucket| !covered.contains(bucket)).collect(),
        processes_by_program: tree.left_out().count(),
        consumers: consumers(&entries, &tree),
        domains,
    }
}

fn entry(consumer: &ConsumerHistory, axis: &Axis) -> Entry {
    let by_domain = consumer.used.iter().enumerate();
    let used = by_domain.flat_map(|(domain, increments)| {
        let amounts = by_bucket(increments, axis, u64::MAX).into_iter();
        amounts.map(move |(bucket, microjoules)| ((domain, bucket), microjoules))
    });
    Entry { info: consumer.info.clone(), used: used.collect() }
}

/// Until when the books of a domain are closed: up to its last attributed energy; `None` if it has none. What
/// the meter counted after that is not attributed yet, and left out.
fn closed_until(history: &History, domain: usize) -> Option<u64> {
    let used = history.consumers.iter().filter_map(|consumer| consumer.used.get(domain));
    used.flat_map(|increments| &increments.0).map(|(window, _)| window.end).max()
}

/// The sums of increments by bucket, up to a time.
fn by_bucket(increments: &Increments, axis: &Axis, until: u64) -> BTreeMap<usize, u64> {
    let mut sums = BTreeMap::new();
    for (window, microjoules) in increments.0.iter().filter(|(window, sum)| window.end <= until && *sum > 0) {
        *sums.entry(axis.bucket(window.end)).or_default() += microjoules;
    }
    sums
}

/// What the meters measured beyond what processes, programs and closing entries used.
fn rest(entries: &[Entry], domains: &[DomainFields]) -> Entry {
    let mut rest = Entry::default();
    for (at, domain) in domains.iter().enumerate() {
        let measured = domain.measured_uj.chunks_exact(2);
        rest.used.extend(measured.map(|pair| ((at, usize::try_from(pair[0]).unwrap_or(0)), pair[1])));
    }
    for entry in entries.iter().filter(|entry| !is_group(&entry.info.kind)) {
        for (key, used) in &entry.used {
            rest.used.entry(*key).and_modify(|left| *left = left.saturating_sub(*used));
        }
    }
    rest.used.retain(|_, left| *left > 0);
    rest
}

/// The entry of this kind and name, which is added if there is none.
fn named<'a>(entries: &'a mut Vec<Entry>, kind: &str, name: &str) -> &'a mut Entry {
    let known = entries.iter().position(|entry| entry.info.kind == kind && entry.info.name == name);
    let at = known.unwrap_or_else(|| {
        let (kind, name) = (kind.to_owned(), name.to_owned());
        let info = ConsumerInfo { kind, id: name.clone(), name, ..ConsumerInfo::default() };
        entries.push(Entry { info, used: BTreeMap::new() });
        entries.len() - 1
    });
    &mut entries[at]
}

fn consumers(entries: &[Entry], tree: &Tree) -> Vec<ConsumerFields> {
    let is_shown = |(at, entry): &(usize, &Entry)| tree.keeps(*at).unwrap_or(!entry.used.is_empty());
    let shown: Vec<(usize, &Entry)> = entries.iter().enumerate().filter(is_shown).collect();
    let places: HashMap<usize, usize> =
        shown.iter().enumerate().map(|(place, (at, _))| (*at, place)).collect();
    let fields = shown.iter().map(|(at, entry)| {
        let mut used: BTreeMap<usize, BTreeMap<usize, u64>> = BTreeMap::new();
        for (&(domain, bucket), &microjoules) in &entry.used {
            used.entry(domain).or_default().insert(bucket, microjoules);
        }
        let info = &entry.info;
        ConsumerFields {
            kind: info.kind.clone(),
            id: info.id.clone(),
            name: info.name.clone(),
            start_us: micros(info.start_unix_nano),
            end_us: info.end_unix_nano.map(micros),
            parent: tree.parent(*at).and_then(|parent| places.get(&parent).copied()),
            used_uj: used.iter().map(|(&domain, sums)| (domain, amounts(sums))).collect(),
        }
    });
    fields.collect()
}

fn amounts(sums: &BTreeMap<usize, u64>) -> Amounts {
    sums.iter().flat_map(|(&bucket, &microjoules)| [bucket as u64, microjoules]).collect()
}

fn micros(nanos: u64) -> u64 {
    nanos / 1000
}
