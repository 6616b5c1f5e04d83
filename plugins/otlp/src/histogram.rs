//! A base-2 exponential histogram, as the data model of OpenTelemetry defines it: bucket `i` of scale `s`
//! holds values above `2^(i/2^s)`, up to `2^((i+1)/2^s)`. The scale falls when the values need more buckets
//! than there are. `power` fills it.

use std::collections::VecDeque;

use opentelemetry_proto::tonic::metrics::v1::ExponentialHistogramDataPoint;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;

/// Most buckets: OpenTelemetry's default. With them values that differ by a factor of 2 to 4 have a relative
/// error below 1 %.
const BUCKETS: usize = 160;

/// The scale of an empty histogram: OpenTelemetry's default.
const FINEST: i32 = 20;

/// Values that are not negative.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    scale: i32,
    /// The index of the first bucket.
    offset: i32,
    buckets: VecDeque<u64>,
    zeros: u64,
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        let (min, max) = (f64::INFINITY, 0.0);
        Self { scale: FINEST, offset: 0, buckets: VecDeque::new(), zeros: 0, count: 0, sum: 0.0, min, max }
    }
}

impl Histogram {
    /// Adds a value; one that is negative or not finite is none.
    pub(crate) fn add(&mut self, value: f64) {
        if !value.is_finite() || value < 0.0 {
            return;
        }
        self.count += 1;
        self.sum += value;
        (self.min, self.max) = (self.min.min(value), self.max.max(value));
        if value < f64::MIN_POSITIVE {
            self.zeros += 1;
            return;
        }
        while !self.has_room(index(value, self.scale)) {
            self.coarsen();
        }
        let at = index(value, self.scale);
        if self.buckets.is_empty() {
            self.offset = at;
        }
        while at < self.offset {
            self.buckets.push_front(0);
            self.offset -= 1;
        }
        // Not negative, and below BUCKETS.
        let at = usize::try_from(at - self.offset).unwrap_or(0);
        if at >= self.buckets.len() {
            self.buckets.resize(at + 1, 0);
        }
        self.buckets[at] += 1;
    }

    /// Whether a bucket `at` can be among the others.
    fn has_room(&self, at: i32) -> bool {
        let last = i64::from(self.offset) + self.buckets.len() as i64 - 1;
        let (at, offset) = (i64::from(at), i64::from(self.offset));
        self.buckets.is_empty() || at.max(last) - at.min(offset) < BUCKETS as i64
    }

    /// Makes one bucket of each two.
    fn coarsen(&mut self) {
        self.scale -= 1;
        let first = self.offset >> 1;
        let mut buckets = VecDeque::with_capacity(self.buckets.len() / 2 + 1);
        for (at, count) in (self.offset..).zip(&self.buckets) {
            let at = usize::try_from((at >> 1) - first).unwrap_or(0);
            if at >= buckets.len() {
                buckets.push_back(0);
            }
            buckets[at] += count;
        }
        (self.offset, self.buckets) = (first, buckets);
    }

    /// Whether no value was added.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The point without attributes and times.
    pub(crate) fn point(&self) -> ExponentialHistogramDataPoint {
        let bucket_counts = self.buckets.iter().copied().collect();
        ExponentialHistogramDataPoint {
            count: self.count,
            sum: Some(self.sum),
            scale: self.scale,
            zero_count: self.zeros,
            positive: Some(Buckets { offset: self.offset, bucket_counts }),
            min: (!self.is_empty()).then_some(self.min),
            max: (!self.is_empty()).then_some(self.max),
            ..Default::default()
        }
    }
}

/// The bucket of a positive value: the whole numbers below its logarithm to the base `2^(2^-scale)`.
fn index(value: f64, scale: i32) -> i32 {
    let bits = value.to_bits();
    let fraction = bits & ((1 << 52) - 1);
    // A positive normal number has no sign: its exponent has 11 bits.
    let exponent = i32::try_from(bits >> 52).unwrap_or(0) - 1023;
    // Exact at powers of two, where the logarithm is not: their buckets end there.
    if fraction == 0 {
        return match scale > 0 {
            true => (exponent << scale) - 1,
            false => (exponent - 1) >> -scale,
        };
    }
    match scale > 0 {
        true => (value.log2() * 2f64.powi(scale)).floor() as i32,
        false => exponent >> -scale,
    }
}

#[cfg(test)]
mod tests;
