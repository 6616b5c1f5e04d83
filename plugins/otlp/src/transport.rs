//! What the ways to a collector (`grpc`, `http`) have in common: a request goes out, and an [`Outcome`] comes
//! back. `connect` chooses one of them, `exporter` decides when to try again.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::header::HeaderValue;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest,
};

/// A collector's answer, or the lack of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It took the request but for `rejected` points, which must not be sent again.
    Accepted {
        /// Points it did not take.
        rejected: u64,
        /// Why, or a warning.
        message: String,
    },
    /// It may take the request later.
    Later {
        /// Why not now.
        cause: String,
        /// Not sooner than this from now, if it said so.
        after: Option<Duration>,
    },
    /// It will never take this request.
    Refused {
        /// Why.
        cause: String,
    },
}

impl Outcome {
    /// What an answer of success says.
    pub(crate) fn accepted(partial: Option<ExportMetricsPartialSuccess>) -> Self {
        let partial = partial.unwrap_or_default();
        let rejected = u64::try_from(partial.rejected_data_points).unwrap_or(0);
        Outcome::Accepted { rejected, message: partial.error_message }
    }
}

/// Numbers the requests in a header, `wattrace-sequence: EPOCH:NUMBER`, so that a gateway notices which ones
/// were lost. Each output that is opened has its own epoch; the numbers go up by one from 1. Collectors
/// ignore the header.
#[derive(Debug)]
pub(crate) struct Sequence {
    epoch: u64,
    last: AtomicU64,
}

impl Sequence {
    /// The header's name.
    pub(crate) const HEADER: &str = "wattrace-sequence";

    /// A new epoch.
    pub(crate) fn new() -> Self {
        Self { epoch: fastrand::u64(..), last: AtomicU64::new(0) }
    }

    /// The next request's header. Never `None`: digits and a colon are a valid value.
    pub(crate) fn next(&self) -> Option<HeaderValue> {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        HeaderValue::from_str(&format!("{:016x}:{number}", self.epoch)).ok()
    }
}

/// A request that is being sent.
pub(crate) type Sending<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// A way to a collector.
pub(crate) trait Transport: Send + Sync {
    /// Sends one request and waits for its answer.
    fn send(&self, message: ExportMetricsServiceRequest) -> Sending<'_>;
}

/// A client of one protocol. `token` makes a [`Transport`] of it.
pub(crate) trait OtlpClient: Send + Sync {
    /// Sends one request, with `authorization` among its headers, and waits for its answer.
    fn send(&self, message: ExportMetricsServiceRequest, authorization: Option<HeaderValue>) -> Sending<'_>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_output_counts_its_requests_from_one() {
        let (a, b) = (Sequence::new(), Sequence::new());
        let next = |sequence: &Sequence| {
            let text = sequence.next().unwrap().to_str().unwrap().to_owned();
            let (epoch, number) = text.split_once(':').unwrap();
            (epoch.to_owned(), number.parse::<u64>().unwrap())
        };
        let (first, second, other) = (next(&a), next(&a), next(&b));
        assert_eq!((first.1, second.1, other.1), (1, 2, 1));
        assert!(first.0 == second.0 && first.0 != other.0);
    }
}
