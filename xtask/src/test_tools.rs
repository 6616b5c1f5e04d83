//! What the tests need beyond Rust: stress-ng for load, Podman and Slurm for a container and a job, a real
//! Prometheus, a Python environment with a real OTLP collector, and cargo-deny. The benchmarks also race
//! hackbench, and compare with bpftrace.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{probe, read, run_quietly, say};
use crate::workspace;
use crate::{debian, deny};

const REQUIREMENTS: &str = include_str!("../requirements.txt");

/// The Python of the tests' environment.
pub(crate) fn python() -> PathBuf {
    workspace::venv().join("bin/python")
}

/// What a test needs a piece of software for, its programs, and the Debian packages that hold them.
const SERVICES: [(&str, &[&str], &[&str]); 3] = [
    (
        "a real container for the tests",
        &["podman", "crun", "conmon", "busybox"],
        &["podman", "crun", "conmon", "busybox-static"],
    ),
    (
        "a real batch job for the tests",
        &["slurmctld", "slurmd", "sbatch", "munged", "busybox"],
        &["slurmctld", "slurmd", "slurm-client", "munge", "busybox-static"],
    ),
    ("a real Prometheus for the tests", &["prometheus", "promtool"], &["prometheus", "prometheus"]),
];

/// Brings about all of it.
pub(crate) fn ensure() -> Result<()> {
    if probe(Command::new("stress-ng").arg("--version")).is_none() {
        debian::install(&["stress-ng".to_owned()], "load for the tests")?;
    }
    for (purpose, programs, packages) in SERVICES {
        // Where it cannot be had, the tests do without, say so, and fail under CI=true.
        if let Err(error) = ensure_service(purpose, programs, packages) {
            say("setup", format_args!("{error:#}"));
        }
    }
    deny::ensure()?;
    ensure_venv()
}

/// Which of them are there, for messages.
pub(crate) fn services() -> String {
    let is_whole = |programs: &[&str]| programs.iter().all(|program| is_there(program));
    let [podman, slurm, prometheus] =
        SERVICES.map(|(_, programs, _)| if is_whole(programs) { "" } else { "no " });
    format!("{podman}Podman, {slurm}Slurm, {prometheus}Prometheus")
}

/// Installs the packages whose programs are missing; both are in the same order.
fn ensure_service(purpose: &str, programs: &[&str], packages: &[&str]) -> Result<()> {
    let pairs = programs.iter().zip(packages);
    let missing: Vec<_> =
        pairs.filter(|(program, _)| !is_there(program)).map(|(_, p)| (*p).to_owned()).collect();
    debian::install(&missing, purpose)
}

/// Whether a program is installed, for whomever.
fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).any(|folder| folder.join(program).exists())
}

/// Brings about what the benchmarks need.
pub(crate) fn ensure_for_benches() -> Result<()> {
    for (program, package, why) in [
        ("stress-ng", "stress-ng", "load for the benchmarks"),
        ("hackbench", "rt-tests", "load for the benchmarks"),
        ("bpftrace", "bpftrace", "a second opinion for the benchmarks"),
    ] {
        // hackbench knows no --version, but any other answer than that it is missing will do.
        if let Err(error) = Command::new(program).arg("--version").output()
            && error.kind() == ErrorKind::NotFound
        {
            debian::install(&[package.to_owned()], why)?;
        }
    }
    Ok(())
}

fn ensure_venv() -> Result<()> {
    let venv = workspace::venv();
    // Written last, so that it stands for a complete environment.
    let stamp = venv.join("requirements.txt");
    if python().exists() && fs::read_to_string(&stamp).is_ok_and(|installed| installed == REQUIREMENTS) {
        return Ok(());
    }
    if probe(Command::new("python3").args(["-c", "import ensurepip, venv"])).is_none() {
        debian::install(&["python3-venv".to_owned()], "Python for the tests")?;
    }
    say("setup", format_args!("making {} with the Python packages of the tests", venv.display()));
    run_quietly(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    let list = workspace::root().join("xtask/requirements.txt");
    let mut pip = Command::new(python());
    run_quietly(
        pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--requirement"]).arg(list),
    )?;
    if ask(COLLECTOR_VERSION).is_err() {
        // The collector embeds Python, and Debian has the shared library apart from the interpreter.
        let library = ask(LIBRARY)?;
        debian::install(&[library.trim().to_owned()], "Python for the tests' OTLP collector")?;
        ask(COLLECTOR_VERSION).context("the tests' OTLP collector does not start")?;
    }
    fs::write(&stamp, REQUIREMENTS).with_context(|| format!("cannot write {}", stamp.display()))
}

const COLLECTOR_VERSION: &str = "\
import pathlib, rotel, subprocess
subprocess.run([pathlib.Path(rotel.__file__).with_name('rotel-agent'), '--version'], check=True)";

const LIBRARY: &str = "import sys; print('libpython%d.%d' % sys.version_info[:2])";

/// What the environment's Python prints for `program`.
fn ask(program: &str) -> Result<String> {
    read(Command::new(python()).args(["-c", program]))
}
