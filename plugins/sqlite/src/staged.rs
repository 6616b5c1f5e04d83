//! Points that are taken and not committed yet, and the row in the table `series` of each series. `store`
//! commits them.

use std::sync::Arc;

use slab::Slab;
use wattrace_api::{Batch, Clock, Registry, Series, SeriesId, SeriesMap, Value};

/// A series' row in the table.
pub(crate) struct SeriesRow {
    pub(crate) series: Arc<Series>,
    /// The row's key, assigned by the database. Valid only within the transaction that sets it, or once
    /// `saved`.
    pub(crate) key: i64,
    /// Whether the row has been committed.
    pub(crate) saved: bool,
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
    ended: Vec<usize>,
    unknown: u64,
}

impl Staged {
    pub(crate) fn new(registry: Arc<Registry>, clock: Clock) -> Self {
        Self {
            registry,
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
                match self.row(id) {
                    Some(row) => self.points.push(Point { row, time_unix_nano, value }),
                    None => self.unknown += 1,
                }
            }
        }
        self.ended.extend(batch.ended().iter().filter_map(|&id| self.slots.remove(id)));
    }

    fn row(&mut self, id: SeriesId) -> Option<usize> {
        let index = match self.slots.get(id) {
            Some(&index) => index,
            None => {
                let series = self.registry.get(id)?;
                let revision = revision(&series);
                let row = SeriesRow { series, key: 0, saved: false, revision, stale: true };
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
        Some(index)
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
        for index in self.ended.drain(..) {
            self.rows.try_remove(index);
        }
        self.points.clear();
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
