//! The runner: opens the elements, gives each source a task, the transforms one thread, each output a thread,
//! and stops them in order. It knows no hardware and no plugin.
//!
//! ```text
//! source tasks ──▶ one channel ──▶ transforms' thread ──▶ a bounded queue per output ──▶ output threads
//! ```
//!
//! | file | holds |
//! | --- | --- |
//! | `settings.rs`, `pattern.rs` | what the runner can be told; names of elements with wildcards |
//! | `core.rs`, `launch.rs`, `roster.rs` | what the parts share; how elements join and leave; which there are |
//! | `opening.rs` | opening an element without waiting for it for good |
//! | `source.rs`, `autonomous.rs`, `transforms.rs`, `output.rs` | what runs the elements of each kind |
//! | `trigger.rs`, `realtime.rs` | ticks, from timerfds; threads for the fastest, and their priority |
//! | `flow.rs` | batches in flight and the life of series ids |
//! | `queue.rs` | an output's queue: what is dropped, and what never is |
//! | `guard.rs` | contained panics, growing waits |
//! | `lane.rs`, `watchdog.rs` | what keeps an element that blocks from stopping the others, and tells of it |
//! | `health.rs`, `status.rs` | how each element is doing |
//! | `control.rs` | commands to a running pipeline |

mod autonomous;
pub mod control;
mod core;
mod flow;
mod guard;
pub mod health;
mod lane;
mod launch;
mod opening;
mod output;
pub mod pattern;
mod queue;
mod realtime;
mod roster;
pub mod settings;
mod source;
pub mod status;
mod transforms;
mod trigger;
mod watchdog;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tracing::{error, warn};
use wattrace_api::Setup;

use self::control::Control;
use self::core::Core;
use self::flow::Pool;
use self::health::{Health, State};
use self::lane::Lane;
use self::pattern::Pattern;
use self::roster::{Roster, ask_all};
use self::settings::Settings;
use self::source::Request;
use self::transforms::{ToTransforms, Transforms, Upstream};
use self::watchdog::Watchdog;

/// Batches, and points in them, that may wait for the transforms before sources wait too. As many batches as
/// many fast sources make while the transforms' thread, which has no priority, stands back for others; no
/// more points than a cache holds, since what has left it costs a third more.
const TRANSFORM_QUEUE: usize = 1024;
const TRANSFORM_POINTS: u32 = 65_536;

/// How long polling every source once may take. How long stopping may take, all in all, is the caller's to
/// say.
const ROUND_OF_POLLS: Duration = Duration::from_secs(1);

/// How often it is looked whether all sources are open.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A running pipeline.
pub struct Pipeline {
    core: Arc<Core>,
    transforms_ended: oneshot::Receiver<()>,
    changes: Option<JoinHandle<()>>,
    _watchdog: Watchdog,
}

impl Pipeline {
    /// Opens the elements that plugins added to `setup` and sets them going: outputs before transforms before
    /// sources, so that no point comes before someone is there to take it.
    ///
    /// An element that cannot be opened does not keep the others from running, nor does one whose opening
    /// takes longer than two seconds: it joins when it is open.
    pub fn start(mut setup: Setup, settings: Settings) -> Self {
        let (to_transforms, from_sources) = Upstream::new(TRANSFORM_QUEUE, TRANSFORM_POINTS);
        let (registry, clock, runtime) = (setup.registry(), setup.clock(), setup.runtime());
        let core = Arc::new(Core {
            pool: Pool::new(registry.clone()),
            registry,
            clock: clock.clone(),
            runtime: runtime.clone(),
            settings,
            lane: Arc::new(Lane::new()),
            roster: Arc::new(Roster::default()),
            to_transforms,
            changes: setup.changes(),
            changing: tokio::sync::Mutex::default(),
            stopping: AtomicBool::new(false),
        });
        let mut opened = launch::open(&core, setup.take_added());
        let queues = opened.queues();
        for (pattern, _) in &core.settings.outputs {
            if !queues.iter().any(|queue| pattern.matches(queue.name())) {
                warn!("agent.outputs.\"{pattern}\" matches no output of this agent");
            }
        }
        opened.enter_outputs(&core);
        let transforms =
            Transforms { stages: opened.take_stages(&core), queues, pool: core.pool.clone(), clock };
        let (ended, transforms_ended) = oneshot::channel();
        let spawned = std::thread::Builder::new().name("transforms".into()).spawn(move || {
            transforms.run(from_sources);
            // Nobody may be waiting any more.
            let _ = ended.send(());
        });
        match spawned {
            Ok(thread) => core.to_transforms.lead_to(thread.thread()),
            Err(e) => error!("cannot start the transforms' thread: {e}; nothing will come out"),
        }
        opened.run_sources(&core);
        let changes =
            setup.take_changes().map(|changes| runtime.spawn(Core::follow(Arc::downgrade(&core), changes)));
        let _watchdog = Watchdog::start(Arc::downgrade(&core.roster), runtime);
        Self { core, transforms_ended, changes, _watchdog }
    }

    /// Waits until all sources have opened, or until `deadline`; the start itself waits for a few seconds
    /// only.
    pub async fn sources_opened(&self, deadline: Instant) {
        let opening = || self.core.roster.lock().sources.iter().any(|s| s.health.state() == State::Opening);
        while opening() && Instant::now() < deadline {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Controls it from elsewhere.
    pub fn control(&self) -> Control {
        Control(self.core.clone())
    }

    /// How every element is doing: sources, transforms, outputs.
    pub fn health(&self) -> Vec<Arc<Health>> {
        self.core.roster.health()
    }

    /// Whether a plugin's source is there to measure something; the agent's own metrics alone are not worth
    /// running for.
    pub fn has_source(&self) -> bool {
        let may_work = |state| matches!(state, State::Running | State::Opening);
        let works = |h: &Health| !h.name.starts_with("source/agent/") && may_work(h.state());
        self.core.roster.lock().sources.iter().any(|s| works(&s.health))
    }

    /// Polls every source now, one after the other in the order of their ticks, so that usage covers energy.
    pub async fn poll_all(&self) {
        let sources = self.core.roster.entries().sources;
        for silent in ask_all(&sources, Request::Poll, Instant::now() + ROUND_OF_POLLS).await {
            warn!("{} does not return from its poll and is not waited for", silent.health.name);
        }
    }

    /// Makes every output flush what has reached it, waiting at most until `deadline`.
    pub async fn flush(&self, deadline: Instant) {
        // An error means that there is no output.
        if let Ok(flushed) = self.control().flush(&Pattern::all(), deadline).await {
            flushed.late.iter().for_each(|name| warn!("{name} did not flush in time"));
        }
    }

    /// Stops: last polls, last transforms, outputs flushed. What has not ended by `deadline` is abandoned,
    /// and said.
    pub async fn stop(self, deadline: Instant) -> Vec<Arc<Health>> {
        self.core.stopping.store(true, Relaxed);
        if let Some(changes) = self.changes {
            changes.abort();
        }
        let entries = self.core.roster.entries();
        // Nothing waits for an output any more but its own end.
        entries.outputs.iter().for_each(|o| o.queue.hurry());
        let last_polls = deadline.min(Instant::now() + ROUND_OF_POLLS);
        for silent in ask_all(&entries.sources, Request::Stop, last_polls).await {
            silent.health.abandoned("its poll");
        }
        let finishing = async {
            self.core.to_transforms.tell(ToTransforms::Finish).await;
            // An error means that the thread has ended already.
            let _ = self.transforms_ended.await;
        };
        if timeout_at(deadline, finishing).await.is_err() {
            warn!("a transform does not return and is abandoned; what it held back is lost");
        }
        entries.outputs.iter().for_each(|o| o.queue.close());
        let health = self.core.roster.health();
        for mut output in entries.outputs {
            if !output.ended(deadline).await {
                output.health.abandoned("its last write");
                output.health.lose(output.queue.abandon(), "the output was abandoned");
            }
        }
        health
    }
}
