//! The runner: opens the elements, gives each source a task, the transforms one task, each output a thread, and stops them
//! in order. It knows no hardware and no plugin.
//!
//! ```text
//! source tasks ──▶ one channel ──▶ transforms' task ──▶ a bounded queue per output ──▶ output threads
//! ```
//!
//! | file | holds |
//! | --- | --- |
//! | `source.rs`, `transforms.rs`, `output.rs` | what runs the elements of each kind |
//! | `trigger.rs` | ticks, from a timerfd |
//! | `flow.rs` | batches in flight and the life of series ids |
//! | `queue.rs` | an output's queue: what is dropped, and what never is |
//! | `guard.rs` | contained panics, growing waits |
//! | `pulse.rs` | what keeps a source that blocks from stopping the others |
//! | `health.rs` | how each element is doing |

mod flow;
mod guard;
pub mod health;
mod output;
mod pulse;
mod queue;
mod source;
mod transforms;
mod trigger;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::warn;
use wattrace_api::plugin::Added;
use wattrace_api::{Clock, Registry};

use self::flow::Pool;
use self::guard::contained;
use self::health::{Health, State};
use self::output::OutputThread;
use self::pulse::Pulse;
use self::queue::Queue;
use self::source::{Request, SourceTask};
use self::transforms::Stage;

/// Batches that may wait for the transforms before sources wait too.
const TRANSFORM_QUEUE: usize = 256;

/// How long polling every source once may take. How long stopping may take, all in all, is the caller's to say.
const ROUND_OF_POLLS: Duration = Duration::from_secs(1);

/// A running pipeline.
pub struct Pipeline {
    sources: Vec<SourceHandle>,
    transforms: JoinHandle<()>,
    stop_transforms: oneshot::Sender<()>,
    outputs: Vec<OutputHandle>,
    health: Vec<Arc<Health>>,
    _pulse: Pulse,
}

struct SourceHandle {
    health: Arc<Health>,
    offset: Duration,
    requests: mpsc::Sender<Request>,
}

struct OutputHandle {
    health: Arc<Health>,
    queue: Arc<Queue>,
    flushed: watch::Receiver<u64>,
    done: oneshot::Receiver<()>,
}

impl Pipeline {
    /// Opens the elements that the plugins added (pairs of plugin name and element) and sets them going: outputs before
    /// transforms before sources, so that no point comes before someone is there to take it.
    ///
    /// An element that cannot be opened does not keep the others from running.
    pub fn start(
        added: Vec<(&'static str, Added)>,
        registry: Arc<Registry>,
        clock: Clock,
        queue_capacity: usize,
        runtime: &tokio::runtime::Handle,
    ) -> Self {
        let pool = Pool::new(registry);
        let (to_transforms, from_sources) = mpsc::channel(TRANSFORM_QUEUE);
        let (mut sources, mut stages, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
        // A transform's opening looks at what the sources have found.
        let (found, rest): (Vec<_>, Vec<_>) =
            added.into_iter().partition(|(_, added)| matches!(added, Added::Source { .. }));
        for (plugin, added) in found.into_iter().chain(rest) {
            match added {
                Added::Source { name, trigger, blocking, mut open } => {
                    let health = Health::new("source", plugin, &name);
                    let source = opened(&health, &mut open);
                    let (pool, clock, downstream) = (pool.clone(), clock.clone(), to_transforms.clone());
                    sources.push(SourceTask {
                        health,
                        trigger,
                        blocking,
                        open,
                        source,
                        pool,
                        clock,
                        downstream,
                    });
                }
                Added::Transform { name, mut open } => {
                    let health = Health::new("transform", plugin, &name);
                    let transform = opened(&health, &mut open);
                    stages.push((health.clone(), Stage::new(health, open, transform)));
                }
                Added::Output { name, mut open } => {
                    let health = Health::new("output", plugin, &name);
                    let output = opened(&health, &mut open);
                    let queue = Queue::new(queue_capacity);
                    let (flushed, seen) = watch::channel(0);
                    outputs.push((OutputThread { health, open, output, queue, flushed, unwritten: 0 }, seen));
                }
            }
        }
        drop(to_transforms);
        let health: Vec<_> = (sources.iter().map(|s| s.health.clone()))
            .chain(stages.iter().map(|(health, _)| health.clone()))
            .chain(outputs.iter().map(|(o, _)| o.health.clone()))
            .collect();

        let outputs: Vec<_> = outputs.into_iter().map(|(thread, seen)| spawn_output(thread, seen)).collect();
        let queues = outputs.iter().map(|o| o.queue.clone()).collect();
        let stages = stages.into_iter().map(|(_, stage)| stage).collect();
        let (stop_transforms, stop) = oneshot::channel();
        let transforms = runtime.spawn(transforms::run(stages, from_sources, stop, queues, pool, clock));
        let mut handles: Vec<_> = sources.into_iter().map(|task| spawn_source(task, runtime)).collect();
        // Requests to all go out in the order in which their ticks fall.
        handles.sort_by_key(|s| s.offset);
        let _pulse = Pulse::start(runtime.clone());
        Self { sources: handles, transforms, stop_transforms, outputs, health, _pulse }
    }

    /// How every element is doing: sources, transforms, outputs.
    pub fn health(&self) -> &[Arc<Health>] {
        &self.health
    }

    /// Whether a plugin's source is there to measure something; the agent's own metrics alone are not worth running for.
    pub fn has_source(&self) -> bool {
        let works = |h: &Health| !h.name.starts_with("source/agent/") && h.state() == State::Running;
        self.sources.iter().any(|s| works(&s.health))
    }

    /// Polls every source now, one after the other in the order of their ticks, so that usage covers energy.
    pub async fn poll_all(&self) {
        for silent in ask_all(&self.sources, Request::Poll, Instant::now() + ROUND_OF_POLLS).await {
            warn!("{} does not return from its poll and is not waited for", silent.name);
        }
    }

    /// Makes every output flush what has reached it, waiting at most until `deadline`.
    pub async fn flush(&mut self, deadline: Instant) {
        for output in &mut self.outputs {
            let number = output.queue.want_flush();
            let flushed = output.flushed.wait_for(|&done| done >= number);
            if timeout_at(deadline, flushed).await.is_err() {
                warn!("{} did not flush in time", output.health.name);
            }
        }
    }

    /// Stops: last polls, last transforms, outputs flushed. What has not ended by `deadline` is abandoned, and said.
    pub async fn stop(self, deadline: Instant) -> Vec<Arc<Health>> {
        let last_polls = deadline.min(Instant::now() + ROUND_OF_POLLS);
        for silent in ask_all(&self.sources, Request::Stop, last_polls).await {
            silent.abandoned("its poll");
        }
        // Told even to those that have ended: then every source has hung up.
        let _ = self.stop_transforms.send(());
        if timeout_at(deadline, self.transforms).await.is_err() {
            warn!("a transform does not return and is abandoned; what it held back is lost");
            self.outputs.iter().for_each(|o| o.queue.close());
        }
        for output in self.outputs {
            if timeout_at(deadline, output.done).await.is_err() {
                output.health.abandoned("its last write");
                output.health.lose(output.queue.abandon(), "the output was abandoned");
            }
        }
        self.health
    }
}

/// Asks the sources, one after the other, and waits for their answers until `deadline`. One that does not answer holds up
/// those after it for a share of the time only. Returns those that have not answered.
async fn ask_all(
    sources: &[SourceHandle],
    request: fn(oneshot::Sender<()>) -> Request,
    deadline: Instant,
) -> Vec<&Health> {
    let mut waited_for = Vec::new();
    for (source, left) in sources.iter().zip((2..=sources.len() as u32 + 1).rev()) {
        let (reply, answered) = oneshot::channel();
        let mut answer = Box::pin(async move {
            if source.requests.send(request(reply)).await.is_ok() {
                // An error means that the source ended instead.
                let _ = answered.await;
            }
        });
        let share = deadline.saturating_duration_since(Instant::now()) / left;
        if timeout(share, &mut answer).await.is_err() {
            waited_for.push((source, answer));
        }
    }
    let mut silent = Vec::new();
    for (source, answer) in waited_for {
        if timeout_at(deadline, answer).await.is_err() {
            silent.push(&*source.health);
        }
    }
    silent
}

/// Opens an element; what came of it is kept in its health.
fn opened<E: ?Sized>(health: &Health, open: &mut wattrace_api::plugin::Open<E>) -> Option<Box<E>> {
    match contained(open) {
        Ok(element) => Some(element),
        Err(error) => {
            health.failed(&error);
            None
        }
    }
}

fn spawn_source(task: SourceTask, runtime: &tokio::runtime::Handle) -> SourceHandle {
    let (requests, received) = mpsc::channel(1);
    let handle = SourceHandle { health: task.health.clone(), offset: task.trigger.offset, requests };
    runtime.spawn(task.run(received));
    handle
}

fn spawn_output(thread: OutputThread, flushed: watch::Receiver<u64>) -> OutputHandle {
    let (health, queue) = (thread.health.clone(), thread.queue.clone());
    let (finished, done) = oneshot::channel();
    let name = health.name.clone();
    let spawned = std::thread::Builder::new().name(name).spawn(move || {
        thread.run();
        // Nobody may be waiting any more.
        let _ = finished.send(());
    });
    if let Err(e) = spawned {
        health.failed(&wattrace_api::Error::fatal(format!("cannot start its thread: {e}")));
    }
    OutputHandle { health, queue, flushed, done }
}
