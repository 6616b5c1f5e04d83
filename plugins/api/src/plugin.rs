//! A plugin: a configuration and a function that adds elements. The only way anything gets into the pipeline.

use std::future::Future;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::added::{Added, Change, Elements};
use crate::element::{AsyncOutput, Output, Source, Transform, Trigger};
use crate::error::Error;
use crate::events::Events;
use crate::feed::Feed;
use crate::finding::Finding;
use crate::registry::Registry;
use crate::time::Clock;

/// A plugin's declaration. The type itself is never instantiated: its elements hold the state.
pub trait Plugin: 'static {
    /// Its name in the configuration (`[plugins.NAME]`) and in `kind/plugin/element`.
    const NAME: &'static str;
    /// One line for `wattrace plugins list`.
    const DESCRIPTION: &'static str;
    /// Its table in the configuration. `Default` is what an absent key means, so every field serialises to a
    /// value that it can be read back from (no `Option`: an absent value hides the key).
    type Config: Serialize + DeserializeOwned + Default + Send + 'static;

    /// Whether it takes part when the configuration does not mention it.
    fn on_by_default() -> bool {
        true
    }

    /// Adds its elements. Must not touch hardware or files yet: that is for the elements' `open` functions,
    /// which the runner calls again when an element has failed.
    ///
    /// # Errors
    /// A value in `config` that makes no sense. The message names the key.
    fn start(config: Self::Config, setup: &mut Setup) -> Result<(), Error>;

    /// Looks whether it could work here and what is missing, for `wattrace doctor`. Changes nothing.
    fn diagnose(_config: &Self::Config) -> Vec<Finding> {
        Vec::new()
    }
}

/// What a plugin is given at its start.
///
/// Elements open in this order: sources, transforms, outputs; within a kind in the order of the agent's
/// plugin list. So a transform's `open` sees in the registry what the sources have found.
pub struct Setup {
    registry: Arc<Registry>,
    clock: Clock,
    runtime: Handle,
    plugin: &'static str,
    added: Vec<(&'static str, Added)>,
    changes: mpsc::UnboundedSender<Change>,
    changed: Option<mpsc::UnboundedReceiver<Change>>,
}

impl Setup {
    /// For the runner and the test rig.
    pub fn new(registry: Arc<Registry>, clock: Clock, runtime: Handle) -> Self {
        let (changes, changed) = mpsc::unbounded_channel();
        Self { registry, clock, runtime, plugin: "", added: Vec::new(), changes, changed: Some(changed) }
    }

    /// For the runner: a setup for plugins that join a running pipeline, which takes `changes`.
    pub fn joining(
        registry: Arc<Registry>,
        clock: Clock,
        runtime: Handle,
        changes: mpsc::UnboundedSender<Change>,
    ) -> Self {
        Self { registry, clock, runtime, plugin: "", added: Vec::new(), changes, changed: None }
    }

    /// For the runner and the test rig: what comes from here on is `plugin`'s.
    pub fn enter(&mut self, plugin: &'static str) {
        self.plugin = plugin;
        self.registry = self.registry.for_plugin(plugin);
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
    pub fn runtime(&self) -> Handle {
        self.runtime.clone()
    }

    /// The bus on which plugins tell each other what happens.
    pub fn events(&self) -> Events {
        self.registry.events().clone()
    }

    /// Adds and removes elements later, while the pipeline runs.
    pub fn elements(&self) -> Elements {
        Elements { plugin: self.plugin, changes: self.changes.clone() }
    }

    /// Adds an element.
    pub fn add(&mut self, added: Added) {
        self.added.push((self.plugin, added));
    }

    /// Adds a source that never waits.
    pub fn source<S: Source + 'static>(
        &mut self,
        name: impl Into<String>,
        trigger: Trigger,
        open: impl FnMut() -> Result<S, Error> + Send + 'static,
    ) {
        self.add(Added::source(name, trigger, open));
    }

    /// Adds a source that may wait, on a thread of its own.
    pub fn blocking_source<S: Source + 'static>(
        &mut self,
        name: impl Into<String>,
        trigger: Trigger,
        open: impl FnMut() -> Result<S, Error> + Send + 'static,
    ) {
        self.add(Added::blocking_source(name, trigger, open));
    }

    /// Adds a source that produces when it wants. See [`Added::autonomous`].
    pub fn autonomous<F: Future<Output = Result<(), Error>> + Send + 'static>(
        &mut self,
        name: impl Into<String>,
        open: impl FnMut(Feed) -> F + Send + 'static,
    ) {
        self.add(Added::autonomous(name, open));
    }

    /// Adds a transform after those that are there.
    pub fn transform<T: Transform + 'static>(
        &mut self,
        name: impl Into<String>,
        open: impl FnMut() -> Result<T, Error> + Send + 'static,
    ) {
        self.add(Added::transform(name, open));
    }

    /// Adds an output.
    pub fn output<O: Output + 'static>(
        &mut self,
        name: impl Into<String>,
        open: impl FnMut() -> Result<O, Error> + Send + 'static,
    ) {
        self.add(Added::output(name, open));
    }

    /// Adds an output whose calls are futures.
    pub fn async_output<O: AsyncOutput + 'static>(
        &mut self,
        name: impl Into<String>,
        open: impl FnMut() -> Result<O, Error> + Send + 'static,
    ) {
        self.add(Added::async_output(name, self.runtime.clone(), open));
    }

    /// What was added since the last call, with the plugins' names. For the runner and the test rig.
    pub fn take_added(&mut self) -> Vec<(&'static str, Added)> {
        std::mem::take(&mut self.added)
    }

    /// Where the changes arrive that [`Elements`] asks for. For the runner and the test rig; there is one.
    pub fn take_changes(&mut self) -> Option<mpsc::UnboundedReceiver<Change>> {
        self.changed.take()
    }

    /// The sender for [`Setup::joining`]. For the runner.
    pub fn changes(&self) -> mpsc::UnboundedSender<Change> {
        self.changes.clone()
    }
}
