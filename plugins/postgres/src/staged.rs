//! Points that are taken and not committed yet, and the number of each series in this run of the agent.
//! `session` commits them; while the database takes none they become portions for the spool.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use wattrace_api::{Batch, Clock, Kind, Registry, Series, SeriesId, SeriesMap};
use wattrace_spool::Class;

use crate::portion::{Point, Portion, Run, SeriesRow, micros, unique};

/// About how much memory a series takes that is to be written.
const SERIES_BYTES: usize = 1024;

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
    /// The series that have ended since there were no points.
    ended: HashMap<u32, Arc<Series>>,
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
            ended: HashMap::new(),
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
            let time = micros(self.clock.unix_nanos(segment.window.end));
            for (id, value) in segment.points() {
                let Some((series, kind)) = self.number(id) else {
                    self.unknown += 1;
                    continue;
                };
                let (steps, value) = match kind {
                    // 2⁶³ microjoules are 29,000 years of 10 kW.
                    Kind::Counter => (Some(i64::try_from(value.steps()).unwrap_or(i64::MAX)), None),
                    Kind::Gauge => (None, Some(value.gauge().to_bits())),
                };
                self.points.push(Point { series, time, steps, value });
            }
        }
        for &id in batch.ended() {
            if let Some(entry) = self.entries.remove(id) {
                self.ended.insert(entry.number, entry.series);
            }
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

    /// The rows of the series to insert or update.
    pub(crate) fn rows(&self) -> Vec<SeriesRow> {
        self.series.iter().map(|(&number, series)| SeriesRow::of(number, series, &self.clock)).collect()
    }

    /// The first of the points, at most `most`: sorted by key, and of two with the same key the later one.
    /// Returns how many they were before.
    pub(crate) fn first(&self, most: usize) -> (Vec<Point>, usize) {
        let count = self.points.len().min(most);
        (unique(self.points[..count].to_vec()), count)
    }

    /// All series, and the first `count` points, are in the database now, or lost.
    pub(crate) fn settled(&mut self, count: usize) {
        self.series.clear();
        self.points.drain(..count);
        if self.points.is_empty() {
            self.ended.clear();
        }
    }

    /// Takes out everything, in portions of at most `most` points, with their series. The points of series
    /// that have ended are in portions of their own: no later points contain them.
    pub(crate) fn take_portions(&mut self, run: &Run, most: usize) -> Vec<(Class, Portion)> {
        let living = self.entries.iter().map(|(_, entry)| (entry.number, &entry.series));
        let known: HashMap<u32, &Arc<Series>> =
            living.chain(self.ended.iter().map(|(number, series)| (*number, series))).collect();
        let (last, other): (Vec<Point>, Vec<Point>) =
            self.points.iter().copied().partition(|point| self.ended.contains_key(&point.series));
        let mut portions = Vec::new();
        for (class, points) in [(Class::Intermediate, other), (Class::Last, last)] {
            for points in unique(points).chunks(most) {
                let numbers: HashSet<u32> = points.iter().map(|point| point.series).collect();
                let row = |number: u32| Some(SeriesRow::of(number, known.get(&number)?, &self.clock));
                let series = numbers.into_iter().filter_map(row).collect();
                portions.push((class, Portion { run: run.clone(), series, points: points.to_vec() }));
            }
        }
        self.settled(self.points.len());
        portions
    }

    /// Writes all series again that live or have points: the database may not have them.
    pub(crate) fn restate(&mut self) {
        let living = self.entries.iter().map(|(_, entry)| (entry.number, entry.series.clone()));
        self.series.extend(living);
        self.series.extend(self.ended.iter().map(|(number, series)| (*number, series.clone())));
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
    fn another_database_gets_the_series_that_live_or_have_points() {
        let mut rig = Rig::new();
        let ids = [0, 1, 2].map(|n| rig.series(&metric::HW_ENERGY, Resource::package(n)));
        let mut staged = Staged::new(rig.registry.clone(), rig.clock.clone());
        let window = |end| Window::new(Timestamp(0), Timestamp(end));
        let mut batch = rig.batch(window(1000), &[(ids[0], 1), (ids[1], 1), (ids[2], 1)]);
        batch.end(ids[2]);
        staged.take(&batch);
        staged.settled(3);
        let mut batch = rig.batch(window(2000), &[(ids[0], 2), (ids[1], 2)]);
        batch.end(ids[1]);
        staged.take(&batch);
        staged.restate();
        assert_eq!((staged.points.len(), staged.series.keys().collect::<Vec<_>>()), (2, vec![&1, &2]));
    }

    #[test]
    fn portions_hold_each_point_once_with_its_series_and_last_points_apart() {
        let mut rig = Rig::new();
        let ids = [0, 1].map(|n| rig.series(&metric::HW_ENERGY, Resource::package(n)));
        let mut staged = Staged::new(rig.registry.clone(), rig.clock.clone());
        let window = |end| Window::new(Timestamp(0), Timestamp(end));
        staged.take(&rig.batch(window(1000), &[(ids[0], 1), (ids[1], 1)]));
        // Both are in the database now.
        staged.settled(2);
        staged.take(&rig.batch(window(2000), &[(ids[0], 2), (ids[1], 2)]));
        staged.take(&rig.batch(window(2000), &[(ids[0], 3)]));
        let mut batch = rig.batch(window(3000), &[(ids[0], 4)]);
        batch.end(ids[1]);
        staged.take(&batch);
        let run = Run { key: "k".into(), host: "h".into(), agent: "1".into(), started: 7 };
        let portions = staged.take_portions(&run, 1);
        let shown: Vec<_> = portions
            .iter()
            .map(|(class, portion)| {
                let series: Vec<_> = portion.series.iter().map(|row| row.number).collect();
                let points: Vec<_> = portion.points.iter().map(|p| (p.series, p.steps.unwrap())).collect();
                (*class, series, points)
            })
            .collect();
        let expected = [
            (Class::Intermediate, vec![1], vec![(1, 3)]),
            (Class::Intermediate, vec![1], vec![(1, 4)]),
            (Class::Last, vec![2], vec![(2, 2)]),
        ];
        assert_eq!(shown, expected);
        assert!(staged.is_empty());
        let mut whole = portions[0].1.clone();
        assert!(whole.fits(&portions[1].1, 2) && !whole.fits(&portions[1].1, 1));
        whole.add(portions[1].1.clone());
        whole.add(portions[0].1.clone());
        let steps: Vec<_> = whole.points.iter().map(|point| point.steps).collect();
        assert_eq!((steps, whole.series.len()), (vec![Some(3), Some(4)], 1));
        let entry = portions[0].1.entry(Class::Last).unwrap();
        assert_eq!((Portion::read(&entry.payload).as_ref(), entry.points), (Some(&portions[0].1), 1));
    }
}
