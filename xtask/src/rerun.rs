//! Runs `cargo test`, and the targets that failed once more, one test at a time. Tests of the real kernel's
//! clocks and limits can fail on a machine that other programs share; a fault in the code fails twice. What
//! passed the second time only is listed, so that it is not overlooked. `test.rs` decides what is tested.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::process::say;

/// More targets do not fail by chance: they are not run again.
const MAX_RERUN: usize = 5;

/// Runs what `cargo_test` makes of arguments of `cargo test`, then the failed targets again.
pub(crate) fn run(args: &[OsString], cargo_test: impl Fn(&[OsString]) -> Result<Command>) -> Result<()> {
    let failed = failed_targets(cargo_test(args)?)?;
    if failed.is_empty() {
        return Ok(());
    }
    if failed.len() > MAX_RERUN {
        bail!("{} test targets failed", failed.len());
    }
    say("test", format_args!("failed: {}; once more, one test at a time", failed.join(", ")));
    for target in &failed {
        if !failed_targets(cargo_test(&alone(target))?)?.is_empty() {
            bail!("`cargo test {target}` failed twice");
        }
    }
    say("test", format_args!("unstable, failed once and passed alone: {}", failed.join(", ")));
    Ok(())
}

/// The arguments that run `target`, as cargo lists it, one test at a time. A file of tests is run as one of
/// the workspace's: cargo would build its package alone with other features, and so most of its dependencies.
fn alone(target: &str) -> Vec<OsString> {
    let words: Vec<_> = target.split(' ').collect();
    let arguments = match words[..] {
        ["-p", _, "--test", name] => vec!["--workspace", "--test", name],
        _ => words,
    };
    arguments.into_iter().chain(["--", "--test-threads=1"]).map(OsString::from).collect()
}

/// Runs it and passes on what it prints. Returns the targets that failed, as cargo lists them.
fn failed_targets(mut cargo: Command) -> Result<Vec<String>> {
    let mut child = cargo.stderr(Stdio::piped()).spawn().context("cannot run cargo")?;
    let mut printed = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let (mut stderr, mut line) = (BufReader::new(stderr), Vec::new());
        while stderr.read_until(b'\n', &mut line)? > 0 {
            std::io::stderr().write_all(&line)?;
            printed.push(String::from_utf8_lossy(&line).into_owned());
            line.clear();
        }
    }
    let status = child.wait()?;
    if status.success() {
        return Ok(Vec::new());
    }
    let failed = listed_targets(&printed);
    if failed.is_empty() {
        bail!("cargo test failed ({status})");
    }
    Ok(failed)
}

/// What stands in backquotes under the last `error: 2 targets failed:`. Tests may print such a line before.
fn listed_targets(printed: &[String]) -> Vec<String> {
    let heading = |line: &String| line.contains("targets failed:") || line.contains("target failed:");
    let list = printed.iter().rposition(heading).map_or(&[][..], |at| &printed[at + 1..]);
    list.iter()
        .map_while(|line| line.trim().strip_prefix('`')?.strip_suffix('`'))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Result<Command> {
        let mut sh = Command::new("sh");
        sh.args(["-c", script, "sh"]);
        Ok(sh)
    }

    const FAILS: &str = "printf 'error: 1 target failed:\\n    `-p wattrace --test energy`\\n' >&2; exit 101";

    #[test]
    fn the_targets_that_failed_are_read_from_the_end_of_the_output() {
        let printed = "error: 1 target failed:\n    `-p of a test`\nrunning\nerror: 2 targets failed:\n    \
                       `-p wattrace --test energy`\n    `-p wattrace-csv --doc`\n";
        let lines: Vec<_> = printed.lines().map(str::to_owned).collect();
        assert_eq!(listed_targets(&lines), ["-p wattrace --test energy", "-p wattrace-csv --doc"]);
    }

    #[test]
    fn a_target_that_passes_alone_does_not_fail_the_run_and_one_that_fails_twice_does() {
        let first = |args: &[OsString]| args.iter().all(|arg| arg != "--test-threads=1");
        let all = [OsString::from("--workspace")];
        run(&all, |args| sh(if first(args) { FAILS } else { "test $# = 0" })).unwrap();
        run(&all, |_| sh("echo 'error: 1 target failed:\n    `-p x`' >&2")).unwrap();
        let twice = run(&all, |_| sh(FAILS)).unwrap_err();
        assert_eq!(twice.to_string(), "`cargo test -p wattrace --test energy` failed twice");
    }

    #[test]
    fn a_file_of_tests_is_run_again_with_the_features_of_the_workspace() {
        assert_eq!(
            alone("-p wattrace --test energy"),
            ["--workspace", "--test", "energy", "--", "--test-threads=1"]
        );
        assert_eq!(alone("-p wattrace-csv --doc"), ["-p", "wattrace-csv", "--doc", "--", "--test-threads=1"]);
    }

    #[test]
    fn a_failure_that_names_no_target_is_one() {
        let error = run(&[], |_| sh("echo 'error: could not compile' >&2; exit 101")).unwrap_err();
        assert!(error.to_string().starts_with("cargo test failed"), "{error}");
    }
}
