//! The `aggregate` plugin: sums, means, extremes and percentiles over windows of time, per series or per
//! group of series.
//!
//! | module | holds |
//! | --- | --- |
//! | `config` | the keys of `[plugins.aggregate]` |
//! | `function` | the functions over the points of a window |
//! | `group` | which series form a group, and what its result series is about |
//! | `accumulator` | the open windows of one series or group |
//! | `transform` | the pipeline element: adds points to accumulators, and closes windows |
//!
//! A gauge is aggregated by its values. A counter is aggregated by its increments: their sum is a counter
//! again, exact to the step; all other functions apply to its rate, so joules become watts.

mod accumulator;
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
    const SHAPES_OUTPUT: bool = true;

    fn on_by_default() -> bool {
        false
    }

    fn start(config: AggregateConfig, setup: &mut Setup) -> Result<(), Error> {
        let rules: Arc<[_]> = config.compile()?.into();
        let (registry, clock) = (setup.registry(), setup.clock());
        setup.transform("windows", move || {
            let (rules, registry) = (rules.clone(), registry.clone());
            Ok(transform::Transformer::new(config.window, config.lateness, rules, registry, clock.now()))
        });
        Ok(())
    }
}
