//! What the page shows: one object, with the schema `wattrace.view/1`. docs/view.md explains it field by
//! field. Times are whole microseconds and energy is whole microjoules, both below 2⁵³, so that JavaScript's
//! numbers hold them exactly. `summary` makes it of a history.

use serde::Serialize;

/// Amounts in the buckets that have any: bucket, microjoules, bucket, microjoules, …; buckets ascend.
pub type Amounts = Vec<u64>;

/// Who used how much in each bucket of time.
#[derive(Clone, Debug, Serialize)]
pub struct Document {
    /// `wattrace.view/1`.
    pub schema: &'static str,
    /// Of what it is: the name of a file, a command line.
    pub title: String,
    /// Whether times count from the beginning, as for a command, instead of being times of day.
    pub is_relative: bool,
    /// After how many milliseconds there is more to see, for an agent that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_ms: Option<u64>,
    /// All that there is, of which this may be a part: its begin and end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extent_us: Option<[u64; 2]>,
    /// Where buckets begin, and where the last one ends, in microseconds since the Unix epoch. A bucket holds
    /// the windows that end in it: after its begin, up to its end.
    pub edges_us: Vec<u64>,
    /// Buckets in which nothing was measured.
    pub gaps: Vec<usize>,
    /// The energy counters of the hardware.
    pub domains: Vec<DomainFields>,
    /// Who used their energy.
    pub consumers: Vec<ConsumerFields>,
    /// Processes that are only counted with their programs, since there are so many.
    pub processes_by_program: usize,
}

/// An energy counter of the hardware.
#[derive(Clone, Debug, Serialize)]
pub struct DomainFields {
    /// `package-0`, …
    pub name: String,
    /// `measured`, `estimated` or `simulated`.
    pub origin: String,
    /// Whether a sum over all domains counts it.
    pub in_total: bool,
    /// What it measured while its books were closed.
    pub measured_uj: Amounts,
}

/// Who used energy. For each domain, what processes, programs and the closing entries used is what the meter
/// measured, in every bucket. Groups count the energy of their processes once more.
#[derive(Clone, Debug, Serialize)]
pub struct ConsumerFields {
    /// `process`, `program`, `unit`, `container`, …; `other`, `irq`, `idle`, `unattributed`.
    pub kind: String,
    /// Which one: a process's pid; empty for closing entries.
    pub id: String,
    /// A name for people, as it came from outside.
    pub name: String,
    /// When it began, in microseconds since the Unix epoch; 0: not known.
    pub start_us: u64,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_us: Option<u64>,
    /// The process that forked it, as an index of `consumers`. It began earlier, and has no loop of parents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<usize>,
    /// What it used, with the index of the domain.
    pub used_uj: Vec<(usize, Amounts)>,
}

impl Document {
    /// How many amounts there are in all.
    pub(crate) fn amounts(&self) -> usize {
        let of_consumers = self.consumers.iter().flat_map(|consumer| &consumer.used_uj);
        of_consumers.map(|(_, amounts)| amounts.len() / 2).sum()
    }
}
