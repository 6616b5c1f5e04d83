//! The keys of `[plugins.relabel]`. `rule` compiles them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wattrace_api::AttributeValue;
use wattrace_select::Pattern;

/// `[plugins.relabel]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RelabelConfig {
    /// The rules. All that match a series are applied to it, in order. They match the original series.
    pub rules: Vec<RuleConfig>,
}

/// `[[plugins.relabel.rules]]`. Within a rule, attributes are extracted, then renamed, then set, then
/// dropped.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuleConfig {
    /// The series that it applies to; empty: all.
    pub select: Pattern,
    /// The metric's new name; empty: it keeps its own.
    pub rename: String,
    /// Attributes extracted from others.
    pub extract: Vec<Extract>,
    /// New names of attributes, by the old ones.
    pub rename_attributes: BTreeMap<String, String>,
    /// Attributes with a constant value.
    pub set: BTreeMap<String, Constant>,
    /// Globs over the names of attributes to remove.
    pub drop: Vec<String>,
}

/// `[[plugins.relabel.rules.extract]]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Extract {
    /// The attribute to read.
    pub from: String,
    /// The regular expression to match its value against. Without a match nothing is set.
    pub regex: String,
    /// The attribute to set.
    pub to: String,
    /// Its value, with `$1` or `${name}` for the capture groups.
    pub value: String,
}

impl Default for Extract {
    fn default() -> Self {
        Self { from: String::new(), regex: "^(.*)$".to_owned(), to: String::new(), value: "$1".to_owned() }
    }
}

/// A constant attribute's value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Constant {
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// Text.
    Str(String),
}

impl From<&Constant> for AttributeValue {
    fn from(constant: &Constant) -> Self {
        match constant {
            Constant::Bool(v) => (*v).into(),
            Constant::Int(v) => (*v).into(),
            Constant::Float(v) => (*v).into(),
            Constant::Str(v) => v.as_str().into(),
        }
    }
}
