//! A plugin: a configuration and a function that adds elements. The only way anything gets into the pipeline.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;

use crate::device::Device;
use crate::element::{Output, Source, Transform, Trigger};
use crate::error::Error;
use crate::events::Events;
use crate::finding::Finding;
use crate::registry::Registry;
use crate::spec::{ElementSpec, Open};
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

    /// Whether its output shows the machine to a person on the terminal. `wattrace exec` leaves such a plugin
    /// out, since the terminal is the command's.
    const IS_INTERACTIVE: bool = false;

    /// Whether its configuration can make it talk to other machines. A user who has the agent's rights only
    /// through capabilities of its file can't configure such a plugin ([`crate::privilege`]).
    const USES_NETWORK: bool = false;

    /// For a plugin that is of use without the network: its keys that say to whom it talks. The same user
    /// can't set these.
    const NETWORK_KEYS: &'static [&'static str] = &[];

    /// Whether its transforms change what outputs get of what was measured: leave out, sum up, rename.
    /// Commands that count energy themselves (`wattrace exec`) read before them.
    const SHAPES_OUTPUT: bool = false;

    /// The device that its sources measure, if people ask for it where a machine lacks it. `None` for what
    /// few machines have: nobody misses it elsewhere.
    const DEVICE: Option<Device> = None;

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
    specs: Vec<ElementSpec>,
}

impl Setup {
    pub(crate) fn new(registry: Arc<Registry>, clock: Clock, runtime: Handle) -> Self {
        Self { registry, clock, runtime, specs: Vec::new() }
    }

    pub(crate) fn into_specs(self) -> Vec<ElementSpec> {
        self.specs
    }

    /// Where metrics are declared and series opened.
    pub fn registry(&self) -> Arc<Registry> {
        self.registry.clone()
    }

    /// The agent's clock.
    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// The async runtime: for a client library that is async (`runtime.block_on` inside an output's `write`),
    /// and for a server that an element runs beside its calls.
    pub fn runtime(&self) -> Handle {
        self.runtime.clone()
    }

    /// The bus on which plugins publish events.
    pub fn events(&self) -> Events {
        self.registry.events().clone()
    }

    /// Adds a source. It has a thread of its own, so its `poll` may block.
    pub fn source<S: Source + 'static>(
        &mut self,
        name: impl Into<String>,
        trigger: Trigger,
        open: impl FnMut() -> Result<S, Error> + Send + 'static,
    ) {
        self.specs.push(ElementSpec::source(name, trigger, open));
    }

    /// Adds a transform after those that are there.
    pub fn transform<T: Transform + 'static>(
        &mut self,
        name: impl Into<String>,
        open: impl FnMut() -> Result<T, Error> + Send + 'static,
    ) {
        self.specs.push(ElementSpec::transform(name, open));
    }

    /// Adds an output. It has a thread of its own behind a bounded queue, so its `write` may block.
    pub fn output<O: Output + 'static>(
        &mut self,
        name: impl Into<String>,
        open: impl FnMut() -> Result<O, Error> + Send + 'static,
    ) {
        self.output_through(name, Vec::new(), open);
    }

    /// Adds an output behind transforms of its own, in the order given: they see only what goes to this
    /// output, and run on its thread. For a limit that the output needs and others don't, such as a metrics
    /// back end's number of series.
    pub fn output_through<O: Output + 'static>(
        &mut self,
        name: impl Into<String>,
        transforms: Vec<Open<dyn Transform>>,
        open: impl FnMut() -> Result<O, Error> + Send + 'static,
    ) {
        self.specs.push(ElementSpec::output(name, transforms, open));
    }
}
