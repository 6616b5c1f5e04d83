//! What the tests need beyond Rust: stress-ng for load, make for a build, Podman and Slurm for a container
//! and a job, a real Prometheus, real databases and a real browser, a Python environment with a real OTLP
//! collector, and cargo-deny. The benchmarks also race hackbench, and compare with bpftrace.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{probe, read, run_quietly, say};
use crate::steps::{Step, do_all};
use crate::workspace;
use crate::{debian, deny, test_system};

const REQUIREMENTS: &str = include_str!("../requirements.txt");

/// The Python of the tests' environment.
pub(crate) fn python() -> PathBuf {
    workspace::venv().join("bin/python")
}

/// A piece of software that a test runs for itself.
struct Service {
    name: &'static str,
    purpose: &'static str,
    /// About how long installing it takes.
    seconds: usize,
    /// Its programs, the server first, and the Debian packages that hold them, in the same order.
    programs: &'static [&'static str],
    packages: &'static [&'static str],
    /// The systemd units that the packages would start: masked before they are installed.
    units: &'static [&'static str],
}

static SERVICES: [Service; 8] = [
    Service {
        name: "Podman",
        purpose: "a real container for the tests",
        seconds: 40,
        programs: &["podman", "crun", "conmon", "busybox"],
        packages: &["podman", "crun", "conmon", "busybox-static"],
        units: &[],
    },
    Service {
        name: "rpm",
        purpose: "reads packages in the tests, and gives the agent's file in an image its capabilities",
        seconds: 10,
        programs: &["rpm", "cpio", "setcap"],
        packages: &["rpm", "cpio", "libcap2-bin"],
        units: &[],
    },
    Service {
        name: "Chromium",
        purpose: "a real browser for the tests",
        seconds: 60,
        programs: &["chromium"],
        packages: &["chromium"],
        units: &[],
    },
    Service {
        name: "Slurm",
        purpose: "a real batch job for the tests",
        seconds: 30,
        programs: &["slurmctld", "slurmd", "sbatch", "munged", "busybox"],
        packages: &["slurmctld", "slurmd", "slurm-client", "munge", "busybox-static"],
        units: &["slurmctld", "slurmd", "munge"],
    },
    Service {
        name: "Prometheus",
        purpose: "a real Prometheus for the tests",
        seconds: 20,
        programs: &["prometheus", "promtool"],
        packages: &["prometheus", "prometheus"],
        units: &["prometheus"],
    },
    Service {
        name: "PostgreSQL",
        purpose: "a real PostgreSQL for the tests",
        seconds: 30,
        // The server itself is not in PATH.
        programs: &["pg_createcluster", "psql", "openssl"],
        packages: &["postgresql", "postgresql", "openssl"],
        units: &["postgresql"],
    },
    Service {
        name: "InfluxDB",
        purpose: "a real InfluxDB for the tests",
        seconds: 10,
        programs: &["influxd"],
        packages: &["influxdb"],
        units: &["influxdb"],
    },
    Service {
        name: "VictoriaMetrics",
        purpose: "a real VictoriaMetrics for the tests",
        seconds: 10,
        programs: &["victoria-metrics"],
        packages: &["victoria-metrics"],
        units: &["victoria-metrics"],
    },
];

/// Tools of a single program each, and what for.
const TOOLS: [(&str, &str); 3] = [
    ("stress-ng", "load for the tests"),
    ("make", "a build that the tests trace"),
    ("jq", "what commands of the books do with JSON"),
];

/// Brings about all of it.
pub(crate) fn ensure() -> Result<()> {
    do_all(steps())
}

/// What is missing of it.
pub(crate) fn steps() -> Vec<Step> {
    let mut steps = Vec::new();
    for (program, purpose) in TOOLS.into_iter().filter(|(program, _)| !is_there(program)) {
        let work = move || debian::install(&[program.to_owned()], purpose);
        steps.push(Step { name: program, seconds: 5, is_optional: false, work: Box::new(work) });
    }
    for service in SERVICES.iter().filter(|service| !service.is_there()) {
        // Where it cannot be had, the tests do without, say so, and fail under CI=true.
        let (name, seconds, work) = (service.name, service.seconds, Box::new(|| service.install()));
        steps.push(Step { name, seconds, is_optional: true, work });
    }
    if !test_system::archive().exists() {
        let step = Step::new("a Debian for the tests of packages", 60, test_system::make);
        steps.push(Step { is_optional: true, ..step });
    }
    if deny::find().is_none() {
        steps.push(Step::new("cargo-deny", 150, || deny::ensure().map(drop)));
    }
    if !has_venv() {
        steps.push(Step::new("Python packages", 60, make_venv));
    }
    steps
}

/// Which of them are there, for messages.
pub(crate) fn services() -> String {
    let there =
        |service: &Service| format!("{}{}", if service.is_there() { "" } else { "no " }, service.name);
    SERVICES.iter().map(there).collect::<Vec<_>>().join(", ")
}

impl Service {
    fn is_there(&self) -> bool {
        self.programs.iter().all(|program| is_there(program))
    }

    /// Installs the packages whose programs are missing. The tests start what they need for themselves, so
    /// nothing is left running.
    fn install(&self) -> Result<()> {
        let pairs = self.programs.iter().zip(self.packages);
        let missing: Vec<_> =
            pairs.filter(|(program, _)| !is_there(program)).map(|(_, p)| (*p).to_owned()).collect();
        // A server that is there already may be wanted.
        if self.programs.first().is_some_and(|server| !is_there(server)) {
            debian::mask(self.units);
        }
        debian::install(&missing, self.purpose)
    }
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

/// Written last, so that it stands for a complete environment.
fn venv_stamp() -> PathBuf {
    workspace::venv().join("requirements.txt")
}

fn has_venv() -> bool {
    python().exists() && fs::read_to_string(venv_stamp()).is_ok_and(|installed| installed == REQUIREMENTS)
}

fn make_venv() -> Result<()> {
    let (venv, stamp) = (workspace::venv(), venv_stamp());
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
