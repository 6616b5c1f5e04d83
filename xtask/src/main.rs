//! `cargo xtask`: one word for each thing a developer does. Every command first brings about what it needs,
//! says so in a line a step, and costs next to nothing where it is already there.
//!
//! | module | does |
//! | --- | --- |
//! | [`setup`] | finds or installs what the others need: [`toolchain`] ([`compiler`], [`linker`]), [`test_tools`] |
//! | [`ebpf`] | builds the kernel programs |
//! | [`agent`] | builds the agent and runs it |
//! | [`test`], [`bench`] | tests and benchmarks |
//! | [`dist`], [`cross`] | packages, a tarball and a container image of the agent; agents for aarch64 |
//! | [`tidy`], [`deny`] | check the repository's own rules, and its dependencies |
//! | [`eval`] | how well energy is attributed, on the simulator |
//! | [`chaos`] | kills of the agent while its collector misbehaves |
//! | [`fuzz`] | throws bytes at what reads what others wrote |
//! | [`dashboards`], [`book`] | Grafana's dashboards; the books |
//! | [`vm`] | the privileged tests on other kernels |
//! | [`workspace`], [`process`], [`environment`], [`debian`] | what these share |

mod agent;
mod bench;
mod book;
mod chaos;
mod compiler;
mod cross;
mod dashboards;
mod debian;
mod deny;
mod dist;
mod ebpf;
mod environment;
mod eval;
mod fuzz;
mod linker;
mod process;
mod rerun;
mod setup;
mod steps;
mod test;
mod test_system;
mod test_tools;
mod tidy;
mod toolchain;
mod vm;
mod workspace;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, runs and tests Wattrace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Find or install what the build needs: the eBPF compiler and its linker
    Setup {
        /// Also what the tests need
        #[arg(long)]
        test: bool,
        /// Also what builds for aarch64 on another machine, and tests there
        #[arg(long)]
        aarch64: bool,
    },
    /// Build the kernel programs into ebpf/wattrace-ebpf.o; other commands do so if their sources changed
    BuildEbpf,
    /// Build the agent into target/release/wattrace
    Build {
        /// Build target/debug/wattrace instead
        #[arg(long)]
        debug: bool,
    },
    /// Build the agent and run it as root: `wattrace run`, or another of its commands
    Run {
        /// Run the debug build
        #[arg(long)]
        debug: bool,
        /// Arguments of `wattrace run`; or a command of wattrace and its arguments: `-- exec -- sleep 1`
        #[arg(last = true)]
        args: Vec<OsString>,
    },
    /// Make what people install: packages for Debian and Fedora, a tarball, a container image
    Dist(dist::Options),
    /// Check formatting and lints, and run all tests: as root, as the kernel demands, and the privileged ones
    /// on other kernels too (see `vm`) unless arguments choose among the tests
    Test {
        /// Only the tests, on this kernel
        #[arg(long)]
        quick: bool,
        /// Arguments of `cargo test`: `-- -p wattrace-csv`, `-- -- --nocapture`
        #[arg(last = true)]
        args: Vec<OsString>,
    },
    /// Check the repository's own rules: line width, vocabulary, import cycles, layers
    Tidy,
    /// Run the privileged tests on Debian's kernels, in virtual machines
    Vm {
        /// Which: a series, and `-rt` for the real-time kernel of it
        #[arg(default_values_t = vm::matrix(), value_name = "KERNEL")]
        kernels: Vec<vm::Series>,
        /// QEMU's accelerator. Emulation needs nothing of the machine; kvm is faster where it works
        #[arg(long, default_value = vm::TCG)]
        accel: String,
        /// Test all that docs/kernels.md lists, and this machine's kernel; write the results there
        #[arg(long, conflicts_with = "kernels")]
        write_docs: bool,
    },
    /// Run the agent's benchmarks, or those of `-- -p PACKAGE`, as root
    Bench {
        /// Arguments of `cargo bench`
        #[arg(last = true)]
        args: Vec<OsString>,
    },
    /// Judge attribution against the simulator's truth, beside the formulas of other tools
    Eval {
        /// Also write the results to docs/evaluation.md
        #[arg(long, conflicts_with = "scenarios")]
        write_docs: bool,
        /// Instead, replay a table of a real machine's counters and RAPL power, and say how well power is
        /// predicted
        #[arg(long, value_name = "FILE", conflicts_with = "scenarios")]
        trace: Option<PathBuf>,
        /// Only scenarios whose name contains one of these
        #[arg(value_name = "SCENARIO")]
        scenarios: Vec<OsString>,
    },
    /// Kill the agent at random while its collector misbehaves, cut its files and fill its disk; then compare
    /// what the collector knows with the agents' own ledgers
    Chaos(chaos::Options),
    /// Write dashboards/grafana from dashboards/dashboards.toml and the declared metrics
    Dashboards {
        /// Only compare
        #[arg(long)]
        check: bool,
    },
    /// Build the user's book and the plugin author's into target/book, with mdBook
    Book,
    /// Fuzz the parsers of untrusted input, under libFuzzer
    Fuzz {
        /// How long each target runs
        #[arg(long, default_value_t = 600)]
        seconds: u32,
        /// Make fuzz/corpus of the fewest inputs, of it and of what was found, that reach the same code
        #[arg(long)]
        keep: bool,
        /// Only reduce fuzz/corpus to the fewest inputs that reach the same code
        #[arg(long, conflicts_with_all = ["keep", "seconds"])]
        minimise: bool,
        /// Only these targets (fuzz/fuzz_targets)
        #[arg(value_name = "TARGET")]
        targets: Vec<String>,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Setup { test, aarch64 } => setup::run(test, aarch64),
        Task::BuildEbpf => ebpf::rebuild(),
        Task::Build { debug } => agent::build(debug).map(drop),
        Task::Run { debug, args } => agent::run(debug, args),
        Task::Dist(options) => dist::run(options),
        Task::Test { quick, args } => test::run(quick, args),
        Task::Tidy => tidy::run(),
        Task::Vm { kernels, accel, write_docs } => vm::run(&kernels, &accel, write_docs),
        Task::Bench { args } => bench::run(args),
        Task::Eval { write_docs, trace, scenarios } => eval::run(write_docs, trace, scenarios),
        Task::Chaos(options) => chaos::run(&options),
        Task::Dashboards { check } => dashboards::run(check),
        Task::Book => book::run(),
        Task::Fuzz { minimise: true, targets, .. } => fuzz::minimise(targets),
        Task::Fuzz { seconds, keep, targets, .. } => fuzz::run(seconds, keep, targets),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_second_double_dash_belongs_to_the_command() {
        let cli = Cli::try_parse_from(["xtask", "run", "--", "exec", "--", "sleep", "1"]).unwrap();
        let Task::Run { debug: false, args } = cli.task else { panic!("not `run`") };
        assert_eq!(args, ["exec", "--", "sleep", "1"]);
    }
}
