//! Working trees of two git revisions, in a directory of their own, which is removed at the end.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cli::exec::repeat::shell;
use crate::cli::failure::Failure;

/// The last lines of a failed build that are shown.
const SHOWN_LINES: usize = 20;

/// Two revisions, checked out and built.
pub(super) struct Checkouts {
    directory: PathBuf,
    revisions: Vec<Revision>,
}

/// A revision that is checked out.
pub(super) struct Revision {
    /// As the user wrote it, and its abbreviated hash.
    pub(super) name: String,
    /// Where commands run in it: the same directory within the repository as this process's.
    pub(super) directory: PathBuf,
    worktree: PathBuf,
}

impl Checkouts {
    /// Checks out both ends of `range` (`A..B`, without B: HEAD), and runs `build` in each.
    ///
    /// # Errors
    /// The range, git or the build failed.
    pub(super) fn new(range: &str, build: Option<&str>) -> Result<Self, Failure> {
        let Some((a, b)) = range.split_once("..").filter(|(a, b)| !a.is_empty() && !b.starts_with('.'))
        else {
            return Err(Failure::usage(format!("--git {range}: a range is needed, as in main..HEAD")));
        };
        let prefix = git(&["rev-parse", "--show-prefix"])?;
        // Private, and new: another user's directory of this name is not used.
        let directory = std::env::temp_dir().join(format!("wattrace-compare-{}", std::process::id()));
        let created = DirBuilder::new().mode(0o700).create(&directory);
        created.map_err(|e| Failure::new(format!("cannot make {}: {e}", directory.display())))?;
        // From here on it is removed if something fails.
        let mut checkouts = Self { directory, revisions: Vec::new() };
        for (side, revision) in [("a", a), ("b", if b.is_empty() { "HEAD" } else { b })] {
            let worktree = checkouts.directory.join(side);
            let commit = git(&["rev-parse", "--verify", "--quiet", &format!("{revision}^{{commit}}")])
                .map_err(|_| Failure::usage(format!("--git {range}: {revision} is no commit")))?;
            let path = worktree.to_string_lossy();
            git(&["worktree", "add", "--detach", "--quiet", &path, &commit])?;
            let name = format!("{revision} ({})", commit.get(..9).unwrap_or(&commit));
            let revision = Revision { name, directory: worktree.join(&prefix), worktree };
            checkouts.revisions.push(revision);
        }
        if let Some(build) = build {
            for revision in &checkouts.revisions {
                eprintln!("wattrace: building {}", revision.name);
                build_in(&revision.directory, build)?;
            }
        }
        Ok(checkouts)
    }

    /// A and B.
    pub(super) fn revisions(&self) -> [&Revision; 2] {
        [&self.revisions[0], &self.revisions[1]]
    }
}

impl Drop for Checkouts {
    fn drop(&mut self) {
        for revision in &self.revisions {
            let path = revision.worktree.to_string_lossy();
            if let Err(failure) = git(&["worktree", "remove", "--force", &path]) {
                eprintln!("wattrace: {}", failure.message);
            }
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// What git writes, without the end of the line.
fn git(arguments: &[&str]) -> Result<String, Failure> {
    let output = Command::new("git").args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|e| Failure::new(format!("cannot run git: {e}")))?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::new(format!("git {}: {}", arguments.join(" "), message.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn build_in(directory: &Path, command: &str) -> Result<(), Failure> {
    let words = shell(command);
    let output =
        Command::new(&words[0]).args(&words[1..]).current_dir(directory).stdin(Stdio::null()).output();
    let output = output.map_err(|e| Failure::new(format!("--build {command}: {e}")))?;
    if output.status.success() {
        return Ok(());
    }
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = text.lines().collect();
    let end = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
    Err(Failure::new(format!("--build `{command}` failed ({}):\n{}", output.status, end.join("\n"))))
}
