//! The series that a sender opened. A key is bytes that the caller makes of whatever distinguishes its
//! series.
//!
//! A counter that gets a later start time, or that decreases without a start time, was restarted: its series
//! ends and another begins. A counter that decreases although its start time is the same is refused.
//!
//! [`SeriesTable::counting_from_first_value`] takes the first value of a counter without a start time as
//! zero: what the counter counted before that belongs to no window.

use std::collections::HashMap;
use std::sync::Arc;

use wattrace_api::{
    Attribute, AttributeValue, Batch, Kind, Registry, SeriesId, SeriesSpec, Timestamp, Value, Window,
};

use crate::error::PointError;

/// The open series of one sender.
#[derive(Debug)]
pub struct SeriesTable {
    registry: Arc<Registry>,
    // The standard hasher, which resists collisions: the sender chooses the keys.
    entries: HashMap<Box<[u8]>, Entry>,
    limit: usize,
    byte_limit: usize,
    /// Bytes of the names of all open series.
    bytes: usize,
    from_first_value: bool,
}

#[derive(Debug)]
struct Entry {
    id: SeriesId,
    bytes: usize,
    kind: Kind,
    /// The counter's value at the start of the series.
    base: u64,
    start_unix_nano: Option<u64>,
    value: Value,
    time: Timestamp,
    received: Timestamp,
}

/// A point as received, to be recorded.
#[derive(Clone, Copy, Debug)]
pub struct IncomingPoint {
    /// Counter or gauge.
    pub kind: Kind,
    /// The value; a counter's in the metric's steps.
    pub value: Value,
    /// When it was measured.
    pub time: Timestamp,
    /// When the counter was zero, by the sender's clock; a later one means a restart. `None`: unknown.
    pub start_unix_nano: Option<u64>,
    /// When it was received.
    pub now: Timestamp,
}

/// What [`SeriesTable::record`] did with a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// Added a point to an open series.
    Appended,
    /// Opened a series with it.
    Opened,
    /// Ended the series, because the counter was restarted, and opened another one with it.
    Restarted,
}

/// Writes points to a batch, and begins a segment whenever the window changes.
#[derive(Debug)]
pub struct SegmentWriter<'a> {
    batch: &'a mut Batch,
    window: Option<Window>,
}

impl<'a> SegmentWriter<'a> {
    /// Appends to `batch`.
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

impl SeriesTable {
    /// An empty table for at most `limit` open series.
    pub fn new(registry: Arc<Registry>, limit: usize) -> Self {
        let (entries, byte_limit) = (HashMap::new(), usize::MAX);
        Self { registry, entries, limit, byte_limit, bytes: 0, from_first_value: false }
    }

    /// The same, for at most `limit` bytes of the series' keys, attributes and consumers' attributes.
    pub fn with_byte_limit(self, limit: usize) -> Self {
        Self { byte_limit: limit, ..self }
    }

    /// The same, but a counter of unknown start counts from its first value.
    pub fn counting_from_first_value(registry: Arc<Registry>, limit: usize) -> Self {
        Self { from_first_value: true, ..Self::new(registry, limit) }
    }

    /// Number of open series.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no series is open.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Records a point of the series `key`. If the series is not open, it is opened as `describe` says.
    ///
    /// # Errors
    /// Why the point is refused.
    pub fn record(
        &mut self,
        key: &[u8],
        point: IncomingPoint,
        describe: impl FnOnce() -> Result<SeriesSpec, PointError>,
        writer: &mut SegmentWriter<'_>,
    ) -> Result<Recorded, PointError> {
        let Some(entry) = self.entries.get_mut(key) else {
            if self.entries.len() >= self.limit {
                return Err(PointError::TooManySeries { limit: self.limit });
            }
            let mut spec = describe()?;
            let bytes = bytes_of(key, &spec);
            if self.bytes.saturating_add(bytes) > self.byte_limit {
                return Err(PointError::TooManyBytes { limit: self.byte_limit });
            }
            let mut base = 0;
            if self.from_first_value && point.kind == Kind::Counter && point.start_unix_nano.is_none() {
                (spec.start, base) = (point.time, point.value.steps());
            }
            let entry = Entry { bytes, ..Entry::open(&self.registry, spec, &point, base, writer) };
            self.bytes += bytes;
            self.entries.insert(key.into(), entry);
            return Ok(Recorded::Opened);
        };
        entry.received = point.now;
        if !entry.is_restarted(&point)? {
            writer.push(Window::new(entry.time, point.time), entry.id, entry.counted(point.value));
            (entry.value, entry.time) = (point.value, point.time);
            return Ok(Recorded::Appended);
        }
        let mut spec = describe()?;
        if point.start_unix_nano.is_none() {
            spec.start = entry.time;
        }
        writer.batch.end(entry.id);
        let bytes = entry.bytes;
        *entry = Entry { bytes, ..Entry::open(&self.registry, spec, &point, 0, writer) };
        Ok(Recorded::Restarted)
    }

    /// The last value of the counter `key`, in steps, and its time.
    pub fn last(&self, key: &[u8]) -> Option<(u64, Timestamp)> {
        self.entries.get(key).map(|entry| (entry.value.steps(), entry.time))
    }

    /// Ends the series `key`. Returns whether it was open.
    pub fn end(&mut self, key: &[u8], writer: &mut SegmentWriter<'_>) -> bool {
        let ended = self.entries.remove(key);
        if let Some(entry) = &ended {
            self.bytes -= entry.bytes;
            writer.batch.end(entry.id);
        }
        ended.is_some()
    }

    /// Ends all series.
    pub fn end_all(&mut self, writer: &mut SegmentWriter<'_>) {
        self.bytes = 0;
        self.entries.drain().for_each(|(_, entry)| writer.batch.end(entry.id));
    }

    /// Ends the series without a point since `since`. Returns their number.
    pub fn end_idle(&mut self, since: Timestamp, writer: &mut SegmentWriter<'_>) -> usize {
        let before = self.entries.len();
        self.entries.retain(|_, entry| {
            let is_active = entry.received >= since;
            if !is_active {
                self.bytes -= entry.bytes;
                writer.batch.end(entry.id);
            }
            is_active
        });
        before - self.entries.len()
    }
}

/// Bytes that a series keeps for its name.
fn bytes_of(key: &[u8], spec: &SeriesSpec) -> usize {
    let of_attribute = |attribute: &Attribute| {
        let text = match &attribute.value {
            AttributeValue::Str(text) => text.len(),
            _ => 0,
        };
        size_of::<Attribute>() + attribute.key.len() + text
    };
    let of_consumer = spec.consumer.as_ref().map_or(0, |consumer| {
        consumer.identity().id.len() + consumer.attributes().iter().map(of_attribute).sum::<usize>()
    });
    key.len() + spec.attributes.iter().map(of_attribute).sum::<usize>() + of_consumer
}

impl Entry {
    fn open(
        registry: &Registry,
        spec: SeriesSpec,
        point: &IncomingPoint,
        base: u64,
        writer: &mut SegmentWriter<'_>,
    ) -> Self {
        let &IncomingPoint { kind, value, time, start_unix_nano, now } = point;
        // A counter's first value covers the time since its start; a gauge's covers no time.
        let since = if kind == Kind::Counter { spec.start.min(time) } else { time };
        let id = registry.open(spec);
        let entry = Self { id, bytes: 0, kind, base, start_unix_nano, value, time, received: now };
        writer.push(Window::new(since, time), id, entry.counted(value));
        entry
    }

    /// `value`, less what the counter had counted when the series began.
    fn counted(&self, value: Value) -> Value {
        match self.kind {
            Kind::Counter => Value::of_steps(value.steps().saturating_sub(self.base)),
            Kind::Gauge => value,
        }
    }

    fn is_restarted(&self, point: &IncomingPoint) -> Result<bool, PointError> {
        if self.kind == Kind::Counter {
            match (self.start_unix_nano, point.start_unix_nano) {
                (Some(old), Some(new)) if new > old => return Ok(true),
                (Some(old), Some(new)) if new < old => return Err(PointError::Late),
                _ => {}
            }
        }
        if point.time < self.time {
            return Err(PointError::Late);
        }
        if self.kind == Kind::Counter && point.value.steps() < self.value.steps() {
            return match point.start_unix_nano {
                Some(_) => Err(PointError::Backwards),
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

    struct Fixture {
        registry: Arc<Registry>,
        table: SeriesTable,
        batch: Batch,
    }

    impl Fixture {
        fn new() -> Self {
            let registry = Registry::new();
            Self { table: SeriesTable::new(registry.clone(), 2), registry, batch: Batch::default() }
        }

        fn record(
            &mut self,
            key: &str,
            start: Option<u64>,
            time: u64,
            value: u64,
        ) -> Result<Recorded, PointError> {
            let metric = self.registry.metric(&metric::HW_ENERGY).unwrap();
            let point = IncomingPoint {
                kind: Kind::Counter,
                value: Value::of_steps(value),
                time: Timestamp(time),
                start_unix_nano: start,
                now: Timestamp(time),
            };
            let start = Timestamp(start.unwrap_or(1));
            let describe = || Ok(SeriesSpec::new(metric, Resource::HOST, start));
            self.table.record(key.as_bytes(), point, describe, &mut SegmentWriter::new(&mut self.batch))
        }

        /// (start of the series, window, value) of the points so far, and the number of ends.
        fn points_and_ends(&self) -> (Vec<(u64, u64, u64, u64)>, usize) {
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
    fn windows_are_contiguous_and_a_restart_opens_a_new_series() {
        let mut fixture = Fixture::new();
        assert_eq!(fixture.record("a", Some(5), 10, 100), Ok(Recorded::Opened));
        assert_eq!(fixture.record("a", Some(5), 20, 150), Ok(Recorded::Appended));
        assert_eq!(fixture.record("a", Some(22), 30, 7), Ok(Recorded::Restarted));
        assert_eq!(fixture.points_and_ends(), (vec![(5, 5, 10, 100), (5, 10, 20, 150), (22, 22, 30, 7)], 1));
        assert_eq!(fixture.table.len(), 1);
    }

    #[test]
    fn a_decrease_without_a_start_time_is_a_restart_and_with_the_same_one_is_refused() {
        let mut fixture = Fixture::new();
        fixture.record("with start", Some(5), 10, 100).unwrap();
        assert_eq!(fixture.record("with start", Some(5), 20, 99), Err(PointError::Backwards));
        fixture.record("without start", None, 10, 100).unwrap();
        assert_eq!(fixture.record("without start", None, 20, 3), Ok(Recorded::Restarted));
        assert_eq!(fixture.points_and_ends(), (vec![(5, 5, 10, 100), (1, 1, 10, 100), (10, 10, 20, 3)], 1));
    }

    #[test]
    fn a_counter_of_unknown_start_counts_from_its_first_value_if_asked_to() {
        let mut fixture = Fixture::new();
        fixture.table = SeriesTable::counting_from_first_value(fixture.registry.clone(), 2);
        fixture.record("a", None, 10, 1000).unwrap();
        fixture.record("a", None, 20, 1003).unwrap();
        assert_eq!(fixture.record("a", None, 30, 5), Ok(Recorded::Restarted));
        fixture.record("with start", Some(5), 10, 1000).unwrap();
        assert_eq!(
            fixture.points_and_ends().0,
            [(10, 10, 10, 0), (10, 10, 20, 3), (20, 20, 30, 5), (5, 5, 10, 1000)]
        );
    }

    #[test]
    fn late_points_and_too_many_series_are_refused() {
        let mut fixture = Fixture::new();
        fixture.record("a", Some(5), 10, 100).unwrap();
        assert_eq!(fixture.record("a", Some(5), 9, 90), Err(PointError::Late));
        assert_eq!(fixture.record("a", Some(4), 11, 900), Err(PointError::Late));
        fixture.record("b", None, 10, 1).unwrap();
        assert_eq!(fixture.record("c", None, 10, 1), Err(PointError::TooManySeries { limit: 2 }));
    }

    #[test]
    fn the_bytes_of_names_are_limited_and_free_again_when_their_series_end() {
        let mut fixture = Fixture::new();
        fixture.table = SeriesTable::new(fixture.registry.clone(), 100).with_byte_limit(1000);
        let (long, short) = ("x".repeat(600), "y".repeat(400));
        fixture.record(&long, None, 10, 1).unwrap();
        fixture.record(&short, None, 10, 1).unwrap();
        let full = Err(PointError::TooManyBytes { limit: 1000 });
        assert_eq!(fixture.record("z", None, 10, 1), full);
        assert_eq!(fixture.record(&long, None, 20, 0), Ok(Recorded::Restarted), "it is open already");
        let mut batch = Batch::default();
        assert!(fixture.table.end(short.as_bytes(), &mut SegmentWriter::new(&mut batch)));
        fixture.record(&"z".repeat(400), None, 10, 1).unwrap();
        assert_eq!(fixture.record("z", None, 10, 1), full);
        fixture.table.end_idle(Timestamp(20), &mut SegmentWriter::new(&mut batch));
        fixture.record(&"w".repeat(400), None, 10, 1).unwrap();
        fixture.table.end_all(&mut SegmentWriter::new(&mut batch));
        fixture.record(&"w".repeat(1000), None, 10, 1).unwrap();
    }

    #[test]
    fn each_series_ends_once() {
        let mut fixture = Fixture::new();
        fixture.record("a", None, 10, 1).unwrap();
        fixture.record("b", None, 20, 1).unwrap();
        let mut batch = Batch::default();
        let mut writer = SegmentWriter::new(&mut batch);
        assert_eq!(fixture.table.end_idle(Timestamp(15), &mut writer), 1);
        assert!(fixture.table.end(b"b", &mut writer));
        assert!(!fixture.table.end(b"b", &mut writer));
        fixture.table.end_all(&mut writer);
        assert_eq!((batch.ended().len(), fixture.table.is_empty()), (2, true));
    }
}
