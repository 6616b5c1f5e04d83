//! The `formula` plugin: user-defined metrics, computed by expressions over other metrics, per resource and
//! per consumer.
//!
//! | module | holds |
//! | --- | --- |
//! | `config` | the keys of `[plugins.formula]` |
//! | `expression` | the parser: from text to a tree |
//! | `unit` | UCUM units as a factor and a dimension |
//! | `check` | the type checker and compiler: the result's unit, and whether it adds up over windows |
//! | `program` | a compiled expression, run without allocating |
//! | `formula` | a formula as configured, and as compiled against the declared metrics |
//! | `track` | interpolates a counter, so that it can be read over another series' window |
//! | `inputs` | finds the series of each input for a leading series |
//! | `engine` | computes the results of a leading series' windows |
//! | `transform` | the pipeline element: one per formula; a formula can use the results of earlier ones |
//!
//! In an expression, a gauge is its value, a counter its increase over the window, and `dt` the window's
//! length. So `energy / dt` is power. Every quantity has the unit of its metric. An expression that is
//! proportional to increases (`energy * 0.4 [g/kJ]`) adds up over windows and becomes a counter; any other
//! (`energy / dt`) becomes a gauge.

mod check;
mod config;
mod engine;
mod expression;
mod formula;
mod inputs;
mod program;
mod track;
mod transform;
mod unit;

use wattrace_api::{Error, Plugin, Setup};

pub use config::{FormulaConfig, MetricConfig, ResultKind};

/// Entry points for fuzzing: what parses input from outside.
#[doc(hidden)]
pub mod fuzzing {
    use std::hint::black_box;

    use crate::check::{Input, Type, compile, names};
    use crate::expression::parse;
    use crate::unit::Scale;

    /// The first line is an input's unit, the rest an expression.
    pub fn formula(text: &str) {
        let (unit, expression) = text.split_once('\n').unwrap_or((text, "a"));
        let scale = Scale::parse(unit).unwrap_or(Scale::ONE);
        let Ok(expression) = parse(expression) else { return };
        let kind = |degree| Type { dimension: scale.dimension, degree };
        let input =
            |(degree, name): (usize, &str)| Input { name: name.to_owned(), kind: kind(degree as i32 % 2) };
        let inputs: Vec<_> = names(&expression).into_iter().enumerate().map(input).collect();
        let Ok((program, result)) = compile(&expression, &inputs) else { return };
        assert!(!result.dimension.common_unit().0.is_empty(), "every dimension has a unit");
        let mut stack = Vec::new();
        _ = black_box(program.run(&vec![scale.factor; inputs.len()], 1.0, &mut stack));
        assert!(stack.is_empty(), "a program leaves the stack empty");
    }
}

/// The plugin.
#[derive(Debug)]
pub struct Formula;

impl Plugin for Formula {
    const NAME: &'static str = "formula";
    const DESCRIPTION: &'static str = "user-defined metrics, by expressions over others";
    type Config = FormulaConfig;

    fn on_by_default() -> bool {
        false
    }

    fn start(config: FormulaConfig, setup: &mut Setup) -> Result<(), Error> {
        for (i, metric) in config.metrics.into_iter().enumerate() {
            let spec = formula::FormulaSpec::parse(metric, format!("plugins.formula.metrics[{i}]"))?;
            spec.check_early()?;
            let (registry, clock) = (setup.registry(), setup.clock());
            setup.transform(spec.name().to_owned(), move || {
                transform::Transformer::open(&spec, registry.clone(), clock.now())
            });
        }
        Ok(())
    }
}
