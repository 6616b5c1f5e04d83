//! Converts OTLP's points: the kind of a metric, the value of a point, attributes.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, DataPointFlags, Metric, NumberDataPoint, metric::Data,
};
use wattrace_api::{Attribute, AttributeValue, Kind, Value};
use wattrace_ingest::number::{NumberError, steps_of_f64};
use wattrace_ingest::{DeclaredMetric, PointError};

/// How a metric's points relate to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aggregation {
    /// A sum since a start: a counter.
    Cumulative,
    /// A sum since the previous point: a counter, after they have been added up.
    Delta,
    /// A value at a moment, or a sum that may decrease: a gauge.
    Gauge,
}

impl Aggregation {
    /// The kind of the series.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Aggregation::Cumulative | Aggregation::Delta => Kind::Counter,
            Aggregation::Gauge => Kind::Gauge,
        }
    }
}

/// A metric's aggregation and its points.
///
/// # Errors
/// It is not supported; with the number of its points.
pub(crate) fn points(
    metric: &mut Metric,
) -> Result<(Aggregation, &mut [NumberDataPoint]), (usize, PointError)> {
    let refuse = |points, what: &str| Err((points, PointError::Unsupported(what.to_owned())));
    match &mut metric.data {
        Some(Data::Gauge(gauge)) => Ok((Aggregation::Gauge, &mut gauge.data_points)),
        Some(Data::Sum(sum)) => {
            let aggregation =
                match (AggregationTemporality::try_from(sum.aggregation_temporality), sum.is_monotonic) {
                    (Ok(AggregationTemporality::Cumulative), true) => Aggregation::Cumulative,
                    (Ok(AggregationTemporality::Cumulative), false) => Aggregation::Gauge,
                    (Ok(AggregationTemporality::Delta), true) => Aggregation::Delta,
                    (Ok(AggregationTemporality::Delta), false) => {
                        return refuse(
                            sum.data_points.len(),
                            "deltas that may be negative are not supported: send sums",
                        );
                    }
                    _ => return refuse(sum.data_points.len(), "a sum that is neither cumulative nor delta"),
                };
            Ok((aggregation, &mut sum.data_points))
        }
        Some(Data::Histogram(h)) => refuse(h.data_points.len(), "histograms are not supported"),
        Some(Data::ExponentialHistogram(h)) => refuse(h.data_points.len(), "histograms are not supported"),
        Some(Data::Summary(s)) => refuse(s.data_points.len(), "summaries are not supported"),
        None => refuse(0, "a metric without data"),
    }
}

/// The number of points in a metric that can become points of a series.
pub(crate) fn len(metric: &Metric) -> usize {
    match &metric.data {
        Some(Data::Gauge(gauge)) => gauge.data_points.len(),
        Some(Data::Sum(sum)) => sum.data_points.len(),
        // Not supported.
        _ => 0,
    }
}

/// Whether the point says that its series has ended.
pub(crate) fn is_end(point: &NumberDataPoint) -> bool {
    point.flags & DataPointFlags::NoRecordedValueMask as u32 != 0
}

/// A point's value, in the metric's steps for a counter: the nearest, halves up.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn value(point: &NumberDataPoint, declared: DeclaredMetric) -> Result<Value, PointError> {
    let number = point.value.ok_or(NumberError::NotANumber)?;
    match (declared.kind, number) {
        (Kind::Counter, Number::AsDouble(value)) => {
            Ok(Value::of_steps(steps_of_f64(value, declared.digits)?))
        }
        (Kind::Counter, Number::AsInt(value)) => {
            let units = u64::try_from(value).map_err(|_| NumberError::Negative)?;
            let steps = 10_u64.checked_pow(declared.digits).and_then(|per_unit| units.checked_mul(per_unit));
            Ok(Value::of_steps(steps.ok_or(NumberError::TooLarge)?))
        }
        (Kind::Gauge, Number::AsDouble(value)) if value.is_finite() => Ok(Value::of_gauge(value)),
        (Kind::Gauge, Number::AsDouble(_)) => Err(NumberError::NotANumber.into()),
        (Kind::Gauge, Number::AsInt(value)) => Ok(Value::of_gauge(value as f64)),
    }
}

/// Converts an attribute. Lists and maps become text.
pub(crate) fn attribute(attribute: &KeyValue) -> Attribute {
    let value = match attribute.value.as_ref().and_then(|v| v.value.as_ref()) {
        Some(any_value::Value::IntValue(value)) => AttributeValue::Int(*value),
        Some(any_value::Value::DoubleValue(value)) => AttributeValue::Float(*value),
        Some(any_value::Value::BoolValue(value)) => AttributeValue::Bool(*value),
        _ => AttributeValue::from(text(attribute.value.as_ref())),
    };
    Attribute::new(attribute.key.clone(), value)
}

/// A value as text.
pub(crate) fn text(value: Option<&AnyValue>) -> String {
    let Some(value) = value.and_then(|v| v.value.as_ref()) else { return String::new() };
    match value {
        any_value::Value::StringValue(value) => value.clone(),
        any_value::Value::BoolValue(value) => value.to_string(),
        any_value::Value::IntValue(value) => value.to_string(),
        any_value::Value::DoubleValue(value) => value.to_string(),
        any_value::Value::ArrayValue(list) => {
            let items: Vec<_> = list.values.iter().map(|item| text(Some(item))).collect();
            format!("[{}]", items.join(", "))
        }
        any_value::Value::KvlistValue(map) => {
            let items: Vec<_> =
                map.values.iter().map(|kv| format!("{}={}", kv.key, text(kv.value.as_ref()))).collect();
            format!("{{{}}}", items.join(", "))
        }
        other => format!("{other:?}"),
    }
}

/// Appends attributes to `key`. They are sorted first, since their order has no meaning.
pub(crate) fn key(attributes: &mut [KeyValue], key: &mut Vec<u8>) {
    attributes.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    for attribute in &*attributes {
        part(attribute.key.as_bytes(), key);
        match attribute.value.as_ref().and_then(|v| v.value.as_ref()) {
            Some(any_value::Value::StringValue(value)) => part(value.as_bytes(), key),
            Some(any_value::Value::IntValue(value)) => part(&value.to_le_bytes(), key),
            _ => part(text(attribute.value.as_ref()).as_bytes(), key),
        }
    }
}

/// Appends one part of a key, with its length, so that parts do not run into each other.
pub(crate) fn part(bytes: &[u8], key: &mut Vec<u8>) {
    key.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    key.extend_from_slice(bytes);
}
