//! The `relabel` plugin: renames the metrics, and renames, adds and removes the attributes, of the series
//! that rules select.
//!
//! | module | holds |
//! | --- | --- |
//! | `config` | the keys of `[plugins.relabel]` |
//! | `rule` | a compiled rule, and how it changes a series' labels |
//! | `transform` | the pipeline element: opens series with the new labels and moves the points to them |
//!
//! It is the last transform, because the others select metrics and attributes by their original names.

mod config;
mod rule;
mod transform;

use std::sync::Arc;

use wattrace_api::{Error, Plugin, Setup};

pub use config::{Constant, Extract, RelabelConfig, RuleConfig};

/// The plugin.
#[derive(Debug)]
pub struct Relabel;

impl Plugin for Relabel {
    const NAME: &'static str = "relabel";
    const DESCRIPTION: &'static str = "renames metrics and attributes";
    type Config = RelabelConfig;
    const SHAPES_OUTPUT: bool = true;

    fn on_by_default() -> bool {
        false
    }

    fn start(config: RelabelConfig, setup: &mut Setup) -> Result<(), Error> {
        let compile = |(i, rule)| rule::Rule::compile(rule, &format!("plugins.relabel.rules[{i}]"));
        let rules: Arc<[_]> = config.rules.iter().enumerate().map(compile).collect::<Result<_, Error>>()?;
        let registry = setup.registry();
        setup.transform("rules", move || Ok(transform::Transformer::new(rules.clone(), registry.clone())));
        Ok(())
    }
}
