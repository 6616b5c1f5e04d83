//! The tables of dashboards/dashboards.toml.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Spec {
    /// Expressions that several queries use.
    pub(super) shared: BTreeMap<String, String>,
    pub(super) dashboards: Vec<Dashboard>,
}

/// One dashboard, in a file of its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dashboard {
    /// Name of its file, and end of its uid.
    pub(super) name: String,
    pub(super) title: String,
    pub(super) description: String,
    pub(super) variables: Vec<Variable>,
    pub(super) panels: Vec<Panel>,
}

/// What a viewer can choose.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) query: String,
    /// Whether several, or all, can be chosen.
    #[serde(default)]
    pub(super) multi: bool,
}

/// One picture.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Panel {
    pub(super) title: String,
    /// Title of a row that begins with this panel; empty: it goes on.
    #[serde(default)]
    pub(super) row: String,
    #[serde(default)]
    pub(super) kind: PanelKind,
    /// Columns of 24.
    #[serde(default = "half")]
    pub(super) width: u32,
    #[serde(default = "usual_height")]
    pub(super) height: u32,
    /// Grafana's name of the unit.
    #[serde(default = "plain")]
    pub(super) unit: String,
    #[serde(default)]
    pub(super) stack: bool,
    #[serde(default)]
    pub(super) description: String,
    /// From this value on the panel is red.
    pub(super) bad_from: Option<f64>,
    pub(super) queries: Vec<Query>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum PanelKind {
    #[default]
    Timeseries,
    Stat,
    Table,
}

/// One query of a panel.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    pub(super) expr: String,
    /// Name of a line; in a table, of the column.
    #[serde(default)]
    pub(super) legend: String,
    /// In a table, the column's unit.
    #[serde(default = "plain")]
    pub(super) unit: String,
}

fn half() -> u32 {
    12
}

fn usual_height() -> u32 {
    8
}

fn plain() -> String {
    "none".to_owned()
}
