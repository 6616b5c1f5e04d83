//! Adds up portions: a row for each consumer, the closing entries, and the meters that they close with.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::portions::{Portion, Portions, Processes, Quantity, Subject};
use super::{By, Span};

/// Who used how much.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// `process`, `program`, `unit`, …; `other`, `idle`, `irq`, `unattributed`.
    pub kind: String,
    /// Which one of that kind; empty for a closing entry, and for what is in none: "no unit".
    pub id: String,
    /// When it began, for a process; otherwise 0.
    pub start_unix_nano: u64,
    /// A name for people, as it came from outside: neutralise it. May be the id.
    pub name: String,
    /// Its energy.
    pub microjoules: u64,
    /// Its CPU time.
    pub cpu_nanos: u64,
    /// How many processes had a part in it; at least so many where only sums are left of a time.
    pub processes: u64,
    /// Where the joules come from: `measured`, `estimated`, `simulated`.
    pub origins: BTreeSet<String>,
}

/// A meter in the span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// `package-0`, …
    pub name: String,
    /// Where its joules come from.
    pub origin: String,
    /// What it measured while its books were closed.
    pub microjoules: u64,
    /// Whether the rows hold its energy.
    pub is_counted: bool,
}

/// The joules of a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnergyReport {
    /// What it is about.
    pub span: Span,
    /// The consumers, those of most energy first.
    pub consumers: Vec<Row>,
    /// `other`, `irq`, `idle` and `unattributed`, in this order.
    pub closing: Vec<Row>,
    /// All meters, by name.
    pub domains: Vec<Domain>,
}

impl EnergyReport {
    /// All rows' energy, in microjoules.
    pub fn microjoules(&self) -> u64 {
        self.consumers.iter().chain(&self.closing).map(|row| row.microjoules).sum()
    }

    /// The energy of the meters that are counted, in microjoules.
    pub fn measured_microjoules(&self) -> u64 {
        self.domains.iter().filter(|domain| domain.is_counted).map(|domain| domain.microjoules).sum()
    }
}

const CLOSING: [&str; 4] = ["other", "irq", "idle", "unattributed"];

type Key = (String, String, i64);

#[derive(Default)]
struct Sums {
    rows: HashMap<Key, Row>,
    members: HashMap<Key, HashSet<(String, i64)>>,
    /// Processes that only sums know.
    summed: HashMap<Key, u64>,
    user_names: HashMap<String, String>,
}

/// The report on `portions`.
pub(super) fn build(span: Span, portions: Portions, by: By, domain: Option<&str>) -> EnergyReport {
    let is_counted = |subject: &Subject| match domain {
        Some(name) => subject.domain == name,
        None => subject.is_part_of_machine && !portions.inner_domains.contains(&subject.domain),
    };
    let is_energy = |portion: &&Portion| portion.subject.quantity == Quantity::Energy;
    let attributed: HashSet<&str> =
        portions.all.iter().filter(is_energy).map(|portion| &*portion.subject.domain).collect();
    let (mut sums, mut domains) = (Sums::default(), BTreeMap::new());
    for portion in &portions.all {
        let (subject, steps) = (&portion.subject, portion.steps.unsigned_abs());
        let counts = subject.quantity == Quantity::CpuTime || is_counted(subject);
        if subject.quantity == Quantity::Meter {
            let (name, origin) = (subject.domain.clone(), subject.origin.clone());
            let key = (name.clone(), origin.clone());
            let total =
                domains.entry(key).or_insert(Domain { name, origin, microjoules: 0, is_counted: counts });
            total.microjoules += steps;
            // Without attribution, nobody says whose it is.
            if counts && !attributed.contains(&*subject.domain) {
                sums.add(&("unattributed".into(), String::new(), 0), portion);
            }
        } else if counts {
            sums.take(portion, by);
        }
    }
    sums.into_report(span, by, domains.into_values().collect())
}

impl Sums {
    fn take(&mut self, portion: &Portion, by: By) {
        let subject = &portion.subject;
        if let Some((id, name)) = &subject.user {
            self.user_names.entry(id.clone()).or_insert_with(|| name.clone());
        }
        let kind = &*subject.consumer_type;
        let program = || subject.name.clone().unwrap_or_default();
        match (kind, by) {
            (kind, _) if CLOSING.contains(&kind) => self.add(&(kind.into(), String::new(), 0), portion),
            ("process", By::Process) => {
                self.add(&(kind.into(), subject.consumer_id.clone(), subject.consumer_start), portion);
            }
            ("process" | "program", By::Program) => self.add(&("program".into(), program(), 0), portion),
            // What is in no group is what its groups leave over: `into_report` subtracts them.
            // Which process it was is not known any more.
            ("program", By::Process) => self.add(&(kind.into(), program(), 0), portion),
            ("process" | "program", By::Group(level)) => self.add(&(level.into(), String::new(), 0), portion),
            (kind, By::Group(level)) if kind == level && !subject.consumer_id.is_empty() => {
                self.add(&(kind.into(), subject.consumer_id.clone(), 0), portion);
            }
            _ => {}
        }
    }

    fn add(&mut self, key: &Key, portion: &Portion) {
        let (subject, steps, own) = (&portion.subject, portion.steps.unsigned_abs(), key);
        let row = self.rows.entry(key.clone()).or_insert_with(|| Row {
            kind: key.0.clone(),
            id: key.1.clone(),
            start_unix_nano: key.2.unsigned_abs(),
            name: key.1.clone(),
            ..Row::default()
        });
        if let Some(name) = &subject.name {
            row.name.clone_from(name);
        }
        if subject.quantity == Quantity::CpuTime {
            row.cpu_nanos += steps;
        } else {
            row.microjoules += steps;
            row.origins.insert(subject.origin.clone());
        }
        match (&*subject.consumer_type, portion.processes) {
            ("process", Processes::Itself { is_counted: false }) => {
                let process = (subject.consumer_id.clone(), subject.consumer_start);
                // A process counts for its group, while its energy comes from the group's own series.
                let group = subject.group.clone().map(|id| (key.0.clone(), id, 0));
                let key = group.filter(|_| own.0 != "program" && own.0 != "process");
                self.members.entry(key.unwrap_or_else(|| own.clone())).or_default().insert(process);
            }
            ("program", Processes::Summed(processes)) if key.0 == "program" => {
                let known = self.summed.entry(own.clone()).or_default();
                *known = processes.unsigned_abs().max(*known);
            }
            _ => {}
        }
    }

    fn into_report(mut self, span: Span, by: By, domains: Vec<Domain>) -> EnergyReport {
        for (key, row) in &mut self.rows {
            let members = self.members.get(key).map_or(0, HashSet::len) as u64;
            row.processes = members + self.summed.get(key).copied().unwrap_or(0);
        }
        if let By::Group(level) = by {
            self.subtract_groups(level);
        }
        let mut closing: Vec<Row> =
            CLOSING.iter().filter_map(|&kind| self.rows.remove(&(kind.into(), String::new(), 0))).collect();
        for kind in ["idle", "unattributed"] {
            if closing.iter().all(|row| row.kind != kind) {
                closing.push(Row { kind: kind.into(), ..Row::default() });
            }
        }
        closing.sort_by_key(|row| CLOSING.iter().position(|&kind| kind == row.kind));
        let mut consumers: Vec<Row> = self.rows.into_values().collect();
        let order = |row: &Row| (std::cmp::Reverse((row.microjoules, row.cpu_nanos)), row.id.clone());
        consumers.sort_by_cached_key(|row| (order(row), row.start_unix_nano));
        EnergyReport { span, consumers, closing, domains }
    }

    /// Leaves in the row of what is in no group what the groups of `level` don't have.
    fn subtract_groups(&mut self, level: &str) {
        let (mut microjoules, mut cpu_nanos) = (0, 0);
        for row in self.rows.values_mut().filter(|row| row.kind == level && !row.id.is_empty()) {
            microjoules += row.microjoules;
            cpu_nanos += row.cpu_nanos;
            if let Some(name) = self.user_names.get(&row.id).filter(|_| level == "user") {
                row.name.clone_from(name);
            }
        }
        let key = (level.to_owned(), String::new(), 0);
        if let Some(rest) = self.rows.get_mut(&key) {
            rest.name.clear();
            rest.microjoules = rest.microjoules.saturating_sub(microjoules);
            rest.cpu_nanos = rest.cpu_nanos.saturating_sub(cpu_nanos);
            if rest.microjoules == 0 && rest.cpu_nanos == 0 {
                self.rows.remove(&key);
            }
        }
    }
}
