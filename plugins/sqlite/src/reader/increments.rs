//! Every increment of energy within a span, for who shows when it was used. `portions` has only the sums.
//!
//! Increments are found as the sums are: in the points that are there, and in the sums per minute and per
//! hour of those that are not. Each is in one of both.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, Row, params};

use super::Span;
use super::portions::{self, signed, unsigned};

/// A series that counts energy, or what is left of several where only sums are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnergySeries {
    /// Which energy counter: `package-0`, …
    pub domain: String,
    /// Where its joules come from: `measured`, `estimated`, `simulated`.
    pub origin: String,
    /// Whether a total over all domains counts it.
    pub is_counted: bool,
    /// Whose energy; `None`: what the meter counts.
    pub user: Option<EnergyUser>,
}

/// Who used energy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnergyUser {
    /// `process`, `program` where only sums are left of its processes, `unit`, …, `idle`, `unattributed`.
    pub kind: String,
    /// Which one of that kind; empty for a closing entry, and for what is in none.
    pub id: String,
    /// When it began, for a process; otherwise 0.
    pub start_unix_nano: u64,
    /// When a process ended, if it has.
    pub end_unix_nano: Option<u64>,
    /// A name for people, as it came from outside; empty if there is none.
    pub name: String,
    /// The pid of a process's parent.
    pub parent: Option<String>,
    /// The id and the name of the user whose process it is.
    pub owner: Option<(String, String)>,
}

/// Takes increments of energy, as [`super::Reader::energy_increments`] finds them.
pub trait EnergySink {
    /// A series. Returns the key under which its increments are taken; `None` if they are not needed.
    fn series(&mut self, series: EnergySeries) -> Option<usize>;

    /// What the series of this key counted in a window.
    fn increment(&mut self, key: usize, window: Span, microjoules: u64);
}

/// Consumers of which each kind divides all energy, or closes it.
const CONSUMERS: &str = "metric = 'wattrace.consumer.energy' AND consumer_type IN ('process', 'program', \
     'unit', 'container', 'pod', 'job', 'machine', 'user', 'other', 'irq', 'idle', 'unattributed')";
const METERS: &str = "metric IN ('hw.energy', 'hw.host.energy') AND domain <> ''";

/// Gives `sink` all increments of `span`.
pub(super) fn read(
    connection: &Connection,
    has_sums: bool,
    span: Span,
    sink: &mut dyn EnergySink,
) -> rusqlite::Result<()> {
    let inner = inner_domains(connection, has_sums)?;
    if has_sums {
        of_sums(connection, span, &inner, sink)?;
    }
    of_points(connection, has_sums, span, &inner, sink)
}

/// Domains that lie within another one.
fn inner_domains(connection: &Connection, has_sums: bool) -> rusqlite::Result<HashSet<String>> {
    let inner = |table| format!("SELECT domain FROM {table} WHERE attributes ->> '$.\"hw.parent\"' <> ''");
    let sums = if has_sums { format!(" UNION {}", inner("subjects")) } else { String::new() };
    let mut domains = connection.prepare(&(inner("series") + &sums))?;
    let names = domains.query_map([], |row| row.get(0))?;
    names.collect()
}

/// Columns that [`series`] reads, of `series` or of `subjects`.
fn columns(start: &str, end: &str) -> String {
    let value = |key: &str| format!("attributes ->> '$.\"{key}\"'");
    let [program, comm, container, in_kubernetes, namespace, pod, parent, owner_id, owner] = [
        "process.executable.name",
        "wattrace.process.comm",
        "container.name",
        "k8s.container.name",
        "k8s.namespace.name",
        "k8s.pod.name",
        "process.parent_pid",
        "process.real_user.id",
        "process.real_user.name",
    ]
    .map(value);
    format!(
        "domain, ifnull(origin, ''), resource_type NOT IN ('psys', 'host'), ifnull(consumer_type, ''), \
         ifnull(consumer_id, ''), {start}, {end}, \
         CASE consumer_type \
             WHEN 'process' THEN coalesce(nullif({program}, ''), {comm}) WHEN 'program' THEN consumer_id \
             WHEN 'container' THEN coalesce({container}, {in_kubernetes}) \
             WHEN 'pod' THEN concat_ws('/', {namespace}, {pod}) \
         END, \
         CAST({parent} AS TEXT), CAST({owner_id} AS TEXT), {owner}"
    )
}

fn series(row: &Row<'_>, inner: &HashSet<String>) -> rusqlite::Result<EnergySeries> {
    let (domain, kind): (String, String) = (row.get(0)?, row.get(3)?);
    let is_part_of_machine: bool = row.get(2)?;
    let owner: (Option<String>, Option<String>) = (row.get(9)?, row.get(10)?);
    let user = EnergyUser {
        id: row.get(4)?,
        start_unix_nano: unsigned(row.get(5)?),
        end_unix_nano: row.get::<_, Option<i64>>(6)?.map(unsigned).filter(|_| kind == "process"),
        name: row.get::<_, Option<String>>(7)?.unwrap_or_default(),
        parent: row.get(8)?,
        owner: owner.0.zip(owner.1),
        kind,
    };
    Ok(EnergySeries {
        is_counted: is_part_of_machine && !inner.contains(&domain),
        domain,
        origin: row.get(1)?,
        user: Some(user).filter(|user| !user.kind.is_empty()),
    })
}

fn of_sums(
    connection: &Connection,
    span: Span,
    inner: &HashSet<String>,
    sink: &mut dyn EnergySink,
) -> rusqlite::Result<()> {
    let columns = columns("0", "NULL");
    let sql = format!("SELECT {columns}, id FROM subjects WHERE {CONSUMERS} OR {METERS}");
    let mut keys = HashMap::new();
    let mut subjects = connection.prepare(&sql)?;
    let mut rows = subjects.query([])?;
    while let Some(row) = rows.next()? {
        if let Some(key) = sink.series(series(row, inner)?) {
            keys.insert(row.get::<_, i64>(11)?, key);
        }
    }
    let mut sums = connection.prepare(
        "SELECT subject_id, seconds, end_unix_s, steps FROM sums \
         WHERE seconds IN (60, 3600) AND end_unix_s > ?1 AND end_unix_s <= ?2 AND steps IS NOT NULL",
    )?;
    let second = 1_000_000_000;
    let mut rows = sums.query(params![signed(span.from / second), signed(span.to / second)])?;
    while let Some(row) = rows.next()? {
        let Some(&key) = keys.get(&row.get::<_, i64>(0)?) else { continue };
        let (length, end): (i64, i64) = (row.get(1)?, row.get(2)?);
        let window = Span { from: unsigned(end - length) * second, to: unsigned(end) * second };
        sink.increment(key, window, unsigned(row.get(3)?));
    }
    Ok(())
}

/// A series of the table `points`, while they are scanned.
struct Counter {
    key: usize,
    /// The end of its last window, and what it had counted then.
    time: i64,
    steps: i64,
}

fn of_points(
    connection: &Connection,
    has_sums: bool,
    span: Span,
    inner: &HashSet<String>,
    sink: &mut dyn EnergySink,
) -> rusqlite::Result<()> {
    let columns = columns("ifnull(consumer_start_unix_nano, 0)", "end_unix_nano");
    let begin =
        if has_sums { "ifnull(summed_unix_nano, start_unix_nano), base_steps" } else { "start_unix_nano, 0" };
    let sql = format!(
        "SELECT {columns}, id, {begin} FROM series \
         WHERE ({CONSUMERS} OR {METERS}) AND start_unix_nano < ?1 AND ifnull(end_unix_nano, ?2) >= ?2"
    );
    let (from, to) = (signed(span.from), signed(span.to));
    let mut counters = HashMap::new();
    let mut series_rows = connection.prepare(&sql)?;
    let mut rows = series_rows.query(params![to, from])?;
    while let Some(row) = rows.next()? {
        if let Some(key) = sink.series(series(row, inner)?) {
            let counter = Counter { key, time: row.get(12)?, steps: row.get(13)? };
            counters.insert(row.get::<_, i64>(11)?, counter);
        }
    }
    let mut points = connection.prepare(
        "SELECT series_id, time_unix_nano, steps FROM points \
         WHERE time_unix_nano <= ?1 AND steps IS NOT NULL ORDER BY time_unix_nano",
    )?;
    let mut rows = points.query(params![to])?;
    while let Some(row) = rows.next()? {
        let Some(counter) = counters.get_mut(&row.get::<_, i64>(0)?) else { continue };
        let (time, steps): (i64, i64) = (row.get(1)?, row.get(2)?);
        if time > from {
            let window = Span { from: unsigned(counter.time), to: unsigned(time) };
            sink.increment(counter.key, window, unsigned(steps - counter.steps));
        }
        counter.time = time;
        counter.steps = counter.steps.max(steps);
    }
    Ok(())
}

/// `span` with its borders moved back to where sums begin.
pub(super) fn aligned(connection: &Connection, has_sums: bool, span: Span) -> rusqlite::Result<Span> {
    if has_sums { portions::aligned(connection, span) } else { Ok(span) }
}
