//! The configuration, in two stages: `document.rs` reads what was written, the file and `--set`, each value
//! with its location; `resolve.rs` turns it into a [`Config`] in which every key is known and has a value, or
//! into a list of all problems. `agent.rs` holds the table `[agent]`, `settings.rs` what the runner takes
//! from it, `secrets.rs` hides secrets where a configuration is shown.
//!
//! Defaults are those of the configuration types themselves (`Default`).

mod agent;
mod document;
mod resolve;
mod secrets;
mod settings;

use std::fmt;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

pub use self::agent::AgentConfig;
use self::document::Document;
pub(crate) use self::settings::Bounds;
pub use self::settings::{OutputSettings, QueuePolicy, Settings};
use crate::plugins::Registered;

/// The configuration file that is used if none is named.
pub const DEFAULT_PATH: &str = "/etc/wattrace/wattrace.toml";

/// The configuration file with every key, commented out, which `wattrace config init` writes.
pub const TEMPLATE: &str = include_str!("../../../config/wattrace.toml");

/// A complete configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `[agent]`
    pub agent: AgentConfig,
    /// The table of each plugin of the agent, in the order of the plugins.
    pub plugins: Vec<PluginConfig>,
}

/// `[plugins.NAME]`
#[derive(Debug, Clone, PartialEq)]
pub struct PluginConfig {
    /// NAME.
    pub name: &'static str,
    /// Whether the plugin runs.
    pub enabled: bool,
    /// Whether the configuration or the command line names it.
    pub is_asked_for: bool,
    /// All keys of the plugin.
    pub table: Table,
}

/// The problems of a configuration: one line per problem, each with its location.
#[derive(Debug, thiserror::Error)]
pub struct ConfigErrors(Vec<String>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// The options of the command line that concern the configuration.
#[derive(Debug, Default, Clone)]
pub struct Request {
    /// `--config F`; if absent, [`DEFAULT_PATH`] if it exists.
    pub file: Option<PathBuf>,
    /// `--set KEY=VALUE`, in order.
    pub set: Vec<String>,
    /// `--plugins a,b`: exactly these plugins run.
    pub only: Option<Vec<String>>,
}

impl Config {
    /// Loads the configuration that `request` describes, for an agent made of `plugins`.
    ///
    /// # Errors
    /// All problems at once: an unreadable file, syntax, unknown keys (with the most similar known one),
    /// wrong types.
    pub fn load(request: &Request, plugins: &[Registered]) -> Result<Self, ConfigErrors> {
        let mut document = Document::default();
        let mut problems = Vec::new();
        let default = || Path::new(DEFAULT_PATH).exists().then(|| DEFAULT_PATH.into());
        if let Some(file) = request.file.clone().or_else(default) {
            document.read_file(&file, &mut problems);
        }
        for set in &request.set {
            document.set(set, &mut problems);
        }
        let config = resolve::config(&document, request.only.as_deref(), plugins, &mut problems);
        if problems.is_empty() { Ok(config) } else { Err(ConfigErrors(problems)) }
    }

    /// The configuration as TOML, with every key of every plugin. Secrets are hidden; `plugins` knows where
    /// they are.
    pub fn to_toml(&self, plugins: &[Registered]) -> String {
        let mut root = Table::new();
        root.insert("agent".into(), Value::Table(Table::try_from(&self.agent).unwrap_or_default()));
        let mut tables = Table::new();
        for plugin in &self.plugins {
            let registered = plugins.iter().find(|p| p.name == plugin.name);
            let mut values = registered.map_or(Table::new(), |p| (p.hide_secrets)(plugin.table.clone()));
            secrets::hide(&mut values);
            let mut table = Table::new();
            table.insert("enabled".into(), plugin.enabled.into());
            table.extend(values);
            tables.insert(plugin.name.into(), Value::Table(table));
        }
        root.insert("plugins".into(), Value::Table(tables));
        toml::to_string(&root).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
