//! What the ways to a collector (`grpc`, `http`) have in common: a request goes out, and an [`Outcome`] comes
//! back. `connect` chooses one of them. The plugin splits what is too large, and decides when to try again.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::body::Bytes;
use hyper::header::{HeaderMap, HeaderValue};

use crate::shown::shown;

/// A collector's answer, or the lack of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It took the request but for `rejected` points, which must not be sent again.
    Accepted {
        /// Points it says it did not take: any number, not only one that fits the request.
        rejected: u64,
        /// Why, or a warning.
        message: String,
    },
    /// It may take the request later.
    Later {
        /// Why not now.
        cause: String,
        /// Not sooner than this from now, if it said so: any time, however long.
        after: Option<Duration>,
    },
    /// There is no answer, so it may take the request later.
    Unreached {
        /// Why.
        cause: String,
        /// Where the cause is.
        problem: Problem,
    },
    /// It does not take requests of this size; it may take the same points in smaller ones.
    TooLarge {
        /// Why not.
        cause: String,
        /// Whether the answer stands for a state that passes, if it is not about the size.
        is_temporary: bool,
    },
    /// It will never take this request.
    Refused {
        /// Why.
        cause: String,
    },
}

/// Where it fails when there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// No connection.
    Connection,
    /// TLS: the collector's certificate, or that it has none.
    Tls,
    /// The connection broke, or no answer came in time: perhaps because the request is too large for it.
    Exchange,
    /// The request cannot be made: a file with the token or with headers.
    Credentials,
}

impl Outcome {
    /// What an answer of success says.
    pub(crate) fn accepted(response: ExportResponse) -> Self {
        let partial = response.partial_success.unwrap_or_default();
        let rejected = u64::try_from(partial.rejected).unwrap_or(0);
        Outcome::Accepted { rejected, message: shown(&partial.error_message) }
    }

    /// What the client's error says.
    pub(crate) fn unreached(error: &wattrace_http::Error) -> Self {
        let problem = match error {
            wattrace_http::Error::Connect(_) => Problem::Connection,
            wattrace_http::Error::Tls(_) => Problem::Tls,
            _ => Problem::Exchange,
        };
        Outcome::Unreached { cause: wattrace_http::chain(error), problem }
    }
}

/// An answer of success. `ExportMetricsServiceResponse` and `ExportTraceServiceResponse` differ in names.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) partial_success: Option<PartialSuccess>,
}

/// What of a request was not accepted.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PartialSuccess {
    /// Points or spans.
    #[prost(int64, tag = "1")]
    pub(crate) rejected: i64,
    #[prost(string, tag = "2")]
    pub(crate) error_message: String,
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
pub type Sending<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// A way to a collector.
pub trait Transport: Send + Sync {
    /// Sends one request, an encoded `Export…ServiceRequest` in protobuf, and waits for its answer.
    fn send(&self, request: Bytes) -> Sending<'_>;
}

/// A client of one protocol. `credentials` makes a [`Transport`] of it.
pub(crate) trait OtlpClient: Send + Sync {
    /// Sends one request, with `credentials` among its headers, and waits for its answer.
    fn send(&self, request: Bytes, credentials: HeaderMap) -> Sending<'_>;
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
