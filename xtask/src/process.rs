//! Running other programs. Each failure names the command line that failed.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};
use wattrace_progress::Progress;

/// What the last line of the terminal shows, below whatever is said.
static SHOWN: Mutex<Option<Progress>> = Mutex::new(None);

fn shown() -> MutexGuard<'static, Option<Progress>> {
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Prints what `task` is doing, on stderr: stdout belongs to the agent that `run` becomes.
pub(crate) fn say(task: &str, what: impl std::fmt::Display) {
    match &mut *shown() {
        Some(progress) => progress.say_above(&what.to_string()),
        None => eprintln!("{task}: {what}"),
    }
}

/// Shows how far a task is for as long as this value lives.
pub(crate) struct Shown(());

impl Shown {
    pub(crate) fn of(task: &'static str) -> Self {
        *shown() = Some(Progress::new(task, true));
        Self(())
    }

    /// Shows what is done now, when steps that were planned to take `done` seconds of `total` are done.
    pub(crate) fn step(&self, done: usize, total: usize, now: &str) {
        if let Some(progress) = &mut *shown() {
            progress.show_planned(done, total, now);
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        *shown() = None;
    }
}

/// Runs it with our own stdin, stdout and stderr.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = line(command);
    let status = command.status().with_context(|| format!("cannot run `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// Runs it without showing its output, which the error has if it fails.
pub(crate) fn run_quietly(command: &mut Command) -> Result<()> {
    read(command).map(drop)
}

/// Runs it without showing its output, and returns that; the error has it if it fails.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } = command
        .stdin(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run `{}`", line(command)))?;
    let printed = String::from_utf8_lossy(&stdout);
    if !status.success() {
        let said = String::from_utf8_lossy(&stderr);
        bail!("`{}` failed ({status}):\n{}", line(command), format!("{printed}{said}").trim());
    }
    Ok(printed.into_owned())
}

/// What it prints; `None` if it is missing or fails.
pub(crate) fn probe(command: &mut Command) -> Option<String> {
    read(command).ok()
}

/// Whether we are root.
pub(crate) fn is_root() -> bool {
    // The directory belongs to the effective user.
    std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

/// `program`, as root: through sudo unless we are root already.
pub(crate) fn as_root(program: impl AsRef<OsStr>) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    command
}

/// The command line, for messages.
fn line(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_shows_its_output() {
        let error =
            run_quietly(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"])).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("`sh -c") && text.contains("exit status: 3"), "{text}");
        assert!(text.ends_with("out\nerr"), "{text}");
    }

    #[test]
    fn probing_what_is_missing_or_fails_finds_nothing() {
        assert_eq!(probe(&mut Command::new("wattrace-no-such-program")), None);
        assert_eq!(probe(&mut Command::new("false")), None);
        assert_eq!(probe(Command::new("echo").arg("hello")), Some("hello\n".to_owned()));
    }
}
