//! The `formula` plugin: metrics of the user's own, computed by expressions over others, per resource and per
//! consumer.
//!
//! | module | holds |
//! | --- | --- |
//! | `config` | the keys of `[plugins.formula]` |
//! | `expression` | the text of an expression, read into a tree |
//! | `unit` | UCUM units as a factor and a dimension |
//! | `check` | what an expression comes to: unit, and whether it adds up over time; compiles it |
//! | `program` | a compiled expression, run without allocating |
//! | `formula` | a formula against the metrics that exist |
//! | `track` | an input as a function of time, read over another's window |
//! | `inputs` | which series of each input goes with which |
//! | `transform` | the pipeline element: one for each formula, so that one can build on the one before |
//!
//! In an expression, a gauge stands for its value, and a counter for its increase over the window; `dt` is
//! the window's length. So `energy / dt` is power, and every quantity keeps the unit its metric has. An
//! expression that grows in proportion to the increases (`energy * 0.4 [g/kJ]`) adds up over windows and
//! becomes a counter; one that does not (`energy / dt`) a gauge.

mod check;
mod config;
mod expression;
mod formula;
mod inputs;
mod program;
mod track;
mod transform;
mod unit;

use wattrace_api::{Error, Plugin, Setup};

pub use config::{FormulaConfig, MetricConfig, ResultKind};

/// For fuzzing: what reads text that somebody else wrote.
#[doc(hidden)]
pub mod fuzzing {
    use std::hint::black_box;

    use crate::check::{Input, Type, compile, names};
    use crate::expression::read;
    use crate::unit::Scale;

    /// An input's unit, and after the line an expression over it.
    pub fn formula(text: &str) {
        let (unit, expression) = text.split_once('\n').unwrap_or((text, "a"));
        let scale = Scale::parse(unit).unwrap_or(Scale::ONE);
        let Ok(expression) = read(expression) else { return };
        let kind = |degree| Type { dimension: scale.dimension, degree };
        let input =
            |(degree, name): (usize, &str)| Input { name: name.to_owned(), kind: kind(degree as i32 % 2) };
        let inputs: Vec<_> = names(&expression).into_iter().enumerate().map(input).collect();
        let Ok((program, whole)) = compile(&expression, &inputs) else { return };
        assert!(!whole.dimension.spell().0.is_empty(), "every dimension has a name");
        let mut stack = Vec::new();
        _ = black_box(program.run(&vec![scale.factor; inputs.len()], 1.0, &mut stack));
        assert!(stack.is_empty(), "a program leaves nothing but its result");
    }
}

/// The plugin.
#[derive(Debug)]
pub struct Formula;

impl Plugin for Formula {
    const NAME: &'static str = "formula";
    const DESCRIPTION: &'static str = "metrics of your own, by expressions over others";
    type Config = FormulaConfig;

    fn on_by_default() -> bool {
        false
    }

    fn start(config: FormulaConfig, setup: &mut Setup) -> Result<(), Error> {
        for (i, metric) in config.metrics.into_iter().enumerate() {
            let draft = formula::Draft::read(metric, format!("plugins.formula.metrics[{i}]"))?;
            draft.check_early()?;
            let registry = setup.registry();
            setup.transform(draft.name().to_owned(), move || {
                transform::Transformer::open(&draft, registry.clone())
            });
        }
        Ok(())
    }
}
