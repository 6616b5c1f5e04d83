//! The commands. Each is a file of its own; this one maps the command line to them and their results to exit
//! codes.

#[cfg(all(feature = "sched", feature = "estimate"))]
mod calibrate;
mod config;
mod control;
mod doctor;
mod exec;
mod manual;
mod plugins;
mod run;
mod session;
mod table;

use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::config::Request;
use crate::plugins::Registered;

/// Traces energy to processes on Linux.
#[derive(Debug, Parser)]
#[command(name = "wattrace", version, max_term_width = 110, arg_required_else_help = true)]
struct Cli {
    /// Say more: -v what was found, -vv what is done
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Trace the whole machine until stopped
    Run(run::Options),
    /// Run a command and say what it and its children used
    Exec(exec::Options),
    /// Find what the CPU packages draw at which load, by their meter, for machines that have none
    #[cfg(all(feature = "sched", feature = "estimate"))]
    Calibrate(calibrate::Options),
    /// Look at what is there, what is missing, and what would give it
    Doctor(doctor::Options),
    /// Write, check or show a configuration
    #[command(subcommand)]
    Config(config::Options),
    /// List the plugins of this agent
    #[command(subcommand)]
    Plugins(plugins::Options),
    /// Have a running agent tell or do something
    Control(control::Options),
    /// Write completions for a shell, as in: wattrace completions bash > /etc/bash_completion.d/wattrace
    Completions(manual::Completions),
    /// Write the manual page, as in: wattrace man | man -l -
    Man(manual::Man),
}

/// Options of all commands that take a configuration.
#[derive(Debug, Clone, Args)]
struct Configuration {
    /// Configuration file [default: /etc/wattrace/wattrace.toml, if there is one]
    #[arg(short, long, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    /// Set a key, as in plugins.rapl.interval=100ms; a value that is no TOML is taken as a string
    #[arg(short, long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Run with exactly these plugins
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    plugins: Option<Vec<String>>,
}

impl Configuration {
    fn request(&self) -> Request {
        Request { file: self.config.clone(), set: self.set.clone(), only: self.plugins.clone() }
    }
}

/// How a command writes its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Human,
    /// For programs
    Json,
}

/// Parses the command line and does what it says.
pub(crate) fn main(plugins: &[Registered]) -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr(cli.verbose);
    let result = match cli.command {
        Command::Run(options) => run::main(&options, plugins),
        Command::Exec(options) => exec::main(&options, plugins),
        #[cfg(all(feature = "sched", feature = "estimate"))]
        Command::Calibrate(options) => calibrate::main(&options, plugins),
        Command::Doctor(options) => doctor::main(&options, plugins),
        Command::Config(options) => config::main(&options, plugins),
        Command::Plugins(options) => plugins::main(&options, plugins),
        Command::Control(options) => control::main(options),
        Command::Completions(options) => manual::completions(&options),
        Command::Man(options) => manual::man(&options),
    };
    result.unwrap_or_else(|failure| {
        eprintln!("wattrace: {}", failure.message);
        ExitCode::from(failure.code)
    })
}

/// Why a command could not be carried out, for the user, and with which exit code it ends.
#[derive(Debug)]
struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// The command failed.
    fn new(message: impl ToString) -> Self {
        Self { message: message.to_string(), code: 1 }
    }

    /// What the user wrote makes no sense.
    fn usage(message: impl ToString) -> Self {
        Self { message: message.to_string(), code: 2 }
    }
}

/// Prints to standard output. Whoever reads it may stop reading: that ends the command quietly.
fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("cannot write to standard output: {e}")))
        }
        _ => Ok(()),
    }
}

/// WARN means degraded and nothing lost, ERROR that someone must act; both are always shown.
fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        _ => "wattrace=debug,info",
    };
    let filter = EnvFilter::try_from_env("WATTRACE_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(terminal)
        .with_target(false)
        .without_time()
        .init();
}
