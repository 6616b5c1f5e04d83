//! The keys of `[plugins.exec]`: the programs that are sources, and those that are outputs.

use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattrace_api::{Error, Finding, Verdict};

/// The name of the source of the plugin's own metrics.
pub(crate) const ANOMALY_SOURCE: &str = "supervision";

/// `[plugins.exec]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExecConfig {
    /// Programs that measure: `[[plugins.exec.sources]]`.
    pub sources: Vec<SourceConfig>,
    /// Programs that take points: `[[plugins.exec.outputs]]`.
    pub outputs: Vec<OutputConfig>,
}

/// A program that measures.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SourceConfig {
    /// Its name: the element is `source/exec/NAME`.
    pub name: String,
    /// The program and its arguments, run without a shell.
    pub command: Vec<String>,
    /// Time between two polls. For a program at its own pace: between two readings of what it has written.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// `polled`: it is asked at every tick, and answers. `own`: it writes at its own pace, and is never
    /// asked.
    pub pace: String,
    /// Environment variables, in addition to the agent's PATH, HOME, USER, LANG, LC_ALL, TZ and TMPDIR.
    pub env: BTreeMap<String, String>,
    /// Time to say hello and to answer a poll. After that it is killed and restarted.
    #[serde(with = "humantime_serde")]
    pub deadline: Duration,
    /// Most bytes of a line. A longer line is refused.
    pub max_line: usize,
    /// Most series that it may have open.
    pub max_series: usize,
}

/// A program that takes points.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutputConfig {
    /// Its name: the element is `output/exec/NAME`.
    pub name: String,
    /// The program and its arguments, run without a shell.
    pub command: Vec<String>,
    /// Environment variables, in addition to the agent's PATH, HOME, USER, LANG, LC_ALL, TZ and TMPDIR.
    pub env: BTreeMap<String, String>,
    /// Time to say hello, to read its input and to answer a flush. After that it is killed and restarted.
    #[serde(with = "humantime_serde")]
    pub deadline: Duration,
}

impl Default for SourceConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            command: Vec::new(),
            interval: Duration::from_secs(1),
            pace: "polled".to_owned(),
            env: BTreeMap::new(),
            deadline: Duration::from_secs(5),
            max_line: 256 * 1024,
            max_series: 10_000,
        }
    }
}

impl Default for OutputConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            command: Vec::new(),
            env: BTreeMap::new(),
            deadline: Duration::from_secs(5),
        }
    }
}

impl SourceConfig {
    /// Whether it is asked at every tick.
    pub(crate) fn is_polled(&self) -> bool {
        self.pace == "polled"
    }
}

impl ExecConfig {
    /// Refuses invalid values.
    ///
    /// # Errors
    /// Names the key.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let mut names = HashSet::new();
        for (at, source) in self.sources.iter().enumerate() {
            let key = |key: &str| format!("plugins.exec.sources[{at}].{key}");
            check_program(&key, &source.name, &source.command, source.deadline)?;
            if !names.insert(source.name.as_str()) || source.name == ANOMALY_SOURCE {
                return Err(bad(&key("name"), format!("`{}` is taken: choose another", source.name)));
            }
            if source.interval < Duration::from_millis(1) {
                return Err(bad(&key("interval"), "is shorter than 1ms"));
            }
            if !matches!(source.pace.as_str(), "polled" | "own") {
                return Err(bad(&key("pace"), format!("`{}` is neither `polled` nor `own`", source.pace)));
            }
            if source.max_line < 256 {
                return Err(bad(&key("max_line"), "is less than 256 bytes, too short for a point"));
            }
            if source.max_series == 0 {
                return Err(bad(&key("max_series"), "is 0: the program could report nothing"));
            }
        }
        let mut names = HashSet::new();
        for (at, output) in self.outputs.iter().enumerate() {
            let key = |key: &str| format!("plugins.exec.outputs[{at}].{key}");
            check_program(&key, &output.name, &output.command, output.deadline)?;
            if !names.insert(output.name.as_str()) {
                return Err(bad(&key("name"), format!("`{}` is taken: choose another", output.name)));
            }
        }
        Ok(())
    }

    /// Whether each program is installed.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let commands = self.sources.iter().map(|s| (&s.name, &s.command));
        commands.chain(self.outputs.iter().map(|o| (&o.name, &o.command))).map(finding).collect()
    }
}

fn check_program(
    key: &dyn Fn(&str) -> String,
    name: &str,
    command: &[String],
    deadline: Duration,
) -> Result<(), Error> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || !name.chars().all(is_allowed) {
        return Err(bad(
            &key("name"),
            format!("`{name}` may only contain letters, digits, -, _ and ., and not be empty"),
        ));
    }
    if command.first().is_none_or(String::is_empty) {
        return Err(bad(
            &key("command"),
            "is empty: name a program, as in [\"/usr/local/bin/ups\", \"--all\"]",
        ));
    }
    if deadline.is_zero() {
        return Err(bad(&key("deadline"), "is 0s: no program answers within that"));
    }
    Ok(())
}

fn bad(key: &str, problem: impl std::fmt::Display) -> Error {
    Error::fatal(format!("{key}: {problem}"))
}

fn finding((name, command): (&String, &Vec<String>)) -> Finding {
    let program = command.first().map(String::as_str).unwrap_or_default();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates: Vec<PathBuf> = if program.contains('/') {
        vec![program.into()]
    } else {
        std::env::split_paths(&path).map(|folder| folder.join(program)).collect()
    };
    let found = candidates.into_iter().find(|path| is_executable(path));
    let (verdict, found, remedy) = match found {
        Some(path) => (Verdict::Ok, path.display().to_string(), String::new()),
        None => (
            Verdict::Missing,
            "it does not exist, or may not be executed".to_owned(),
            format!("correct the `command` of `{name}` under [plugins.exec], or chmod +x the program"),
        ),
    };
    Finding { what: format!("program `{program}` of `{name}`"), verdict, found, remedy }
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(toml: &str) -> String {
        toml::from_str::<ExecConfig>(toml).unwrap().check().unwrap_err().to_string()
    }

    #[test]
    fn every_invalid_value_is_refused_by_key() {
        let source = |rest: &str| error(&format!("[[sources]]\nname = \"a\"\ncommand = [\"b\"]\n{rest}"));
        assert!(error("[[sources]]\nname = \"a\"").starts_with("plugins.exec.sources[0].command: "));
        assert!(error("[[outputs]]\ncommand = [\"b\"]").starts_with("plugins.exec.outputs[0].name: "));
        assert!(error("[[outputs]]\nname = \"a/b\"\ncommand = [\"b\"]").contains("`a/b`"));
        assert!(source("interval = \"0s\"").starts_with("plugins.exec.sources[0].interval: "));
        assert!(source("deadline = \"0s\"").starts_with("plugins.exec.sources[0].deadline: "));
        assert!(source("pace = \"slow\"").contains("neither `polled` nor `own`"));
        assert!(source("max_line = 1").starts_with("plugins.exec.sources[0].max_line: "));
        assert!(source("max_series = 0").starts_with("plugins.exec.sources[0].max_series: "));
        assert!(
            source("[[sources]]\nname = \"a\"\ncommand = [\"b\"]")
                .starts_with("plugins.exec.sources[1].name: ")
        );
    }

    #[test]
    fn doctor_reports_missing_programs() {
        let command = |program: &str| ("x".to_owned(), vec![program.to_owned()]);
        let verdict = |program| {
            let (name, command) = command(program);
            finding((&name, &command)).verdict
        };
        assert_eq!(verdict("sh"), Verdict::Ok);
        assert_eq!(verdict("/bin/sh"), Verdict::Ok);
        assert_eq!(verdict("no-such-program-anywhere"), Verdict::Missing);
        assert_eq!(verdict("/etc/passwd"), Verdict::Missing);
    }
}
