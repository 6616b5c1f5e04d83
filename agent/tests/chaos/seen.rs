//! What a collector knows: the newest value of each stream that it took, or refused for good. What it refused
//! for good is known to the client as lost, so both are settled.

use std::collections::HashMap;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{NumberDataPoint, metric::Data, number_data_point};

use super::conduct::Fate;
use super::ledger::{Key, Value, steps};

/// See the module.
#[derive(Default)]
pub(crate) struct Seen {
    /// The newest value of each stream.
    pub(crate) newest: HashMap<Key, Value>,
    /// Requests that it took, and those with which something was wrong.
    pub(crate) taken: u64,
    pub(crate) disturbed: u64,
    /// Points that it refused or rejected, those whose request was too large apart.
    pub(crate) refused: u64,
}

impl Seen {
    pub(crate) fn count(&mut self, fate: Fate, is_disturbed: bool) {
        self.taken += u64::from(fate == Fate::Taken);
        self.disturbed += u64::from(is_disturbed);
    }

    /// Takes or refuses a request; of a `partial` one that is taken, the second half of its points is
    /// rejected. Returns how many.
    pub(crate) fn settle(&mut self, request: &ExportMetricsServiceRequest, fate: Fate, partial: bool) -> i64 {
        let points: Vec<_> = values(request).collect();
        let first = match (fate, partial) {
            (Fate::Taken, false) => points.len(),
            (Fate::Taken, true) => points.len().div_ceil(2),
            _ => 0,
        };
        for (at, (metric, point, value)) in points.iter().enumerate() {
            let is_refused = at >= first;
            if let Some(value) = value {
                self.learn(
                    key(metric, point),
                    Value { time: point.time_unix_nano, steps: *value, is_refused },
                );
            }
        }
        let rejected = points.len() - first;
        if fate != Fate::TooLarge {
            self.refused += rejected as u64;
        }
        rejected as i64
    }

    fn learn(&mut self, key: Key, new: Value) {
        let old = self.newest.entry(key).or_insert(new);
        // Of two points at one time the later one contains the other.
        let is_newer = (new.time, new.steps) > (old.time, old.steps);
        let is_taken_now = (new.time, new.steps) == (old.time, old.steps) && old.is_refused;
        if is_newer || is_taken_now {
            *old = new;
        }
    }
}

/// The points of a request that are values: metric, point, and the value of a counter in microjoules.
fn values(
    request: &ExportMetricsServiceRequest,
) -> impl Iterator<Item = (&str, &NumberDataPoint, Option<u64>)> {
    let scopes = request.resource_metrics.iter().flat_map(|r| &r.scope_metrics);
    scopes.flat_map(|s| &s.metrics).flat_map(|metric| {
        let (points, is_sum) = match &metric.data {
            Some(Data::Sum(sum)) => (&sum.data_points[..], true),
            Some(Data::Gauge(gauge)) => (&gauge.data_points[..], false),
            _ => (&[][..], false),
        };
        points.iter().filter(|point| point.value.is_some()).map(move |point| {
            let value = match point.value {
                Some(number_data_point::Value::AsDouble(value)) if is_sum => Some(steps(value)),
                _ => None,
            };
            (&*metric.name, point, value)
        })
    })
}

fn key(metric: &str, point: &NumberDataPoint) -> Key {
    let of = |name: &str| point.attributes.iter().find(|attribute| attribute.key == name).map(text);
    Key {
        metric: metric.to_owned(),
        start: point.start_time_unix_nano,
        domain: of("wattrace.domain").unwrap_or_default(),
        consumer: of("wattrace.consumer.type").unwrap_or_default(),
        pid: of("process.pid").unwrap_or_default(),
    }
}

fn text(attribute: &KeyValue) -> String {
    match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}
