//! Points that are taken and not committed yet, and the number of each series in this run of the agent.
//! `session` commits them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use wattrace_api::{Batch, Clock, Kind, Registry, Series, SeriesId, SeriesMap};

/// About how much memory a series takes that is to be written.
const SERIES_BYTES: usize = 1024;

/// A point to write.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    /// The number of its series.
    pub(crate) series: u32,
    pub(crate) time: SystemTime,
    pub(crate) steps: Option<i64>,
    pub(crate) value: Option<f64>,
}

struct Entry {
    series: Arc<Series>,
    number: u32,
    revision: u64,
}

/// What is taken and not committed yet.
pub(crate) struct Staged {
    registry: Arc<Registry>,
    clock: Clock,
    entries: SeriesMap<Entry>,
    next: u32,
    /// Series to insert or update, by number.
    pub(crate) series: BTreeMap<u32, Arc<Series>>,
    /// Points to insert, in the order in which they came.
    pub(crate) points: Vec<Point>,
    unknown: u64,
}

impl Staged {
    pub(crate) fn new(registry: Arc<Registry>, clock: Clock) -> Self {
        Self {
            registry,
            clock,
            entries: SeriesMap::default(),
            next: 0,
            series: BTreeMap::new(),
            points: Vec::new(),
            unknown: 0,
        }
    }

    /// Whether there is nothing to commit.
    pub(crate) fn is_empty(&self) -> bool {
        self.points.is_empty() && self.series.is_empty()
    }

    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.points.len() * size_of::<Point>() + self.series.len() * SERIES_BYTES
    }

    /// Takes a batch.
    pub(crate) fn take(&mut self, batch: &Batch) {
        for segment in batch.segments() {
            let time = self.time(self.clock.unix_nanos(segment.window.end));
            for (id, value) in segment.points() {
                let Some((series, kind)) = self.number(id) else {
                    self.unknown += 1;
                    continue;
                };
                let (steps, value) = match kind {
                    // 2⁶³ microjoules are 29,000 years of 10 kW.
                    Kind::Counter => (Some(i64::try_from(value.steps()).unwrap_or(i64::MAX)), None),
                    Kind::Gauge => (None, Some(value.gauge())),
                };
                self.points.push(Point { series, time, steps, value });
            }
        }
        for &id in batch.ended() {
            self.entries.remove(id);
        }
    }

    /// The number of a series. One that is new, or has changed, is to be written.
    fn number(&mut self, id: SeriesId) -> Option<(u32, Kind)> {
        if self.entries.get(id).is_none() {
            let series = self.registry.get(id)?;
            // The revision is read first: a change in between is noticed with the next value.
            let revision = revision(&series);
            self.next = self.next.checked_add(1)?;
            self.series.insert(self.next, series.clone());
            self.entries.insert(id, Entry { series, number: self.next, revision });
        }
        let entry = self.entries.get_mut(id)?;
        let revision = revision(&entry.series);
        if entry.revision != revision {
            entry.revision = revision;
            self.series.insert(entry.number, entry.series.clone());
        }
        Some((entry.number, entry.series.metric.kind))
    }

    /// The time at which the counter of `series` stood at zero.
    pub(crate) fn start(&self, series: &Series) -> SystemTime {
        self.time(self.clock.unix_nanos(series.start))
    }

    /// PostgreSQL's times are whole microseconds.
    pub(crate) fn time(&self, unix_nanos: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_micros(unix_nanos / 1000)
    }

    /// The first of the points, at most `most`: sorted by key, and of two with the same key the later one.
    /// Returns how many they were before.
    pub(crate) fn first(&self, most: usize) -> (Vec<Point>, usize) {
        let count = self.points.len().min(most);
        let mut points = self.points[..count].to_vec();
        points.sort_by_key(|point| (point.series, point.time));
        let mut unique = Vec::<Point>::with_capacity(count);
        for point in points {
            match unique.last_mut() {
                Some(last) if (last.series, last.time) == (point.series, point.time) => *last = point,
                _ => unique.push(point),
            }
        }
        (unique, count)
    }

    /// All series, and the first `count` points, are in the database now, or lost.
    pub(crate) fn settled(&mut self, count: usize) {
        self.series.clear();
        self.points.drain(..count);
    }

    /// The database is another one, and does not know this run: all living series are written again. Points
    /// of series that have ended, and were written into the other database, are lost: returns how many.
    pub(crate) fn begin_again(&mut self) -> u64 {
        for (_, entry) in self.entries.iter() {
            self.series.insert(entry.number, entry.series.clone());
        }
        let known: HashSet<u32> = self.series.keys().copied().collect();
        let before = self.points.len();
        self.points.retain(|point| known.contains(&point.series));
        (before - self.points.len()) as u64
    }

    /// Points of series that the registry does not know, since the last call.
    pub(crate) fn take_unknown(&mut self) -> u64 {
        std::mem::take(&mut self.unknown)
    }
}

fn revision(series: &Series) -> u64 {
    series.consumer.as_ref().map_or(0, |consumer| consumer.revision())
}

#[cfg(test)]
mod tests {
    use wattrace_api::testing::Rig;
    use wattrace_api::{Resource, Timestamp, Window, metric};

    use super::*;

    #[test]
    fn of_two_points_at_one_time_the_later_one_counts() {
        let mut rig = Rig::new();
        let ids = [0, 1].map(|n| rig.series(&metric::HW_ENERGY, Resource::package(n)));
        let mut staged = Staged::new(rig.registry.clone(), rig.clock.clone());
        let window = Window::new(Timestamp(0), Timestamp(5000));
        staged.take(&rig.batch(window, &[(ids[1], 1), (ids[0], 2)]));
        staged.take(&rig.batch(window, &[(ids[1], 3)]));
        let (points, count) = staged.first(10);
        let steps: Vec<_> = points.iter().map(|p| (p.series, p.steps.unwrap())).collect();
        assert_eq!((steps, count), (vec![(1, 3), (2, 2)], 3));
    }

    #[test]
    fn another_database_gets_the_living_series_and_points_without_a_series_are_counted() {
        let mut rig = Rig::new();
        let ids = [0, 1].map(|n| rig.series(&metric::HW_ENERGY, Resource::package(n)));
        let mut staged = Staged::new(rig.registry.clone(), rig.clock.clone());
        let window = |end| Window::new(Timestamp(0), Timestamp(end));
        staged.take(&rig.batch(window(1000), &[(ids[0], 1), (ids[1], 1)]));
        staged.settled(2);
        let mut batch = rig.batch(window(2000), &[(ids[0], 2), (ids[1], 2)]);
        batch.end(ids[1]);
        staged.take(&batch);
        assert_eq!((staged.begin_again(), staged.points.len(), staged.series.len()), (1, 1, 1));
    }
}
