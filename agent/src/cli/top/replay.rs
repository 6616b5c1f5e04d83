//! Recorded points of a database of the plugin `sqlite`, as the messages that an agent would have sent.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use wattrace_sqlite::{ReadError, Reader, RecordedPoint, RecordedSeries, Span};
use wattrace_viewer::{
    ConsumerDescription, DomainDescription, Kind, Message, Model, Points, Quantity, SeriesDescription, names,
};

use crate::cli::failure::Failure;

/// How much of the time before a moment is read for the histories at that moment.
const BEFORE: Duration = Duration::from_secs(240);

/// A recording.
pub(super) struct Recording {
    reader: Reader,
    extent: Span,
    /// Points up to this time have been sent.
    at: u64,
    described: Described,
}

/// What was described since the last jump.
#[derive(Default)]
struct Described {
    /// Series by their id; `None`: no viewer needs it.
    series: HashMap<i64, Option<Known>>,
    /// Numbers by kind, id and begin.
    consumers: HashMap<(String, String, u64), u64>,
    domains: HashMap<String, bool>,
    /// The last point of what shares windows.
    last: HashMap<Window, u64>,
}

/// A series that was described.
#[derive(Clone)]
struct Known {
    id: u32,
    window: Window,
    start: u64,
    end: Option<u64>,
}

/// Points that share windows: those of a domain, and those of a kind of usage.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Window {
    Meter(String),
    Energy(String),
    Cpu,
    Gpu,
}

fn failed(error: &ReadError) -> Failure {
    Failure::new(error)
}

impl Recording {
    /// Opens a database.
    ///
    /// # Errors
    /// It is none, or it has no points.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let reader = Reader::open(path).map_err(|e| failed(&e))?;
        let extent = reader.points_extent().map_err(|e| failed(&e))?.ok_or_else(|| {
            Failure::new(format!(
                "{}: has no points; what is older than plugins.sqlite.keep_points is only there in sums: \
                 wattrace query",
                path.display()
            ))
        })?;
        Ok(Self { reader, extent, at: extent.from, described: Described::default() })
    }

    /// The time of the first point, in nanoseconds since the Unix epoch.
    pub(super) fn first(&self) -> u64 {
        self.extent.from
    }

    /// The time of the last one.
    pub(super) fn last(&self) -> u64 {
        self.extent.to
    }

    /// Gives a new `model` what leads to a moment. Counters are cumulative, so the energy so far is known.
    pub(super) fn go_to(&mut self, model: &mut Model, at: u64) -> Result<(), Failure> {
        let before = u64::try_from(BEFORE.as_nanos()).unwrap_or(u64::MAX);
        self.at = at.saturating_sub(before).max(self.extent.from.saturating_sub(1));
        self.described = Described::default();
        self.advance(at, |message| _ = model.apply(message))
    }

    /// Sends the points up to a moment.
    pub(super) fn advance(&mut self, to: u64, mut send: impl FnMut(&Message)) -> Result<(), Failure> {
        let span = Span { from: self.at, to };
        if span.from >= span.to {
            return Ok(());
        }
        let mut points: Vec<RecordedPoint> = Vec::new();
        self.reader.points(span, |point| points.push(point)).map_err(|e| failed(&e))?;
        for moment in points.chunk_by(|a, b| a.time_unix_nano == b.time_unix_nano) {
            let message = self.message(moment)?;
            if !message.windows.is_empty() {
                send(&message);
            }
        }
        let ended = self.described.take_ended(to);
        if !ended.is_empty() {
            send(&Message { ended, ..Message::default() });
        }
        self.at = to;
        Ok(())
    }

    /// The message about the points of one moment.
    fn message(&mut self, points: &[RecordedPoint]) -> Result<Message, Failure> {
        let mut message = Message::default();
        let mut windows: Vec<(Window, Points)> = Vec::new();
        for point in points {
            if !self.described.series.contains_key(&point.series_id) {
                let series = self.reader.recorded_series(point.series_id).map_err(|e| failed(&e))?;
                let reader = &self.reader;
                let is_counted = |domain: &str| reader.is_in_totals(domain).map_err(|e| failed(&e));
                let known = match series {
                    Some(series) => self.described.describe(&series, is_counted, &mut message)?,
                    None => None,
                };
                self.described.series.insert(point.series_id, known);
            }
            let Some(Some(known)) = self.described.series.get(&point.series_id) else { continue };
            let at = windows.iter().position(|(window, _)| *window == known.window).unwrap_or_else(|| {
                let last = self.described.last.get(&known.window).copied();
                let start = last.unwrap_or(known.start).min(point.time_unix_nano);
                windows.push((known.window.clone(), Points::of(start, point.time_unix_nano)));
                windows.len() - 1
            });
            let window = &mut windows[at].1;
            match (point.steps, point.value) {
                (Some(steps), _) => window.count(known.id, steps),
                (None, Some(value)) => window.gauges.push((known.id, value)),
                (None, None) => {}
            }
        }
        // A meter is read before it is known whose its energy is.
        windows.sort_by_key(|(window, _)| !matches!(window, Window::Meter(_)));
        for (window, points) in windows {
            if !points.ids.is_empty() {
                self.described.last.insert(window, points.end);
            }
            message.windows.push(points);
        }
        Ok(message)
    }
}

/// What a metric means to a viewer; `None`: nothing.
fn quantity(series: &RecordedSeries) -> Option<Quantity> {
    let has_consumer = !series.consumer_type.is_empty();
    match (&*series.metric, has_consumer, series.domain.is_empty()) {
        ("hw.energy" | "hw.host.energy", false, false) => Some(Quantity::Meter),
        ("wattrace.consumer.energy", true, false) => Some(Quantity::Energy),
        ("wattrace.consumer.energy.uncertainty", true, false) => Some(Quantity::Uncertainty),
        ("wattrace.consumer.cpu.time", true, _) => Some(Quantity::CpuTime),
        ("wattrace.consumer.gpu.time", true, _) => Some(Quantity::GpuTime),
        ("wattrace.consumer.gpu.memory", true, _) => Some(Quantity::GpuMemory),
        ("wattrace.domain.static.power", false, false) => Some(Quantity::StaticPower),
        _ => None,
    }
}

impl Described {
    fn describe(
        &mut self,
        series: &RecordedSeries,
        is_counted: impl Fn(&str) -> Result<bool, Failure>,
        message: &mut Message,
    ) -> Result<Option<Known>, Failure> {
        let (Some(quantity), Ok(id)) = (quantity(series), u32::try_from(series.id)) else { return Ok(None) };
        if !series.domain.is_empty() && !self.domains.contains_key(&series.domain) {
            let counted = is_counted(&series.domain)?;
            self.domains.insert(series.domain.clone(), counted);
            let (name, origin) = (series.domain.clone(), series.origin.clone());
            message.domains.push(DomainDescription { name, origin, counted });
        }
        let consumer = match Kind::from_name(&series.consumer_type) {
            Some(kind) => Some(self.number(series, kind, message)),
            None if series.consumer_type.is_empty() => None,
            None => return Ok(None),
        };
        let domain = Some(series.domain.clone()).filter(|name| !name.is_empty());
        let start_unix_nano = series.start_unix_nano;
        message.series.push(SeriesDescription { id, quantity, consumer, domain, start_unix_nano });
        let window = match quantity {
            Quantity::Meter => Window::Meter(series.domain.clone()),
            Quantity::GpuTime | Quantity::GpuMemory => Window::Gpu,
            Quantity::CpuTime => Window::Cpu,
            Quantity::Energy | Quantity::Uncertainty | Quantity::StaticPower => {
                Window::Energy(series.domain.clone())
            }
        };
        let end = series.end_unix_nano;
        Ok(Some(Known { id, window, start: start_unix_nano, end }))
    }

    fn number(&mut self, series: &RecordedSeries, kind: Kind, message: &mut Message) -> u64 {
        let start_unix_nano = series.consumer_start_unix_nano;
        let key = (series.consumer_type.clone(), series.consumer_id.clone(), start_unix_nano);
        let next = self.consumers.len() as u64 + 1;
        let number = *self.consumers.entry(key).or_insert(next);
        if number == next {
            let attributes = attributes(&series.attributes);
            let id = series.consumer_id.clone();
            let name = names::of_consumer(kind, &id, &attributes);
            let (root, consumer) = (None, kind);
            let kind = consumer;
            message.consumers.push(ConsumerDescription {
                number,
                kind,
                id,
                start_unix_nano,
                name,
                root,
                attributes,
            });
        }
        number
    }

    /// The series whose ends have been passed.
    fn take_ended(&mut self, to: u64) -> Vec<u32> {
        let has_ended = |known: &Option<Known>| {
            known.as_ref().filter(|known| known.end.is_some_and(|end| end <= to)).map(|known| known.id)
        };
        let ended: Vec<_> = self.series.values().filter_map(has_ended).collect();
        for known in self.series.values_mut().flatten() {
            // It is over; its id is not used again.
            known.end = known.end.filter(|end| *end > to);
        }
        ended
    }
}

/// An object of JSON as texts.
fn attributes(text: &str) -> BTreeMap<String, String> {
    let object: serde_json::Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    object.into_iter().map(|(key, value)| (key, text(value))).collect()
}
