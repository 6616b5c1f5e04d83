//! A plugin: a configuration and a function that adds elements. The only way anything gets into the pipeline.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::element::{Output, Source, Transform, Trigger};
use crate::error::Error;
use crate::finding::Finding;
use crate::series::Registry;
use crate::time::Clock;

/// A plugin's declaration. The type itself is never instantiated: its elements hold the state.
pub trait Plugin: 'static {
    /// Its name in the configuration (`[plugins.NAME]`) and in `kind/plugin/element`.
    const NAME: &'static str;
    /// One line for `wattrace plugins list`.
    const DESCRIPTION: &'static str;
    /// Its table in the configuration. `Default` is what an absent key means, so every field serialises to a value
    /// that it can be read back from (no `Option`: an absent value hides the key).
    type Config: Serialize + DeserializeOwned + Default + Send + 'static;

    /// Whether it takes part when the configuration does not mention it.
    fn on_by_default() -> bool {
        true
    }

    /// Adds its elements. Must not touch hardware or files yet: that is for the elements' `open` functions, which the
    /// runner calls again when an element has failed.
    ///
    /// # Errors
    /// A value in `config` that makes no sense. The message names the key.
    fn start(config: Self::Config, setup: &mut Setup) -> Result<(), Error>;

    /// Looks whether it could work here and what is missing, for `wattrace doctor`. Changes nothing.
    fn diagnose(_config: &Self::Config) -> Vec<Finding> {
        Vec::new()
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

/// What a plugin is given at its start.
///
/// Elements open in this order: sources, transforms, outputs; within a kind in the order of the agent's plugin list.
/// So a transform's `open` sees in the registry what the sources have found.
pub struct Setup {
    registry: Arc<Registry>,
    clock: Clock,
    runtime: tokio::runtime::Handle,
    added: Vec<Added>,
}

impl Setup {
    /// For the runner and the test rig.
    pub fn new(registry: Arc<Registry>, clock: Clock, runtime: tokio::runtime::Handle) -> Self {
        Self { registry, clock, runtime, added: Vec::new() }
    }

    /// Where metrics are declared and series opened.
    pub fn registry(&self) -> Arc<Registry> {
        self.registry.clone()
    }

    /// The agent's clock.
    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// The async runtime, for an element that has something to run beside its calls.
    pub fn runtime(&self) -> tokio::runtime::Handle {
        self.runtime.clone()
    }

    /// Adds a source that never waits.
    pub fn source<S: Source + 'static>(
        &mut self,
        name: impl Into<String>,
        trigger: Trigger,
        mut open: impl FnMut() -> Result<S, Error> + Send + 'static,
    ) {
        let open: Open<dyn Source> = Box::new(move || Ok(Box::new(open()?)));
        self.added.push(Added::Source { name: name.into(), trigger, blocking: false, open });
    }

    /// Adds a source that may wait, on a thread of its own.
    pub fn blocking_source<S: Source + 'static>(
        &mut self,
        name: impl Into<String>,
        trigger: Trigger,
        mut open: impl FnMut() -> Result<S, Error> + Send + 'static,
    ) {
        let open: Open<dyn Source> = Box::new(move || Ok(Box::new(open()?)));
        self.added.push(Added::Source { name: name.into(), trigger, blocking: true, open });
    }

    /// Adds a transform after those that are there.
    pub fn transform<T: Transform + 'static>(
        &mut self,
        name: impl Into<String>,
        mut open: impl FnMut() -> Result<T, Error> + Send + 'static,
    ) {
        let open: Open<dyn Transform> = Box::new(move || Ok(Box::new(open()?)));
        self.added.push(Added::Transform { name: name.into(), open });
    }

    /// Adds an output.
    pub fn output<O: Output + 'static>(
        &mut self,
        name: impl Into<String>,
        mut open: impl FnMut() -> Result<O, Error> + Send + 'static,
    ) {
        let open: Open<dyn Output> = Box::new(move || Ok(Box::new(open()?)));
        self.added.push(Added::Output { name: name.into(), open });
    }

    /// What was added since the last call. For the runner and the test rig.
    pub fn take_added(&mut self) -> Vec<Added> {
        std::mem::take(&mut self.added)
    }
}
