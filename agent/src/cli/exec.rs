//! `wattrace exec`: runs a command, traces the machine while it runs, and reports what it and its children
//! used. `exec/recorder.rs` records the points that the pipeline produces, `exec/report.rs` makes the report
//! of them.

mod recorder;
mod report;

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use wattrace_api::{Registry, Role, Usage};

use self::recorder::{CommandRecorder, Recording, lock};
use self::report::Report;
use super::failure::Failure;
use super::options::{Configuration, Format};
use super::session;
use crate::config::Config;
use crate::observe;
use crate::pipeline::Pipeline;
use crate::plugins::Registered;

/// Time limit for the last readings and writes.
const STOP_TIMEOUT: Duration = Duration::from_millis(4500);

/// Time limit for the reading before the command starts.
const POLL_TIMEOUT: Duration = Duration::from_secs(1);

/// Time limit for opening the sources, and for their first reading, for the slowest of machines.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Exit codes, as `env` and `timeout` use them: wattrace itself failed, not executable, not found.
const FAILED: u8 = 125;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

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
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

pub(super) fn main(options: &Options, plugins: &[Registered]) -> Result<ExitCode, Failure> {
    let own = |failure: Failure| Failure { code: if failure.code == 2 { 2 } else { FAILED }, ..failure };
    let config = Config::load(&options.configuration.request(), plugins).map_err(Failure::usage)?;
    // Created before the command runs, which may take an hour, so that an error is reported before.
    let mut file = match &options.output {
        Some(path) => Some(
            File::create(path).map_err(|e| own(Failure::new(format!("--output {}: {e}", path.display()))))?,
        ),
        None => None,
    };
    let runtime = session::runtime().map_err(own)?;
    let result = runtime.block_on(run(&options.command, &config, plugins, runtime.handle()));
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
    command: &[String],
    config: &Config,
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
    let pipeline = trace(config, plugins, runtime, &recording).await?;
    let (child, start) = spawn(command, runtime).await?;
    let pid = child.id();
    let forward = async {
        while terminate.recv().await.is_some() {
            // SAFETY: the call has no preconditions. The pid is still the child's: it is not reaped yet.
            unsafe { libc::kill(pid as libc::pid_t, libc::SIGTERM) };
        }
        std::future::pending::<()>().await;
    };
    let status = tokio::select! {
        status = wait(child, runtime) => status?,
        () = forward => return Err(Failure::new("signals ended")),
    };
    let end = unix_nanos();
    let health = pipeline.stop(Instant::now() + STOP_TIMEOUT).await;
    session::report_losses(&health);
    let report = Report::new(command, shell_code(status), pid, start..end, &lock(&recording));
    Ok((report, status))
}

/// Starts a pipeline that fills `recording`, and takes the reading from which the command's use is counted.
async fn trace(
    config: &Config,
    plugins: &[Registered],
    runtime: &Handle,
    recording: &Arc<Mutex<Recording>>,
) -> Result<Pipeline, Failure> {
    // The terminal is the command's.
    let plugins: Vec<_> = plugins.iter().copied().filter(|plugin| !plugin.is_interactive).collect();
    let mut host = session::start_plugins(config, &plugins, runtime)?;
    let (registry, since) = (host.registry().clone(), host.clock().now());
    let output = {
        let (recording, registry) = (recording.clone(), registry.clone());
        move || Ok(CommandRecorder::new(recording.clone(), registry.clone(), since))
    };
    host.start(observe::PLUGIN, |setup| {
        setup.output("command", output);
        Ok(())
    })
    .map_err(Failure::new)?;
    let pipeline = session::start_pipeline(host, config)?;
    pipeline.sources_opened(Instant::now() + OPEN_TIMEOUT).await;
    pipeline.poll_all(Instant::now() + POLL_TIMEOUT).await;
    if !counts_cpu_time(&registry) {
        // On a slow machine, the first reading takes longer than one that hangs may delay the command.
        pipeline.poll_all(Instant::now() + OPEN_TIMEOUT).await;
    }
    pipeline.flush(Instant::now() + STOP_TIMEOUT).await;
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

/// Starts the command. Returns it with its start time.
async fn spawn(command: &[String], runtime: &Handle) -> Result<(Child, u64), Failure> {
    let start = unix_nanos();
    let (program, arguments) = command.split_first().ok_or_else(|| Failure::usage("no command was given"))?;
    let mut prepared = Command::new(program);
    prepared.args(arguments);
    // SAFETY: the closure makes one async-signal-safe call. exec(2) resets handlers, but not an ignored
    // signal.
    unsafe {
        prepared.pre_exec(|| {
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            Ok(())
        });
    }
    let spawned = runtime.spawn_blocking(move || prepared.spawn()).await;
    let child = spawned.map_err(Failure::new)?.map_err(|e| Failure {
        message: format!("cannot run {program}: {e}"),
        code: if e.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE },
    })?;
    Ok((child, start))
}

async fn wait(mut child: Child, runtime: &Handle) -> Result<ExitStatus, Failure> {
    let waited = runtime.spawn_blocking(move || child.wait()).await;
    waited.map_err(Failure::new)?.map_err(|e| Failure::new(format!("cannot wait for the command: {e}")))
}

/// The command's exit code as a shell reports it.
fn shell_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|s| 128 + s));
    code.and_then(|c| u8::try_from(c & 0xff).ok()).unwrap_or(FAILED)
}

fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
