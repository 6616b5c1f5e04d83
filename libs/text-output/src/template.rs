//! A series' row: everything but time and value is rendered once and kept until the series ends or its
//! consumer's attributes change (an exec). `output` drives it; a [`Format`] defines how a row looks.

use std::marker::PhantomData;
use std::sync::Arc;

use wattrace_api::{Batch, Clock, Registry, Segment, Series, SeriesId, SeriesMap, Value};

use crate::number::Scale;

/// How a row looks: `head` time `BETWEEN` value `tail`, all on one line.
pub trait Format: 'static {
    /// What every file of this format begins with: a file that begins otherwise is not appended to.
    const OPENING: &'static str;
    /// The lines at the top of a new file.
    const HEADER: &'static str;
    /// Text between time and value.
    const BETWEEN: &'static str;
    /// Text for a gauge that is not a number.
    const NO_NUMBER: &'static str;

    /// Renders the row of `series`, whose counter stood at zero at `start_unix_nano`.
    fn row(series: &Series, start_unix_nano: u64) -> RowTemplate;
}

/// The text around a row's time and value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowTemplate {
    /// All before the time.
    pub head: String,
    /// All after the value, with the line feed.
    pub tail: String,
}

struct Cached {
    series: Arc<Series>,
    revision: u64,
    scale: Scale,
    row: RowTemplate,
}

impl Cached {
    fn new<F: Format>(series: Arc<Series>, clock: &Clock) -> Self {
        // The revision is read first: a change in between is then rendered twice, never missed.
        let revision = revision(&series);
        let row = F::row(&series, clock.unix_nanos(series.start));
        Self { revision, scale: Scale::of(&series.metric), row, series }
    }

    fn refresh<F: Format>(&mut self, clock: &Clock) {
        if revision(&self.series) != self.revision {
            *self = Self::new::<F>(self.series.clone(), clock);
        }
    }
}

fn revision(series: &Series) -> u64 {
    series.consumer.as_ref().map_or(0, |consumer| consumer.revision())
}

/// The templates of all series that have had a point.
pub(crate) struct TemplateCache<F> {
    registry: Arc<Registry>,
    clock: Clock,
    cached: SeriesMap<Cached>,
    unknown: u64,
    format: PhantomData<fn() -> F>,
}

impl<F: Format> TemplateCache<F> {
    pub(crate) fn new(registry: Arc<Registry>, clock: Clock) -> Self {
        Self { registry, clock, cached: SeriesMap::default(), unknown: 0, format: PhantomData }
    }

    /// Appends a segment's rows to `out`.
    pub(crate) fn write(&mut self, segment: &Segment<'_>, out: &mut impl LineSink) {
        let mut time = itoa::Buffer::new();
        let time = time.format(self.clock.unix_nanos(segment.window.end));
        for (id, value) in segment.points() {
            match self.cached(id) {
                Some(cached) => {
                    append::<F>(cached, time, value, out.bytes());
                    out.row_done();
                }
                None => self.unknown += 1,
            }
        }
    }

    fn cached(&mut self, id: SeriesId) -> Option<&Cached> {
        if self.cached.get(id).is_none() {
            self.cached.insert(id, Cached::new::<F>(self.registry.get(id)?, &self.clock));
        }
        let cached = self.cached.get_mut(id)?;
        cached.refresh::<F>(&self.clock);
        Some(cached)
    }

    /// Forgets the series that `batch` ends.
    pub(crate) fn forget_ended(&mut self, batch: &Batch) {
        for &id in batch.ended() {
            self.cached.remove(id);
        }
    }

    /// Points of series that the registry does not know, since the last call.
    pub(crate) fn take_unknown(&mut self) -> u64 {
        std::mem::take(&mut self.unknown)
    }
}

/// Where rows go.
pub(crate) trait LineSink {
    /// The buffer to append to.
    fn bytes(&mut self) -> &mut Vec<u8>;
    /// A row is complete.
    fn row_done(&mut self);
}

fn append<F: Format>(cached: &Cached, time: &str, value: Value, out: &mut Vec<u8>) {
    out.extend_from_slice(cached.row.head.as_bytes());
    out.extend_from_slice(time.as_bytes());
    out.extend_from_slice(F::BETWEEN.as_bytes());
    cached.scale.write(value, F::NO_NUMBER, out);
    out.extend_from_slice(cached.row.tail.as_bytes());
}
