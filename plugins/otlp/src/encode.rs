//! Encodes points as OTLP requests of a limited size. A point is encoded as it comes, so that a request never
//! exists in a larger form than the one that is sent. `split` takes one apart again.

use std::collections::HashMap;
use std::num::NonZeroU64;

use hyper::body::Bytes;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, DataPointFlags, ExponentialHistogram, ExponentialHistogramDataPoint, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::{Message, encode_length_delimiter, length_delimiter_len};
use wattrace_api::{Clock, Kind, MetricId};

use crate::power;
use crate::stream::Point;
use crate::temporality::{Temporalities, Temporality};

/// A request, and what to remember of it until it is answered.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// An `ExportMetricsServiceRequest`.
    pub(crate) body: Bytes,
    pub(crate) contents: Contents,
}

/// What a request holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    /// Number of values; marks of ends don't count.
    pub(crate) values: u64,
    /// For each point, in the order of the request: the number of its stream, if that has ended.
    pub(crate) ended: Vec<Option<NonZeroU64>>,
}

impl Contents {
    /// Numbers of the ended streams in it.
    pub(crate) fn ended(&self) -> impl Iterator<Item = u64> {
        self.ended.iter().flatten().map(|number| number.get())
    }
}

/// Numbers of fields, which the messages share.
mod field {
    /// Of the request, of `ScopeMetrics` (its metrics: 2), of `Sum` and the others (their points).
    pub(super) const FIRST: u8 = 1;
    pub(super) const SECOND: u8 = 2;
    pub(super) const GAUGE: u8 = 5;
    pub(super) const SUM: u8 = 7;
    pub(super) const EXPONENTIAL_HISTOGRAM: u8 = 10;
}

/// Packs points into requests, metric by metric.
pub(crate) struct Packer<'a> {
    clock: &'a Clock,
    limit: usize,
    temporality: Temporalities,
    /// `ResourceMetrics` and `ScopeMetrics` with all but the metrics.
    resource: Vec<u8>,
    scope: Vec<u8>,
    done: Vec<Request>,
    metrics: Vec<Packed>,
    by_id: HashMap<MetricId, usize>,
    values: u64,
    /// At least the open request's encoded size.
    size: usize,
    /// The size of the requests that are done.
    done_size: usize,
}

/// What OTLP makes of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Sum,
    Gauge,
    Histogram,
}

/// A metric of the open request.
struct Packed {
    shape: Shape,
    /// The metric with all but its data.
    head: Vec<u8>,
    /// Its points, each as a field.
    points: Vec<u8>,
    ended: Vec<Option<NonZeroU64>>,
}

impl<'a> Packer<'a> {
    /// Packs requests about `resource` of at most `limit` bytes.
    pub(crate) fn new(
        resource: &Resource,
        clock: &'a Clock,
        limit: usize,
        temporality: Temporalities,
    ) -> Self {
        let resource = ResourceMetrics { resource: Some(resource.clone()), ..Default::default() };
        let scope = ScopeMetrics { scope: Some(scope()), ..Default::default() };
        let (resource, scope) = (resource.encode_to_vec(), scope.encode_to_vec());
        let (done, metrics, by_id) = (Vec::new(), Vec::new(), HashMap::new());
        let (values, size, done_size) = (0, 0, 0);
        let mut packer = Self {
            clock,
            limit,
            temporality,
            resource,
            scope,
            done,
            metrics,
            by_id,
            values,
            size,
            done_size,
        };
        packer.size = packer.empty_size();
        packer
    }

    fn empty_size(&self) -> usize {
        // Each of the two is within a field, and the scope within the resource.
        self.resource.len() + self.scope.len() + 2 * FIELD
    }

    /// Bytes of all requests so far.
    pub(crate) fn size(&self) -> usize {
        self.done_size + self.size
    }

    /// Adds a point.
    pub(crate) fn push(&mut self, point: &Point<'_>) {
        let data = data_point(point, self.clock);
        let head = || metric_size(point);
        let mut size = data.len();
        if !self.by_id.contains_key(&point.metric_id) {
            size += head();
        }
        if self.size + size > self.limit {
            self.close();
            size = data.len() + head();
        }
        self.size += size;
        let at = *self.by_id.entry(point.metric_id).or_insert_with(|| {
            let shape = if point.metric.kind == Kind::Counter { Shape::Sum } else { Shape::Gauge };
            let head = metric(point.metric).encode_to_vec();
            self.metrics.push(Packed { shape, head, points: Vec::new(), ended: Vec::new() });
            self.metrics.len() - 1
        });
        let packed = &mut self.metrics[at];
        packed.points.extend_from_slice(&data);
        packed.ended.push(point.ended);
        self.values += u64::from(point.value.is_some());
    }

    /// Adds distributions of power. They are few: one for each meter.
    pub(crate) fn push_powers(&mut self, distributions: Vec<ExponentialHistogramDataPoint>) {
        if distributions.is_empty() {
            return;
        }
        let head = Metric {
            name: power::NAME.to_owned(),
            description: power::DESCRIPTION.to_owned(),
            unit: power::UNIT.to_owned(),
            ..Default::default()
        };
        let (count, points) = (distributions.len(), Vec::new());
        let mut packed =
            Packed { shape: Shape::Histogram, head: head.encode_to_vec(), points, ended: vec![None; count] };
        for point in distributions {
            begin(field::FIRST, point.encoded_len(), &mut packed.points);
            packed.points.extend_from_slice(&point.encode_to_vec());
        }
        self.size += packed.head.len() + packed.points.len() + 5 * FIELD;
        self.values += count as u64;
        self.metrics.push(packed);
    }

    /// What follows is in other requests.
    pub(crate) fn close(&mut self) {
        if self.metrics.is_empty() {
            return;
        }
        let metrics = std::mem::take(&mut self.metrics);
        let body: Bytes = assemble(&self.resource, &self.scope, &metrics, self.temporality).into();
        let ended = metrics.into_iter().flat_map(|metric| metric.ended).collect();
        let values = std::mem::take(&mut self.values);
        self.done_size += body.len();
        self.done.push(Request { body, contents: Contents { values, ended } });
        self.by_id.clear();
        self.size = self.empty_size();
    }

    /// The requests; none if there was no point.
    pub(crate) fn finish(mut self) -> Vec<Request> {
        self.close();
        self.done
    }
}

/// Puts the encoded parts into each other. Fields of a message may come in any order.
fn assemble(resource: &[u8], scope: &[u8], metrics: &[Packed], temporality: Temporalities) -> Vec<u8> {
    let tail = |shape| match shape {
        Shape::Sum => {
            let aggregation_temporality = aggregation(temporality.counters);
            Sum { data_points: Vec::new(), aggregation_temporality, is_monotonic: true }.encode_to_vec()
        }
        Shape::Histogram => {
            let aggregation_temporality = aggregation(temporality.histograms);
            ExponentialHistogram { data_points: Vec::new(), aggregation_temporality }.encode_to_vec()
        }
        Shape::Gauge => Vec::new(),
    };
    let parts: Vec<_> = metrics.iter().map(|metric| (metric, tail(metric.shape))).collect();
    let data_len = |(metric, tail): &(&Packed, Vec<u8>)| metric.points.len() + tail.len();
    let metric_len = |part: &(&Packed, Vec<u8>)| part.0.head.len() + field_len(data_len(part));
    let scope_len = scope.len() + parts.iter().map(|part| field_len(metric_len(part))).sum::<usize>();
    let resource_len = resource.len() + field_len(scope_len);
    let mut out = Vec::with_capacity(field_len(resource_len));
    begin(field::FIRST, resource_len, &mut out);
    out.extend_from_slice(resource);
    begin(field::SECOND, scope_len, &mut out);
    out.extend_from_slice(scope);
    for part in &parts {
        begin(field::SECOND, metric_len(part), &mut out);
        out.extend_from_slice(&part.0.head);
        let data = match part.0.shape {
            Shape::Sum => field::SUM,
            Shape::Gauge => field::GAUGE,
            Shape::Histogram => field::EXPONENTIAL_HISTOGRAM,
        };
        begin(data, data_len(part), &mut out);
        out.extend_from_slice(&part.0.points);
        out.extend_from_slice(&part.1);
    }
    out
}

fn aggregation(temporality: Temporality) -> i32 {
    match temporality {
        Temporality::Cumulative => AggregationTemporality::Cumulative as i32,
        Temporality::Delta => AggregationTemporality::Delta as i32,
    }
}

/// A field's tag and the longest length that one in a request can have.
const FIELD: usize = 1 + 5;

/// The size of a field that holds `len` bytes.
fn field_len(len: usize) -> usize {
    1 + length_delimiter_len(len) + len
}

/// Begins a field of `len` bytes: its tag (the number, and that a length follows), and the length.
fn begin(number: u8, len: usize, out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    // A vector has room for it.
    _ = encode_length_delimiter(len, out);
}

fn scope() -> InstrumentationScope {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    InstrumentationScope { name: "wattrace".to_owned(), version, ..Default::default() }
}

fn metric(metric: &wattrace_api::Metric) -> Metric {
    Metric {
        name: metric.name.to_string(),
        description: metric.description.to_string(),
        unit: metric.unit.ucum().to_owned(),
        ..Default::default()
    }
}

/// At least the encoded size of the metric without its points.
fn metric_size(point: &Point<'_>) -> usize {
    let metric = point.metric;
    // Five nested or textual fields, and Sum's two scalars.
    metric.name.len() + metric.description.len() + metric.unit.ucum().len() + 5 * FIELD + 4
}

/// A point as a field of `Sum` or `Gauge`.
fn data_point(point: &Point<'_>, clock: &Clock) -> Vec<u8> {
    let metric = point.metric;
    let own = NumberDataPoint {
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
    };
    let own = own.encode_to_vec();
    let mut out = Vec::with_capacity(field_len(point.attributes.len() + own.len()));
    begin(field::FIRST, point.attributes.len() + own.len(), &mut out);
    out.extend_from_slice(point.attributes);
    out.extend_from_slice(&own);
    out
}

#[cfg(test)]
pub(crate) mod tests;
