//! What each series of energy and CPU time counted within a span: in the points that are there, and in the
//! sums of those that are not. Each increment is in one of both. `report` adds them up.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, Row, params};

use super::{By, Span};

/// Of sums, in seconds.
const LENGTHS: [u64; 2] = [3600, 60];
const SECOND: u64 = 1_000_000_000;

/// What a series counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quantity {
    Meter,
    Energy,
    CpuTime,
}

/// What a series is about.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) quantity: Quantity,
    /// Empty for CPU time.
    pub(super) domain: String,
    pub(super) origin: String,
    /// Whether a total over all domains counts its resource.
    pub(super) is_part_of_machine: bool,
    /// Empty for the hardware itself.
    pub(super) consumer_type: String,
    pub(super) consumer_id: String,
    pub(super) consumer_start: i64,
    /// A name for people, if there is one: a process's executable.
    pub(super) name: Option<String>,
    /// The id and the name of the user whose process it is.
    pub(super) user: Option<(String, String)>,
    /// For a process: the id of the group of the report's level that it was in last.
    pub(super) group: Option<String>,
}

/// Processes that took part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Processes {
    /// The subject is the process. Whether sums count it already.
    Itself { is_counted: bool },
    /// At least so many of a program.
    Summed(i64),
}

/// What one series counted, in its steps.
#[derive(Debug)]
pub(super) struct Portion {
    pub(super) subject: Subject,
    pub(super) steps: i64,
    pub(super) processes: Processes,
}

/// All portions of a span, and what they need to be understood.
#[derive(Debug)]
pub(super) struct Portions {
    pub(super) all: Vec<Portion>,
    /// Domains that lie within another one.
    pub(super) inner_domains: HashSet<String>,
}

/// A series of the table `points`, while they are scanned.
struct Counter {
    domain: usize,
    is_meter: bool,
    /// What it had counted before the span, and at the last point in it.
    before: i64,
    last: i64,
    /// A meter's points in the span.
    readings: Vec<(i64, i64)>,
}

const OF_INTEREST: &str = "metric IN ('hw.energy', 'hw.host.energy', 'wattrace.consumer.energy', \
     'wattrace.consumer.cpu.time') AND (metric NOT LIKE '%energy' OR domain <> '')";

/// Columns that [`subject`] reads, of `series` or of `subjects`. The last is the attribute that names a
/// process's group of the level of `by`.
fn columns(by: By, start: &str) -> String {
    let attribute = match by {
        By::Group("unit") => "systemd.unit",
        By::Group("container") => "container.id",
        By::Group("pod") => "k8s.pod.uid",
        By::Group("job") => "wattrace.job.id",
        By::Group(_) | By::Process | By::Program => "process.real_user.id",
    };
    let value = |key: &str| format!("attributes ->> '$.\"{key}\"'");
    let [program, container, in_kubernetes, namespace, pod, user_id, user, group] = [
        "process.executable.name",
        "container.name",
        "k8s.container.name",
        "k8s.namespace.name",
        "k8s.pod.name",
        "process.real_user.id",
        "process.real_user.name",
        attribute,
    ]
    .map(value);
    format!(
        "metric, ifnull(domain, ''), ifnull(origin, ''), resource_type NOT IN ('psys', 'host'), \
         ifnull(consumer_type, ''), ifnull(consumer_id, ''), {start}, \
         CASE consumer_type \
             WHEN 'process' THEN {program} WHEN 'program' THEN consumer_id \
             WHEN 'container' THEN coalesce({container}, {in_kubernetes}) \
             WHEN 'pod' THEN concat_ws('/', {namespace}, {pod}) \
         END, \
         CAST({user_id} AS TEXT), {user}, CAST({group} AS TEXT)"
    )
}

fn subject(row: &Row<'_>) -> rusqlite::Result<Subject> {
    let metric: String = row.get(0)?;
    let quantity = match metric.as_str() {
        "wattrace.consumer.energy" => Quantity::Energy,
        "wattrace.consumer.cpu.time" => Quantity::CpuTime,
        _ => Quantity::Meter,
    };
    let (user_id, user_name): (Option<String>, Option<String>) = (row.get(8)?, row.get(9)?);
    Ok(Subject {
        quantity,
        domain: row.get(1)?,
        origin: row.get(2)?,
        is_part_of_machine: row.get(3)?,
        consumer_type: row.get(4)?,
        consumer_id: row.get(5)?,
        consumer_start: row.get(6)?,
        name: row.get::<_, Option<String>>(7)?.filter(|name| !name.is_empty()),
        user: user_id.zip(user_name),
        group: row.get::<_, Option<String>>(10)?.filter(|id| !id.is_empty()),
    })
}

/// What there are points and sums of.
pub(super) fn extent(connection: &Connection, has_sums: bool) -> rusqlite::Result<Option<Span>> {
    let range = |sql: &str| -> rusqlite::Result<Option<(i64, i64)>> {
        let ends = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let (first, last): (Option<i64>, Option<i64>) = ends;
        Ok(first.zip(last))
    };
    // The first window ended at the first point. It began where the counters stood at zero, if all that they
    // had counted belongs to it.
    let base = if has_sums { "base_steps" } else { "0" };
    let first = "SELECT min(time_unix_nano) FROM points";
    let start = format!(
        "SELECT min(start_unix_nano) FROM series WHERE kind = 'counter' AND {base} = 0 \
         AND id IN (SELECT series_id FROM points WHERE time_unix_nano = ({first}))"
    );
    let mut parts = vec![format!(
        "SELECT min((SELECT min(time_unix_nano) - 1 FROM points), ifnull(({start}), ({first}) - 1)), \
         (SELECT max(time_unix_nano) FROM points)"
    )];
    for seconds in LENGTHS.into_iter().filter(|_| has_sums) {
        let sums = format!("FROM sums WHERE seconds = {seconds}");
        parts.push(format!(
            "SELECT (SELECT (min(end_unix_s) - {seconds}) * 1000000000 {sums}), \
             (SELECT max(end_unix_s) * 1000000000 {sums})"
        ));
    }
    let mut extent: Option<Span> = None;
    for part in &parts {
        let Some((first, last)) = range(part)? else { continue };
        let part = Span { from: unsigned(first), to: unsigned(last) };
        extent =
            Some(extent.map_or(part, |all| Span { from: all.from.min(part.from), to: all.to.max(part.to) }));
    }
    Ok(extent)
}

/// `span` with its borders moved to the begin of the sums in which they lie.
pub(super) fn aligned(connection: &Connection, span: Span) -> rusqlite::Result<Span> {
    let mut is_there = connection.prepare("SELECT 1 FROM sums WHERE seconds = ?1 AND end_unix_s = ?2")?;
    let mut borders = [span.from, span.to];
    for border in &mut borders {
        for seconds in LENGTHS {
            let begin = *border / (seconds * SECOND) * seconds;
            let sum = params![signed(seconds), signed(begin + seconds)];
            if begin * SECOND < *border && is_there.exists(sum)? {
                *border = begin * SECOND;
            }
        }
    }
    let [from, to] = borders;
    Ok(Span { from, to })
}

/// All portions of `span`.
pub(super) fn read(
    connection: &Connection,
    has_sums: bool,
    span: Span,
    by: By,
) -> rusqlite::Result<Portions> {
    let mut all = of_points(connection, has_sums, span, by)?;
    let inner = |table| format!("SELECT domain FROM {table} WHERE attributes ->> '$.\"hw.parent\"' <> ''");
    let mut inner_domains = inner("series");
    if has_sums {
        all.extend(of_sums(connection, span, by)?);
        inner_domains += &format!(" UNION {}", inner("subjects"));
    }
    let mut inner = connection.prepare(&inner_domains)?;
    let inner_domains = inner.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    Ok(Portions { all, inner_domains })
}

/// The portions in the table `sums`.
fn of_sums(connection: &Connection, span: Span, by: By) -> rusqlite::Result<Vec<Portion>> {
    let columns = columns(by, "0");
    // Beside a single min(), SQLite takes other columns from the row that has it: `others` of the first sum.
    let sql = format!(
        "SELECT {columns}, steps, begun + others \
         FROM ( \
             SELECT subject_id, sum(steps) AS steps, sum(begun) AS begun, others, min(end_unix_s) AS first \
             FROM sums WHERE seconds IN (60, 3600) AND end_unix_s > ?1 AND end_unix_s <= ?2 \
             GROUP BY subject_id \
         ) JOIN subjects ON subjects.id = subject_id \
         WHERE {OF_INTEREST} AND first AND steps > 0"
    );
    let mut sums = connection.prepare(&sql)?;
    let borders = params![signed(span.from / SECOND), signed(span.to / SECOND)];
    let portions = sums.query_map(borders, |row| {
        let (steps, processes) = (row.get(11)?, Processes::Summed(row.get(12)?));
        Ok(Portion { subject: subject(row)?, steps, processes })
    })?;
    portions.collect()
}

/// The portions in the table `points`.
///
/// The books of a domain are closed up to its last attributed energy. What the meter counted after that is
/// not attributed yet, and left out.
fn of_points(connection: &Connection, has_sums: bool, span: Span, by: By) -> rusqlite::Result<Vec<Portion>> {
    let (from, to) = (signed(span.from), signed(span.to));
    let (mut counters, domains) = counters(connection, has_sums)?;
    // By domain: until when its books are closed; `None` if it has none.
    let mut closed: Vec<Option<i64>> =
        domains.into_iter().map(|attributed| attributed.then_some(from)).collect();
    let mut points = connection.prepare(
        "SELECT series_id, time_unix_nano, steps FROM points \
         WHERE time_unix_nano <= ?1 AND steps IS NOT NULL ORDER BY time_unix_nano",
    )?;
    let mut rows = points.query(params![to])?;
    while let Some(row) = rows.next()? {
        let Some(counter) = counters.get_mut(&row.get::<_, i64>(0)?) else { continue };
        let (time, steps): (i64, i64) = (row.get(1)?, row.get(2)?);
        counter.last = counter.last.max(steps);
        if time <= from {
            counter.before = counter.last;
        } else if counter.is_meter {
            counter.readings.push((time, counter.last));
        } else if let Some(Some(closed)) = closed.get_mut(counter.domain) {
            *closed = time;
        }
    }
    let columns = columns(by, "ifnull(consumer_start_unix_nano, 0)");
    let summed = if has_sums { "ifnull(summed_unix_nano, 0)" } else { "0" };
    let mut details = connection.prepare(&format!("SELECT {columns}, {summed} FROM series WHERE id = ?1"))?;
    let mut portions = Vec::new();
    for (id, counter) in &counters {
        let last = match closed.get(counter.domain) {
            Some(&Some(until)) if counter.is_meter => {
                let closed = counter.readings.partition_point(|&(time, _)| time <= until);
                closed.checked_sub(1).map_or(counter.before, |last| counter.readings[last].1)
            }
            _ => counter.last,
        };
        if last > counter.before {
            let steps = last - counter.before;
            portions.push(details.query_row(params![id], |row| {
                let processes = Processes::Itself { is_counted: row.get::<_, i64>(11)? > from };
                Ok(Portion { subject: subject(row)?, steps, processes })
            })?);
        }
    }
    Ok(portions)
}

/// The series of interest; and for each domain, by its number, whether energy of it is attributed.
fn counters(connection: &Connection, has_sums: bool) -> rusqlite::Result<(HashMap<i64, Counter>, Vec<bool>)> {
    let base = if has_sums { "base_steps" } else { "0" };
    let sql = format!("SELECT id, metric, ifnull(domain, ''), {base} FROM series WHERE {OF_INTEREST}");
    let mut series = connection.prepare(&sql)?;
    let mut rows = series.query([])?;
    let (mut counters, mut numbers, mut attributed) = (HashMap::new(), HashMap::new(), Vec::new());
    while let Some(row) = rows.next()? {
        let metric: String = row.get(1)?;
        let domain = *numbers.entry(row.get::<_, String>(2)?).or_insert_with(|| {
            attributed.push(false);
            attributed.len() - 1
        });
        attributed[domain] |= metric == "wattrace.consumer.energy";
        let is_meter = metric.starts_with("hw.");
        let base = row.get(3)?;
        let counter = Counter { domain, is_meter, before: base, last: base, readings: Vec::new() };
        counters.insert(row.get(0)?, counter);
    }
    Ok((counters, attributed))
}

/// Times before 1970 count as 1970.
pub(super) fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

pub(super) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
