//! The distribution of each meter's power, for those who sample faster than they export: an exponential
//! histogram of the power in each window of a meter, which an average over the export interval would hide.

use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::ExponentialHistogramDataPoint;
use wattrace_api::{Clock, Increments, Role, Series, SeriesId, SeriesMap, Timestamp, Value, Window};

use crate::attributes;
use crate::histogram::Histogram;
use crate::temporality::Temporality;

/// The metric's name.
pub(crate) const NAME: &str = "wattrace.domain.power";
/// Its unit.
pub(crate) const UNIT: &str = "W";
/// Its description.
pub(crate) const DESCRIPTION: &str = "Power of a domain in each window of its meter";

/// The distributions, by the series of the meters.
#[derive(Debug, Default)]
pub(crate) struct Powers {
    temporality: Temporality,
    by_series: SeriesMap<Power>,
}

#[derive(Debug)]
struct Power {
    attributes: Vec<KeyValue>,
    increments: Increments,
    histogram: Histogram,
    start: Timestamp,
    end: Timestamp,
}

impl Powers {
    /// Empty distributions.
    pub(crate) fn new(temporality: Temporality) -> Self {
        Self { temporality, by_series: SeriesMap::default() }
    }

    /// Takes a point of any series.
    pub(crate) fn write(&mut self, id: SeriesId, series: &Arc<Series>, window: Window, value: Value) {
        if series.role != Role::Meter {
            return;
        }
        let power = self.by_series.get_or_insert_with(id, || Power {
            attributes: attributes::all(&series.all_attributes()),
            increments: Increments::within_windows(series),
            histogram: Histogram::default(),
            start: window.start,
            end: window.start,
        });
        let seconds = window.end.since(window.start).as_secs_f64();
        power.end = power.end.max(window.end);
        if let Some(steps) = power.increments.checked_next(window, value)
            && seconds > 0.0
        {
            power.histogram.add(series.metric.in_units(Value::of_steps(steps)) / seconds);
        }
    }

    /// A meter has ended.
    pub(crate) fn end(&mut self, id: SeriesId) {
        self.by_series.remove(id);
    }

    /// The points to send: of distributions that hold anything. With [`Temporality::Delta`] they begin again.
    pub(crate) fn collect(&mut self, clock: &Clock) -> Vec<ExponentialHistogramDataPoint> {
        let filled = self.by_series.iter_mut().filter(|(_, power)| !power.histogram.is_empty());
        let point = |(_, power): (SeriesId, &mut Power)| {
            let point = ExponentialHistogramDataPoint {
                attributes: power.attributes.clone(),
                start_time_unix_nano: clock.unix_nanos(power.start),
                time_unix_nano: clock.unix_nanos(power.end),
                ..power.histogram.point()
            };
            if self.temporality == Temporality::Delta {
                power.histogram = Histogram::default();
                power.start = power.end;
            }
            point
        };
        filled.map(point).collect()
    }
}

#[cfg(test)]
mod tests;
