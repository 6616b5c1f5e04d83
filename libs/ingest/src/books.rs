//! The series that somebody outside opened. Keys are bytes that the caller makes of whatever tells its series
//! apart.
//!
//! A counter whose start time changes, or that falls without telling a start time, was restarted: its series
//! ends and another begins. One that falls although its start time is the same contradicts itself, and is
//! refused.
//!
//! Books that count from here ([`Books::counting_from_here`]) take the first value of a counter without a
//! start time as zero: what it counted before anybody looked belongs to no window.

use std::collections::HashMap;
use std::sync::Arc;

use wattrace_api::{Batch, Kind, Registry, SeriesId, SeriesSpec, Timestamp, Value, Window};

use crate::fault::Fault;

/// Every open series of one place outside.
#[derive(Debug)]
pub struct Books {
    registry: Arc<Registry>,
    // With the standard hasher: the keys are others' to choose.
    entries: HashMap<Box<[u8]>, Entry>,
    limit: usize,
    from_here: bool,
}

#[derive(Debug)]
struct Entry {
    id: SeriesId,
    kind: Kind,
    /// What its counter stood at when the series began.
    base: u64,
    start_unix_nano: Option<u64>,
    value: Value,
    time: Timestamp,
    touched: Timestamp,
}

/// A value for a series.
#[derive(Clone, Copy, Debug)]
pub struct Posting {
    /// Counter or gauge.
    pub kind: Kind,
    /// The value, in the metric's steps if it is a counter's.
    pub value: Value,
    /// When it was so.
    pub time: Timestamp,
    /// When the counter stood at zero, as the sender tells it, to know a restart by; `None` if it does not.
    pub start_unix_nano: Option<u64>,
    /// When it came here.
    pub now: Timestamp,
}

/// What became of a posting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posted {
    /// It is another point of a series.
    Taken,
    /// It is the first point of a series.
    Opened,
    /// It is the first point after the counter's restart.
    Reset,
}

/// A batch being written, whose segments are begun when the window changes.
#[derive(Debug)]
pub struct Page<'a> {
    batch: &'a mut Batch,
    window: Option<Window>,
}

impl<'a> Page<'a> {
    /// Writes at the end of `batch`.
    pub fn new(batch: &'a mut Batch) -> Self {
        Self { batch, window: None }
    }

    /// Points in the batch.
    pub fn points(&self) -> usize {
        self.batch.len()
    }

    fn push(&mut self, window: Window, id: SeriesId, value: Value) {
        if self.window != Some(window) {
            self.batch.begin(window);
            self.window = Some(window);
        }
        self.batch.push(id, value);
    }
}

impl Books {
    /// No series yet, and at most `limit`.
    pub fn new(registry: Arc<Registry>, limit: usize) -> Self {
        Self { registry, entries: HashMap::new(), limit, from_here: false }
    }

    /// No series yet, and at most `limit`. A counter of unknown start counts from its first value on.
    pub fn counting_from_here(registry: Arc<Registry>, limit: usize) -> Self {
        Self { from_here: true, ..Self::new(registry, limit) }
    }

    /// Open series.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no series is open.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Puts a value into the series `key`, which is opened with what `describe` says if it isn't there.
    ///
    /// # Errors
    /// Why the value is refused.
    pub fn post(
        &mut self,
        key: &[u8],
        posting: Posting,
        describe: impl FnOnce() -> Result<SeriesSpec, Fault>,
        page: &mut Page<'_>,
    ) -> Result<Posted, Fault> {
        let Some(entry) = self.entries.get_mut(key) else {
            if self.entries.len() >= self.limit {
                return Err(Fault::TooManySeries { limit: self.limit });
            }
            let mut spec = describe()?;
            let mut base = 0;
            if self.from_here && posting.kind == Kind::Counter && posting.start_unix_nano.is_none() {
                (spec.start, base) = (posting.time, posting.value.steps());
            }
            let entry = Entry::open(&self.registry, spec, &posting, base, page);
            self.entries.insert(key.into(), entry);
            return Ok(Posted::Opened);
        };
        entry.touched = posting.now;
        if !entry.is_restarted(&posting)? {
            page.push(Window::new(entry.time, posting.time), entry.id, entry.counted(posting.value));
            (entry.value, entry.time) = (posting.value, posting.time);
            return Ok(Posted::Taken);
        }
        let mut spec = describe()?;
        if posting.start_unix_nano.is_none() {
            spec.start = entry.time;
        }
        page.batch.end(entry.id);
        *entry = Entry::open(&self.registry, spec, &posting, 0, page);
        Ok(Posted::Reset)
    }

    /// The steps that the counter `key` stands at, and its last time.
    pub fn last(&self, key: &[u8]) -> Option<(u64, Timestamp)> {
        self.entries.get(key).map(|entry| (entry.value.steps(), entry.time))
    }

    /// Ends the series `key`. Returns whether it was open.
    pub fn end(&mut self, key: &[u8], page: &mut Page<'_>) -> bool {
        let ended = self.entries.remove(key);
        ended.iter().for_each(|entry| page.batch.end(entry.id));
        ended.is_some()
    }

    /// Ends all series.
    pub fn end_all(&mut self, page: &mut Page<'_>) {
        self.entries.drain().for_each(|(_, entry)| page.batch.end(entry.id));
    }

    /// Ends the series of which nothing has come since `since`. Returns how many.
    pub fn end_idle(&mut self, since: Timestamp, page: &mut Page<'_>) -> usize {
        let before = self.entries.len();
        self.entries.retain(|_, entry| {
            let alive = entry.touched >= since;
            if !alive {
                page.batch.end(entry.id);
            }
            alive
        });
        before - self.entries.len()
    }
}

impl Entry {
    fn open(
        registry: &Registry,
        spec: SeriesSpec,
        posting: &Posting,
        base: u64,
        page: &mut Page<'_>,
    ) -> Self {
        let &Posting { kind, value, time, start_unix_nano, now } = posting;
        // A counter's first value covers all since its start; a gauge's covers nothing yet.
        let since = if kind == Kind::Counter { spec.start.min(time) } else { time };
        let id = registry.open(spec);
        let entry = Self { id, kind, base, start_unix_nano, value, time, touched: now };
        page.push(Window::new(since, time), id, entry.counted(value));
        entry
    }

    /// `value` since the series began.
    fn counted(&self, value: Value) -> Value {
        match self.kind {
            Kind::Counter => Value::of_steps(value.steps().saturating_sub(self.base)),
            Kind::Gauge => value,
        }
    }

    fn is_restarted(&self, posting: &Posting) -> Result<bool, Fault> {
        if self.kind == Kind::Counter {
            match (self.start_unix_nano, posting.start_unix_nano) {
                (Some(old), Some(new)) if new > old => return Ok(true),
                (Some(old), Some(new)) if new < old => return Err(Fault::Late),
                _ => {}
            }
        }
        if posting.time < self.time {
            return Err(Fault::Late);
        }
        if self.kind == Kind::Counter && posting.value.steps() < self.value.steps() {
            return match posting.start_unix_nano {
                Some(_) => Err(Fault::Backwards),
                None => Ok(true),
            };
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wattrace_api::{Resource, metric};

    struct Scene {
        registry: Arc<Registry>,
        books: Books,
        batch: Batch,
    }

    impl Scene {
        fn new() -> Self {
            let registry = Registry::new();
            Self { books: Books::new(registry.clone(), 2), registry, batch: Batch::default() }
        }

        fn post(&mut self, key: &str, start: Option<u64>, time: u64, value: u64) -> Result<Posted, Fault> {
            let metric = self.registry.metric(&metric::HW_ENERGY).unwrap();
            let posting = Posting {
                kind: Kind::Counter,
                value: Value::of_steps(value),
                time: Timestamp(time),
                start_unix_nano: start,
                now: Timestamp(time),
            };
            let start = Timestamp(start.unwrap_or(1));
            let describe = || Ok(SeriesSpec::new(metric, Resource::HOST, start));
            self.books.post(key.as_bytes(), posting, describe, &mut Page::new(&mut self.batch))
        }

        /// (start of the series, window, value) of the points so far, and the number of ends.
        fn seen(&self) -> (Vec<(u64, u64, u64, u64)>, usize) {
            let mut points = Vec::new();
            for segment in self.batch.segments() {
                for (id, value) in segment.points() {
                    let start = self.registry.get(id).unwrap().start.0;
                    points.push((start, segment.window.start.0, segment.window.end.0, value.steps()));
                }
            }
            (points, self.batch.ended().len())
        }
    }

    #[test]
    fn windows_join_and_a_restart_is_a_new_series() {
        let mut scene = Scene::new();
        assert_eq!(scene.post("a", Some(5), 10, 100), Ok(Posted::Opened));
        assert_eq!(scene.post("a", Some(5), 20, 150), Ok(Posted::Taken));
        assert_eq!(scene.post("a", Some(22), 30, 7), Ok(Posted::Reset));
        assert_eq!(scene.seen(), (vec![(5, 5, 10, 100), (5, 10, 20, 150), (22, 22, 30, 7)], 1));
        assert_eq!(scene.books.len(), 1);
    }

    #[test]
    fn a_fall_without_a_start_is_a_restart_and_with_the_same_one_a_contradiction() {
        let mut scene = Scene::new();
        scene.post("told", Some(5), 10, 100).unwrap();
        assert_eq!(scene.post("told", Some(5), 20, 99), Err(Fault::Backwards));
        scene.post("untold", None, 10, 100).unwrap();
        assert_eq!(scene.post("untold", None, 20, 3), Ok(Posted::Reset));
        assert_eq!(scene.seen(), (vec![(5, 5, 10, 100), (1, 1, 10, 100), (10, 10, 20, 3)], 1));
    }

    #[test]
    fn what_was_counted_before_anybody_looked_is_nobodys() {
        let mut scene = Scene::new();
        scene.books = Books::counting_from_here(scene.registry.clone(), 2);
        scene.post("a", None, 10, 1000).unwrap();
        scene.post("a", None, 20, 1003).unwrap();
        assert_eq!(scene.post("a", None, 30, 5), Ok(Posted::Reset));
        scene.post("told", Some(5), 10, 1000).unwrap();
        assert_eq!(scene.seen().0, [(10, 10, 10, 0), (10, 10, 20, 3), (20, 20, 30, 5), (5, 5, 10, 1000)]);
    }

    #[test]
    fn what_is_older_is_late_and_what_is_too_much_is_refused() {
        let mut scene = Scene::new();
        scene.post("a", Some(5), 10, 100).unwrap();
        assert_eq!(scene.post("a", Some(5), 9, 90), Err(Fault::Late));
        assert_eq!(scene.post("a", Some(4), 11, 900), Err(Fault::Late));
        scene.post("b", None, 10, 1).unwrap();
        assert_eq!(scene.post("c", None, 10, 1), Err(Fault::TooManySeries { limit: 2 }));
    }

    #[test]
    fn ends_are_told_once() {
        let mut scene = Scene::new();
        scene.post("a", None, 10, 1).unwrap();
        scene.post("b", None, 20, 1).unwrap();
        let mut batch = Batch::default();
        let mut page = Page::new(&mut batch);
        assert_eq!(scene.books.end_idle(Timestamp(15), &mut page), 1);
        assert!(scene.books.end(b"b", &mut page));
        assert!(!scene.books.end(b"b", &mut page));
        scene.books.end_all(&mut page);
        assert_eq!((batch.ended().len(), scene.books.is_empty()), (2, true));
    }
}
