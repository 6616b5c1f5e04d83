//! The keys of `[plugins.formula]`. `formula` checks and compiles them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wattrace_select::Pattern;

/// `[plugins.formula]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FormulaConfig {
    /// The metrics to compute, in order; one may build on those before it.
    pub metrics: Vec<MetricConfig>,
}

/// `[[plugins.formula.metrics]]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricConfig {
    /// The metric's name.
    pub name: String,
    /// The expression: inputs by their names, `dt` (the window's length), numbers with or without a unit
    /// (`0.4 [kg/(kW.h)]`), `+ - * /`, parentheses, `min(a, b)` and `max(a, b)`.
    pub expression: String,
    /// The unit of the result, in UCUM. The expression must have the same dimension, and is converted. Empty:
    /// the expression's own unit.
    pub unit: String,
    /// `counter`, `gauge`, or `auto`: a counter if the expression adds up over windows.
    pub kind: ResultKind,
    /// The inputs, by the names that the expression uses. Each is one metric, optionally restricted by
    /// resource, consumer and attributes.
    pub inputs: BTreeMap<String, Pattern>,
    /// The leading input: each of its series gives one result about the same resource, domain and consumer.
    /// Empty: the first input in the expression.
    pub per: String,
    /// One sentence about the metric. Empty: the expression.
    pub description: String,
}

/// The kind of a result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResultKind {
    /// A counter if the expression adds up over windows, otherwise a gauge.
    #[default]
    Auto,
    /// A counter; an expression that does not add up is refused.
    Counter,
    /// A gauge: each window's value by itself.
    Gauge,
}
