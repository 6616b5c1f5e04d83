//! Encodes points as OTLP messages, split so that none exceeds what servers commonly accept.

use std::collections::HashMap;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, DataPointFlags, Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics,
    Sum, metric::Data, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use wattrace_api::{Attribute, AttributeValue, Clock, Kind, MetricId, Series};

use crate::stream::Point;

/// Most bytes in a request: a little under the 4 MiB at which gRPC servers refuse by default.
pub(crate) const LIMIT: usize = 4_000_000;

/// A field's tag and the longest length that one within [`LIMIT`] can have.
const FIELD: usize = 1 + 4;

/// A request, and what to remember of it until it is answered.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) message: ExportMetricsServiceRequest,
    pub(crate) contents: Contents,
}

/// What a request holds.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// Number of values; marks of ends don't count.
    pub(crate) values: u64,
    /// Numbers of the ended streams in it.
    pub(crate) ended: Vec<u64>,
}

/// Packs points into requests, metric by metric.
pub(crate) struct Packer<'a> {
    resource: &'a Resource,
    clock: &'a Clock,
    limit: usize,
    done: Vec<Request>,
    metrics: Vec<Metric>,
    by_id: HashMap<MetricId, usize>,
    contents: Contents,
    /// At least the open request's encoded size.
    size: usize,
}

impl<'a> Packer<'a> {
    /// Packs requests about `resource` of at most `limit` bytes.
    pub(crate) fn new(resource: &'a Resource, clock: &'a Clock, limit: usize) -> Self {
        let (done, metrics, by_id) = (Vec::new(), Vec::new(), HashMap::new());
        let mut packer =
            Self { resource, clock, limit, done, metrics, by_id, contents: Contents::default(), size: 0 };
        packer.size = packer.empty_size();
        packer
    }

    fn empty_size(&self) -> usize {
        self.resource.encoded_len() + scope().encoded_len() + 4 * FIELD
    }

    /// Adds a point.
    pub(crate) fn push(&mut self, point: &Point<'_>) {
        let data = data_point(point, self.clock);
        let mut size = data.encoded_len() + FIELD;
        if !self.by_id.contains_key(&point.series.metric_id) {
            size += metric_size(point.series);
        }
        if self.size + size > self.limit {
            self.close();
            size = data.encoded_len() + FIELD + metric_size(point.series);
        }
        self.size += size;
        let at = *self.by_id.entry(point.series.metric_id).or_insert_with(|| {
            self.metrics.push(metric(point.series));
            self.metrics.len() - 1
        });
        match &mut self.metrics[at].data {
            Some(Data::Sum(sum)) => sum.data_points.push(data),
            Some(Data::Gauge(gauge)) => gauge.data_points.push(data),
            _ => {}
        }
        self.contents.values += u64::from(point.value.is_some());
        self.contents.ended.extend(point.ended);
    }

    fn close(&mut self) {
        if self.metrics.is_empty() {
            return;
        }
        let metrics = std::mem::take(&mut self.metrics);
        let scope_metrics = vec![ScopeMetrics { scope: Some(scope()), metrics, ..Default::default() }];
        let resource = Some(self.resource.clone());
        let resource_metrics = vec![ResourceMetrics { resource, scope_metrics, ..Default::default() }];
        let message = ExportMetricsServiceRequest { resource_metrics };
        self.done.push(Request { message, contents: std::mem::take(&mut self.contents) });
        self.by_id.clear();
        self.size = self.empty_size();
    }

    /// The requests; none if there was no point.
    pub(crate) fn finish(mut self) -> Vec<Request> {
        self.close();
        self.done
    }
}

fn scope() -> InstrumentationScope {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    InstrumentationScope { name: "wattrace".to_owned(), version, ..Default::default() }
}

fn metric(series: &Series) -> Metric {
    let metric = &series.metric;
    let data_points = Vec::new();
    let data = match metric.kind {
        Kind::Counter => Data::Sum(Sum {
            data_points,
            aggregation_temporality: AggregationTemporality::Cumulative as i32,
            is_monotonic: true,
        }),
        Kind::Gauge => Data::Gauge(Gauge { data_points }),
    };
    Metric {
        name: metric.name.to_string(),
        description: metric.description.to_string(),
        unit: metric.unit.ucum().to_owned(),
        data: Some(data),
        ..Default::default()
    }
}

/// At least the encoded size of the metric without its points.
fn metric_size(series: &Series) -> usize {
    let metric = &series.metric;
    // Five nested or textual fields, and Sum's two scalars.
    metric.name.len() + metric.description.len() + metric.unit.ucum().len() + 5 * FIELD + 4
}

fn data_point(point: &Point<'_>, clock: &Clock) -> NumberDataPoint {
    let metric = &point.series.metric;
    NumberDataPoint {
        attributes: point.attributes.iter().map(attribute).collect(),
        start_time_unix_nano: match metric.kind {
            Kind::Counter => clock.unix_nanos(point.start),
            Kind::Gauge => 0,
        },
        time_unix_nano: clock.unix_nanos(point.time),
        flags: match point.value {
            Some(_) => 0,
            None => DataPointFlags::NoRecordedValueMask as u32,
        },
        value: point.value.map(|value| number_data_point::Value::AsDouble(metric.in_units(value))),
        ..Default::default()
    }
}

fn attribute(attribute: &Attribute) -> KeyValue {
    let value = match &attribute.value {
        AttributeValue::Str(v) => any_value::Value::StringValue(v.to_string()),
        AttributeValue::Int(v) => any_value::Value::IntValue(*v),
        AttributeValue::Float(v) => any_value::Value::DoubleValue(*v),
        AttributeValue::Bool(v) => any_value::Value::BoolValue(*v),
    };
    key_value(&attribute.key, value)
}

/// A textual attribute.
pub(crate) fn text(key: &str, value: String) -> KeyValue {
    key_value(key, any_value::Value::StringValue(value))
}

fn key_value(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use wattrace_api::{Registry, Resource as Hardware, SeriesSpec, Timestamp, Value, metric};

    use super::*;

    /// An attribute's value as text.
    pub(crate) fn shown(attribute: &KeyValue) -> String {
        match attribute.value.as_ref().and_then(|v| v.value.as_ref()) {
            Some(any_value::Value::StringValue(v)) => v.clone(),
            other => format!("{other:?}"),
        }
    }

    fn series(metric: &wattrace_api::Metric) -> Arc<Series> {
        let registry = Registry::new();
        let metric = registry.metric(metric).unwrap();
        let (domain, consumer, attributes) = (None, None, Vec::new());
        let (resource, start) = (Hardware::HOST, Timestamp(0));
        let id = registry.open(SeriesSpec { metric, resource, domain, consumer, attributes, start });
        registry.get(id).unwrap()
    }

    fn point<'a>(series: &'a Series, attributes: &'a [Attribute], value: Option<Value>) -> Point<'a> {
        let ended = value.is_none().then_some(7);
        Point { series, attributes, start: Timestamp(5), time: Timestamp(9), value, ended }
    }

    fn packed(points: &[Point<'_>], limit: usize) -> Vec<Request> {
        let (clock, chosen) = (Clock::manual(Timestamp(0)), Default::default());
        let resource = crate::resource::describe(&chosen, Path::new("/nonexistent"));
        let mut packer = Packer::new(&resource, &clock, limit);
        points.iter().for_each(|point| packer.push(point));
        packer.finish()
    }

    fn metrics(request: &Request) -> &[Metric] {
        &request.message.resource_metrics[0].scope_metrics[0].metrics
    }

    #[test]
    fn a_counter_is_a_monotonic_cumulative_sum_in_its_unit() {
        let energy = series(&metric::HW_ENERGY);
        let attributes = [
            Attribute::new("a", "text"),
            Attribute::new("b", 5i64),
            Attribute::new("c", 0.5),
            Attribute::new("d", true),
        ];
        let requests = packed(&[point(&energy, &attributes, Some(Value::of_steps(1_500_000)))], LIMIT);
        let metric = &metrics(&requests[0])[0];
        assert_eq!((metric.name.as_str(), metric.unit.as_str()), ("hw.energy", "J"));
        assert!(!metric.description.is_empty());
        let Some(Data::Sum(sum)) = &metric.data else { panic!("{metric:?}") };
        assert_eq!(
            (sum.is_monotonic, sum.aggregation_temporality()),
            (true, AggregationTemporality::Cumulative)
        );
        let data = &sum.data_points[0];
        assert_eq!((data.start_time_unix_nano, data.time_unix_nano, data.flags), (5, 9, 0));
        assert_eq!(data.value, Some(number_data_point::Value::AsDouble(1.5)));
        let shown: Vec<_> = data.attributes.iter().map(shown).collect();
        assert_eq!(shown[..2], ["text", "Some(IntValue(5))"]);
        assert_eq!(shown[2..], ["Some(DoubleValue(0.5))", "Some(BoolValue(true))"]);
        assert_eq!(requests[0].contents.values, 1);
    }

    #[test]
    fn an_end_has_the_flag_and_no_value_and_a_gauge_no_start() {
        let (energy, residual) = (series(&metric::HW_ENERGY), series(&metric::DOMAIN_RESIDUAL));
        let residual = Arc::new(Series {
            metric: residual.metric.clone(),
            metric_id: {
                // A registry of its own gave it the same number as the other.
                let registry = Registry::new();
                registry.metric(&metric::HW_ENERGY).unwrap();
                registry.metric(&metric::DOMAIN_RESIDUAL).unwrap()
            },
            resource: residual.resource.clone(),
            domain: None,
            consumer: None,
            attributes: Vec::new(),
            start: residual.start,
            role: residual.role,
        });
        let points = [point(&energy, &[], None), point(&residual, &[], Some(Value::of_gauge(0.25)))];
        let requests = packed(&points, LIMIT);
        let Some(Data::Sum(sum)) = &metrics(&requests[0])[0].data else { panic!() };
        assert_eq!((sum.data_points[0].flags, sum.data_points[0].value), (1, None));
        let Some(Data::Gauge(gauge)) = &metrics(&requests[0])[1].data else { panic!() };
        assert_eq!(gauge.data_points[0].value, Some(number_data_point::Value::AsDouble(0.25)));
        assert_eq!(gauge.data_points[0].start_time_unix_nano, 0);
        assert_eq!((requests[0].contents.values, &*requests[0].contents.ended), (1, &[7][..]));
    }

    #[test]
    fn requests_stay_under_the_limit_and_lose_nothing() {
        let energy = series(&metric::HW_ENERGY);
        let attributes = [Attribute::new("k", "v".repeat(200))];
        let points: Vec<_> =
            (0..1000).map(|n| point(&energy, &attributes, Some(Value::of_steps(n)))).collect();
        let limit = 20_000;
        let requests = packed(&points, limit);
        let sizes: Vec<_> = requests.iter().map(|r| r.message.encoded_len()).collect();
        assert!(sizes.iter().all(|&size| size <= limit), "{sizes:?}");
        assert!(sizes[..sizes.len() - 1].iter().all(|&size| size > limit * 9 / 10), "{sizes:?}");
        assert_eq!(requests.iter().map(|r| r.contents.values).sum::<u64>(), 1000);
        let sent: usize = requests
            .iter()
            .map(|r| match &metrics(r)[0].data {
                Some(Data::Sum(sum)) => sum.data_points.len(),
                _ => 0,
            })
            .sum();
        assert_eq!(sent, 1000);
        assert!(packed(&[], limit).is_empty());
    }
}
