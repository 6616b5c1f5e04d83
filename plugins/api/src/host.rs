//! For programs that run plugins (the agent, the test rig): starts plugins and collects the elements they
//! declare.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::error::Error;
use crate::plugin::Setup;
use crate::registry::Registry;
use crate::spec::ElementSpec;
use crate::time::Clock;

/// An element and the plugin that declared it.
pub struct PluginElement {
    /// The plugin's name.
    pub plugin: &'static str,
    /// The element.
    pub spec: ElementSpec,
}

/// What plugins are started with, and the elements that they have declared so far.
pub struct Host {
    registry: Arc<Registry>,
    clock: Clock,
    runtime: Handle,
    elements: Vec<PluginElement>,
}

impl Host {
    /// A host without plugins.
    pub fn new(registry: Arc<Registry>, clock: Clock, runtime: Handle) -> Self {
        Self { registry, clock, runtime, elements: Vec::new() }
    }

    /// The registry that the plugins share.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The clock that the plugins share.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The async runtime that the plugins share.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Starts `plugin`: `start` declares its elements. If it fails, none of them stays.
    ///
    /// # Errors
    /// Those of `start`.
    pub fn start(
        &mut self,
        plugin: &'static str,
        start: impl FnOnce(&mut Setup) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let registry = self.registry.for_plugin(plugin);
        let mut setup = Setup::new(registry, self.clock.clone(), self.runtime.clone());
        start(&mut setup)?;
        self.elements.extend(setup.into_specs().into_iter().map(|spec| PluginElement { plugin, spec }));
        Ok(())
    }

    /// Drops the elements for which `keep` does not hold.
    pub fn retain(&mut self, keep: impl FnMut(&PluginElement) -> bool) {
        self.elements.retain(keep);
    }

    /// The elements that were declared since the last call.
    pub fn take_elements(&mut self) -> Vec<PluginElement> {
        std::mem::take(&mut self.elements)
    }
}
