//! What was written: settings from the file and from `--set`, each with the place where it stands.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use toml::Value;
use toml::de::{DeTable, DeValue};

/// Where something was written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Place {
    /// A line of a file, counted from 1.
    Line(PathBuf, usize),
    /// A `--set` option.
    Set(String),
    /// Another option.
    Option(&'static str),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line(file, line) => write!(f, "{}:{line}", file.display()),
            Place::Set(text) => write!(f, "--set {text}"),
            Place::Option(name) => f.write_str(name),
        }
    }
}

#[derive(Debug)]
struct Setting {
    key: String,
    value: Value,
    place: Place,
}

/// All settings, by section (`agent`, `plugins.NAME`), in the order in which they were written.
#[derive(Debug, Default)]
pub(super) struct Document {
    sections: BTreeMap<String, (Place, Vec<Setting>)>,
    unplaced: Vec<(String, Place)>,
}

impl Document {
    /// Adds what `file` says.
    pub(super) fn read_file(&mut self, file: &Path, problems: &mut Vec<String>) {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(e) => {
                let remedy = "`wattrace config init` writes one to start from";
                return problems.push(format!("{}: cannot be read: {e}; {remedy}", file.display()));
            }
        };
        let line = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
        let place = |at: usize| Place::Line(file.to_path_buf(), line(at));
        let root = match DeTable::parse(&text) {
            Ok(root) => root.into_inner(),
            Err(e) => {
                return problems.push(format!("{}: {}", place(e.span().map_or(0, |s| s.start)), e.message()));
            }
        };
        for (name, value) in root {
            let (at, name) = (name.span().start, name.into_inner().to_string());
            match (name.as_str(), value.into_inner()) {
                ("agent", DeValue::Table(table)) => self.add_table("agent".into(), place(at), table, &place),
                ("plugins", DeValue::Table(plugins)) => {
                    for (plugin, value) in plugins {
                        let (at, section) = (plugin.span().start, format!("plugins.{}", plugin.get_ref()));
                        match value.into_inner() {
                            DeValue::Table(table) => self.add_table(section, place(at), table, &place),
                            _ => problems
                                .push(format!("{}: {section} must be a table, [{section}]", place(at))),
                        }
                    }
                }
                ("agent" | "plugins", _) => {
                    problems.push(format!("{}: {name} must be a table, [{name}]", place(at)));
                }
                _ => self.unplaced.push((name, place(at))),
            }
        }
    }

    fn add_table(&mut self, section: String, at: Place, table: DeTable<'_>, place: &dyn Fn(usize) -> Place) {
        let (_, settings) = self.sections.entry(section).or_insert_with(|| (at, Vec::new()));
        for (key, value) in table {
            let place = place(key.span().start);
            let key = key.into_inner().to_string();
            // The text was parsed, so what it holds is a value.
            if let Ok(value) = Value::deserialize(toml::de::ValueDeserializer::from(value)) {
                settings.push(Setting { key, value, place });
            }
        }
    }

    /// Adds what `--set KEY=VALUE` says. A bare word that is no TOML value is a string.
    pub(super) fn set(&mut self, text: &str, problems: &mut Vec<String>) {
        let Some((key, value)) = text.split_once('=') else {
            return problems
                .push(format!("--set {text}: must be KEY=VALUE, as in plugins.rapl.interval=100ms"));
        };
        let (key, value) = (key.trim(), value.trim());
        let place = Place::Set(format!("{key}={value}"));
        let parsed = toml::from_str::<toml::Table>(&format!("value = {value}"));
        let value = parsed.ok().and_then(|mut t| t.remove("value")).unwrap_or_else(|| value.into());
        let mut parts = key.split('.');
        let section = match (parts.next(), key) {
            (Some("agent"), _) => "agent".to_string(),
            (Some("plugins"), _) => format!("plugins.{}", parts.next().unwrap_or_default()),
            _ => return self.unplaced.push((key.to_string(), place)),
        };
        let rest: Vec<&str> = parts.collect();
        let (_, settings) =
            self.sections.entry(section.clone()).or_insert_with(|| (place.clone(), Vec::new()));
        match (rest.split_first(), value) {
            (Some((first, inner)), value) => {
                let nest = |value, key: &&str| Value::Table([(key.to_string(), value)].into_iter().collect());
                let value = inner.iter().rev().fold(value, nest);
                settings.push(Setting { key: first.to_string(), value, place });
            }
            // `--set plugins.jsonl={path="x"}` sets all that the table names.
            (None, Value::Table(table)) => {
                settings.extend(table.into_iter().map(|(key, value)| Setting {
                    key,
                    value,
                    place: place.clone(),
                }));
            }
            (None, _) => problems.push(format!("{place}: {section} is a table; set one of its keys")),
        }
    }

    /// What stands outside `[agent]` and `[plugins.NAME]`.
    pub(super) fn unplaced(&self) -> impl Iterator<Item = (String, &Place)> {
        self.unplaced.iter().map(|(path, place)| (path.clone(), place))
    }

    /// Names of the plugins mentioned.
    pub(super) fn plugins(&self) -> impl Iterator<Item = &str> {
        self.sections.keys().filter_map(|s| s.strip_prefix("plugins."))
    }

    /// Where plugin `name` is mentioned first.
    pub(super) fn place_of_plugin(&self, name: &str) -> &Place {
        self.sections.get(&format!("plugins.{name}")).map_or(&Place::Option("--config"), |(place, _)| place)
    }

    /// What is said about `section`, in order: later settings win.
    pub(super) fn settings(&self, section: &str) -> impl Iterator<Item = (&str, &Value, &Place)> {
        let settings = self.sections.get(section).map_or(&[][..], |(_, settings)| settings);
        settings.iter().map(|s| (s.key.as_str(), &s.value, &s.place))
    }
}
