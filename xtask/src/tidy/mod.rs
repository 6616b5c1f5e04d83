//! `tidy`: the rules of the repository that no compiler checks. Each rule is a function from the tracked
//! files to violations; a violation names the place and what to do.
//!
//! | module | rule |
//! | --- | --- |
//! | [`width`] | no line of a source file or a document is wider than 110 columns |
//! | [`words`] | no word that the vocabulary in ARCHITECTURE.md replaces by another |
//! | [`cycles`] | the files of a crate import each other without a cycle |
//! | [`layers`] | plugins depend on the contract and on libraries, never on each other or on the agent |
//! | [`corpus`] | the fuzzing corpora stay small |

pub(crate) mod corpus;
mod cycles;
mod layers;
mod width;
mod words;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::process::{read, say};
use crate::workspace;

/// A place that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Relative to the workspace's root.
    file: PathBuf,
    /// 0: the file as a whole.
    line: usize,
    message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file.display(), self.message),
            line => write!(f, "{}:{line}: {}", self.file.display(), self.message),
        }
    }
}

/// A tracked text file.
struct File {
    /// Relative to the workspace's root.
    path: PathBuf,
    text: String,
}

impl File {
    fn is(&self, extension: &str) -> bool {
        self.path.extension().is_some_and(|found| found == extension)
    }

    fn violation(&self, line: usize, message: impl Into<String>) -> Violation {
        Violation { file: self.path.clone(), line, message: message.into() }
    }
}

/// Checks every rule.
pub(crate) fn run() -> Result<()> {
    let files = tracked(workspace::root())?;
    let mut violations = width::check(&files);
    violations.extend(words::check(&files)?);
    violations.extend(cycles::check(&files));
    violations.extend(layers::check(&files)?);
    violations.extend(corpus::check(workspace::root())?);
    if violations.is_empty() {
        say("tidy", format_args!("{} files keep the rules", files.len()));
        return Ok(());
    }
    violations.iter().for_each(|violation| eprintln!("{violation}"));
    bail!("{} violations of the repository's rules (xtask/src/tidy)", violations.len())
}

/// The tracked text files that the rules are about, without the corpora.
fn tracked(root: &Path) -> Result<Vec<File>> {
    let list =
        read(Command::new("git").arg("-C").arg(root).args(["ls-files", "-z", "--", ".", ":!fuzz/corpus"]))?;
    let paths = list.split('\0').filter(|path| !path.is_empty()).map(PathBuf::from);
    // What is not text, or was deleted and not committed yet, has no lines to check.
    let files = paths.filter_map(|path| {
        let text = fs::read_to_string(root.join(&path)).ok()?;
        Some(File { path, text })
    });
    Ok(files.collect())
}

#[cfg(test)]
fn file(path: &str, text: &str) -> File {
    File { path: path.into(), text: text.to_owned() }
}
