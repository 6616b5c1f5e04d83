//! The command line. Each command has a file of its own; this one parses the arguments, runs the command, and
//! turns its result into an exit code.

#[cfg(all(feature = "sched", feature = "estimate"))]
mod calibrate;
mod compare;
mod config;
mod control;
mod doctor;
mod examples;
mod exec;
mod failure;
mod log;
mod manual;
mod missing;
mod options;
mod plugins;
#[cfg(feature = "sqlite")]
mod query;
mod run;
mod service;
mod session;
mod system;
mod table;
mod top;
#[cfg(feature = "sqlite")]
mod view;
mod watch;

use std::process::ExitCode;

use clap::{ArgAction, CommandFactory as _, Parser, Subcommand};
use tracing::info;
use wattrace_api::privilege;

use self::failure::Failure;
use crate::plugins::Registered;
use crate::sys::{heap, limits};

/// Traces energy to processes on Linux.
#[derive(Debug, Parser)]
#[command(name = "wattrace", version, max_term_width = 110, arg_required_else_help = true)]
#[command(after_help = examples::WATTRACE)]
struct Cli {
    /// Log more: -v what was found, -vv what is done
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// Send what this command itself does as spans to the collector of OTEL_EXPORTER_OTLP_ENDPOINT
    #[cfg(feature = "traces")]
    #[arg(long, global = true, env = "WATTRACE_TRACE_OPERATION")]
    trace_operation: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Trace the whole machine until stopped
    #[command(after_help = examples::RUN)]
    Run(run::Options),
    /// Run a command and report what it and its children used
    #[command(after_help = examples::EXEC)]
    Exec(exec::Options),
    /// Attach to what runs already, and report what it uses from now on
    #[command(after_help = examples::WATCH)]
    Watch(watch::Options),
    /// Compare what two commands, revisions or saved reports use
    #[command(after_help = examples::COMPARE)]
    Compare(compare::Options),
    /// Measure what the CPU packages draw at which load, for machines that have no meter
    #[cfg(all(feature = "sched", feature = "estimate"))]
    #[command(after_help = examples::CALIBRATE)]
    Calibrate(calibrate::Options),
    /// Show who used how much energy in a span of a database of the plugin sqlite
    #[cfg(feature = "sqlite")]
    #[command(after_help = examples::QUERY)]
    Query(query::Options),
    /// Show who used how much energy when, on a web page on this machine
    #[cfg(feature = "sqlite")]
    #[command(after_help = examples::VIEW)]
    View(view::Options),
    /// Show what works here, what is missing, and how to get it
    #[command(after_help = examples::DOCTOR)]
    Doctor(doctor::Options),
    /// Show who uses how much power now, or did in a recording
    #[command(after_help = examples::TOP)]
    Top(top::Options),
    /// Write, check or show a configuration
    #[command(subcommand, after_help = examples::CONFIG)]
    Config(config::Options),
    /// List the plugins of this agent
    #[command(subcommand)]
    Plugins(plugins::Options),
    /// Query or control a running agent
    #[command(after_help = examples::CONTROL)]
    Control(control::Options),
    /// Write completions for a shell, as in: wattrace completions bash > /etc/bash_completion.d/wattrace
    Completions(manual::Completions),
    /// Write the manual page, as in: wattrace man | man -l -
    Man(manual::Man),
}

/// Parses the command line and runs the command.
pub(crate) fn main(plugins: &[Registered]) -> ExitCode {
    // Before there are threads: each has its creator's capabilities.
    let limited = match limit_rights() {
        Ok(limited) => limited,
        Err(failure) => return fail(&failure),
    };
    limits::raise_open_files();
    heap::return_large_blocks();
    let cli = Cli::parse();
    #[cfg(feature = "traces")]
    let _operation = match cli.trace_operation.then(|| log::to_stderr_and_trace(cli.verbose)).transpose() {
        Ok(None) => {
            log::to_stderr(cli.verbose);
            None
        }
        Ok(operation) => operation,
        Err(cause) => return fail(&Failure::usage(format!("--trace-operation: {cause}"))),
    };
    #[cfg(not(feature = "traces"))]
    log::to_stderr(cli.verbose);
    if limited {
        info!("capabilities of the file are used for the kernel's own files only");
    }
    dispatch(cli.command, plugins).unwrap_or_else(|failure| fail(&failure))
}

fn dispatch(command: Command, plugins: &[Registered]) -> Result<ExitCode, Failure> {
    match command {
        Command::Run(options) => run::main(&options, plugins),
        Command::Exec(options) => exec::main(&options, plugins),
        Command::Watch(options) => watch::main(&options, plugins),
        Command::Compare(options) => compare::main(&options, plugins),
        #[cfg(all(feature = "sched", feature = "estimate"))]
        Command::Calibrate(options) => calibrate::main(&options, plugins),
        #[cfg(feature = "sqlite")]
        Command::Query(options) => query::main(&options),
        #[cfg(feature = "sqlite")]
        Command::View(options) => view::main(&options),
        Command::Doctor(options) => doctor::main(&options, plugins),
        Command::Top(options) => top::main(&options, plugins),
        Command::Config(options) => config::main(&options, plugins),
        Command::Plugins(options) => plugins::main(&options, plugins),
        Command::Control(options) => control::main(options),
        Command::Completions(options) => manual::completions(&options, &mut Cli::command()),
        Command::Man(options) => manual::man(&options, Cli::command()),
    }
}

fn fail(failure: &Failure) -> ExitCode {
    eprintln!("wattrace: {}", failure.message);
    ExitCode::from(failure.code)
}

/// Keeps the rights that the executable's file gives away from paths that the user names. Returns whether it
/// gives any.
fn limit_rights() -> Result<bool, Failure> {
    if !rustix::process::getuid().is_root() && rustix::process::geteuid().is_root() {
        let remedy = "give it capabilities instead, see `wattrace doctor`";
        return Err(Failure::usage(format!(
            "the set-user-ID bit would let every user read all files: {remedy}"
        )));
    }
    privilege::limit()
        .map_err(|e| Failure::new(format!("cannot limit the capabilities of this process: {e}")))
}
