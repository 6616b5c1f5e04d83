//! Transforms that outputs have for themselves, because `[agent.outputs."PATTERN"] transforms` names their
//! plugin. They do not run in the common chain: each output opens its own, on its own thread (`output.rs`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wattrace_api::spec::Open;
use wattrace_api::{Error, Transform};

/// A function that opens a transform, called by several outputs.
pub(crate) type SharedOpen = Arc<Mutex<Open<dyn Transform>>>;

/// Makes a function that opens a transform callable by several outputs.
pub(crate) fn share(open: Open<dyn Transform>) -> SharedOpen {
    Arc::new(Mutex::new(open))
}

/// The same function in the form in which outputs call it.
pub(crate) fn open_by(shared: &SharedOpen) -> Open<dyn Transform> {
    let shared = shared.clone();
    Box::new(move || shared.lock().unwrap_or_else(PoisonError::into_inner)())
}

/// How to open these transforms, by plugin.
#[derive(Default)]
pub(crate) struct OutputTransforms(Mutex<HashMap<&'static str, Vec<SharedOpen>>>);

impl OutputTransforms {
    fn lock(&self) -> MutexGuard<'_, HashMap<&'static str, Vec<SharedOpen>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a transform of `plugin`.
    pub(crate) fn add(&self, plugin: &'static str, open: Open<dyn Transform>) {
        self.lock().entry(plugin).or_default().push(share(open));
    }

    /// Removes the transforms of `plugin`.
    pub(crate) fn remove(&self, plugin: &str) {
        self.lock().remove(plugin);
    }

    /// How to open the transforms of `plugins`, in this order.
    ///
    /// # Errors
    /// A plugin has no transforms; it may be started later.
    pub(crate) fn of(&self, plugins: &[String]) -> Result<Vec<Open<dyn Transform>>, Error> {
        let known = self.lock();
        let mut all = Vec::new();
        for plugin in plugins {
            let transforms = known.get(&**plugin).ok_or_else(|| {
                Error::retry(format!(
                    "its key `transforms` in agent.outputs names `{plugin}`, which is no enabled plugin with \
                     a transform: enable it by a table [plugins.{plugin}], or remove it from the list"
                ))
            })?;
            all.extend(transforms.iter().map(open_by));
        }
        Ok(all)
    }
}
