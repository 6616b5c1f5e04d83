//! From the bytes of a body to a request, within the bytes that may be in flight. `grpc` and `http` use it.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message as _;
use prost::bytes::Bytes;

use crate::budget::Reservation;
use crate::weigh::{Failure, Message, weigh};

/// How many times the largest message its decoded form may take. Real ones take two to four times theirs.
const MOST_UNPACKED: usize = 8;

/// How many bytes may be in flight, in largest messages: room for several whole requests with their decoded
/// forms.
pub(crate) const IN_FLIGHT: usize = 24;

/// Why there is no request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Undecodable {
    /// It is not OTLP.
    Malformed(String),
    /// It takes too much memory once it is decoded.
    TooLarge(String),
    /// There is no memory for it now.
    Busy,
}

/// Decodes `body`, where messages have at most `most` bytes.
///
/// # Errors
/// Why it cannot.
pub(crate) fn decode(
    body: Bytes,
    most: usize,
    reservation: &Reservation,
) -> Result<ExportMetricsServiceRequest, Undecodable> {
    let malformed =
        |problem: &dyn std::fmt::Display| Undecodable::Malformed(format!("not OTLP metrics: {problem}"));
    let most = most.saturating_mul(MOST_UNPACKED);
    let weight = weigh(Message::Request, &body, most).map_err(|failure| match failure {
        Failure::Malformed => malformed(&"it is no protobuf message"),
        Failure::TooHeavy => Undecodable::TooLarge(format!(
            "the message unpacks to more than {most} bytes: {MOST_UNPACKED} times max_message"
        )),
    })?;
    reservation.take(weight).map_err(|_| Undecodable::Busy)?;
    ExportMetricsServiceRequest::decode(body).map_err(|e| malformed(&e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;

    #[test]
    fn a_body_of_empty_messages_is_refused_before_it_is_decoded() {
        let most = 4 * 1024 * 1024;
        let budget = Budget::new(most * IN_FLIGHT);
        let body: Bytes = [0x0a, 0].repeat(most / 2).into();
        let Err(Undecodable::TooLarge(message)) = decode(body, most, &budget.reservation()) else { panic!() };
        assert!(message.contains("max_message"), "{message}");
        assert!(decode([0x0a, 0].repeat(1000).into(), most, &budget.reservation()).is_ok());
        let body = || Bytes::from_static(&[0x0a, 0]);
        assert_eq!(decode(body(), most, &Budget::new(10).reservation()), Err(Undecodable::Busy));
        let text = Bytes::from_static(b"<html>");
        assert!(matches!(decode(text, most, &budget.reservation()), Err(Undecodable::Malformed(_))));
    }
}
