//! Sends a set of requests, one after the other, and splits what a collector finds too large until it goes
//! through: down to a single point. It ends at the first request that is to be sent again later.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tracing::{Span, trace_span};
use wattrace_api::trace::OPERATION;
use wattrace_otlp_client::{Outcome, Problem, Transport};

use crate::encode::{Contents, Request};
use crate::sizes::{SMALL, Sizes};
use crate::split::halves;

/// What became of a set.
#[derive(Debug)]
pub(crate) struct Report {
    /// The requests that were answered, or not in time, and how. One that is too large has a single point.
    pub(crate) answers: Vec<(Contents, Outcome)>,
    /// What is to be sent again later: the request whose answer is the last one, and those after it.
    pub(crate) left: Vec<Request>,
    /// What is known now of the size that goes through.
    pub(crate) sizes: Sizes,
    /// The first request that was split: its size, and the answer.
    pub(crate) split: Option<(usize, String)>,
}

/// How long sending may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// A request.
    pub(crate) request: Duration,
    /// All requests of a set. `None`: as long as each of them.
    pub(crate) set: Option<Duration>,
}

/// The span of sending `requests`, in the trace of the agent's own operation.
pub(crate) fn span(requests: &[Request]) -> Span {
    // Attributes are signed.
    let whole = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let bytes = || whole(requests.iter().map(|request| request.body.len()).sum());
    trace_span!(target: OPERATION, "export", requests = whole(requests.len()), bytes = bytes())
}

/// Sends `requests`.
pub(crate) async fn deliver(
    transport: &dyn Transport,
    limits: Limits,
    requests: Vec<Request>,
    mut sizes: Sizes,
) -> Report {
    let begun = Instant::now();
    let mut queue = VecDeque::from(requests);
    let (mut answers, mut split) = (Vec::new(), None);
    while let Some(request) = queue.pop_front() {
        let bytes = request.body.len();
        if bytes > sizes.limit()
            && let Some(halves) = halves(&request)
        {
            halves.into_iter().rev().for_each(|half| queue.push_front(half));
            continue;
        }
        let left = limits.set.map(|set| set.saturating_sub(begun.elapsed()));
        let timeout = left.map_or(limits.request, |left| left.min(limits.request));
        let sent = tokio::time::timeout(timeout, transport.send(request.body.clone())).await;
        let mut outcome = sent.unwrap_or_else(|_| Outcome::Unreached {
            cause: format!("no answer within {timeout:?}"),
            problem: Problem::Exchange,
        });
        if let Outcome::TooLarge { cause, is_temporary } = outcome {
            if !sizes.is_hopeless()
                && let Some(halves) = halves(&request)
            {
                sizes.refused(bytes);
                split.get_or_insert((bytes, cause));
                halves.into_iter().rev().for_each(|half| queue.push_front(half));
                continue;
            }
            outcome = unsplit(cause, is_temporary, bytes, &mut sizes);
        }
        match outcome {
            Outcome::Accepted { .. } => sizes.accepted(bytes),
            Outcome::Unreached { problem: Problem::Exchange, .. } => sizes.broke(bytes),
            _ => {}
        }
        let is_later = matches!(outcome, Outcome::Later { .. } | Outcome::Unreached { .. });
        answers.push((request.contents.clone(), outcome));
        if is_later {
            queue.push_front(request);
            break;
        }
    }
    Report { answers, left: queue.into(), sizes, split }
}

/// What it means that a request is too large and is not split: that its point is, unless the request is
/// small, or small ones were refused in the same way before. Then the answer is not about the size.
fn unsplit(cause: String, is_temporary: bool, bytes: usize, sizes: &mut Sizes) -> Outcome {
    if bytes < SMALL {
        sizes.give_up();
    }
    match (sizes.is_hopeless(), is_temporary) {
        (false, _) => Outcome::TooLarge { cause, is_temporary },
        (true, true) => Outcome::Later { cause, after: None },
        (true, false) => Outcome::Refused { cause },
    }
}

#[cfg(test)]
mod tests;
