//! An element on its way into the pipeline: what it is called, when it runs, and how it is opened; and the
//! handle by which elements come and go while the pipeline runs.

use std::future::Future;

use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::batch::Batch;
use crate::element::{AsyncOutput, Output, Source, Transform, Trigger};
use crate::error::Error;
use crate::feed::{Feed, OpenAutonomous};

/// One of the three kinds of element: the first part of `kind/plugin/element`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ElementKind {
    /// Measures.
    Source,
    /// Computes.
    Transform,
    /// Writes.
    Output,
}

impl ElementKind {
    /// `source`, `transform` or `output`.
    pub fn as_str(self) -> &'static str {
        match self {
            ElementKind::Source => "source",
            ElementKind::Transform => "transform",
            ElementKind::Output => "output",
        }
    }
}

/// Opens an element, or opens it anew after it failed.
pub type Open<E> = Box<dyn FnMut() -> Result<Box<E>, Error> + Send>;

/// An element that a plugin added.
pub enum Added {
    /// A source, polled on a worker of the runtime, or on a thread of its own if `blocking`.
    Source {
        /// Last part of `source/plugin/name`.
        name: String,
        /// When to poll it.
        trigger: Trigger,
        /// Whether a poll may take long.
        blocking: bool,
        /// Makes it.
        open: Open<dyn Source>,
    },
    /// A source that produces when it wants.
    Autonomous {
        /// Last part of `source/plugin/name`.
        name: String,
        /// Sets it going.
        open: OpenAutonomous,
    },
    /// A transform.
    Transform {
        /// Last part of `transform/plugin/name`.
        name: String,
        /// Makes it.
        open: Open<dyn Transform>,
    },
    /// An output.
    Output {
        /// Last part of `output/plugin/name`.
        name: String,
        /// Makes it.
        open: Open<dyn Output>,
    },
}

impl Added {
    /// A source that never waits.
    pub fn source<S: Source + 'static>(
        name: impl Into<String>,
        trigger: Trigger,
        mut open: impl FnMut() -> Result<S, Error> + Send + 'static,
    ) -> Self {
        let open: Open<dyn Source> = Box::new(move || Ok(Box::new(open()?)));
        Added::Source { name: name.into(), trigger, blocking: false, open }
    }

    /// A source that may wait, on a thread of its own.
    pub fn blocking_source<S: Source + 'static>(
        name: impl Into<String>,
        trigger: Trigger,
        mut open: impl FnMut() -> Result<S, Error> + Send + 'static,
    ) -> Self {
        let open: Open<dyn Source> = Box::new(move || Ok(Box::new(open()?)));
        Added::Source { name: name.into(), trigger, blocking: true, open }
    }

    /// A source that produces when it wants: `open` gives the future that does so. It is polled on a thread
    /// of its own, with the async runtime at hand.
    pub fn autonomous<F: Future<Output = Result<(), Error>> + Send + 'static>(
        name: impl Into<String>,
        mut open: impl FnMut(Feed) -> F + Send + 'static,
    ) -> Self {
        Added::Autonomous { name: name.into(), open: Box::new(move |feed| Box::pin(open(feed))) }
    }

    /// A transform.
    pub fn transform<T: Transform + 'static>(
        name: impl Into<String>,
        mut open: impl FnMut() -> Result<T, Error> + Send + 'static,
    ) -> Self {
        Added::Transform { name: name.into(), open: Box::new(move || Ok(Box::new(open()?))) }
    }

    /// An output.
    pub fn output<O: Output + 'static>(
        name: impl Into<String>,
        mut open: impl FnMut() -> Result<O, Error> + Send + 'static,
    ) -> Self {
        Added::Output { name: name.into(), open: Box::new(move || Ok(Box::new(open()?))) }
    }

    /// An output whose calls are futures, which find `runtime` around them.
    pub fn async_output<O: AsyncOutput + 'static>(
        name: impl Into<String>,
        runtime: Handle,
        mut open: impl FnMut() -> Result<O, Error> + Send + 'static,
    ) -> Self {
        Self::output(name, move || Ok(Awaited { output: open()?, runtime: runtime.clone() }))
    }

    /// Which kind of element it is.
    pub fn kind(&self) -> ElementKind {
        match self {
            Added::Source { .. } | Added::Autonomous { .. } => ElementKind::Source,
            Added::Transform { .. } => ElementKind::Transform,
            Added::Output { .. } => ElementKind::Output,
        }
    }

    /// Last part of `kind/plugin/name`.
    pub fn name(&self) -> &str {
        match self {
            Added::Source { name, .. }
            | Added::Autonomous { name, .. }
            | Added::Transform { name, .. }
            | Added::Output { name, .. } => name,
        }
    }
}

/// An async output on the thread that every output has.
struct Awaited<O> {
    output: O,
    runtime: Handle,
}

impl<O: AsyncOutput> Output for Awaited<O> {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        self.runtime.block_on(async { self.output.write(batch).await })
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.runtime.block_on(async { self.output.flush().await })
    }

    fn undelivered(&self) -> u64 {
        self.output.undelivered()
    }

    fn take_losses(&mut self) -> Vec<(&'static str, u64)> {
        self.output.take_losses()
    }
}

/// A change to a running pipeline.
pub enum Change {
    /// Adds an element of `plugin`.
    Add {
        /// Whose.
        plugin: &'static str,
        /// What.
        added: Added,
    },
    /// Removes an element of `plugin`: it gets its last call, its series end, and nothing of it stays.
    Remove {
        /// Whose.
        plugin: &'static str,
        /// Of which kind.
        kind: ElementKind,
        /// Last part of `kind/plugin/name`.
        name: String,
    },
}

/// Adds and removes a plugin's elements while the pipeline runs: a source per device that appears. Cheap to
/// clone, good from any thread. Changes take place one after the other, soon.
#[derive(Clone)]
pub struct Elements {
    pub(crate) plugin: &'static str,
    pub(crate) changes: mpsc::UnboundedSender<Change>,
}

impl Elements {
    /// Adds an element. One of its kind and name that is there already is left alone, and the new one
    /// dropped.
    pub fn add(&self, added: Added) {
        // Without a receiver the agent has ended.
        let _ = self.changes.send(Change::Add { plugin: self.plugin, added });
    }

    /// Removes the element `kind/<this plugin>/name`, if it is there.
    pub fn remove(&self, kind: ElementKind, name: impl Into<String>) {
        let _ = self.changes.send(Change::Remove { plugin: self.plugin, kind, name: name.into() });
    }
}
