//! `wattrace watch`: attaches to what runs already and reports as `wattrace exec` does, when it ends, when
//! the time is up or on an interrupt. What was used before is not counted. `cli/exec/` records and reports.
//!
//! | file | holds |
//! | --- | --- |
//! | `watch/target.rs` | what can be watched, and which processes belong to it |
//! | `watch/running.rs` | the processes that run now, by /proc |
//! | `watch/names.rs` | what the plugin `groups` knows of cgroups and containers |
//! | `watch/end.rs` | waits until the target has no more processes |

mod end;
mod names;
mod running;
mod target;

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::runtime::Handle;
use wattrace_api::Consumer;
use wattrace_procfs::Procfs;
use wattrace_procfs::namespace::pids_are_private;

use self::running::Running;
use self::target::Target;
use super::exec::recorder::{Recording, lock};
use super::exec::report::Report;
use super::exec::selection::{Selection, TOLERANCE, int};
use super::exec::tracer::Tracer;
use super::exec::watched::{Until, Watched};
use super::failure::Failure;
use super::options::{Configuration, Format};
use super::session::{self, Outputs};
use crate::config::Config;
use crate::plugins::Registered;

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
    /// Watch for this long, as in 10s or 5min [default: until it ends]
    #[arg(short, long, value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// A pid, with its descendants; the name of programs; unit:NAME; container:NAME; cgroup:PATH
    #[arg(value_name = "PID|NAME|unit:NAME|container:NAME|cgroup:PATH")]
    target: Target,
}

pub(super) fn main(options: &Options, plugins: &[Registered]) -> Result<ExitCode, Failure> {
    let mut config = Config::load(&options.configuration.request(), plugins).map_err(Failure::usage)?;
    if pids_are_private() {
        return Err(Failure::new(
            "this is a private PID namespace (a container), whose pids are not those that the kernel \
             programs know: run it with `--pid=host` (Docker, Podman) or `hostPID: true` (Kubernetes)",
        ));
    }
    let create = |path: &PathBuf| {
        File::create(path).map_err(|e| Failure::new(format!("--output {}: {e}", path.display())))
    };
    // Created before, so that an error is reported before hours have passed.
    let output = options.output.as_ref().map(create).transpose()?;
    let runtime = session::runtime()?;
    let result = runtime.block_on(watch(options, &mut config, plugins, runtime.handle()));
    runtime.shutdown_timeout(Duration::from_millis(100));
    let report = result?;
    let text = match options.format {
        Format::Human => report.for_people(),
        Format::Json => serde_json::to_string(&report).map_err(Failure::new)? + "\n",
    };
    let mut to: Box<dyn Write> = match (output, options.format) {
        (Some(file), _) => Box::new(file),
        (None, Format::Json) => Box::new(std::io::stdout()),
        (None, Format::Human) => Box::new(std::io::stderr()),
    };
    to.write_all(text.as_bytes())
        .and_then(|()| to.flush())
        .map_err(|e| Failure::new(format!("cannot write the report: {e}")))?;
    Ok(ExitCode::SUCCESS)
}

async fn watch(
    options: &Options,
    config: &mut Config,
    plugins: &[Registered],
    runtime: &Handle,
) -> Result<Report, Failure> {
    let procfs = Procfs::default();
    // Before anything is loaded: most mistakes are here.
    let target = &resolved(options.target.clone(), &Running::all(&procfs), config).await?;
    let mut tracer = Tracer::start(config, plugins, runtime, Outputs::None, None, None).await?;
    tracer.report_missing(config, plugins);
    let attached = target.find(&Running::all(&procfs)).map_err(Failure::new)?;
    eprintln!("wattrace: watching {}", target.describe(&attached));
    let pids: Vec<u32> = attached.iter().map(|process| process.pid).collect();
    let end = async {
        let time_is_up = async {
            match options.duration {
                Some(duration) => tokio::time::sleep(duration).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = end::of(target, &attached, &procfs) => Until::Ended,
            () = time_is_up => Until::Duration,
        }
    };
    let (window, ended) = tracer.watch(end).await;
    let recording = tracer.stop().await;
    let recording = lock(&recording);
    // A pid that is taken again belongs to somebody else.
    let was_attached = |process: &Consumer| {
        let identity = process.identity();
        let began_before = identity.start_unix_nano <= window.start + TOLERANCE;
        began_before && identity.id.parse().is_ok_and(|pid| pids.contains(&pid))
    };
    let is_wanted = |process: &Consumer| was_attached(process) || target.matches(&process.attributes());
    let selected = Selection::of_all(is_wanted, target.has_descendants(), &recording);
    let code = exit_code(target, &recording, &was_attached);
    let until = ended.unwrap_or(Until::Interrupted);
    let watched = Watched { kind: target.kind(), id: target.id(), attached: pids.clone(), until };
    Ok(Report::on_watched(watched, code, window.clone(), &selected, &recording))
}

/// `target` if some of `running` belong to it. A container may be called by its name: engines know the id.
async fn resolved(target: Target, running: &[Running], config: &Config) -> Result<Target, Failure> {
    let not_found = match target.find(running) {
        Ok(_) => return Ok(target),
        Err(why) => Failure::new(why),
    };
    let Target::Container(name) = &target else { return Err(not_found) };
    let Some(id) = names::container_id(name, config).await? else { return Err(not_found) };
    let target = Target::Container(id);
    target.find(running).map(|_| target).map_err(|_| not_found)
}

/// The exit code of the process that was watched; 0 if it goes on, or if several are watched.
fn exit_code(target: &Target, recording: &Recording, was_attached: &dyn Fn(&Consumer) -> bool) -> u8 {
    let Target::Process(pid) = target else { return 0 };
    let pid = pid.to_string();
    let mut processes = recording.consumers();
    let process = processes.find(|process| process.identity().id == *pid && was_attached(process));
    process.map_or(0, |process| u8::try_from(int(process, "process.exit.code")).unwrap_or(u8::MAX))
}
