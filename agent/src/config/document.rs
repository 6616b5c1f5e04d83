//! The settings of a configuration file and of `--set`, each with its location. `resolve.rs` checks them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use toml::Value;
use toml::de::{DeTable, DeValue};
use wattrace_api::files;

use super::secrets;

/// A larger file is no configuration.
const MAX_SIZE: u64 = 1 << 20;

/// Where a setting was written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Location {
    /// A line of a file, counted from 1.
    Line(PathBuf, usize),
    /// A `--set` option.
    Set(String),
    /// Another option.
    Option(&'static str),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Line(file, line) => write!(f, "{}:{line}", file.display()),
            Location::Set(text) => write!(f, "--set {text}"),
            Location::Option(name) => f.write_str(name),
        }
    }
}

#[derive(Debug)]
struct Setting {
    key: String,
    value: Value,
    location: Location,
}

/// All settings, by section (`agent`, `plugins.NAME`), in the order in which they were written.
#[derive(Debug, Default)]
pub(super) struct Document {
    sections: BTreeMap<String, (Location, Vec<Setting>)>,
    /// Keys outside of `[agent]` and `[plugins.NAME]`.
    outside_tables: Vec<(String, Location)>,
    /// Whether only root can have written the file.
    is_of_root: bool,
}

impl Document {
    /// Adds the settings of `file`.
    pub(super) fn read_file(&mut self, file: &Path, problems: &mut Vec<String>) {
        let opened = files::open_regular(file);
        self.is_of_root = opened.as_ref().is_ok_and(is_of_root);
        let text = match opened.and_then(|opened| files::read_open(opened, MAX_SIZE)) {
            Ok(text) => text,
            Err(e) => {
                let remedy = match e.kind() {
                    ErrorKind::PermissionDenied => "use a file that you may read: --config FILE",
                    _ => "`wattrace config init` writes one to start from",
                };
                return problems.push(format!("{}: cannot be read: {e}; {remedy}", file.display()));
            }
        };
        let line = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
        let location = |at: usize| Location::Line(file.to_path_buf(), line(at));
        let root = match DeTable::parse(&text) {
            Ok(root) => root.into_inner(),
            Err(e) => {
                return problems.push(format!(
                    "{}: {}",
                    location(e.span().map_or(0, |s| s.start)),
                    e.message()
                ));
            }
        };
        for (name, value) in root {
            let (at, name) = (name.span().start, name.into_inner().to_string());
            match (name.as_str(), value.into_inner()) {
                ("agent", DeValue::Table(table)) => {
                    self.add_table("agent".into(), location(at), table, &location)
                }
                ("plugins", DeValue::Table(plugins)) => {
                    for (plugin, value) in plugins {
                        let (at, section) = (plugin.span().start, format!("plugins.{}", plugin.get_ref()));
                        match value.into_inner() {
                            DeValue::Table(table) => self.add_table(section, location(at), table, &location),
                            _ => problems
                                .push(format!("{}: {section} must be a table, [{section}]", location(at))),
                        }
                    }
                }
                ("agent" | "plugins", _) => {
                    problems.push(format!("{}: {name} must be a table, [{name}]", location(at)));
                }
                _ => self.outside_tables.push((name, location(at))),
            }
        }
    }

    fn add_table(
        &mut self,
        section: String,
        at: Location,
        table: DeTable<'_>,
        location: &dyn Fn(usize) -> Location,
    ) {
        let (_, settings) = self.sections.entry(section).or_insert_with(|| (at, Vec::new()));
        for (key, value) in table {
            let location = location(key.span().start);
            let key = key.into_inner().to_string();
            // Cannot fail: the text was parsed already.
            if let Ok(value) = Value::deserialize(toml::de::ValueDeserializer::from(value)) {
                settings.push(Setting { key, value, location });
            }
        }
    }

    /// Adds the setting of `--set KEY=VALUE`. A value that is no TOML is a string.
    pub(super) fn set(&mut self, text: &str, problems: &mut Vec<String>) {
        let Some((key, value)) = text.split_once('=') else {
            return problems
                .push(format!("--set {text}: must be KEY=VALUE, as in plugins.rapl.interval=100ms"));
        };
        let (key, value) = (key.trim(), value.trim());
        let location = Location::Set(format!("{key}={}", secrets::shown(key, value)));
        let parsed = toml::from_str::<toml::Table>(&format!("value = {value}"));
        let value = parsed.ok().and_then(|mut t| t.remove("value")).unwrap_or_else(|| value.into());
        let mut parts = key.split('.');
        let section = match (parts.next(), key) {
            (Some("agent"), _) => "agent".to_string(),
            (Some("plugins"), _) => format!("plugins.{}", parts.next().unwrap_or_default()),
            _ => return self.outside_tables.push((key.to_string(), location)),
        };
        let rest: Vec<&str> = parts.collect();
        let (_, settings) =
            self.sections.entry(section.clone()).or_insert_with(|| (location.clone(), Vec::new()));
        match (rest.split_first(), value) {
            (Some((first, inner)), value) => {
                let nest = |value, key: &&str| Value::Table([(key.to_string(), value)].into_iter().collect());
                let value = inner.iter().rev().fold(value, nest);
                settings.push(Setting { key: first.to_string(), value, location });
            }
            // `--set plugins.jsonl={path="x"}` sets every key of the table.
            (None, Value::Table(table)) => {
                settings.extend(table.into_iter().map(|(key, value)| Setting {
                    key,
                    value,
                    location: location.clone(),
                }));
            }
            (None, _) => problems.push(format!("{location}: {section} is a table; set one of its keys")),
        }
    }

    /// Keys outside of `[agent]` and `[plugins.NAME]`.
    pub(super) fn outside_tables(&self) -> impl Iterator<Item = (&str, &Location)> {
        self.outside_tables.iter().map(|(path, location)| (path.as_str(), location))
    }

    /// The names of the plugins that are mentioned.
    pub(super) fn plugins(&self) -> impl Iterator<Item = &str> {
        self.sections.keys().filter_map(|s| s.strip_prefix("plugins."))
    }

    /// Whether only root can have written `location`.
    pub(super) fn is_of_root(&self, location: &Location) -> bool {
        self.is_of_root && matches!(location, Location::Line(..))
    }

    /// Where the plugin `name` is mentioned first.
    pub(super) fn location_of_plugin(&self, name: &str) -> &Location {
        self.sections
            .get(&format!("plugins.{name}"))
            .map_or(&Location::Option("--config"), |(location, _)| location)
    }

    /// The settings of `section`, in order: later ones win.
    pub(super) fn settings(&self, section: &str) -> impl Iterator<Item = (&str, &Value, &Location)> {
        let settings = self.sections.get(section).map_or(&[][..], |(_, settings)| settings);
        settings.iter().map(|s| (s.key.as_str(), &s.value, &s.location))
    }
}

/// Whether `file` is root's, and nobody else may write it.
fn is_of_root(file: &File) -> bool {
    file.metadata().is_ok_and(|file| file.uid() == 0 && file.permissions().mode() & 0o022 == 0)
}
