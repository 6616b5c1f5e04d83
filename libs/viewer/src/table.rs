//! The rows of one kind of consumer, and what closes the sum. Only the rows that are shown are sorted.

use std::cmp::Ordering;

use crate::kind::Kind;
use crate::model::{Consumer, Key, Model};

/// What decides about the order of rows, the largest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Power now.
    #[default]
    Watts,
    /// Energy so far.
    Joules,
    /// Use of CPUs now.
    Cpu,
    /// Use of GPUs now.
    Gpu,
    /// The name, in alphabetical order.
    Name,
}

impl Sort {
    /// All of them.
    pub const ALL: [Sort; 5] = [Sort::Watts, Sort::Joules, Sort::Cpu, Sort::Gpu, Sort::Name];
}

/// Which rows, and in which order.
#[derive(Clone, Debug)]
pub struct Query {
    /// Rows of which kind.
    pub kind: Kind,
    /// The order of rows.
    pub sort: Sort,
    /// The other way round.
    pub is_reversed: bool,
    /// Only what contains this text in its name, its id or its user, in any case of letters; empty: all.
    pub filter: String,
    /// How many rows there are at most.
    pub limit: usize,
}

impl Query {
    /// All rows of a kind, by power.
    pub fn of(kind: Kind) -> Self {
        Self { kind, sort: Sort::Watts, is_reversed: false, filter: String::new(), limit: usize::MAX }
    }
}

/// A row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The consumer; `None` for a sum of several, and for the rest.
    pub key: Option<Key>,
    /// What people call it.
    pub name: String,
    /// A process's pid, …
    pub id: String,
    /// Power in the last frame, W.
    pub watts: f64,
    /// Energy so far, µJ.
    pub microjoules: u64,
    /// Half the width of the 95 % interval of that, J, if it is known.
    pub half_width: Option<f64>,
    /// CPUs kept busy: 1 is one CPU.
    pub cpus: f64,
    /// GPU engines kept busy.
    pub gpus: f64,
    /// Memory held on GPUs, bytes.
    pub gpu_memory: f64,
    /// Whether it has ended.
    pub has_ended: bool,
    /// Whether its joules are known: not of what sleeps since before the viewer joined.
    pub is_seen: bool,
}

impl Row {
    /// Energy so far, J.
    pub fn joules(&self) -> f64 {
        self.microjoules as f64 / 1e6
    }

    fn named(name: impl Into<String>) -> Self {
        Self {
            key: None,
            name: name.into(),
            id: String::new(),
            watts: 0.0,
            microjoules: 0,
            half_width: None,
            cpus: 0.0,
            gpus: 0.0,
            gpu_memory: 0.0,
            has_ended: false,
            is_seen: true,
        }
    }

    fn add(&mut self, model: &Model, consumer: &Consumer) {
        self.watts += model.watts_of(consumer);
        self.microjoules += model.microjoules_of(consumer);
        self.cpus += model.cpus_of(consumer);
        self.gpus += model.gpus_of(consumer);
        self.gpu_memory += consumer.gpu_memory();
    }
}

/// Rows and what closes their sum: rows + `hidden` + `closing` = `total`.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// In the order that was asked for.
    pub rows: Vec<Row>,
    /// The sum of the rows that the limit or the filter leaves out.
    pub hidden: Row,
    /// How many those are.
    pub hidden_count: usize,
    /// `idle` and `unattributed`, also if they are zero, `irq` and `other` if there are any, and the rest:
    /// what no row has.
    pub closing: Vec<Row>,
    /// The meters.
    pub total: Row,
}

/// A row that may be shown: by what it is sorted, and who it is.
struct Candidate<'a> {
    value: f64,
    key: Key,
    consumer: &'a Consumer,
}

impl Model {
    /// The rows that `query` asks for.
    pub fn table(&self, query: &Query) -> Table {
        let filter = query.filter.to_lowercase();
        let (mut hidden, mut hidden_count) = (Row::named("hidden"), 0);
        let mut hide = |consumer: &Consumer| {
            hidden.add(self, consumer);
            hidden_count += 1;
        };
        let mut closing: Vec<_> = Kind::CLOSING.map(|kind| Row::named(kind.as_str())).into();
        let mut candidates = Vec::new();
        for (key, consumer) in self.consumers() {
            let kind = consumer.kind();
            if let Some(at) = Kind::CLOSING.iter().position(|closing| *closing == kind) {
                closing[at].add(self, consumer);
            } else if !self.is_row(consumer, query.kind) {
                // Another kind's, or of the rest.
            } else if !filter.is_empty() && !matches(consumer, &filter) {
                hide(consumer);
            } else {
                candidates.push(Candidate { value: self.value_of(consumer, query.sort), key, consumer });
            }
        }
        let order = |a: &Candidate<'_>, b: &Candidate<'_>| {
            let order = compare(a, b, query.sort);
            if query.is_reversed { order.reverse() } else { order }
        };
        if candidates.len() > query.limit {
            if query.limit > 0 {
                candidates.select_nth_unstable_by(query.limit - 1, order);
            }
            candidates.drain(query.limit..).for_each(|candidate| hide(candidate.consumer));
        }
        candidates.sort_unstable_by(order);
        let rows: Vec<_> = candidates.iter().map(|c| self.row(c.key, c.consumer)).collect();
        let total = self.total();
        let rest = self.rest(&total, rows.iter().chain([&hidden]).chain(&closing), query.kind);
        // Few machines have them.
        let is_shown = |row: &Row| row.microjoules > 0 || row.cpus > 0.0;
        let mut number = 0;
        closing.retain(|row| {
            number += 1;
            number <= 2 || is_shown(row)
        });
        closing.push(rest);
        Table { rows, hidden, hidden_count, closing, total }
    }

    /// The row of a consumer.
    pub fn row(&self, key: Key, consumer: &Consumer) -> Row {
        let mut row = Row {
            key: Some(key),
            id: consumer.id().to_owned(),
            half_width: self.half_width_of(consumer),
            has_ended: consumer.has_ended(),
            is_seen: consumer.is_seen(),
            ..Row::named(consumer.name())
        };
        row.add(self, consumer);
        row
    }

    /// The row of the meters.
    pub fn total(&self) -> Row {
        Row { watts: self.watts(), microjoules: self.microjoules(), ..Row::named("total") }
    }

    /// Whether a consumer has a row among those of `kind`.
    fn is_row(&self, consumer: &Consumer, kind: Kind) -> bool {
        // An agent may sum up trees itself; ours are there always.
        let is_ours = !kind.is_derived() || consumer.is_derived();
        consumer.kind() == kind && is_ours && !consumer.is_rest()
    }

    fn value_of(&self, consumer: &Consumer, sort: Sort) -> f64 {
        match sort {
            Sort::Watts => self.watts_of(consumer),
            Sort::Joules => self.microjoules_of(consumer) as f64,
            Sort::Cpu => self.cpus_of(consumer),
            Sort::Gpu => self.gpus_of(consumer),
            Sort::Name => 0.0,
        }
    }

    /// What the meters counted and no row has.
    fn rest<'a>(&self, total: &Row, rows: impl Iterator<Item = &'a Row>, kind: Kind) -> Row {
        let mut rest = Row::named(match kind {
            Kind::Process | Kind::Program | Kind::Tree => "ended or asleep".to_owned(),
            kind => format!("in no {}", kind.as_str()),
        });
        (rest.watts, rest.microjoules) = (total.watts, total.microjoules);
        for row in rows {
            rest.watts -= row.watts;
            rest.microjoules = rest.microjoules.saturating_sub(row.microjoules);
        }
        // What is left of floating-point numbers that cancel each other out.
        if rest.watts < 1e-3 {
            rest.watts = 0.0;
        }
        rest
    }
}

fn compare(a: &Candidate<'_>, b: &Candidate<'_>, sort: Sort) -> Ordering {
    let by_name = || a.consumer.name().cmp(b.consumer.name());
    let by_value = b.value.total_cmp(&a.value);
    let first = if sort == Sort::Name { by_name() } else { by_value };
    // A stable order, so that rows of equal power do not move.
    first
        .then_with(|| a.consumer.start_unix_nano().cmp(&b.consumer.start_unix_nano()))
        .then_with(by_name)
        .then_with(|| a.consumer.id().cmp(b.consumer.id()))
}

fn matches(consumer: &Consumer, filter: &str) -> bool {
    let contains = |text: &str| text.to_lowercase().contains(filter);
    let user =
        consumer.attributes().get("process.real_user.name").or(consumer.attributes().get("process.owner"));
    contains(consumer.name()) || contains(consumer.id()) || user.is_some_and(|user| contains(user))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Machine;

    /// Whether rows, hidden rows and closing entries are the meters.
    fn is_closed(table: &Table) -> bool {
        let all = || table.rows.iter().chain([&table.hidden]).chain(&table.closing);
        let watts: f64 = all().map(|row| row.watts).sum();
        let microjoules: u64 = all().map(|row| row.microjoules).sum();
        (watts - table.total.watts).abs() < 1e-3 && microjoules == table.total.microjoules
    }

    fn names(table: &Table) -> Vec<&str> {
        table.rows.iter().map(|row| &*row.name).collect()
    }

    #[test]
    fn rows_are_sorted_and_whatever_is_left_out_the_sum_is_the_meter() {
        let mut machine = Machine::office();
        machine.run(5);
        let model = machine.model();
        let all = model.table(&Query::of(Kind::Process));
        assert!(all.rows.len() > 4 && is_closed(&all));
        assert!(all.rows.windows(2).all(|pair| pair[0].watts >= pair[1].watts));
        let few = model.table(&Query { limit: 2, ..Query::of(Kind::Process) });
        assert_eq!(names(&few), names(&all)[..2]);
        assert_eq!(few.hidden_count, all.rows.len() - 2);
        assert!(is_closed(&few) && few.total == all.total);
        let filtered = model.table(&Query { filter: "TRAIN".to_owned(), ..Query::of(Kind::Process) });
        assert_eq!(names(&filtered), ["python3 train.py"]);
        assert!(is_closed(&filtered) && filtered.hidden_count == all.rows.len() - 1);
        let by_name = model.table(&Query { sort: Sort::Name, is_reversed: true, ..Query::of(Kind::Process) });
        assert!(by_name.rows.windows(2).all(|pair| pair[0].name >= pair[1].name));
        let nothing = model.table(&Query { limit: 0, ..Query::of(Kind::Process) });
        assert!(nothing.rows.is_empty() && is_closed(&nothing));
    }

    #[test]
    fn every_kind_closes_and_idle_and_unattributed_are_always_there() {
        let mut machine = Machine::office();
        machine.run(3);
        for kind in Kind::ROWS {
            let table = machine.model().table(&Query::of(kind));
            assert!(is_closed(&table), "{kind:?}");
            let closing: Vec<_> = table.closing.iter().map(|row| &*row.name).collect();
            assert_eq!(closing[..2], ["idle", "unattributed"]);
            assert!(closing.len() == 3, "{closing:?}");
        }
        let users = machine.model().table(&Query::of(Kind::User));
        assert_eq!(names(&users), ["ada", "root"]);
    }
}
