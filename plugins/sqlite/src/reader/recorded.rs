//! Points as they were recorded, in the order of time, for viewers that play them again.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::Span;

/// A series as it stands in the table `series`. Texts are empty where there is nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedSeries {
    /// By which points refer to it.
    pub id: i64,
    /// The metric's name.
    pub metric: String,
    /// When the counter stood at zero, in nanoseconds since the Unix epoch.
    pub start_unix_nano: u64,
    /// The energy counter.
    pub domain: String,
    /// `measured`, `estimated` or `simulated`.
    pub origin: String,
    /// `process`, …
    pub consumer_type: String,
    /// A process's pid, …
    pub consumer_id: String,
    /// When the consumer began, in nanoseconds since the Unix epoch.
    pub consumer_start_unix_nano: u64,
    /// A JSON object.
    pub attributes: String,
    /// When the series ended; `None`: it did not, or that is not known.
    pub end_unix_nano: Option<u64>,
}

/// A point as it stands in the table `points`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecordedPoint {
    /// The end of its window, in nanoseconds since the Unix epoch.
    pub time_unix_nano: u64,
    /// Its series.
    pub series_id: i64,
    /// A counter's value in steps, since the series' start.
    pub steps: Option<u64>,
    /// A gauge's value.
    pub value: Option<f64>,
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: Option<i64> = row.get(column)?;
    Ok(u64::try_from(value.unwrap_or(0)).unwrap_or(0))
}

/// The first and the last moment of which there are points.
pub(super) fn extent(connection: &Connection) -> rusqlite::Result<Option<Span>> {
    let sql = "SELECT (SELECT min(time_unix_nano) FROM points), (SELECT max(time_unix_nano) FROM points)";
    let ends: (Option<i64>, Option<i64>) = connection.query_row(sql, [], |r| Ok((r.get(0)?, r.get(1)?)))?;
    let unsigned = |moment| u64::try_from(moment).unwrap_or(0);
    Ok(ends.0.zip(ends.1).map(|(from, to)| Span { from: unsigned(from), to: unsigned(to) }))
}

/// Gives `each` the points after the begin of a span, up to its end, in the order of time.
pub(super) fn points(
    connection: &Connection,
    span: Span,
    mut each: impl FnMut(RecordedPoint),
) -> rusqlite::Result<()> {
    let signed = |moment: u64| i64::try_from(moment).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(
        "SELECT time_unix_nano, series_id, steps, value FROM points \
         WHERE time_unix_nano > ?1 AND time_unix_nano <= ?2 ORDER BY time_unix_nano, series_id",
    )?;
    let mut rows = statement.query(params![signed(span.from), signed(span.to)])?;
    while let Some(row) = rows.next()? {
        let steps: Option<i64> = row.get(2)?;
        each(RecordedPoint {
            time_unix_nano: unsigned(row, 0)?,
            series_id: row.get(1)?,
            steps: steps.map(|steps| u64::try_from(steps).unwrap_or(0)),
            value: row.get(3)?,
        });
    }
    Ok(())
}

/// The series with this id.
pub(super) fn series(
    connection: &Connection,
    has_ends: bool,
    id: i64,
) -> rusqlite::Result<Option<RecordedSeries>> {
    let end = if has_ends { "end_unix_nano" } else { "NULL" };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT metric, start_unix_nano, ifnull(domain, ''), ifnull(origin, ''), ifnull(consumer_type, ''), \
         ifnull(consumer_id, ''), consumer_start_unix_nano, attributes, {end} FROM series WHERE id = ?1"
    ))?;
    let read = |row: &Row<'_>| {
        let end: Option<i64> = row.get(8)?;
        Ok(RecordedSeries {
            id,
            metric: row.get(0)?,
            start_unix_nano: unsigned(row, 1)?,
            domain: row.get(2)?,
            origin: row.get(3)?,
            consumer_type: row.get(4)?,
            consumer_id: row.get(5)?,
            consumer_start_unix_nano: unsigned(row, 6)?,
            attributes: row.get(7)?,
            end_unix_nano: end.map(|end| u64::try_from(end).unwrap_or(0)),
        })
    };
    statement.query_row([id], read).optional()
}

/// Whether totals count a domain: it does not lie within another one, and is not the whole machine.
pub(super) fn is_in_totals(connection: &Connection, domain: &str) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached(
        "SELECT 1 FROM series WHERE domain = ?1 AND (resource_type IN ('psys', 'host') \
         OR attributes ->> '$.\"hw.parent\"' <> '') LIMIT 1",
    )?;
    Ok(!statement.exists([domain])?)
}
