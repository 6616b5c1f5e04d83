//! What becomes of a request, and the choice of the way there: `grpc` or `http`. When to try again is
//! `exporter`'s business.

use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::header::HeaderValue;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest,
};
use wattrace_api::Error;

use crate::config::{Protocol, Settings};
use crate::grpc::Grpc;
use crate::http::Http;
use crate::token::Authorized;

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

/// Numbers the requests in a header, `wattrace-sequence: EPOCH:NUMBER`, so that a gateway notices which were
/// lost on the way. The epoch is another one for each output that is opened; the numbers go up by one from 1.
/// Collectors ignore it.
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

    /// The next request's header; `None` never happens: digits and a colon are a header's value.
    pub(crate) fn next(&self) -> Option<HeaderValue> {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        HeaderValue::from_str(&format!("{:016x}:{number}", self.epoch)).ok()
    }
}

/// A request on its way.
pub(crate) type Sending<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// A way to a collector.
pub(crate) trait Transport: Send + Sync {
    /// Sends one request and waits for its answer.
    fn send(&self, message: ExportMetricsServiceRequest) -> Sending<'_>;
}

/// The way that `settings` ask for. Nothing is connected yet. Must be called within the async runtime.
///
/// # Errors
/// TLS files that cannot be used.
pub(crate) fn to(settings: &Settings) -> Result<Arc<dyn Transport>, Error> {
    let token = settings.token.clone();
    Ok(match settings.protocol {
        Protocol::Grpc => Arc::new(Authorized { wire: Grpc::new(settings)?, token }),
        Protocol::Http => Arc::new(Authorized { wire: Http::new(settings)?, token }),
    })
}

/// An error with all its causes, each said once: libraries like to repeat the cause in the message.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text
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
