//! Resolves a document against the keys and defaults of an agent: overlays the defaults with the settings,
//! and reports every setting that is unknown or invalid, with its location.

use serde::Deserialize as _;
use toml::{Table, Value};
use wattrace_api::privilege;

use super::agent::AgentConfig;
use super::document::{Document, Location};
use super::{Config, PluginConfig, secrets};
use crate::plugins::Registered;

/// Minimum similarity, in thousandths, of a key that is suggested.
const MIN_SIMILARITY: u32 = 500;

/// The configuration that `document` describes. `only` names the plugins that run, if the command line does.
pub(super) fn config(
    document: &Document,
    only: Option<&[String]>,
    plugins: &[Registered],
    problems: &mut Vec<String>,
) -> Config {
    let names: Vec<&str> = plugins.iter().map(|p| p.name).collect();
    check_names(document, only.unwrap_or_default(), &names, problems);
    let defaults = Table::try_from(AgentConfig::default()).unwrap_or_default();
    let check = |t: Table| AgentConfig::deserialize(t).map(drop);
    let table = overlay(document, "agent", defaults, &check, problems);
    let agent = AgentConfig::deserialize(table).unwrap_or_default();
    check_transforms(document, &agent, &names, problems);

    let mut configs = Vec::new();
    let is_limited = privilege::is_limited();
    for plugin in plugins {
        let defaults = (plugin.defaults)().unwrap_or_default();
        let section = format!("plugins.{}", plugin.name);
        let mut table = overlay(document, &section, defaults, &plugin.check, problems);
        let set = table.remove("enabled").and_then(|v| v.as_bool());
        let is_mentioned = document.plugins().any(|n| n == plugin.name);
        let enabled = match only {
            Some(only) => only.iter().any(|n| n == plugin.name),
            None => set.unwrap_or_else(|| is_mentioned || (plugin.on_by_default)()),
        };
        let enabled = match is_limited && enabled && plugin.uses_network {
            true => may_use_network(document, plugin.name, only.is_some() || set == Some(true), problems),
            false => enabled,
        };
        if is_limited && enabled {
            check_network_keys(document, plugin, problems);
        }
        let is_asked_for = is_mentioned || only.is_some();
        configs.push(PluginConfig { name: plugin.name, enabled, is_asked_for, table });
    }
    Config { agent, plugins: configs }
}

/// What a user may not configure who has the agent's rights only through capabilities of its file.
const ONLY_ROOT: &str = "this user has the agent's rights only through capabilities of its file: only a file \
    that belongs to root, and that nobody else can write, may configure it";

/// Whether a plugin that talks to other machines may run for a user who has the agent's rights only through
/// capabilities of its file: if root has configured it. What the environment enables is left out; what the
/// user has asked for is refused.
fn may_use_network(document: &Document, name: &str, is_asked_for: bool, problems: &mut Vec<String>) -> bool {
    let section = format!("plugins.{name}");
    let is_mentioned = document.plugins().any(|n| n == name);
    let location = document.location_of_plugin(name);
    let foreign =
        document.settings(&section).map(|(.., location)| location).find(|l| !document.is_of_root(l));
    if is_mentioned && foreign.is_none() && document.is_of_root(location) {
        return true;
    }
    if is_mentioned || is_asked_for {
        let location = foreign.unwrap_or(location);
        problems.push(format!(
            "{location}: {section} talks to other machines, and {ONLY_ROOT}. Put [{section}] there, or run \
             with sudo"
        ));
    } else {
        tracing::warn!("{section} is left out: under capabilities of the file, only root may configure it");
    }
    false
}

/// Reports the settings that another than root has made and that say to whom a plugin talks.
fn check_network_keys(document: &Document, plugin: &Registered, problems: &mut Vec<String>) {
    let section = format!("plugins.{}", plugin.name);
    for (key, _, location) in document.settings(&section) {
        if plugin.network_keys.contains(&key) && !document.is_of_root(location) {
            problems.push(format!(
                "{location}: {section}.{key} says to whom the agent talks, and {ONLY_ROOT}. Put it there, or \
                 run with sudo"
            ));
        }
    }
}

/// Reports keys outside of the known tables, and names of plugins that the agent does not have.
fn check_names(document: &Document, only: &[String], names: &[&str], problems: &mut Vec<String>) {
    for (path, location) in document.outside_tables() {
        if names.contains(&path.split('.').next().unwrap_or_default()) {
            problems.push(format!("{location}: unknown key {path}; did you mean `plugins.{path}`?"));
            continue;
        }
        let known: &[&str] = if path.starts_with("plugins.") { names } else { &["agent", "plugins"] };
        let last = path.rsplit('.').next().unwrap_or_default();
        problems.push(unknown(location, path, last, known));
    }
    for name in only.iter().filter(|n| !names.contains(&n.as_str())) {
        problems.push(unknown(&Location::Option("--plugins"), name, name, names));
    }
    for name in document.plugins().filter(|n| !names.contains(n)) {
        let location = document.location_of_plugin(name);
        problems.push(unknown(location, &format!("plugins.{name}"), name, names));
    }
}

/// Reports names of plugins in `agent.outputs."PATTERN".transforms` that the agent does not have.
fn check_transforms(document: &Document, agent: &AgentConfig, names: &[&str], problems: &mut Vec<String>) {
    let settings = document.settings("agent").filter(|(key, ..)| *key == "outputs").last();
    let Some((_, _, location)) = settings else { return };
    for (pattern, output) in &agent.outputs {
        for name in output.transforms.iter().flatten().filter(|n| !names.contains(&n.as_str())) {
            let path = format!("agent.outputs.\"{pattern}\".transforms");
            problems.push(format!("{location}: {path}: no plugin `{name}`{}", hint(name, names)));
        }
    }
}

/// `defaults` with the settings of `[section]` laid over them.
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
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    for (key, value, location) in document.settings(section) {
        let path = format!("{section}.{key}");
        if !known.contains(&key) {
            problems.push(unknown(location, &path, key, &known));
        } else if key == "enabled" {
            if value.as_bool().is_none() {
                problems.push(format!("{location}: {path} must be true or false, not {value}"));
            }
            defaults.insert(key.to_string(), value.clone());
        } else {
            let alone = Table::from_iter([(key.to_string(), value.clone())]);
            match check(alone) {
                Err(e) => {
                    let value = secrets::shown(key, &value.to_string());
                    problems.push(format!("{location}: {path} = {value}: {}", e.message()));
                }
                Ok(()) => merge(defaults.entry(key).or_insert(Value::Boolean(false)), value),
            }
        }
    }
    defaults
}

/// Lays `value` over `old`: tables are merged, anything else is replaced.
fn merge(old: &mut Value, value: &Value) {
    match (old, value) {
        (Value::Table(old), Value::Table(new)) => {
            new.iter().for_each(|(k, v)| merge(old.entry(k).or_insert(Value::Boolean(false)), v));
        }
        (old, new) => *old = new.clone(),
    }
}

fn unknown(location: &Location, path: &str, key: &str, known: &[&str]) -> String {
    format!("{location}: unknown key {path}{}", hint(key, known))
}

/// The most similar known name, or all of them if none is similar.
fn hint(name: &str, known: &[&str]) -> String {
    let similarity = |k: &&str| (strsim::normalized_damerau_levenshtein(k, name) * 1000.0) as u32;
    match known.iter().copied().max_by_key(similarity) {
        Some(best) if similarity(&best) >= MIN_SIMILARITY => format!("; did you mean `{best}`?"),
        _ => format!("; known here: {}", known.join(", ")),
    }
}
