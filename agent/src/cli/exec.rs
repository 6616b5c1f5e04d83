//! `wattrace exec`: runs a command, traces the machine while it runs, and reports what it and its children
//! used.
//!
//! | file | holds |
//! | --- | --- |
//! | `exec/child.rs` | the command's process |
//! | `exec/recorder.rs` | what the pipeline produces, before any transform that changes what outputs get |
//! | `exec/tree.rs` | the command's process and its descendants |
//! | `exec/report.rs` | the report |

mod child;
mod recorder;
mod report;
mod tree;

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Args;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use wattrace_api::{Registry, Role, Usage};

use self::child::{FAILED, shell_code, unix_nanos};
use self::recorder::{CommandRecorder, Recording, lock};
use self::report::Report;
use self::tree::Tree;
use super::failure::Failure;
use super::options::{Configuration, Format};
use super::session;
use crate::config::Config;
use crate::pipeline::Pipeline;
use crate::plugins::Registered;

/// Time limit for the last readings and writes.
const STOP_TIMEOUT: Duration = Duration::from_millis(4500);

/// Time limit for the reading before the command starts.
const POLL_TIMEOUT: Duration = Duration::from_secs(1);

/// Time limit for opening the sources, and for their first reading, for the slowest of machines.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    configuration: Configuration,
    /// Format of the report: for people on stderr, for programs on stdout
    #[arg(short, long, value_enum, default_value = "human")]
    format: Format,
    /// Write the report to this file instead
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Run the outputs of the configuration too
    #[arg(long)]
    with_outputs: bool,
    /// The command and its arguments; what follows CMD belongs to it
    #[arg(trailing_var_arg = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

pub(super) fn main(options: &Options, plugins: &[Registered]) -> Result<ExitCode, Failure> {
    let own = |failure: Failure| Failure { code: if failure.code == 2 { 2 } else { FAILED }, ..failure };
    let mut config = Config::load(&options.configuration.request(), plugins).map_err(Failure::usage)?;
    // Created before the command runs, which may take an hour, so that an error is reported before.
    let mut file = match &options.output {
        Some(path) => Some(
            File::create(path).map_err(|e| own(Failure::new(format!("--output {}: {e}", path.display()))))?,
        ),
        None => None,
    };
    let runtime = session::runtime().map_err(own)?;
    let result = runtime.block_on(run(options, &mut config, plugins, runtime.handle()));
    runtime.shutdown_timeout(Duration::from_millis(100));
    let (report, status) = result.map_err(|f| if f.code == 1 { own(f) } else { f })?;
    let written = match (&mut file, options.format) {
        (Some(file), format) => write(&report, format, file),
        (None, Format::Json) => write(&report, Format::Json, &mut std::io::stdout()),
        (None, Format::Human) => write(&report, Format::Human, &mut std::io::stderr()),
    };
    written.map_err(|e| own(Failure::new(format!("cannot write the report: {e}"))))?;
    Ok(ExitCode::from(shell_code(status)))
}

fn write(report: &Report, format: Format, to: &mut dyn Write) -> std::io::Result<()> {
    match format {
        Format::Json => {
            serde_json::to_writer(&mut *to, report)?;
            to.write_all(b"\n")?;
        }
        Format::Human => to.write_all(report.for_people().as_bytes())?,
    }
    to.flush()
}

async fn run(
    options: &Options,
    config: &mut Config,
    plugins: &[Registered],
    runtime: &Handle,
) -> Result<(Report, ExitStatus), Failure> {
    // Caught from before the command starts: the terminal sends an interrupt to the command too, and the
    // report follows when the command ends.
    let signals = [SignalKind::interrupt(), SignalKind::quit(), SignalKind::terminate()];
    let [interrupt, quit, terminate] =
        signals.map(|kind| signal(kind).map_err(|e| Failure::new(format!("cannot listen for signals: {e}"))));
    let (_interrupt, _quit, mut terminate) = (interrupt?, quit?, terminate?);

    let recording = Arc::new(Mutex::new(Recording::default()));
    let pipeline = trace(options, config, plugins, runtime, &recording).await?;
    let child = child::spawn(&options.command, runtime).await?;
    let (pid, start) = (child.pid(), child.start);
    let root = child.root;
    let forward = async {
        while terminate.recv().await.is_some() {
            // SAFETY: the call has no preconditions. The pid is still the child's: it is not reaped yet.
            unsafe { libc::kill(pid as libc::pid_t, libc::SIGTERM) };
        }
        std::future::pending::<()>().await;
    };
    let status = tokio::select! {
        status = child.wait(runtime) => status?,
        () = forward => return Err(Failure::new("signals ended")),
    };
    let end = unix_nanos();
    let health = pipeline.stop(Instant::now() + STOP_TIMEOUT).await;
    session::report_losses(&health);
    let recording = lock(&recording);
    let tree = Tree::of(root, start, &recording.processes);
    let report = Report::new(&options.command, shell_code(status), start..end, &tree, &recording);
    Ok((report, status))
}

/// Starts a pipeline that fills `recording`, and takes the reading from which the command's use is counted.
async fn trace(
    options: &Options,
    config: &mut Config,
    plugins: &[Registered],
    runtime: &Handle,
    recording: &Arc<Mutex<Recording>>,
) -> Result<Pipeline, Failure> {
    // The terminal is the command's.
    let plugins: Vec<_> = plugins.iter().copied().filter(|plugin| !plugin.is_interactive).collect();
    let counted = recording.clone();
    let counter = move |registry, since| CommandRecorder::new(counted.clone(), registry, since);
    let host = session::start_counting(config, &plugins, runtime, options.with_outputs, counter)?;
    let registry = host.registry().clone();
    let pipeline = session::start_pipeline(host, config)?;
    pipeline.sources_opened(Instant::now() + OPEN_TIMEOUT).await;
    pipeline.poll_all(Instant::now() + POLL_TIMEOUT).await;
    if !counts_cpu_time(&registry) {
        // On a slow machine, the first reading takes longer than one that hangs may delay the command.
        pipeline.poll_all(Instant::now() + OPEN_TIMEOUT).await;
    }
    pipeline.settle(Instant::now() + STOP_TIMEOUT).await;
    if !counts_cpu_time(&registry) {
        return Err(session::nothing_to_measure(&pipeline.health(), "a plugin that counts CPU time"));
    }
    lock(recording).reset();
    Ok(pipeline)
}

/// Whether a source counts the CPU time of processes, which the report is made of.
fn counts_cpu_time(registry: &Registry) -> bool {
    registry.series().iter().any(|(_, series)| series.role == Role::Usage(Usage::CpuTime))
}
