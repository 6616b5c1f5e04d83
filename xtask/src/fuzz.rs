//! `fuzz`: runs the targets of `fuzz/`, which are the parsers of untrusted input, with cargo-fuzz and a
//! nightly compiler. They start from `fuzz/corpus`. New inputs stay in the target directory; `--keep` adds
//! those that reach new code to the corpus, and `--minimise` reduces it to the fewest inputs that reach the
//! same code. `cargo test` runs the corpus.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::environment::forget_host_toolchain;
use crate::process::{probe, read, run as run_command, say};
use crate::tidy::corpus::MAX_INPUTS;
use crate::{ebpf, workspace};

/// Inputs may not be longer than this to be kept.
const LONGEST_KEPT: u32 = 4096;

/// Runs each target, or those that are named, for so many seconds, and reports in the end which of them
/// failed. With `keep`, adds what they found to the corpus.
pub(crate) fn run(seconds: u32, keep: bool, targets: Vec<String>) -> Result<()> {
    ensure_tools()?;
    let list = read(cargo_fuzz().arg("list"))?;
    let targets = chosen(&list, targets)?;
    // The plugin sched holds them, whatever of it is fuzzed.
    ebpf::build()?;
    let mut failed = Vec::new();
    for target in &targets {
        say("fuzz", format_args!("{target} for {seconds} s"));
        let found = found(target);
        fs::create_dir_all(&found).with_context(|| format!("cannot make {}", found.display()))?;
        let mut cargo = fuzzer(target, &[found, kept(target)]);
        cargo.arg(format!("-max_total_time={seconds}")).arg("-timeout=10");
        if let Err(error) = run_command(&mut cargo) {
            say("fuzz", format_args!("{error:#}"));
            failed.push(target.as_str());
        } else if keep {
            let mut cargo = fuzzer(target, &[kept(target), self::found(target)]);
            cargo.args(["-set_cover_merge=1", "-use_counters=0", &format!("-max_len={LONGEST_KEPT}")]);
            run_command(&mut cargo)?;
        }
    }
    if !failed.is_empty() {
        bail!(
            "{} failed: the inputs are in fuzz/artifacts, and the command to repeat it is above",
            failed.join(", ")
        );
    }
    Ok(())
}

/// Reduces the corpus of each target, or of those that are named, to the fewest inputs that reach the same
/// code, and to the smallest ones if these are too many.
pub(crate) fn minimise(targets: Vec<String>) -> Result<()> {
    ensure_tools()?;
    let list = read(cargo_fuzz().arg("list"))?;
    ebpf::build()?;
    for target in &chosen(&list, targets)? {
        let (kept, reduced) = (kept(target), found(target).with_extension("reduced"));
        if reduced.exists() {
            fs::remove_dir_all(&reduced).with_context(|| format!("cannot empty {}", reduced.display()))?;
        }
        fs::create_dir_all(&reduced).with_context(|| format!("cannot make {}", reduced.display()))?;
        let mut cargo = fuzzer(target, &[reduced.clone(), kept.clone()]);
        run_command(cargo.args(["-set_cover_merge=1", "-use_counters=0"]))?;
        let mut inputs = Vec::new();
        for input in fs::read_dir(&reduced).with_context(|| format!("cannot read {}", reduced.display()))? {
            let input = input.with_context(|| format!("cannot read {}", reduced.display()))?;
            inputs.push((input.metadata().map_or(u64::MAX, |metadata| metadata.len()), input.path()));
        }
        inputs.sort();
        inputs.truncate(MAX_INPUTS);
        fs::remove_dir_all(&kept).with_context(|| format!("cannot empty {}", kept.display()))?;
        fs::create_dir_all(&kept).with_context(|| format!("cannot make {}", kept.display()))?;
        for (_, input) in &inputs {
            let copy = kept.join(input.file_name().unwrap_or_default());
            fs::copy(input, &copy).with_context(|| format!("cannot write {}", copy.display()))?;
        }
        say("fuzz", format_args!("{target}: {} inputs", inputs.len()));
    }
    Ok(())
}

/// Looks for what is needed beyond the toolchain of everything else.
fn ensure_tools() -> Result<()> {
    let mut nightly = Command::new("cargo");
    forget_host_toolchain(&mut nightly);
    if probe(nightly.args(["+nightly", "--version"])).is_none() {
        bail!("fuzzing needs a nightly compiler, for its sanitizers: rustup toolchain install nightly");
    }
    if probe(cargo_fuzz().arg("--version")).is_none() {
        bail!("fuzzing needs cargo-fuzz: cargo install cargo-fuzz --locked");
    }
    Ok(())
}

/// The targets in `list` that are `wanted`: all, if none is named.
fn chosen(list: &str, wanted: Vec<String>) -> Result<Vec<String>> {
    let all: Vec<&str> = list.split_whitespace().collect();
    if let Some(unknown) = wanted.iter().find(|name| !all.contains(&name.as_str())) {
        bail!("there is no fuzz target {unknown}; there are {}", all.join(", "));
    }
    Ok(if wanted.is_empty() { all.into_iter().map(str::to_owned).collect() } else { wanted })
}

fn kept(target: &str) -> PathBuf {
    workspace::root().join("fuzz/corpus").join(target)
}

fn found(target: &str) -> PathBuf {
    workspace::root().join("fuzz/target/corpus").join(target)
}

/// A target on these corpora, the first of which takes in what is new. Options of libFuzzer may follow.
fn fuzzer(target: &str, corpora: &[PathBuf]) -> Command {
    let mut cargo = cargo_fuzz();
    cargo.args(["run", target]).args(corpora).arg("--");
    cargo
}

fn cargo_fuzz() -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace::root().join("fuzz"));
    forget_host_toolchain(&mut cargo);
    cargo.args(["+nightly", "fuzz"]);
    cargo
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_targets_are_chosen_or_those_that_there_are() {
        let list = "battery_tree\nbmc_dcmi\n";
        assert_eq!(chosen(list, vec![]).unwrap(), ["battery_tree", "bmc_dcmi"]);
        assert_eq!(chosen(list, vec!["bmc_dcmi".to_owned()]).unwrap(), ["bmc_dcmi"]);
        let error = chosen(list, vec!["bmc".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("no fuzz target bmc; there are battery_tree, bmc_dcmi"), "{error}");
    }
}
