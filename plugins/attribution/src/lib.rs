//! The `attribution` plugin: says whose joules they are, and closes the books.
//!
//! For every energy domain and every window that its meter reports,
//!
//! ```text
//! measured = Σ consumers + idle + unattributed,   exactly, in microjoules.
//! ```
//!
//! Energy is split by the CPU time used in that very window: usage is kept as windows of its own ([`usage`]), and an
//! energy window takes from each the part that it overlaps. What a meter used before usage was known, or while it was
//! not, is `unattributed`.
//!
//! | file | holds |
//! | --- | --- |
//! | `transform.rs` | the transform: takes points in, closes windows, emits |
//! | `usage.rs` | recent usage by window and package |
//! | `account.rs` | one domain's books |
//! | `baseline.rs` | the power that flows at no load, as learnt from the domain itself |
//! | `split.rs` | splitting an integer by weights without a remainder and without a bias |

mod account;
mod baseline;
mod split;
mod transform;
mod usage;

use std::collections::BTreeMap;
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
    /// Power in watts that a domain draws at no load, by domain name; it goes to `idle`. For a domain that is not named
    /// here it is learnt: `idle_watts = { package-0 = 12.5 }`.
    pub idle_watts: BTreeMap<String, f64>,
    /// How long usage is remembered for a meter that reports late. Energy older than that is `unattributed`.
    #[serde(with = "humantime_serde")]
    pub history: Duration,
}

impl Default for AttributionConfig {
    fn default() -> Self {
        Self { idle_watts: BTreeMap::new(), history: Duration::from_secs(120) }
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
        let registry = setup.registry();
        setup.transform("cpu", move || Transformer::open(&config, registry.clone()));
        Ok(())
    }
}
