//! What is encoded, decoded again.

use std::path::Path;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use wattrace_api::{Attribute, Registry, Resource as Hardware, Series, SeriesSpec, Timestamp, Value, metric};

use super::*;
use crate::sizes::LIMIT;

/// An attribute's value as text.
pub(crate) fn shown(attribute: &KeyValue) -> String {
    match attribute.value.as_ref().and_then(|v| v.value.as_ref()) {
        Some(any_value::Value::StringValue(v)) => v.clone(),
        Some(any_value::Value::IntValue(v)) => v.to_string(),
        other => format!("{other:?}"),
    }
}

pub(crate) fn series(metric: &wattrace_api::Metric) -> Arc<Series> {
    let registry = Registry::new();
    let metric = registry.metric(metric).unwrap();
    let (domain, consumer, attributes) = (None, None, Vec::new());
    let (resource, start) = (Hardware::HOST, Timestamp(0));
    let id = registry.open(SeriesSpec { metric, resource, domain, consumer, attributes, start });
    registry.get(id).unwrap()
}

pub(crate) fn point<'a>(series: &'a Series, attributes: &'a [u8], value: Option<Value>) -> Point<'a> {
    let (metric, metric_id) = (&*series.metric, series.metric_id);
    let ended = if value.is_none() { NonZeroU64::new(7) } else { None };
    Point { metric, metric_id, attributes, start: Timestamp(5), time: Timestamp(9), value, ended }
}

pub(crate) fn packed(points: &[Point<'_>], limit: usize) -> Vec<Request> {
    let (clock, chosen) = (Clock::manual(Timestamp(0)), Default::default());
    let resource = crate::resource::describe(&chosen, Path::new("/nonexistent"));
    let mut packer = Packer::new(&resource, &clock, limit, Temporalities::default());
    points.iter().for_each(|point| packer.push(point));
    packer.finish()
}

pub(crate) fn decoded(request: &Request) -> ExportMetricsServiceRequest {
    ExportMetricsServiceRequest::decode(request.body.clone()).unwrap()
}

fn metrics(request: &Request) -> Vec<Metric> {
    decoded(request).resource_metrics[0].scope_metrics[0].metrics.clone()
}

#[test]
fn a_counter_is_a_monotonic_cumulative_sum_in_its_unit() {
    let energy = series(&metric::HW_ENERGY);
    let attributes = crate::attributes::encoded(&[
        Attribute::new("a", "text"),
        Attribute::new("b", 5i64),
        Attribute::new("c", 0.5),
        Attribute::new("d", true),
    ]);
    let requests = packed(&[point(&energy, &attributes, Some(Value::of_steps(1_500_000)))], LIMIT);
    let metric = metrics(&requests[0]).remove(0);
    assert_eq!((metric.name.as_str(), metric.unit.as_str()), ("hw.energy", "J"));
    assert!(!metric.description.is_empty());
    let Some(Data::Sum(sum)) = &metric.data else { panic!("{metric:?}") };
    assert_eq!((sum.is_monotonic, sum.aggregation_temporality()), (true, AggregationTemporality::Cumulative));
    let data = &sum.data_points[0];
    assert_eq!((data.start_time_unix_nano, data.time_unix_nano, data.flags), (5, 9, 0));
    assert_eq!(data.value, Some(number_data_point::Value::AsDouble(1.5)));
    let shown: Vec<_> = data.attributes.iter().map(shown).collect();
    assert_eq!(shown[..2], ["text", "5"]);
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
    let metrics = metrics(&requests[0]);
    let Some(Data::Sum(sum)) = &metrics[0].data else { panic!() };
    assert_eq!((sum.data_points[0].flags, sum.data_points[0].value), (1, None));
    let Some(Data::Gauge(gauge)) = &metrics[1].data else { panic!() };
    assert_eq!(gauge.data_points[0].value, Some(number_data_point::Value::AsDouble(0.25)));
    assert_eq!(gauge.data_points[0].start_time_unix_nano, 0);
    assert_eq!(
        (requests[0].contents.values, &*requests[0].contents.ended),
        (1, &[NonZeroU64::new(7), None][..])
    );
}

#[test]
fn requests_stay_under_the_limit_and_lose_nothing() {
    let energy = series(&metric::HW_ENERGY);
    let attributes = crate::attributes::encoded(&[Attribute::new("k", "v".repeat(200))]);
    let points: Vec<_> = (0..1000).map(|n| point(&energy, &attributes, Some(Value::of_steps(n)))).collect();
    let limit = 20_000;
    let requests = packed(&points, limit);
    let sizes: Vec<_> = requests.iter().map(|r| r.body.len()).collect();
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
