//! The viewers of a running agent: gives each an output of its own (`feed.rs`), which joins the pipeline when
//! the viewer subscribes and leaves when it has gone. Without viewers there are no such outputs, and nothing
//! is spent on them.

use std::sync::{Mutex, PoisonError};

use super::feed::{self, FeedReceiver};
use super::protocol::{Problem, ProblemKind};
use crate::pipeline::control::Control;

/// Under which plugin name each viewer's output appears: `output/viewer-1/feed`.
pub(crate) const NAMES: [&str; 8] =
    ["viewer-1", "viewer-2", "viewer-3", "viewer-4", "viewer-5", "viewer-6", "viewer-7", "viewer-8"];

/// The viewers of a running agent.
pub(crate) struct Viewers {
    control: Control,
    is_taken: Mutex<[bool; NAMES.len()]>,
}

/// A viewer's subscription.
pub(crate) struct Subscribed {
    pub(crate) feed: FeedReceiver,
    place: usize,
}

impl Viewers {
    pub(crate) fn new(control: Control) -> Self {
        Self { control, is_taken: Mutex::default() }
    }

    /// Begins a subscription.
    ///
    /// # Errors
    /// There are as many viewers already as there may be.
    pub(crate) async fn subscribe(&self) -> Result<Subscribed, Problem> {
        let place = self.take_place().ok_or_else(|| {
            let most = NAMES.len();
            Problem::new(ProblemKind::Busy, format!("{most} viewers listen to this agent already: close one"))
        })?;
        let (sender, feed) = feed::feed();
        let mut host = self.control.host();
        let started = host.start(NAMES[place], |setup| {
            feed::add_output(setup, sender);
            Ok(())
        });
        let subscribed = Subscribed { feed, place };
        if let Err(e) = started {
            self.end(subscribed).await;
            return Err(Problem::new(ProblemKind::Failed, e));
        }
        self.control.replace_plugin(NAMES[place], host.take_elements()).await;
        Ok(subscribed)
    }

    /// Ends a subscription: its output leaves the pipeline.
    pub(crate) async fn end(&self, subscribed: Subscribed) {
        let Subscribed { feed, place } = subscribed;
        // Its output has nobody to write to, so it returns at once.
        drop(feed);
        self.control.replace_plugin(NAMES[place], Vec::new()).await;
        self.lock()[place] = false;
    }

    fn take_place(&self) -> Option<usize> {
        let mut taken = self.lock();
        let free = taken.iter().position(|is_taken| !is_taken)?;
        taken[free] = true;
        Some(free)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, [bool; NAMES.len()]> {
        self.is_taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
