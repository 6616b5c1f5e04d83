//! What the parts of a running pipeline share, and how elements join and leave it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};
use wattrace_api::added::Change;
use wattrace_api::{Added, Clock, Registry};

use super::flow::Pool;
use super::lane::Lane;
use super::launch;
use super::roster::{OutputEntry, Roster, SourceEntry, TransformEntry, ask_all};
use super::settings::Settings;
use super::source::Request;
use super::transforms::{ToTransforms, Upstream};

/// How long an element may take to leave before it is left to itself.
const LEAVING: Duration = Duration::from_secs(2);

/// What the parts of a running pipeline share.
pub(crate) struct Core {
    pub(crate) registry: Arc<Registry>,
    pub(crate) clock: Clock,
    pub(crate) runtime: Handle,
    pub(crate) settings: Settings,
    pub(crate) pool: Arc<Pool>,
    pub(crate) lane: Arc<Lane>,
    pub(crate) roster: Arc<Roster>,
    pub(crate) to_transforms: Upstream,
    /// What [`wattrace_api::Elements`] asks for.
    pub(crate) changes: mpsc::UnboundedSender<Change>,
    /// Elements join and leave one after the other.
    pub(crate) changing: tokio::sync::Mutex<()>,
    pub(crate) stopping: AtomicBool,
}

/// Elements that are to leave.
#[derive(Default)]
pub(crate) struct Leaving {
    pub(crate) sources: Vec<SourceEntry>,
    pub(crate) transforms: Vec<TransformEntry>,
    pub(crate) outputs: Vec<OutputEntry>,
}

impl Core {
    /// Opens elements and sets them going: outputs before transforms before sources, so that no point comes
    /// before someone is there to take it. Call it with `changing` held.
    pub(crate) async fn join(self: &Arc<Self>, added: Vec<(&'static str, Added)>) {
        if self.stopping.load(Relaxed) {
            return;
        }
        let core = self.clone();
        // Opening may take long.
        let Ok(mut opened) = self.runtime.spawn_blocking(move || launch::open(&core, added)).await else {
            return;
        };
        let queues = opened.queues();
        opened.enter_outputs(self);
        for queue in queues {
            self.to_transforms.tell(ToTransforms::Connect(queue)).await;
        }
        for stage in opened.take_stages(self) {
            self.to_transforms.tell(ToTransforms::Insert(stage)).await;
        }
        opened.run_sources(self);
    }

    /// Lets elements go: last polls, then what transforms held back, then what is queued, each with its
    /// series ended. What does not leave in time is struck out all the same, and does so when it returns.
    /// Call it with `changing` held.
    pub(crate) async fn leave(&self, leaving: Leaving) {
        let deadline = Instant::now() + LEAVING;
        for output in &leaving.outputs {
            // Nobody is to wait for its queue.
            output.queue.pause(false);
            output.queue.hurry();
        }
        for silent in ask_all(&leaving.sources, Request::Remove, deadline).await {
            warn!("{} does not return; it is removed when it does", silent.health.name);
        }
        for source in &leaving.sources {
            self.roster.strike(&source.health);
        }
        for transform in &leaving.transforms {
            let health = transform.health.clone();
            self.ask(|done| ToTransforms::Remove(health, done), deadline).await;
            self.roster.strike(&transform.health);
        }
        for mut output in leaving.outputs {
            let queue = output.queue.clone();
            self.ask(|done| ToTransforms::Disconnect(queue, done), deadline).await;
            output.queue.close();
            if !output.ended(deadline).await {
                output.health.abandoned("its last write");
                output.health.lose(output.queue.abandon(), "the output was abandoned");
            }
            self.roster.strike(&output.health);
        }
    }

    /// Waits until what sources have given has reached the outputs' queues, or until `deadline`.
    pub(crate) async fn pass(&self, deadline: Instant) {
        let (done, passed) = oneshot::channel();
        let passing = async {
            self.to_transforms.tell(ToTransforms::Pass(done)).await;
            // An error means that the thread has ended.
            let _ = passed.await;
        };
        // One that does not return is told by the watchdog.
        let _ = timeout_at(deadline, passing).await;
    }

    /// Tells the transforms' thread something and waits for the answer, until `deadline`.
    async fn ask(&self, message: impl FnOnce(oneshot::Sender<()>) -> ToTransforms, deadline: Instant) {
        let (done, answered) = oneshot::channel();
        let asking = async {
            self.to_transforms.tell(message(done)).await;
            // An error means that the thread has ended.
            let _ = answered.await;
        };
        if timeout_at(deadline, asking).await.is_err() {
            warn!("a transform does not return; the change takes place when it does");
        }
    }

    /// Carries out the changes that elements ask for, one after the other.
    pub(crate) async fn follow(core: std::sync::Weak<Self>, mut changes: mpsc::UnboundedReceiver<Change>) {
        while let Some(change) = changes.recv().await {
            let Some(core) = core.upgrade() else { return };
            let _changing = core.changing.lock().await;
            match change {
                Change::Add { plugin, added } => {
                    info!("{}/{plugin}/{} is added", added.kind().as_str(), added.name());
                    core.join(vec![(plugin, added)]).await;
                }
                Change::Remove { plugin, kind, name } => {
                    let name = format!("{}/{plugin}/{name}", kind.as_str());
                    info!("{name} is removed");
                    let leaving = core.select(|_, health| health.name == name);
                    core.leave(leaving).await;
                }
            }
        }
    }

    /// The elements for which `is` holds, given plugin and health.
    pub(crate) fn select(&self, is: impl Fn(&str, &super::health::Health) -> bool) -> Leaving {
        let entries = self.roster.entries();
        Leaving {
            sources: entries.sources.into_iter().filter(|s| is(s.plugin, &s.health)).collect(),
            transforms: entries.transforms.into_iter().filter(|t| is(t.plugin, &t.health)).collect(),
            outputs: entries.outputs.into_iter().filter(|o| is(o.plugin, &o.health)).collect(),
        }
    }
}
