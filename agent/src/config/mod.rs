//! Configuration, in two stages: what was written (`document.rs`: file and `--set`, each value with its
//! place) becomes what is meant ([`Config`]: every key with a value, every key known), or a list of all that
//! is wrong with it.
//!
//! The defaults are the plugins' own (`Default` of their configuration types); nothing is said twice.

mod document;

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use self::document::{Document, Place};
use crate::pipeline::pattern::Pattern;
use crate::pipeline::settings::{OutputSettings, QueuePolicy, Settings};
use crate::plugins::Registered;

/// Where a configuration is looked for when none is named.
pub const DEFAULT_PATH: &str = "/etc/wattrace/wattrace.toml";

/// The configuration file with every key, commented out: what `wattrace config init` writes.
pub const TEMPLATE: &str = include_str!("../../../config/wattrace.toml");

/// `[agent]`
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct AgentConfig {
    /// Batches that may wait for each output.
    pub queue: NonZeroUsize,
    /// Points that may wait for each output, in all batches together; one batch may, however large.
    pub queue_points: NonZeroUsize,
    /// What happens when there is no room.
    pub queue_policy: QueuePolicy,
    /// What is different for some outputs, by patterns of their names: `output/otlp/*`.
    pub outputs: BTreeMap<Pattern, OutputSettings>,
    /// How often outputs are flushed; zero: as each does it by itself.
    #[serde(with = "humantime_serde")]
    pub flush_interval: Duration,
    /// How often what is not there is looked for again; zero: never.
    #[serde(with = "humantime_serde")]
    pub rediscover: Duration,
    /// Whether sources that tick every few milliseconds get real-time priority.
    pub realtime: bool,
    /// Where `wattrace control` finds the agent; empty: nowhere.
    pub control_socket: PathBuf,
}

impl Default for AgentConfig {
    fn default() -> Self {
        let runs = Settings::default();
        Self {
            queue: runs.queue,
            queue_points: runs.queue_points,
            queue_policy: runs.queue_policy,
            outputs: BTreeMap::new(),
            flush_interval: runs.flush_interval,
            rediscover: runs.rediscover,
            realtime: runs.realtime,
            control_socket: "/run/wattrace/control.sock".into(),
        }
    }
}

impl AgentConfig {
    /// What of it concerns the pipeline, for an agent whose plugins stand in `order`.
    pub fn pipeline(&self, order: Vec<&'static str>) -> Settings {
        Settings {
            queue: self.queue,
            queue_points: self.queue_points,
            queue_policy: self.queue_policy,
            outputs: self.outputs.clone().into_iter().collect(),
            flush_interval: self.flush_interval,
            rediscover: self.rediscover,
            realtime: self.realtime,
            order,
        }
    }
}

/// What is meant.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `[agent]`
    pub agent: AgentConfig,
    /// Each plugin of the agent, in its order.
    pub plugins: Vec<PluginConfig>,
}

/// `[plugins.NAME]`
#[derive(Debug, Clone, PartialEq)]
pub struct PluginConfig {
    /// NAME.
    pub name: &'static str,
    /// Whether it takes part.
    pub enabled: bool,
    /// All its keys.
    pub table: Table,
}

/// What is wrong with a configuration: one line per problem, each naming its place.
#[derive(Debug, thiserror::Error)]
pub struct ConfigErrors(Vec<String>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// What the command line says about the configuration.
#[derive(Debug, Default, Clone)]
pub struct Request {
    /// `--config F`; otherwise [`DEFAULT_PATH`], if there is one.
    pub file: Option<PathBuf>,
    /// `--set KEY=VALUE`, in order.
    pub set: Vec<String>,
    /// `--plugins a,b`: exactly these.
    pub only: Option<Vec<String>>,
}

impl Config {
    /// Reads the configuration that `request` describes, for an agent made of `plugins`.
    ///
    /// # Errors
    /// All problems at once: unreadable file, syntax, unknown keys (with the nearest known one), wrong types.
    pub fn load(request: &Request, plugins: &[Registered]) -> Result<Self, ConfigErrors> {
        let mut document = Document::default();
        let mut problems = Vec::new();
        let file =
            request.file.clone().or_else(|| Path::new(DEFAULT_PATH).exists().then(|| DEFAULT_PATH.into()));
        if let Some(file) = file {
            document.read_file(&file, &mut problems);
        }
        for set in &request.set {
            document.set(set, &mut problems);
        }
        let config = Self::mean(&document, request.only.as_deref(), plugins, &mut problems);
        if problems.is_empty() { Ok(config) } else { Err(ConfigErrors(problems)) }
    }

    fn mean(
        document: &Document,
        only: Option<&[String]>,
        plugins: &[Registered],
        problems: &mut Vec<String>,
    ) -> Self {
        let names: Vec<&str> = plugins.iter().map(|p| p.name).collect();
        for (path, place) in document.unplaced() {
            if names.contains(&path.split('.').next().unwrap_or_default()) {
                problems.push(format!("{place}: unknown key {path}; did you mean `plugins.{path}`?"));
                continue;
            }
            let known: Vec<&str> =
                if path.starts_with("plugins.") { names.clone() } else { vec!["agent", "plugins"] };
            let last = path.rsplit('.').next().unwrap_or_default();
            problems.push(unknown(place, &path, last, &known));
        }
        for name in only.unwrap_or_default().iter().filter(|n| !names.contains(&n.as_str())) {
            problems.push(unknown(&Place::Option("--plugins"), name, name, &names));
        }
        for name in document.plugins().filter(|n| !names.contains(n)) {
            let place = document.place_of_plugin(name);
            problems.push(unknown(place, &format!("plugins.{name}"), name, &names));
        }
        let agent_defaults = Table::try_from(AgentConfig::default()).unwrap_or_default();
        let check = |t: Table| AgentConfig::deserialize(t).map(drop);
        let table = overlay(document, "agent", agent_defaults, &check, problems);
        let agent = AgentConfig::deserialize(table).unwrap_or_default();

        let mut configs = Vec::new();
        for plugin in plugins {
            let defaults = (plugin.defaults)().unwrap_or_default();
            let mut table =
                overlay(document, &format!("plugins.{}", plugin.name), defaults, &plugin.check, problems);
            let said = table.remove("enabled").and_then(|v| v.as_bool());
            let mentioned = document.plugins().any(|n| n == plugin.name);
            let enabled = match only {
                Some(only) => only.iter().any(|n| n == plugin.name),
                None => said.unwrap_or_else(|| mentioned || (plugin.on_by_default)()),
            };
            configs.push(PluginConfig { name: plugin.name, enabled, table });
        }
        Self { agent, plugins: configs }
    }

    /// The whole configuration as TOML, every key of every plugin.
    pub fn to_toml(&self) -> String {
        let mut root = Table::new();
        root.insert("agent".into(), Value::Table(Table::try_from(&self.agent).unwrap_or_default()));
        let mut plugins = Table::new();
        for plugin in &self.plugins {
            let mut table = Table::new();
            table.insert("enabled".into(), plugin.enabled.into());
            table.extend(plugin.table.clone());
            plugins.insert(plugin.name.into(), Value::Table(table));
        }
        root.insert("plugins".into(), Value::Table(plugins));
        toml::to_string(&root).unwrap_or_default()
    }
}

/// `defaults` with what the document says of `[section]` laid over them; problems are told with their place.
fn overlay(
    document: &Document,
    section: &str,
    mut defaults: Table,
    check: &dyn Fn(Table) -> Result<(), toml::de::Error>,
    problems: &mut Vec<String>,
) -> Table {
    let mut known: Vec<String> = defaults.keys().cloned().collect();
    if section != "agent" {
        known.push("enabled".into());
    }
    for (key, value, place) in document.settings(section) {
        let path = format!("{section}.{key}");
        if !known.iter().any(|k| k == key) {
            problems.push(unknown(place, &path, key, &known));
        } else if key == "enabled" {
            if value.as_bool().is_none() {
                problems.push(format!("{place}: {path} must be true or false, not {value}"));
            }
            defaults.insert(key.to_string(), value.clone());
        } else {
            let alone = Table::from_iter([(key.to_string(), value.clone())]);
            match check(alone) {
                Err(e) => problems.push(format!("{place}: {path} = {value}: {}", e.message())),
                Ok(()) => merge(defaults.entry(key).or_insert(Value::Boolean(false)), value),
            }
        }
    }
    defaults
}

/// Lays `value` over `old`; tables are merged, anything else is replaced.
fn merge(old: &mut Value, value: &Value) {
    match (old, value) {
        (Value::Table(old), Value::Table(new)) => {
            new.iter().for_each(|(k, v)| merge(old.entry(k).or_insert(Value::Boolean(false)), v));
        }
        (old, new) => *old = new.clone(),
    }
}

fn unknown(place: &Place, path: &str, key: &str, known: &[impl AsRef<str>]) -> String {
    let near = |k: &&str| (strsim::normalized_damerau_levenshtein(k, key) * 1000.0) as u32;
    let known: Vec<&str> = known.iter().map(AsRef::as_ref).collect();
    match known.iter().copied().max_by_key(near) {
        Some(best) if near(&best) >= 500 => format!("{place}: unknown key {path}; did you mean `{best}`?"),
        _ => format!("{place}: unknown key {path}; known here: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests;
