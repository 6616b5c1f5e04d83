//! The keys of `[plugins.formula]`; `formula` makes sense of them.

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
    /// What to compute: inputs by their names, `dt` (the window's length), numbers, with a unit if they have
    /// one (`0.4 [kg/(kW.h)]`), `+ - * /`, parentheses, `min(a, b)` and `max(a, b)`.
    pub expression: String,
    /// The unit of the result, in UCUM; the expression must come to one of that kind, and is converted.
    /// Empty: what it comes to.
    pub unit: String,
    /// `counter`, `gauge`, or `auto`: a counter if the expression adds up over windows.
    pub kind: ResultKind,
    /// The inputs, by the names that the expression uses. Each is of one metric, and may be narrowed by
    /// resource, consumer and attributes.
    pub inputs: BTreeMap<String, Pattern>,
    /// The input each of whose series gives one result, about the same resource, domain and consumer. Empty:
    /// the one that is first in the expression.
    pub per: String,
    /// One sentence about the metric. Empty: the expression.
    pub description: String,
}

/// What a result is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResultKind {
    /// A counter if the expression adds up over windows, else a gauge.
    #[default]
    Auto,
    /// A counter; an expression that does not add up is refused.
    Counter,
    /// A gauge, of each window by itself.
    Gauge,
}
