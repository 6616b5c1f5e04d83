//! The `aggregate` plugin: sums, means, extremes and percentiles over windows of time, of each series or of
//! groups of them.
//!
//! | module | holds |
//! | --- | --- |
//! | `config` | the keys of `[plugins.aggregate]` |
//! | `function` | what is computed of the points of a window |
//! | `group` | which series are taken together, and the series that tells of them |
//! | `cell` | one series or group, with the windows that are open |
//! | `transform` | the pipeline element: puts points into cells, and closes windows |
//!
//! A gauge is aggregated by its values. A counter is aggregated by its increases: their sum is a counter
//! again, exact to the step; everything else is of its rate, so that joules become watts.

mod cell;
mod config;
mod function;
mod group;
mod transform;

use std::sync::Arc;

use wattrace_api::{Error, Plugin, Setup};

pub use config::{AggregateConfig, RuleConfig};

/// The plugin.
#[derive(Debug)]
pub struct Aggregate;

impl Plugin for Aggregate {
    const NAME: &'static str = "aggregate";
    const DESCRIPTION: &'static str = "sums, means, extremes and percentiles over windows of time";
    type Config = AggregateConfig;

    fn on_by_default() -> bool {
        false
    }

    fn start(config: AggregateConfig, setup: &mut Setup) -> Result<(), Error> {
        let rules: Arc<[_]> = config.compile()?.into();
        let registry = setup.registry();
        setup.transform("windows", move || {
            Ok(transform::Transformer::new(config.window, config.lateness, rules.clone(), registry.clone()))
        });
        Ok(())
    }
}
