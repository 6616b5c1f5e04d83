//! `wattrace exec`: runs a command, traces the machine while it runs, and says what it and its children used.
//! `ledger.rs` collects what comes out of the pipeline, `report.rs` makes the report of it.

mod ledger;
mod report;

use std::fs::File;
use std::io::Write;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use wattrace_api::Registry;

use self::ledger::{Ledger, LedgerOutput, lock};
use self::report::Report;
use super::{Configuration, Failure, Format, session};
use crate::config::Config;
use crate::pipeline::Pipeline;
use crate::pipeline::health::State;
use crate::plugins::Registered;

/// How long the last readings and writes may take.
const STOPPING: Duration = Duration::from_millis(4500);

/// Opening what counts takes no longer than this, on the slowest of machines.
const OPENING: Duration = Duration::from_secs(10);

/// Exit codes of what runs a command, as in `env` and `timeout`: our own failure, not executable, not found.
const FAILED: u8 = 125;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    configuration: Configuration,
    /// How to report: for people on stderr, for programs on stdout
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
    let ours = |failure: Failure| Failure { code: if failure.code == 2 { 2 } else { FAILED }, ..failure };
    let config = Config::load(&options.configuration.request(), plugins).map_err(Failure::usage)?;
    // Opened first: a report that cannot be written must not be found out after the command has run for an
    // hour.
    let mut file = match &options.output {
        Some(path) => Some(
            File::create(path)
                .map_err(|e| ours(Failure::new(format!("--output {}: {e}", path.display()))))?,
        ),
        None => None,
    };
    let runtime = session::runtime().map_err(ours)?;
    let result = runtime.block_on(run(&options.command, &config, plugins, runtime.handle()));
    runtime.shutdown_timeout(Duration::from_millis(100));
    let (report, status) = result.map_err(|f| if f.code == 1 { ours(f) } else { f })?;
    let written = match (&mut file, options.format) {
        (Some(file), format) => write(&report, format, file),
        (None, Format::Json) => write(&report, Format::Json, &mut std::io::stdout()),
        (None, Format::Human) => write(&report, Format::Human, &mut std::io::stderr()),
    };
    written.map_err(|e| ours(Failure::new(format!("cannot write the report: {e}"))))?;
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
    runtime: &tokio::runtime::Handle,
) -> Result<(Report, ExitStatus), Failure> {
    // Ours from before the command starts: an interrupt from the terminal goes to it as well, and we report
    // then.
    let signals = [SignalKind::interrupt(), SignalKind::quit(), SignalKind::terminate()];
    let [interrupt, quit, mut terminate] =
        signals.map(|kind| signal(kind).map_err(|e| Failure::new(format!("cannot listen for signals: {e}"))));
    let (_interrupt, _quit) = (interrupt?, quit?);

    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let output = {
        let ledger = ledger.clone();
        move |registry: &Arc<Registry>| LedgerOutput::new(ledger.clone(), registry.clone())
    };
    // The table of the whole machine would get in the way of the command's own output.
    let pipeline = session::start(config, plugins, &["console"], Some(output), runtime)?;
    pipeline.sources_opened(Instant::now() + OPENING).await;
    let counts_cpu_time =
        pipeline.health().iter().any(|h| h.name.starts_with("source/sched/") && h.state() == State::Running);
    if !counts_cpu_time {
        return Err(session::nothing_to_measure(&pipeline.health()));
    }
    let (child, start, pipeline) = begin(command, pipeline, &ledger, runtime).await?;
    let pid = child.id();
    let forward = async {
        while let Ok(terminate) = &mut terminate
            && terminate.recv().await.is_some()
        {
            // SAFETY: it has no preconditions. The child is not reaped yet, or is a zombie: its pid is still
            // its own.
            unsafe { libc::kill(pid as libc::pid_t, libc::SIGTERM) };
        }
        std::future::pending::<()>().await;
    };
    let status = tokio::select! {
        status = wait(child, runtime) => status?,
        () = forward => return Err(Failure::new("signals ended")),
    };
    let end = unix_nanos();
    let health = pipeline.stop(Instant::now() + STOPPING).await;
    session::report_losses(&health);
    let report = Report::new(command, shell_code(status), pid, start..end, &lock(&ledger));
    Ok((report, status))
}

/// Takes a last reading from before the command, then starts it.
async fn begin(
    command: &[String],
    pipeline: Pipeline,
    ledger: &Mutex<Ledger>,
    runtime: &tokio::runtime::Handle,
) -> Result<(Child, u64, Pipeline), Failure> {
    pipeline.poll_all().await;
    pipeline.flush(Instant::now() + STOPPING).await;
    lock(ledger).mark();
    let start = unix_nanos();
    let (program, arguments) = command.split_first().ok_or_else(|| Failure::usage("no command was given"))?;
    let mut prepared = Command::new(program);
    prepared.args(arguments);
    // SAFETY: the closure makes one async-signal-safe call. Handlers are reset by exec, but an ignored signal
    // is not.
    unsafe {
        prepared.pre_exec(|| {
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            Ok(())
        });
    }
    let spawned = runtime.spawn_blocking(move || prepared.spawn()).await;
    let child = spawned.map_err(Failure::new)?.map_err(|e| Failure {
        message: format!("cannot run {program}: {e}"),
        code: if e.kind() == std::io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE },
    })?;
    Ok((child, start, pipeline))
}

async fn wait(mut child: Child, runtime: &tokio::runtime::Handle) -> Result<ExitStatus, Failure> {
    let waited = runtime.spawn_blocking(move || child.wait()).await;
    waited.map_err(Failure::new)?.map_err(|e| Failure::new(format!("cannot wait for the command: {e}")))
}

/// The command's exit code as a shell gives it.
fn shell_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|s| 128 + s));
    code.and_then(|c| u8::try_from(c & 0xff).ok()).unwrap_or(FAILED)
}

fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
