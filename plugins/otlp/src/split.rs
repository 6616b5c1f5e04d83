//! Splits a request that is too large into two, point by point. That is rare, so it decodes the request
//! again.

use std::ops::Range;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message;

use crate::encode::{Contents, Request};

/// The first and the second half of a request's points. Each has what the points need: resource and metric.
/// `None`: it has fewer than two points. A request from the spool does not know which of its streams ended.
pub(crate) fn halves(request: &Request) -> Option<[Request; 2]> {
    if request.contents.ended.len() == 1 {
        return None;
    }
    let whole = ExportMetricsServiceRequest::decode(request.body.clone()).ok()?;
    let points = count(&whole);
    if points < 2 {
        return None;
    }
    let half = |range: Range<usize>| {
        let mut message = whole.clone();
        let ended = request.contents.ended.get(range.clone()).unwrap_or_default().to_vec();
        let values = keep(&mut message, range);
        Request { body: message.encode_to_vec().into(), contents: Contents { values, ended } }
    };
    Some([half(0..points / 2), half(points / 2..points)])
}

fn count(message: &ExportMetricsServiceRequest) -> usize {
    let scopes = message.resource_metrics.iter().flat_map(|r| &r.scope_metrics);
    let points = |data: &Option<Data>| match data {
        Some(Data::Sum(sum)) => sum.data_points.len(),
        Some(Data::Gauge(gauge)) => gauge.data_points.len(),
        Some(Data::ExponentialHistogram(histogram)) => histogram.data_points.len(),
        _ => 0,
    };
    scopes.flat_map(|scope| &scope.metrics).map(|metric| points(&metric.data)).sum()
}

/// Leaves only the points in `range`. Returns how many of them are values.
fn keep(message: &mut ExportMetricsServiceRequest, range: Range<usize>) -> u64 {
    let (mut at, mut values) = (0, 0);
    let mut is_kept = |has_value: bool| {
        let is_kept = range.contains(&at);
        at += 1;
        values += u64::from(is_kept && has_value);
        is_kept
    };
    for scope in message.resource_metrics.iter_mut().flat_map(|r| &mut r.scope_metrics) {
        scope.metrics.retain_mut(|metric| {
            let points = match &mut metric.data {
                Some(Data::Sum(sum)) => &mut sum.data_points,
                Some(Data::Gauge(gauge)) => &mut gauge.data_points,
                Some(Data::ExponentialHistogram(histogram)) => {
                    histogram.data_points.retain(|_| is_kept(true));
                    return !histogram.data_points.is_empty();
                }
                _ => return false,
            };
            points.retain(|point| is_kept(point.value.is_some()));
            !points.is_empty()
        });
    }
    values
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use opentelemetry_proto::tonic::metrics::v1::NumberDataPoint;
    use wattrace_api::{Attribute, Value, metric};

    use super::*;
    use crate::attributes::encoded;
    use crate::encode::tests::{decoded, packed, point, series};

    /// (metric's name, values of its points) of a request.
    fn values(request: &Request) -> Vec<(String, Vec<Option<f64>>)> {
        use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value::AsDouble;
        let metrics = decoded(request).resource_metrics.remove(0).scope_metrics.remove(0).metrics;
        let of = |data: Option<Data>| match data {
            Some(Data::Sum(sum)) => sum.data_points,
            _ => Vec::new(),
        };
        let value = |point: NumberDataPoint| match point.value {
            Some(AsDouble(value)) => Some(value),
            _ => None,
        };
        metrics.into_iter().map(|m| (m.name, of(m.data).into_iter().map(value).collect())).collect()
    }

    #[test]
    fn halves_hold_all_points_once_with_their_metric_and_resource() {
        let energy = series(&metric::HW_ENERGY);
        let attributes = encoded(&[Attribute::new("k", "v")]);
        let joules = |n: u64| point(&energy, &attributes, Some(Value::of_steps(n * 1_000_000)));
        let points = [joules(1), joules(2), point(&energy, &attributes, None), joules(4), joules(5)];
        let whole = packed(&points, 1 << 20).remove(0);
        let [first, second] = halves(&whole).unwrap();
        let name = || "hw.energy".to_owned();
        assert_eq!(values(&first), [(name(), vec![Some(1.0), Some(2.0)])]);
        assert_eq!(values(&second), [(name(), vec![None, Some(4.0), Some(5.0)])]);
        assert_eq!((first.contents.values, second.contents.values), (2, 2));
        assert_eq!(second.contents.ended, [NonZeroU64::new(7), None, None]);
        assert_eq!(
            decoded(&first).resource_metrics[0].resource,
            decoded(&whole).resource_metrics[0].resource
        );
        assert_eq!(halves(&halves(&first).unwrap()[0]).map(|_| ()), None, "one point is not split");
    }
}
