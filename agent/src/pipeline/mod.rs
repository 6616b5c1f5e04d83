//! The runner: opens the elements, gives each source and each output a thread and the transforms one for all,
//! and stops them in order. It knows no hardware and no plugin.
//!
//! ```text
//! a thread per source ─▶ inbox ─▶ the transforms' thread ─▶ a queue per output ─▶ a thread per output
//! ```
//!
//! | file | holds |
//! | --- | --- |
//! | `context.rs`, `elements.rs` | what the parts share; the elements there are, with their handles |
//! | `launch.rs`, `membership.rs` | opening and starting elements; how they join and leave |
//! | `source.rs`, `commands.rs` | a source's thread: its loop, and what is asked of it |
//! | `inbox.rs`, `transforms.rs`, `stage.rs` | the channel to the transforms, their thread, one transform in it |
//! | `queue.rs`, `output.rs`, `output_transforms.rs` | an output's queue, its thread, transforms of its own |
//! | `flow.rs` | batches in flight and the life of series ids |
//! | `guard.rs`, `watchdog.rs` | contained panics and growing waits; calls that do not return |
//! | `health.rs`, `status.rs`, `control.rs` | how each element is doing; commands to a running pipeline |

mod commands;
mod context;
pub mod control;
mod elements;
mod flow;
mod guard;
pub mod health;
mod inbox;
mod launch;
mod membership;
mod output;
mod output_transforms;
mod queue;
mod source;
mod stage;
pub mod status;
mod transforms;
mod watchdog;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tracing::{error, warn};
use wattrace_api::Host;

use self::commands::Command;
use self::context::Context;
use self::control::Control;
use self::elements::{Elements, ask_all};
use self::flow::BatchPool;
use self::health::{Health, State};
use self::inbox::{Inbox, Message};
use self::transforms::Transforms;
use self::watchdog::Watchdog;
use crate::config::Settings;

/// How long the last polls may take. How long stopping may take altogether is the caller's decision.
const LAST_POLLS: Duration = Duration::from_secs(1);

/// A running pipeline.
pub struct Pipeline {
    context: Arc<Context>,
    transforms_ended: oneshot::Receiver<()>,
    _watchdog: Watchdog,
}

impl Pipeline {
    /// Opens the elements that plugins declared on `host` and starts them: outputs before transforms before
    /// sources, so that every point has a receiver.
    ///
    /// An element that cannot be opened does not keep the others from running, nor does one whose opening
    /// takes longer than two seconds: it joins when it is open.
    pub fn start(mut host: Host, settings: Settings) -> Self {
        let context = Arc::new(Context {
            pool: BatchPool::new(host.registry().clone()),
            registry: host.registry().clone(),
            clock: host.clock().clone(),
            runtime: host.runtime().clone(),
            settings,
            elements: Arc::new(Elements::default()),
            inbox: Arc::new(Inbox::default()),
            output_transforms: Arc::default(),
            changing: tokio::sync::Mutex::default(),
            stopping: AtomicBool::new(false),
        });
        let mut opened = launch::open(&context, host.take_elements());
        let queues = opened.take_outputs(&context);
        for (pattern, _) in &context.settings.outputs {
            if !queues.iter().any(|queue| pattern.matches(queue.name())) {
                warn!("agent.outputs.\"{pattern}\" matches no output of this agent");
            }
        }
        let transforms = Transforms {
            inbox: context.inbox.clone(),
            stages: opened.take_stages(&context),
            queues,
            pool: context.pool.clone(),
            clock: context.clock.clone(),
        };
        let (ended, transforms_ended) = oneshot::channel();
        let spawned = std::thread::Builder::new().name("transforms".into()).spawn(move || {
            transforms.run();
            // An error means that the pipeline was dropped.
            let _ = ended.send(());
        });
        if let Err(e) = spawned {
            error!("cannot start the transforms' thread: {e}; no point will reach an output");
        }
        opened.start_sources(&context);
        let _watchdog = Watchdog::start(Arc::downgrade(&context.elements));
        Self { context, transforms_ended, _watchdog }
    }

    /// Waits until all sources have opened, or until `deadline`; the start waits for a few seconds only.
    pub async fn sources_opened(&self, deadline: Instant) {
        let opening =
            || self.context.elements.lock().sources.iter().any(|s| s.health.state() == State::Opening);
        while opening() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A handle to control it from other threads and tasks.
    pub fn control(&self) -> Control {
        Control(self.context.clone())
    }

    /// How every element is doing: sources, transforms, outputs.
    pub fn health(&self) -> Vec<Arc<Health>> {
        self.context.elements.health()
    }

    /// Whether a plugin's source may measure something; the agent's own metrics alone do not count.
    pub fn has_source(&self) -> bool {
        let may_work = |state| matches!(state, State::Running | State::Opening);
        let works = |h: &Health| !h.name.starts_with("source/agent/") && may_work(h.state());
        self.context.elements.lock().sources.iter().any(|s| works(&s.health))
    }

    /// Polls every source now, one after the other in the order of their ticks, so that usage covers energy.
    pub async fn poll_all(&self, deadline: Instant) {
        let sources = self.context.elements.entries().sources;
        for silent in ask_all(&sources, Command::Poll, deadline).await {
            warn!("{} does not return from its poll and is not waited for", silent.health.name);
        }
    }

    /// Waits until what the sources have sent so far has passed the transforms, or until `deadline`.
    pub async fn settle(&self, deadline: Instant) {
        self.context.ask_transforms(Message::Barrier, deadline).await;
    }

    /// Stops: last polls, last transforms, outputs flushed. What has not ended by `deadline` is abandoned.
    pub async fn stop(self, deadline: Instant) -> Vec<Arc<Health>> {
        self.context.stopping.store(true, Relaxed);
        let entries = self.context.elements.entries();
        entries.outputs.iter().for_each(|o| o.queue.stop_blocking());
        let last_polls = deadline.min(Instant::now() + LAST_POLLS);
        for silent in ask_all(&entries.sources, Command::Stop, last_polls).await {
            silent.health.abandoned("its poll");
        }
        let finishing = async {
            self.context.inbox.tell(Message::Finish);
            // An error means that the thread has ended already.
            let _ = self.transforms_ended.await;
        };
        if timeout_at(deadline, finishing).await.is_err() {
            warn!("a transform does not return and is abandoned; what it held back is lost");
        }
        entries.outputs.iter().for_each(|o| o.queue.close());
        let health = self.context.elements.health();
        for mut output in entries.outputs {
            output.end_by(deadline).await;
        }
        health
    }
}
