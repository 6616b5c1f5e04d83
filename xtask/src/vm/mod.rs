//! `vm`: the privileged tests on kernels other than this machine's. Debian's kernels are downloaded but not
//! installed ([`kernels`]); each boots under QEMU ([`emulator`], [`machine`], [`architecture`]) into the
//! test binaries and what they need ([`userland`] and [`foreign`], packed by [`archive`]), runs them and
//! powers off; [`report`] reads what they printed.

mod architecture;
mod archive;
mod emulator;
mod foreign;
mod kernels;
mod machine;
mod report;
mod userland;

use std::fs;
use std::num::NonZeroUsize;
use std::process::Command;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use wattrace_progress::Progress;

use crate::process::{as_root, probe, read, say};
use crate::{debian, ebpf, workspace};
pub(crate) use architecture::Architecture;
pub(crate) use emulator::{Emulator, TCG};
use kernels::Image;
pub(crate) use kernels::{Series, matrix};
use report::Report;
use userland::Userland;
pub(crate) use userland::libraries;

/// Runs the tests on each of `kernels`; with `write_docs` on all that `docs/kernels.md` lists, and on this
/// machine's.
pub(crate) fn run(kernels: &[Series], accel: &str, write_docs: bool) -> Result<()> {
    let documented = write_docs.then(kernels::documented);
    test(&images(documented.as_deref().unwrap_or(kernels))?, accel, write_docs)
}

/// Runs the tests on the kernels of the matrix. A machine that cannot get them skips them with a message;
/// under CI=true that is an error.
pub(crate) fn run_where_possible() -> Result<()> {
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    let obtained = ensure_tools(Architecture::HERE).and_then(|_| images(&matrix()));
    match or_skip(obtained, ci)? {
        Some(images) => test(&images, TCG, false),
        None => Ok(()),
    }
}

fn or_skip<T>(obtained: Result<T>, ci: bool) -> Result<Option<T>> {
    match obtained {
        Ok(obtained) => Ok(Some(obtained)),
        Err(error) if ci => Err(error),
        Err(error) => {
            say("vm", format_args!("skipped, the tests ran on this kernel only: {error:#}"));
            Ok(None)
        }
    }
}

/// The emulator of an architecture and this machine's userland, installed now if need be.
pub(crate) fn ensure_tools(architecture: Architecture) -> Result<Emulator> {
    let emulator = Emulator::ensure(architecture)?;
    if probe(Command::new("busybox").arg("true")).is_none() {
        debian::install(&["busybox-static".to_owned()], "the virtual machines' userland")?;
    }
    Ok(emulator)
}

fn images(kernels: &[Series]) -> Result<Vec<Image>> {
    kernels.iter().map(Image::ensure).collect()
}

/// The result of one kernel's tests.
struct Outcome {
    name: String,
    took: Duration,
    report: Report,
    /// What is wrong, if anything is.
    faults: Vec<String>,
}

/// What runs the tests in the machines of an architecture.
struct Bench {
    emulator: Emulator,
    userland: Userland,
}

impl Bench {
    fn set_up(architecture: Architecture) -> Result<Self> {
        Ok(Self { emulator: ensure_tools(architecture)?, userland: Userland::build(architecture)? })
    }
}

fn test(images: &[Image], accel: &str, write_docs: bool) -> Result<()> {
    ebpf::build()?;
    let mut outcomes = Vec::new();
    for images in images.chunk_by(|one, next| one.series.architecture == next.series.architecture) {
        let Some(image) = images.first() else { continue };
        let bench = Bench::set_up(image.series.architecture)?;
        let mut tested = test_in_machines(&bench, images, accel)?;
        test_failed_again(&bench, images, accel, &mut tested)?;
        outcomes.extend(tested);
    }
    if write_docs {
        outcomes.push(test_here(&Userland::build(Architecture::HERE)?)?);
    }
    eprintln!("{}", report::table(&outcomes));
    if outcomes.iter().any(|outcome| !outcome.faults.is_empty()) {
        bail!("tests failed on other kernels; their output is in {}", workspace::vm().display());
    }
    if write_docs {
        let docs = workspace::root().join("docs/kernels.md");
        fs::write(&docs, report::document(&outcomes))
            .with_context(|| format!("cannot write {}", docs.display()))?;
        say("vm", docs.display());
    }
    Ok(())
}

/// Runs the tests on this machine's kernel.
fn test_here(userland: &Userland) -> Result<Outcome> {
    say("vm", "this machine");
    let begun = Instant::now();
    let printed = read(as_root("sh").arg(&userland.script))?;
    Ok(outcome("this machine".into(), begun.elapsed(), userland, &printed, Vec::new()))
}

/// Runs the tests in machines of one architecture.
fn test_in_machines(bench: &Bench, images: &[Image], accel: &str) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    // A machine keeps one CPU busy.
    let at_once = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let mut progress = Progress::new("vm", true);
    for part in images.chunks(at_once) {
        let releases: Vec<_> =
            part.iter().map(|image| format!("{} ({})", image.series, image.release)).collect();
        progress.show_step(outcomes.len(), images.len(), &format!("booting {}", releases.join(", ")));
        let ran = boot(bench, part, accel);
        progress.clear();
        for (image, ran) in part.iter().zip(ran) {
            let (ran, took) = ran.with_context(|| format!("{} could not be run", image.series))?;
            let name = image.series.to_string();
            outcomes.push(outcome(name, took, &bench.userland, &ran.printed, ran.faults));
        }
    }
    Ok(outcomes)
}

/// Boots machines whose tests failed once more, one at a time, for the reason that `rerun.rs` has: what
/// passes then only is listed. `outcomes` are those of `images`.
fn test_failed_again(bench: &Bench, images: &[Image], accel: &str, outcomes: &mut [Outcome]) -> Result<()> {
    let failed = outcomes.iter_mut().zip(images).filter(|(outcome, _)| !outcome.faults.is_empty());
    for (outcome, image) in failed {
        say("vm", format_args!("{}: failed; once more, alone", outcome.name));
        if let Some(again) = test_in_machines(bench, std::slice::from_ref(image), accel)?.pop() {
            *outcome = again;
        }
        if outcome.faults.is_empty() {
            say("vm", format_args!("{}: unstable, failed once and passed alone", outcome.name));
        }
    }
    Ok(())
}

/// Runs the tests in a machine each of `images`, all at once. Returns what each did, and how long it took.
fn boot(bench: &Bench, images: &[Image], accel: &str) -> Vec<Result<(machine::Ran, Duration)>> {
    std::thread::scope(|scope| {
        let machines = images.iter().map(|image| {
            scope.spawn(move || {
                let begun = Instant::now();
                machine::run(&bench.emulator, image, &bench.userland.archive, accel)
                    .map(|ran| (ran, begun.elapsed()))
            })
        });
        let machines: Vec<_> = machines.collect();
        let join = |machine: ScopedJoinHandle<'_, Result<_>>| {
            machine.join().unwrap_or_else(|_| Err(anyhow!("its thread panicked")))
        };
        machines.into_iter().map(join).collect()
    })
}

/// Reads what the tests `printed` and shows it: their summaries, or all of it if something is wrong.
fn outcome(
    name: String,
    took: Duration,
    userland: &Userland,
    printed: &str,
    mut faults: Vec<String>,
) -> Outcome {
    let report = Report::read(printed);
    faults.extend(report.faults(&userland.binaries));
    if faults.is_empty() {
        for binary in &report.binaries {
            say("vm", format_args!("{name}: {}: {}", binary.name, binary.summary));
        }
    } else {
        eprintln!("{printed}");
        faults.iter().for_each(|fault| say("vm", format_args!("{name}: {fault}")));
    }
    Outcome { name, took, report, faults }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_that_cannot_be_had_are_an_error_in_ci_alone() {
        let obtained = |there: bool| if there { Ok(1) } else { Err(anyhow::anyhow!("no network")) };
        assert_eq!(or_skip(obtained(true), true).unwrap(), Some(1));
        assert_eq!(or_skip(obtained(false), false).unwrap(), None);
        assert_eq!(or_skip(obtained(false), true).unwrap_err().to_string(), "no network");
    }
}
