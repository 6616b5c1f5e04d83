//! How much memory a message takes once it is decoded, found without decoding it. Two bytes can stand for a
//! message of a hundred, so a request of a few megabytes can unpack to hundreds. `decode` refuses these.

use opentelemetry_proto::tonic::common::v1 as common;
use opentelemetry_proto::tonic::metrics::v1 as metrics;
use opentelemetry_proto::tonic::resource::v1::Resource;

/// The messages that a request is made of, as far as they contain others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Request,
    ResourceMetrics,
    Resource,
    ScopeMetrics,
    Scope,
    Metric,
    /// Sum, gauge.
    Numbers,
    Number,
    Histogram,
    HistogramPoint,
    Exponential,
    ExponentialPoint,
    Buckets,
    Summary,
    SummaryPoint,
    Exemplar,
    KeyValue,
    Value,
    Array,
    Map,
    /// One without others in it.
    Leaf(usize),
}

/// What an allocation takes beyond its bytes.
const ALLOCATION: usize = 32;

/// Deeper messages are refused; prost refuses them too.
const DEEPEST: u32 = 64;

/// Why there is no weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It is not a message.
    Malformed,
    /// It takes more than it may.
    TooHeavy,
}

impl Message {
    /// The message in a field of this one, by the field's number; `None`: text, numbers, or an unknown field.
    fn child(self, field: u64) -> Option<Message> {
        use Message::*;
        Some(match (self, field) {
            (Request, 1) => ResourceMetrics,
            (ResourceMetrics, 1) => Resource,
            (ResourceMetrics, 2) => ScopeMetrics,
            (Resource, 3) => Leaf(size_of::<common::EntityRef>()),
            (ScopeMetrics, 1) => Scope,
            (ScopeMetrics, 2) => Metric,
            (Metric, 5 | 7) => Numbers,
            (Metric, 9) => Histogram,
            (Metric, 10) => Exponential,
            (Metric, 11) => Summary,
            (Numbers, 1) => Number,
            (Histogram, 1) => HistogramPoint,
            (Exponential, 1) => ExponentialPoint,
            (Summary, 1) => SummaryPoint,
            (SummaryPoint, 6) => Leaf(size_of::<metrics::summary_data_point::ValueAtQuantile>()),
            (ExponentialPoint, 8 | 9) => Buckets,
            (Number, 5) | (HistogramPoint, 8) | (ExponentialPoint, 11) => Exemplar,
            (Resource | ExponentialPoint, 1) | (Metric, 12) | (Scope, 3) | (Map, 1) => KeyValue,
            (Number | SummaryPoint | Exemplar, 7) | (HistogramPoint, 9) => KeyValue,
            (KeyValue, 2) | (Array, 1) => Value,
            (Value, 5) => Array,
            (Value, 6) => Map,
            _ => return None,
        })
    }

    /// What one takes in a list, which may have grown to twice its length.
    fn size(self) -> usize {
        use Message::*;
        2 * match self {
            Request => 0,
            ResourceMetrics => size_of::<metrics::ResourceMetrics>(),
            Resource => size_of::<self::Resource>(),
            ScopeMetrics => size_of::<metrics::ScopeMetrics>(),
            Scope => size_of::<common::InstrumentationScope>(),
            Metric => size_of::<metrics::Metric>(),
            Numbers | Histogram | Exponential | Summary => size_of::<metrics::Sum>(),
            Number => size_of::<metrics::NumberDataPoint>(),
            HistogramPoint => size_of::<metrics::HistogramDataPoint>(),
            ExponentialPoint => size_of::<metrics::ExponentialHistogramDataPoint>(),
            Buckets => size_of::<metrics::exponential_histogram_data_point::Buckets>(),
            SummaryPoint => size_of::<metrics::SummaryDataPoint>(),
            Exemplar => size_of::<metrics::Exemplar>(),
            KeyValue => size_of::<common::KeyValue>(),
            Value | Array | Map => size_of::<common::AnyValue>(),
            Leaf(size) => size,
        }
    }

    /// The memory of a field of `bytes` that is no message. Numbers of one byte take eight.
    fn leaf(self, bytes: usize) -> usize {
        let factor = if self == Message::Buckets { 16 } else { 2 };
        factor * bytes + ALLOCATION
    }
}

/// At least the bytes that `bytes`, a `message`, take when they are decoded.
///
/// # Errors
/// More than `most`; no message.
pub(crate) fn weigh(message: Message, bytes: &[u8], most: usize) -> Result<usize, Failure> {
    let mut scale = Scale { weight: 0, most };
    scale.add(message, bytes, DEEPEST)?;
    Ok(scale.weight)
}

/// The weight so far.
struct Scale {
    weight: usize,
    most: usize,
}

impl Scale {
    fn add(&mut self, message: Message, mut bytes: &[u8], deepest: u32) -> Result<(), Failure> {
        let deeper = deepest.checked_sub(1).ok_or(Failure::Malformed)?;
        while !bytes.is_empty() {
            let tag = varint(&mut bytes)?;
            let skipped = match tag & 7 {
                0 => varint(&mut bytes).map(|_| 0)?,
                1 => 8,
                5 => 4,
                2 => {
                    let length = length(&mut bytes)?;
                    let part = take(&mut bytes, length)?;
                    let child = message.child(tag >> 3);
                    self.weight += child.map_or_else(|| message.leaf(part.len()), Message::size);
                    if self.weight > self.most {
                        return Err(Failure::TooHeavy);
                    }
                    child.map_or(Ok(()), |child| self.add(child, part, deeper))?;
                    0
                }
                // Groups: OTLP has none.
                _ => return Err(Failure::Malformed),
            };
            take(&mut bytes, skipped)?;
        }
        Ok(())
    }
}

fn length(bytes: &mut &[u8]) -> Result<usize, Failure> {
    usize::try_from(varint(bytes)?).map_err(|_| Failure::Malformed)
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], Failure> {
    let (taken, rest) = bytes.split_at_checked(count).ok_or(Failure::Malformed)?;
    *bytes = rest;
    Ok(taken)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, Failure> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(Failure::Malformed)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Failure::Malformed)
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use prost::Message as _;

    use super::*;

    fn weight(request: &ExportMetricsServiceRequest) -> usize {
        weigh(Message::Request, &request.encode_to_vec(), usize::MAX).unwrap()
    }

    #[test]
    fn empty_messages_weigh_what_they_take_and_not_what_they_are_encoded_to() {
        let resource_metrics = vec![metrics::ResourceMetrics::default(); 1000];
        let request = ExportMetricsServiceRequest { resource_metrics };
        assert_eq!(request.encoded_len(), 2000);
        assert_eq!(weigh(Message::Request, &request.encode_to_vec(), 9999), Err(Failure::TooHeavy));
        let least = 1000 * size_of::<metrics::ResourceMetrics>();
        assert!((least..=3 * least).contains(&weight(&request)), "{}", weight(&request));
        let number = metrics::NumberDataPoint {
            attributes: vec![common::KeyValue::default(); 1000],
            ..Default::default()
        };
        let sum = metrics::Sum { data_points: vec![number], ..Default::default() };
        let metric = metrics::Metric { data: Some(metrics::metric::Data::Sum(sum)), ..Default::default() };
        let scope = metrics::ScopeMetrics { metrics: vec![metric], ..Default::default() };
        let resource = metrics::ResourceMetrics { scope_metrics: vec![scope], ..Default::default() };
        let request = ExportMetricsServiceRequest { resource_metrics: vec![resource] };
        assert!(weight(&request) >= 1000 * size_of::<common::KeyValue>());
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bytes in [&[0x0a, 5, 1][..], &[0x0a], &[0x0b], &[0xff; 11], &[0x09, 1, 2], &[0x0a, 0xff, 0xff]] {
            assert_eq!(weigh(Message::Request, bytes, 1000), Err(Failure::Malformed), "{bytes:?}");
        }
        // A value in a list in a value, and so on.
        let nested = |levels| {
            (0..levels).fold(Vec::new(), |inner, level| {
                let field = if level % 2 == 0 { 0x0a } else { 0x2a };
                [&[field, inner.len() as u8][..], &inner].concat()
            })
        };
        assert!(weigh(Message::Value, &nested(20), 1 << 20).is_ok());
        assert_eq!(weigh(Message::Value, &nested(62), 1 << 20).map(drop), Ok(()));
        assert_eq!(weigh(Message::Value, &nested(64), 1 << 20), Err(Failure::Malformed), "too deep");
        assert_eq!(weigh(Message::Request, &[], 0), Ok(0));
    }
}
