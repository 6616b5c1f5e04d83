//! Commits what is staged in one transaction: afterwards all of it is in the database, or nothing.

use rusqlite::{Connection, Transaction, TransactionBehavior, named_params, params};
use wattrace_api::Kind;
use wattrace_text_output::{attributes_json, json_object};

use crate::staged::Staged;

const INSERT_SERIES: &str = "INSERT INTO series \
     (metric, unit, kind, step, start_unix_nano, resource_type, resource_id, domain, origin, \
     consumer_type, consumer_id, consumer_start_unix_nano, attributes, own_attributes, base_steps) \
     VALUES (:metric, :unit, :kind, :step, :start, :resource_type, :resource_id, \
     :domain, :origin, :consumer_type, :consumer_id, :consumer_start, :attributes, \
     :own_attributes, :base)";
const UPDATE_SERIES: &str = "UPDATE series SET attributes = ?2 WHERE id = ?1";
/// A series has two points at one time where a window is empty; the later one includes the earlier.
const INSERT_POINT: &str =
    "INSERT OR REPLACE INTO points (time_unix_nano, series_id, steps, value) VALUES (?1, ?2, ?3, ?4)";

/// Commits what is staged. `seen` is the version of the database after the last commit.
///
/// # Errors
/// The database's. Then nothing is written, and all is still staged.
pub(crate) fn commit(
    connection: &mut Connection,
    staged: &mut Staged,
    seen: &mut Option<i64>,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // It changes when another connection commits. Another agent may have removed the row of a series that
    // had no points left.
    let version = transaction.pragma_query_value(None, "data_version", |row| row.get(0))?;
    if seen.replace(version) != Some(version) {
        let mut is_there = transaction.prepare_cached("SELECT 1 FROM series WHERE id = ?1")?;
        staged.restore(|key| is_there.exists(params![key]))?;
    }
    write_series(&transaction, staged)?;
    write_points(&transaction, staged)?;
    let mut end = transaction.prepare_cached("UPDATE series SET end_unix_nano = ?2 WHERE id = ?1")?;
    for row in staged.ended.iter().filter_map(|&index| staged.rows.get(index)) {
        end.execute(params![row.key, integer(staged.end_unix_nano(row))])?;
    }
    drop(end);
    transaction.commit()?;
    staged.committed();
    Ok(())
}

fn write_series(transaction: &Transaction<'_>, staged: &mut Staged) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(INSERT_SERIES)?;
    let mut update = transaction.prepare_cached(UPDATE_SERIES)?;
    for at in 0..staged.stale.len() {
        let Some(row) = staged.rows.get(staged.stale[at]) else { continue };
        let series = row.series.clone();
        let base = if series.metric.kind == Kind::Counter { integer(row.counted) } else { 0 };
        let attributes = attributes_json(&series).to_string();
        if row.saved {
            update.execute(params![row.key, attributes])?;
            continue;
        }
        let consumer = series.consumer.as_ref().map(|consumer| consumer.identity());
        insert.execute(named_params! {
            ":metric": series.metric.name,
            ":unit": series.metric.unit.ucum(),
            ":kind": series.metric.kind.as_str(),
            ":step": series.metric.step,
            ":start": integer(staged.start_unix_nano(&series)),
            ":resource_type": series.resource.kind.as_str(),
            ":resource_id": series.resource.id,
            ":domain": series.domain.as_ref().map(|domain| &domain.name),
            ":origin": series.domain.as_ref().map(|domain| domain.origin.as_str()),
            ":consumer_type": consumer.map(|c| c.kind.as_str()),
            ":consumer_id": consumer.map(|c| &c.id),
            ":consumer_start": consumer.map(|c| integer(c.start_unix_nano)),
            ":attributes": attributes,
            ":own_attributes": json_object(series.attributes.iter().cloned()).to_string(),
            ":base": base,
        })?;
        let key = transaction.last_insert_rowid();
        if let Some(row) = staged.rows.get_mut(staged.stale[at]) {
            row.key = key;
        }
    }
    Ok(())
}

fn write_points(transaction: &Transaction<'_>, staged: &Staged) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(INSERT_POINT)?;
    for point in &staged.points {
        let Some(row) = staged.rows.get(point.row) else { continue };
        let time = integer(point.time_unix_nano);
        match row.series.metric.kind {
            Kind::Counter => {
                insert.execute(params![time, row.key, integer(point.value.steps()), None::<f64>])?
            }
            // SQLite stores NaN as NULL, and so is an infinity stored here.
            Kind::Gauge => {
                let value = Some(point.value.gauge()).filter(|v| v.is_finite());
                insert.execute(params![time, row.key, None::<i64>, value])?
            }
        };
    }
    Ok(())
}

/// SQLite's integers end at 2⁶³: 292,000 years of microwatts, and the year 2262.
fn integer(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
