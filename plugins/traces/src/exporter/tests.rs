use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use tokio::runtime::Runtime;
use wattrace_api::Events;
use wattrace_api::trace::TraceContext;
use wattrace_otlp_client::transport::Sending;
use wattrace_otlp_client::{Env, Problem};

use super::*;
use crate::config::{TRACES, TracesConfig};

/// A collector that gives the outcomes of a script, and then accepts.
#[derive(Default)]
struct Script {
    outcomes: Mutex<VecDeque<Outcome>>,
    /// The span ids of each request.
    received: Mutex<Vec<Vec<u64>>>,
}

impl Transport for Script {
    fn send(&self, request: Bytes) -> Sending<'_> {
        let request = ExportTraceServiceRequest::decode(request).unwrap();
        let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
        let spans = scopes.flat_map(|scope| &scope.spans);
        let ids = spans.map(|span| u64::from_be_bytes(span.span_id.clone().try_into().unwrap())).collect();
        self.received.lock().unwrap_or_else(PoisonError::into_inner).push(ids);
        let outcome = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        Box::pin(async move { outcome.unwrap_or(accepted(0)) })
    }
}

fn accepted(rejected: u64) -> Outcome {
    Outcome::Accepted { rejected, message: String::new() }
}

fn unreached() -> Outcome {
    Outcome::Unreached { cause: "refused".to_owned(), problem: Problem::Connection }
}

struct Scene {
    exporter: Exporter,
    collector: Arc<Script>,
    clock: Clock,
    events: Events,
    _runtime: Runtime,
}

impl Scene {
    fn new(spool: &Path, outcomes: impl IntoIterator<Item = Outcome>) -> Self {
        let config = TracesConfig { spool: spool.to_owned(), ..TracesConfig::default() };
        let settings = Settings::resolve(config, &Env::new(TRACES, &|_| None)).unwrap();
        let (registry, clock, runtime) =
            (Registry::new(), Clock::manual(Timestamp(0)), Runtime::new().unwrap());
        let collector =
            Arc::new(Script { outcomes: Mutex::new(outcomes.into_iter().collect()), ..Script::default() });
        let events = registry.events().clone();
        let commands = Commands { started: events.subscribe(), ended: events.subscribe() };
        let handle = runtime.handle().clone();
        let exporter = Exporter::new(&settings, collector.clone(), commands, registry, clock.clone(), handle);
        Self { exporter, collector, clock, events, _runtime: runtime }
    }

    /// Spans with these ids are over.
    fn spans(&mut self, ids: impl IntoIterator<Item = u64>) {
        for span_id in ids {
            let context = TraceContext { trace_id: 1, span_id, is_sampled: true };
            let (command, parent) = ("make".to_owned(), None);
            let ended =
                CommandEnded { context, parent, start_unix_nano: 1, end_unix_nano: 2, command, exit_code: 0 };
            self.events.publish(ended);
        }
        self.exporter.take_commands();
    }

    /// Lets `seconds` pass, and waits for the answers to what was sent then.
    fn after(&mut self, seconds: u64) {
        self.clock.set(self.clock.now() + Duration::from_secs(seconds));
        self.exporter.write(&Batch::default()).unwrap();
        while self.exporter.delivery.is_some() {
            self.exporter.poll_answers(Duration::from_secs(60));
        }
    }

    fn received(&self) -> Vec<Vec<u64>> {
        std::mem::take(&mut self.collector.received.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[test]
fn what_does_not_arrive_waits_in_the_spool_for_the_next_agent_and_arrives_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("spool.db");
    let mut scene = Scene::new(&file, [unreached(), unreached()]);
    scene.spans([1, 2]);
    scene.after(4);
    assert_eq!(scene.received(), Vec::<Vec<u64>>::new(), "it waits for more");
    scene.after(1);
    scene.spans([3]);
    scene.after(0);
    assert_eq!(scene.received(), [[1, 2]], "it waits before it tries again");
    scene.after(61);
    assert_eq!(scene.received(), [[1, 2]], "a probe");
    assert!(scene.exporter.trouble().unwrap().contains("refused"));
    scene.exporter.keep_queued();
    assert_eq!((scene.exporter.undelivered(), scene.exporter.waiting()), (0, 3));
    drop(scene);

    let mut scene = Scene::new(&file, []);
    scene.spans([4]);
    scene.after(0);
    assert_eq!(scene.received(), [vec![1, 2], vec![3], vec![4]], "the oldest first, and at once");
    assert_eq!((scene.exporter.waiting(), scene.exporter.trouble()), (0, None));
    scene.after(60);
    assert_eq!(scene.received(), Vec::<Vec<u64>>::new());
    assert_eq!(scene.exporter.take_losses(), []);
}

#[test]
fn without_a_spool_spans_wait_in_memory_and_are_undelivered() {
    let mut scene = Scene::new(Path::new("none"), [unreached()]);
    scene.spans([1]);
    scene.after(5);
    assert_eq!((scene.exporter.undelivered(), scene.received()), (1, vec![vec![1]]));
    scene.after(61);
    assert_eq!((scene.exporter.undelivered(), scene.received()), (0, vec![vec![1]]));
}

#[test]
fn what_a_collector_refuses_is_counted_by_reason_and_not_sent_again() {
    let refused = Outcome::Refused { cause: "who?".to_owned() };
    let mut scene = Scene::new(Path::new("none"), [accepted(1), refused]);
    scene.spans([1, 2]);
    scene.after(5);
    assert_eq!(scene.exporter.take_losses(), [("rejected", 1)]);
    scene.spans([3, 4, 5]);
    scene.after(5);
    assert_eq!(scene.exporter.take_losses(), [("refused", 3)]);
    assert!(scene.exporter.trouble().unwrap().contains("who?"));
    scene.after(60);
    assert_eq!(scene.received().len(), 2);
    assert_eq!(scene.exporter.undelivered(), 0);
}

#[test]
fn a_request_that_is_too_large_is_split_down_to_a_single_span_also_from_the_spool() {
    let dir = tempfile::tempdir().unwrap();
    let too_large = || Outcome::TooLarge { cause: "413".to_owned(), is_temporary: false };
    let outcomes = [unreached(), too_large(), too_large(), too_large()];
    let mut scene = Scene::new(&dir.path().join("spool.db"), outcomes);
    scene.spans([1, 2, 3, 4]);
    scene.after(5);
    (0..4).for_each(|_| scene.after(61));
    let [first, second, third, fourth, others @ ..] = &scene.received()[..] else { panic!() };
    assert_eq!((first, second), (&vec![1, 2, 3, 4], &vec![1, 2, 3, 4]));
    assert_eq!((third, fourth), (&vec![1, 2], &vec![3, 4]), "what is on its way is not split");
    let mut others = others.concat();
    others.sort_unstable();
    assert_eq!(others, [1, 2, 3, 4]);
    assert_eq!((scene.exporter.waiting(), scene.exporter.take_losses()), (0, vec![]));
    let mut scene = Scene::new(Path::new("none"), [too_large()]);
    scene.spans([1]);
    scene.after(5);
    assert_eq!(scene.exporter.take_losses(), [("too_large", 1)]);
}
