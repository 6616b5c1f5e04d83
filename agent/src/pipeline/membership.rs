//! How elements join and leave a running pipeline, one change after the other, through the same channel as
//! the points: what a source sent before it left has passed before its transform leaves.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;
use wattrace_api::PluginElement;

use super::commands::Command;
use super::context::Context;
use super::elements::{Entries, ask_all};
use super::inbox::Message;
use super::launch;

/// How long an element may take to leave before the others go on without it.
const LEAVING: Duration = Duration::from_secs(2);

/// Opens elements and starts them: outputs before transforms before sources, so that every point has a
/// receiver. Call it with `Context::changing` held.
pub(crate) async fn join(context: &Arc<Context>, elements: Vec<PluginElement>) {
    if context.stopping.load(Relaxed) {
        return;
    }
    let opening = context.clone();
    // Opening may take long.
    let opened = context.runtime.spawn_blocking(move || launch::open(&opening, elements)).await;
    // An error means that the runtime is shutting down.
    let Ok(mut opened) = opened else { return };
    for queue in opened.take_outputs(context) {
        context.inbox.tell(Message::Connect(queue));
    }
    for stage in opened.take_stages(context) {
        context.inbox.tell(Message::Insert(stage));
    }
    opened.start_sources(context);
}

/// Makes elements leave: last polls, then what transforms held back, then what is queued, each with its
/// series ended. What does not leave in time is removed from the list anyway, and ends when it returns. Call
/// it with `Context::changing` held.
pub(crate) async fn leave(context: &Context, leaving: Entries) {
    let deadline = Instant::now() + LEAVING;
    for output in &leaving.outputs {
        output.queue.pause(false);
        output.queue.stop_blocking();
    }
    for silent in ask_all(&leaving.sources, Command::Remove, deadline).await {
        warn!("{} does not return; it is removed when it does", silent.health.name);
    }
    for source in &leaving.sources {
        context.elements.remove(&source.health);
    }
    for transform in &leaving.transforms {
        let health = transform.health.clone();
        context.ask_transforms(|done| Message::Remove(health, done), deadline).await;
        context.elements.remove(&transform.health);
    }
    for mut output in leaving.outputs {
        let queue = output.queue.clone();
        context.ask_transforms(|done| Message::Disconnect(queue, done), deadline).await;
        output.queue.close();
        output.end_by(deadline).await;
        context.elements.remove(&output.health);
    }
}
