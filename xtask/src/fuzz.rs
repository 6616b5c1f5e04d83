//! `fuzz`: runs the targets of `fuzz/`, which are the parsers of untrusted input, under libFuzzer. Its
//! feedback needs no nightly: the compiler's pass that counts coverage is in every release. The runs start
//! from `fuzz/corpus`. New inputs stay in the target directory; `--keep` reduces the corpus and them to the
//! fewest inputs that reach the same code, and `--minimise` the corpus alone. `cargo test` runs the corpus.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::environment::{forget_host_toolchain, host_cargo};
use crate::process::{probe, read, run as run_command, say};
use crate::tidy::corpus::MAX_INPUTS;
use crate::{ebpf, workspace};

/// Inputs may not be longer than this to be kept.
const LONGEST_KEPT: u64 = 16 * 1024;

/// What libFuzzer needs of a program: counters of its edges and where they are, and the operands of its
/// comparisons; and overflows are to be found too.
const FLAGS: [&str; 8] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
    "-Coverflow-checks",
    "--cfg=fuzzing",
];

/// Runs each target, or those that are named, for so many seconds, and reports in the end which of them
/// failed. With `keep`, what they found is added to the corpus as far as it reaches more code.
pub(crate) fn run(seconds: u32, keep: bool, targets: Vec<String>) -> Result<()> {
    let fuzzers = Fuzzers::build(targets)?;
    let mut failed = Vec::new();
    for target in &fuzzers.targets {
        say("fuzz", format_args!("{target} for {seconds} s"));
        let found = directory(found(target))?;
        let artifacts = directory(workspace::root().join("fuzz/artifacts").join(target))?;
        let mut fuzzer = fuzzers.command(target, &[&found, &kept(target)]);
        fuzzer.arg(format!("-max_total_time={seconds}")).args(["-timeout=10", "-print_final_stats=1"]);
        fuzzer.arg(format!("-artifact_prefix={}/", artifacts.display()));
        if let Err(error) = run_command(&mut fuzzer) {
            say("fuzz", format_args!("{error:#}"));
            failed.push(target.as_str());
        } else if keep {
            fuzzers.reduce(target, &[&kept(target), &found])?;
        }
    }
    if !failed.is_empty() {
        bail!(
            "{} failed: the inputs are in fuzz/artifacts; the program repeats one that it is given",
            failed.join(", ")
        );
    }
    Ok(())
}

/// Reduces the corpus of each target, or of those that are named, to the fewest inputs that reach the same
/// code, and to those that reach most of it if these are too many.
pub(crate) fn minimise(targets: Vec<String>) -> Result<()> {
    let fuzzers = Fuzzers::build(targets)?;
    fuzzers.targets.iter().try_for_each(|target| fuzzers.reduce(target, &[&kept(target)]))
}

/// The programs that run targets.
struct Fuzzers {
    targets: Vec<String>,
    /// Where they are.
    folder: PathBuf,
}

impl Fuzzers {
    /// Builds those of `targets`, or all.
    fn build(targets: Vec<String>) -> Result<Self> {
        let mut compiler = Command::new(std::env::var_os("CXX").unwrap_or_else(|| "c++".into()));
        if probe(compiler.arg("--version")).is_none() {
            bail!("fuzzing needs a C++ compiler, which builds libFuzzer: apt install g++");
        }
        let targets = chosen(&all()?, targets)?;
        // The plugin sched holds them, whatever of it is fuzzed.
        ebpf::build()?;
        let host = host()?;
        let mut cargo = host_cargo();
        forget_host_toolchain(&mut cargo);
        // With a target, build scripts and macros are built without the flags.
        cargo.args(["build", "--release", "--manifest-path", "fuzz/Cargo.toml", "--target", &host]);
        cargo.args(targets.iter().flat_map(|target| ["--bin", target]));
        cargo.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"));
        run_command(&mut cargo)?;
        let folder = workspace::root().join("fuzz/target").join(host).join("release");
        Ok(Self { targets, folder })
    }

    /// A target on these corpora, the first of which takes in what is new. Options of libFuzzer may follow.
    fn command(&self, target: &str, corpora: &[&Path]) -> Command {
        let mut fuzzer = Command::new(self.folder.join(target));
        fuzzer.args(corpora);
        fuzzer
    }

    /// Makes the corpus of a target of the fewest inputs in `sources` that reach the same code: of those that
    /// reach most of it, if these are too many.
    fn reduce(&self, target: &str, sources: &[&Path]) -> Result<()> {
        let reduced = found(target).with_extension("reduced");
        if reduced.exists() {
            fs::remove_dir_all(&reduced).with_context(|| format!("cannot empty {}", reduced.display()))?;
        }
        let reduced = directory(reduced)?;
        let corpora: Vec<_> = std::iter::once(&*reduced).chain(sources.iter().copied()).collect();
        read(self.command(target, &corpora).args(["-set_cover_merge=1", "-use_counters=0"]))?;
        let inputs = first(&reduced)?;
        let kept = kept(target);
        fs::remove_dir_all(&kept).with_context(|| format!("cannot empty {}", kept.display()))?;
        let kept = directory(kept)?;
        for input in &inputs {
            let copy = kept.join(input.file_name().unwrap_or_default());
            fs::copy(input, &copy).with_context(|| format!("cannot write {}", copy.display()))?;
        }
        say("fuzz", format_args!("{target}: {} inputs", inputs.len()));
        Ok(())
    }
}

/// The first inputs in `corpus`, as many as may be kept. libFuzzer writes them in the order of its choice:
/// always the one that reaches most of what those before it do not.
fn first(corpus: &Path) -> Result<Vec<PathBuf>> {
    let cannot = || format!("cannot read {}", corpus.display());
    let mut inputs = Vec::new();
    for input in fs::read_dir(corpus).with_context(cannot)? {
        let input = input.with_context(cannot)?;
        let metadata = input.metadata().with_context(cannot)?;
        if metadata.len() <= LONGEST_KEPT {
            inputs.push((metadata.modified().with_context(cannot)?, input.path()));
        }
    }
    inputs.sort();
    inputs.truncate(MAX_INPUTS);
    Ok(inputs.into_iter().map(|(_, path)| path).collect())
}

/// The platform that we build on.
fn host() -> Result<String> {
    let version = read(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.to_owned())
}

/// All targets.
fn all() -> Result<Vec<String>> {
    let folder = workspace::root().join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for file in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let name = file?.path().file_stem().map(|name| name.to_string_lossy().into_owned());
        names.extend(name);
    }
    names.sort();
    Ok(names)
}

/// Those of `all` that are `wanted`: all, if none is named.
fn chosen(all: &[String], wanted: Vec<String>) -> Result<Vec<String>> {
    if let Some(unknown) = wanted.iter().find(|name| !all.contains(name)) {
        bail!("there is no fuzz target {unknown}; there are {}", all.join(", "));
    }
    Ok(if wanted.is_empty() { all.to_vec() } else { wanted })
}

fn kept(target: &str) -> PathBuf {
    workspace::root().join("fuzz/corpus").join(target)
}

fn found(target: &str) -> PathBuf {
    workspace::root().join("fuzz/target/corpus").join(target)
}

/// The directory, which is created if it is missing.
fn directory(path: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_targets_are_chosen_or_those_that_there_are() {
        let all = ["battery_tree", "bmc_dcmi"].map(str::to_owned);
        assert_eq!(chosen(&all, vec![]).unwrap(), all);
        assert_eq!(chosen(&all, vec!["bmc_dcmi".to_owned()]).unwrap(), ["bmc_dcmi"]);
        let error = chosen(&all, vec!["bmc".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("no fuzz target bmc; there are battery_tree, bmc_dcmi"), "{error}");
    }

    #[test]
    fn the_first_inputs_are_kept_and_no_long_ones() {
        let corpus = tempfile::tempdir().unwrap();
        let write = |name: &str, length: u64, second: u64| {
            let file = fs::File::create(corpus.path().join(name)).unwrap();
            file.set_len(length).unwrap();
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(second)).unwrap();
        };
        write("long", LONGEST_KEPT + 1, 1);
        let count = MAX_INPUTS as u64 + 5;
        // The later ones come first by name.
        (1..=count).for_each(|n| write(&format!("{:03}", count - n), LONGEST_KEPT, n));
        let name = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        let names: Vec<_> = first(corpus.path()).unwrap().into_iter().map(name).collect();
        let expected: Vec<_> = (1..=MAX_INPUTS as u64).map(|n| format!("{:03}", count - n)).collect();
        assert_eq!(names, expected);
    }
}
