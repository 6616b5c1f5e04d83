//! The `relabel` plugin: renames metrics, and renames, adds and drops attributes, of the series that rules
//! select.
//!
//! | module | holds |
//! | --- | --- |
//! | `config` | the keys of `[plugins.relabel]` |
//! | `rule` | a rule, compiled, and what it makes of a series' labels |
//! | `transform` | the pipeline element: opens series under the new labels and moves the points there |
//!
//! It stands last among the transforms, because the others know metrics and attributes by their first names.

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
