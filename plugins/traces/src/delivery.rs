//! Sends requests, one after the other, by a task on the runtime, while the pipeline goes on. `exporter`
//! decides what is sent when, and what answers mean.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use prost::bytes::Bytes;
use tokio::runtime::Handle;
use tracing::{Instrument as _, Span, trace_span};
use wattrace_api::trace::OPERATION;
use wattrace_otlp_client::{Outcome, Transport};
use wattrace_spool::Id;

use crate::queue::QueuedSpan;

/// A request, and where its spans are until it is answered.
#[derive(Debug)]
pub(crate) struct Request {
    /// An encoded `ExportTraceServiceRequest`.
    pub(crate) body: Bytes,
    /// How many spans it has.
    pub(crate) spans: u64,
    pub(crate) origin: Origin,
}

/// Where the spans of a request are.
#[derive(Debug)]
pub(crate) enum Origin {
    /// Here: they are new.
    Live(Vec<QueuedSpan>),
    /// In the spool.
    Kept(Id),
}

impl Request {
    /// Its spans, to make smaller requests of them.
    pub(crate) fn into_spans(self) -> Vec<QueuedSpan> {
        match self.origin {
            Origin::Live(spans) => spans,
            // It was encoded here, or the spool would have refused it as damaged.
            Origin::Kept(_) => {
                let request = ExportTraceServiceRequest::decode(&*self.body).unwrap_or_default();
                let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
                let spans = scopes.flat_map(|scope| scope.spans);
                spans
                    .map(|span| QueuedSpan { encoded: span.encode_to_vec().into(), microjoules: 0 })
                    .collect()
            }
        }
    }
}

/// What became of a request. `None`: it was not sent, since one before it failed.
pub(crate) type Answer = (Request, Option<Outcome>);

/// The span of sending `requests`, in the trace of the agent's own operation.
fn span(requests: &[Request]) -> Span {
    // Attributes are signed.
    let whole = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let bytes = || whole(requests.iter().map(|request| request.body.len()).sum());
    trace_span!(target: OPERATION, "export", requests = whole(requests.len()), bytes = bytes())
}

/// Requests that are being sent.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// How many spans they have.
    pub(crate) spans: u64,
    /// Those that are nowhere else, with how many spans each has.
    pub(crate) live: Vec<(Bytes, u64)>,
    answers: Receiver<Vec<Answer>>,
}

impl Delivery {
    /// Starts to send `requests`, and stops at the first one that has to be sent again.
    pub(crate) fn start(requests: Vec<Request>, transport: &Arc<dyn Transport>, runtime: &Handle) -> Self {
        let spans = requests.iter().map(|request| request.spans).sum();
        let is_live = |request: &&Request| matches!(request.origin, Origin::Live(_));
        let live = requests.iter().filter(is_live).map(|r| (r.body.clone(), r.spans)).collect();
        let (sender, answers) = mpsc::channel();
        let transport = transport.clone();
        let span = span(&requests);
        let exchange = async move {
            let (mut all, mut goes_on) = (Vec::with_capacity(requests.len()), true);
            for request in requests {
                let outcome = match goes_on {
                    true => Some(transport.send(request.body.clone()).await),
                    false => None,
                };
                goes_on &= !matches!(outcome, Some(Outcome::Later { .. } | Outcome::Unreached { .. }));
                all.push((request, outcome));
            }
            // An error means that the output was closed meanwhile.
            _ = sender.send(all);
        };
        runtime.spawn(exchange.instrument(span));
        Self { spans, live, answers }
    }

    /// The answers, if they have come within `patience`; else the delivery goes on. If the task was
    /// abandoned, there are none.
    pub(crate) fn answers(self, patience: Duration) -> Result<Vec<Answer>, Self> {
        let received = match patience {
            Duration::ZERO => self.answers.try_recv().map_err(|e| e == TryRecvError::Empty),
            patience => self.answers.recv_timeout(patience).map_err(|e| e == RecvTimeoutError::Timeout),
        };
        match received {
            Ok(answers) => Ok(answers),
            Err(true) => Err(self),
            Err(false) => Ok(Vec::new()),
        }
    }
}
