//! The `attribution` plugin: says whose joules they are, and closes the books.
//!
//! For every energy domain and every window that its meter reports,
//!
//! ```text
//! measured = Σ consumers + idle + unattributed,   exactly, in microjoules.
//! ```
//!
//! Energy is split by what was used in that very window of the hardware that the domain follows: a package's
//! by the CPU time (or cycles, …) on that package, a core's on that core, a device's by the use of that
//! device. Usage is kept as windows of its own (`usage.rs`), and an energy window takes from each the part
//! that it overlaps. What a meter used before usage was known, or while it was not, is `unattributed`.
//!
//! | file | holds |
//! | --- | --- |
//! | `transform.rs` | the transform: takes points in, closes windows, emits |
//! | `usage.rs` | recent usage by window and place |
//! | `account.rs` | one domain's books: how each window's energy falls apart |
//! | `ledger.rs` | what everybody got of a domain in all, and its series |
//! | `model.rs`, `contest.rs` | by what energy is divided, and whether that foretells the meter |
//! | `amounts.rs` | what is counted of a user, and what a model makes of it |
//! | `learner.rs`, `contrasts.rs`, `nnls.rs` | what a domain's own readings teach about its power |
//! | `state.rs` | what was learnt, kept across restarts |
//! | `split.rs` | splitting an integer by weights without a remainder and without a bias |

mod account;
mod amounts;
mod contest;
mod contrasts;
mod learner;
mod ledger;
mod model;
mod nnls;
mod split;
mod state;
mod transform;
mod usage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattrace_api::{Error, Plugin, Setup};

pub use transform::Transformer;

/// The plugin.
#[derive(Debug)]
pub struct Attribution;

/// `[plugins.attribution]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AttributionConfig {
    /// By what dynamic energy is divided.
    pub weights: Weights,
    /// Where static energy goes: what a domain draws at no load.
    pub idle: Idle,
    /// Power in watts that a domain draws at no load, by domain name. For a domain that is not named here it
    /// is learnt: `idle_watts = { package-0 = 12.5 }`.
    pub idle_watts: BTreeMap<String, f64>,
    /// With `weights = "smt"`: what a nanosecond weighs while the core's other CPU is busy as well, 0 to 1.
    /// 0: it is learnt.
    pub smt_factor: f64,
    /// Whose a GPU's static energy is.
    pub gpu_idle: GpuIdle,
    /// The file in which what is learnt is kept across restarts; empty: `attribution.json` in
    /// `$STATE_DIRECTORY`, which systemd sets, or nowhere.
    pub state: PathBuf,
    /// How long usage is remembered for a meter that reports late. Energy older than that is `unattributed`.
    #[serde(with = "humantime_serde")]
    pub history: Duration,
}

/// By what dynamic energy is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weights {
    /// CPU time.
    CpuTime,
    /// CPU cycles, where they are counted: a faster clock weighs more. Memory by cache misses.
    Cycles,
    /// Instructions, where they are counted. Memory by cache misses.
    Instructions,
    /// CPU time, less while the core's other CPU is busy as well. Memory by cache misses, where they are
    /// counted.
    Smt,
    /// All that is counted, each with the coefficient that fits the domain's own meter; CPU time as long as
    /// that foretells the meter better, by more than chance explains.
    Fitted,
}

/// Where static energy goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Idle {
    /// To the consumer `idle`.
    Separate,
    /// To those who use the hardware, in proportion.
    ByUsage,
    /// To those who use the hardware, the same to each.
    Even,
    /// It is not told apart: all energy is divided as the dynamic part is.
    None,
}

/// Whose a GPU's static energy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GpuIdle {
    /// As of other hardware: what `idle` says.
    Idle,
    /// The processes' that hold memory of it, in proportion; where none does, the consumer `idle`.
    Holder,
}

impl Default for AttributionConfig {
    fn default() -> Self {
        Self {
            weights: Weights::Fitted,
            idle: Idle::Separate,
            idle_watts: BTreeMap::new(),
            smt_factor: 0.0,
            gpu_idle: GpuIdle::Idle,
            state: PathBuf::new(),
            history: Duration::from_secs(120),
        }
    }
}

impl AttributionConfig {
    fn state_file(&self) -> Option<PathBuf> {
        if !self.state.as_os_str().is_empty() {
            return Some(self.state.clone());
        }
        // Of several directories, separated by colons, the first is ours.
        let directories = std::env::var("STATE_DIRECTORY").ok()?;
        let first = directories.split(':').next().filter(|d| !d.is_empty())?;
        Some(Path::new(first).join("attribution.json"))
    }

    fn smt_factor(&self) -> Option<f64> {
        (self.smt_factor > 0.0).then_some(self.smt_factor)
    }
}

impl Plugin for Attribution {
    const NAME: &'static str = "attribution";
    const DESCRIPTION: &'static str = "whose joules they are: energy split by usage, books closed exactly";
    type Config = AttributionConfig;

    fn start(config: AttributionConfig, setup: &mut Setup) -> Result<(), Error> {
        if let Some((domain, watts)) = config.idle_watts.iter().find(|(_, w)| !w.is_finite() || **w < 0.0) {
            return Err(Error::fatal(format!(
                "plugins.attribution.idle_watts.{domain} is {watts}: it must be a number of watts, 0 or more"
            )));
        }
        if !(0.0..=1.0).contains(&config.smt_factor) {
            return Err(Error::fatal(format!(
                "plugins.attribution.smt_factor is {}: it must be from 0 (learnt) to 1",
                config.smt_factor
            )));
        }
        let registry = setup.registry();
        setup.transform("cpu", move || Transformer::open(&config, registry.clone()));
        Ok(())
    }
}
