//! Points that are taken and not committed yet, and the row in the table `series` of each series. `store`
//! commits them.

use std::sync::Arc;

use slab::Slab;
use wattrace_api::{
    Batch, Clock, Increments, Registry, Series, SeriesId, SeriesMap, Timestamp, Value, Window,
};

/// A series' row in the table.
pub(crate) struct SeriesRow {
    pub(crate) series: Arc<Series>,
    /// The row's key, assigned by the database. Valid only within the transaction that sets it, or once
    /// `saved`.
    pub(crate) key: i64,
    /// Whether the row has been committed.
    pub(crate) saved: bool,
    /// Steps that are counted already: in this database, or before anybody looked. What is above them is what
    /// the next point adds.
    pub(crate) counted: u64,
    /// The time of the last point.
    last_unix_nano: u64,
    revision: u64,
    stale: bool,
}

/// A point to insert.
pub(crate) struct Point {
    /// Index into [`Staged::rows`].
    pub(crate) row: usize,
    pub(crate) time_unix_nano: u64,
    pub(crate) value: Value,
}

pub(crate) struct Staged {
    registry: Arc<Registry>,
    clock: Clock,
    slots: SeriesMap<usize>,
    /// Rows of all series that are alive or have points below.
    pub(crate) rows: Slab<SeriesRow>,
    /// Rows to insert or update.
    pub(crate) stale: Vec<usize>,
    /// Points to insert.
    pub(crate) points: Vec<Point>,
    /// Rows whose series have ended.
    pub(crate) ended: Vec<usize>,
    /// Since when there is somebody who looks.
    since: Timestamp,
    unknown: u64,
}

impl Staged {
    pub(crate) fn new(registry: Arc<Registry>, clock: Clock) -> Self {
        Self {
            registry,
            since: clock.now(),
            clock,
            slots: SeriesMap::default(),
            rows: Slab::new(),
            stale: Vec::new(),
            points: Vec::new(),
            ended: Vec::new(),
            unknown: 0,
        }
    }

    /// Whether there is nothing to commit.
    pub(crate) fn is_empty(&self) -> bool {
        self.points.is_empty() && self.stale.is_empty() && self.ended.is_empty()
    }

    /// Takes a batch.
    pub(crate) fn take(&mut self, batch: &Batch) {
        for segment in batch.segments() {
            let time_unix_nano = self.clock.unix_nanos(segment.window.end);
            for (id, value) in segment.points() {
                let Some((index, row)) = self.row(id, segment.window, value) else {
                    self.unknown += 1;
                    continue;
                };
                row.last_unix_nano = row.last_unix_nano.max(time_unix_nano);
                self.points.push(Point { row: index, time_unix_nano, value });
            }
        }
        self.ended.extend(batch.ended().iter().filter_map(|&id| self.slots.remove(id)));
    }

    /// The row of a series; a new one if this is its first point.
    fn row(&mut self, id: SeriesId, window: Window, value: Value) -> Option<(usize, &mut SeriesRow)> {
        let index = match self.slots.get(id) {
            Some(&index) => index,
            None => {
                let series = self.registry.get(id)?;
                let increment = Increments::new(&series, self.since).next(window, value);
                let counted = value.steps().saturating_sub(increment);
                let revision = revision(&series);
                let row = SeriesRow {
                    series,
                    key: 0,
                    saved: false,
                    counted,
                    last_unix_nano: 0,
                    revision,
                    stale: true,
                };
                let index = self.rows.insert(row);
                self.stale.push(index);
                *self.slots.get_or_insert_with(id, || index)
            }
        };
        let row = self.rows.get_mut(index)?;
        let revision = revision(&row.series);
        if row.revision != revision {
            row.revision = revision;
            if !std::mem::replace(&mut row.stale, true) {
                self.stale.push(index);
            }
        }
        Some((index, row))
    }

    /// When a series that has ended did so: none of its points is later.
    pub(crate) fn end_unix_nano(&self, row: &SeriesRow) -> u64 {
        row.last_unix_nano.max(self.clock.unix_nanos(self.clock.now()))
    }

    /// Rows that the database lacks are to be inserted again. `is_there` knows them by their keys.
    ///
    /// # Errors
    /// Those of `is_there`.
    pub(crate) fn restore<E>(&mut self, mut is_there: impl FnMut(i64) -> Result<bool, E>) -> Result<(), E> {
        for (index, row) in &mut self.rows {
            if row.saved && !is_there(row.key)? {
                row.saved = false;
                if !std::mem::replace(&mut row.stale, true) {
                    self.stale.push(index);
                }
            }
        }
        Ok(())
    }

    /// The unix time at which the counter of `series` stood at zero.
    pub(crate) fn start_unix_nano(&self, series: &Series) -> u64 {
        self.clock.unix_nanos(series.start)
    }

    /// Everything staged is in the database now.
    pub(crate) fn committed(&mut self) {
        for index in self.stale.drain(..) {
            if let Some(row) = self.rows.get_mut(index) {
                (row.saved, row.stale) = (true, false);
            }
        }
        for point in self.points.drain(..) {
            if let Some(row) = self.rows.get_mut(point.row) {
                row.counted = row.counted.max(point.value.steps());
            }
        }
        for index in self.ended.drain(..) {
            self.rows.try_remove(index);
        }
    }

    /// The database is another one now, and empty: every series gets a row again.
    pub(crate) fn begin_again(&mut self) {
        self.stale.clear();
        for (index, row) in &mut self.rows {
            (row.saved, row.stale) = (false, true);
            self.stale.push(index);
        }
    }

    /// Points of series that the registry does not know, since the last call.
    pub(crate) fn take_unknown(&mut self) -> u64 {
        std::mem::take(&mut self.unknown)
    }
}

fn revision(series: &Series) -> u64 {
    series.consumer.as_ref().map_or(0, |consumer| consumer.revision())
}
