//! The keys of `[plugins.aggregate]`, and the rules that they compile to.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattrace_api::{Error, ResultExt};
use wattrace_select::{Pattern, Selector};

use crate::function::Function;
use crate::group::Grouping;

/// `[plugins.aggregate]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AggregateConfig {
    /// Length of a window, at least "1ms". Windows fall on whole multiples of it since boot.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// How long after its end a window waits for late points; one window at most. A point that is later still
    /// counts in the oldest open window.
    #[serde(with = "humantime_serde")]
    pub lateness: Duration,
    /// What to aggregate, and how.
    pub rules: Vec<RuleConfig>,
}

/// `[[plugins.aggregate.rules]]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuleConfig {
    /// The series that it applies to; empty: all.
    pub select: Pattern,
    /// What to compute: `sum`, `mean`, `min`, `max`, and percentiles such as `p50`, `p95`, `p99.9`.
    pub functions: Vec<String>,
    /// What series must share to form a group: `resource`, `resource.type`, `domain`, `consumer`,
    /// `consumer.type`, or the name of an attribute; `metric`: only the metric. Empty: each series is a group
    /// of its own.
    pub by: Vec<String>,
    /// Whether the aggregated points are kept in the pipeline as well.
    pub keep: bool,
}

impl Default for AggregateConfig {
    fn default() -> Self {
        Self { window: Duration::from_secs(10), lateness: Duration::from_secs(1), rules: Vec::new() }
    }
}

/// A compiled rule.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) selector: Selector,
    pub(crate) functions: Vec<Function>,
    pub(crate) by: Grouping,
    pub(crate) keep: bool,
}

impl AggregateConfig {
    /// Compiles the rules.
    ///
    /// # Errors
    /// Fatal, if a value is invalid. The message names the key.
    pub(crate) fn compile(&self) -> Result<Vec<Rule>, Error> {
        if self.window < Duration::from_millis(1) || self.window > Duration::from_secs(86_400) {
            return Err(Error::fatal("plugins.aggregate.window: must be between 1ms and 1day"));
        }
        self.rules.iter().enumerate().map(|(i, rule)| rule.compile(i)).collect()
    }
}

impl RuleConfig {
    fn compile(&self, number: usize) -> Result<Rule, Error> {
        let key = format!("plugins.aggregate.rules[{number}]");
        if self.functions.is_empty() {
            let message = format!("{key}.functions: is empty; give some of sum, mean, min, max, p95");
            return Err(Error::fatal(message));
        }
        let functions = self.functions.iter().enumerate().map(|(i, name)| {
            Function::parse(name).map_err(|why| format!("{key}.functions[{i}]: {why}")).or_fatal()
        });
        Ok(Rule {
            selector: self.select.compile(&format!("{key}.select"))?,
            functions: functions.collect::<Result<_, Error>>()?,
            by: Grouping::parse(&self.by).map_err(|why| format!("{key}.by: {why}")).or_fatal()?,
            keep: self.keep,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_key_of_the_invalid_value() {
        for (text, start) in [
            ("window = \"0s\"", "plugins.aggregate.window: "),
            ("rules = [{}]", "plugins.aggregate.rules[0].functions: "),
            ("rules = [{ functions = [\"sum\", \"avg\"] }]", "plugins.aggregate.rules[0].functions[1]: "),
            ("rules = [{ functions = [\"p101\"] }]", "plugins.aggregate.rules[0].functions[0]: "),
            (
                "rules = [{ functions = [\"sum\"], by = [\"cpu.package\"] }]",
                "plugins.aggregate.rules[0].by: ",
            ),
            (
                "rules = [{ functions = [\"sum\"], select = { metric = \"{\" } }]",
                "plugins.aggregate.rules[0].select.metric: ",
            ),
        ] {
            let config: AggregateConfig = toml::from_str(text).unwrap();
            let message = config.compile().unwrap_err().to_string();
            assert!(message.starts_with(start), "{message}");
        }
    }
}
