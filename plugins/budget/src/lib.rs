//! The `budget` plugin: limits the average power of cgroups and systemd units. When a limit is exceeded it
//! reports that, slows the processes down by `cpu.max`, or stops them. It acts on cgroups that its
//! configuration names and on nothing else, and restores what it changed when it ends.
//!
//! | module | holds |
//! | --- | --- |
//! | `config` | the keys of `[plugins.budget]` |
//! | `allowance` | how much may be used, and how far to slow down: arithmetic |
//! | `target` | the cgroup that a limit is about: which processes are in it, and what is done to it |
//! | `transform` | the pipeline element |
//!
//! `wattrace exec --budget` limits a single command, and predicts to the millisecond.

mod allowance;
mod config;
mod target;
mod transform;

use wattrace_api::{Error, Plugin, Setup};
use wattrace_cgroup::Hierarchy;

pub use config::{Action, BudgetConfig, LimitConfig};

/// The plugin.
#[derive(Debug)]
pub struct Budget;

impl Plugin for Budget {
    const NAME: &'static str = "budget";
    const DESCRIPTION: &'static str = "limits the power of cgroups and units: reports, slows down, stops";
    type Config = BudgetConfig;

    fn on_by_default() -> bool {
        false
    }

    fn start(config: BudgetConfig, setup: &mut Setup) -> Result<(), Error> {
        config.check()?;
        let registry = setup.registry();
        setup.transform("limits", move || {
            let hierarchy = match config.cgroup_root.as_os_str().is_empty() {
                true => Hierarchy::find(),
                false => Ok(Hierarchy::at(&config.cgroup_root)),
            };
            let hierarchy = hierarchy.map_err(|e| Error::gone(format!("cgroup v2 cannot be used: {e}")))?;
            transform::Transformer::open(&config, hierarchy, registry.clone())
        });
        Ok(())
    }
}
