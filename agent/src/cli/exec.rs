//! `wattrace exec`: runs a command, traces the machine while it runs, and reports what it and its children
//! used.
//!
//! | file | holds |
//! | --- | --- |
//! | `exec/tracer.rs` | the pipeline that measures commands |
//! | `exec/baseline.rs`, `exec/static_power.rs` | what the machine draws at no load |
//! | `exec/budget.rs` | what happens when the command has used its budget |
//! | `exec/child.rs` | a command's process |
//! | `exec/recorder.rs` | what the pipeline produces, before any transform that changes what outputs get |
//! | `exec/history.rs` | who used how much when, for the page of `--html` |
//! | `exec/interval.rs` | the 95 % intervals of sums over processes |
//! | `exec/process_stats.rs` | what processes used besides CPU time and energy |
//! | `exec/network.rs` | the bytes that a command received and sent |
//! | `exec/trace.rs` | the span that the spans of the command's processes are children of |
//! | `exec/selection.rs` | the processes that a report is about: a command's, or what is watched |
//! | `exec/report.rs` | the report of one run |
//! | `exec/watched.rs` | what `wattrace watch` was attached to, in its report |
//! | `exec/usage.rs` | what one of several runs used |
//! | `exec/repeat.rs` | several runs, and the report on them |

pub(super) mod baseline;
mod budget;
pub(super) mod child;
mod history;
mod interval;
mod network;
mod process_stats;
pub(super) mod recorder;
pub(super) mod repeat;
pub(super) mod report;
pub(super) mod selection;
mod static_power;
mod trace;
pub(super) mod tracer;
pub(super) mod usage;
pub(super) mod watched;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::runtime::Handle;
use wattrace_progress::Progress;

use self::baseline::BaselineOptions;
use self::budget::BudgetOptions;
use self::child::{FAILED, Job, shell_code};
use self::history::SharedHistory;
use self::recorder::{Recording, lock};
use self::repeat::{RepeatReport, RunOptions};
use self::report::Report;
use self::selection::Selection;
use self::tracer::Tracer;
use self::usage::RunUsage;
use super::failure::Failure;
use super::options::{Configuration, Format, joules};
use super::session::{self, Outputs};
use crate::config::Config;
use crate::plugins::Registered;

/// The exit code of a gate: the command used more than it may.
pub(super) const EXCEEDED: u8 = 3;

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
    /// Send each process of the command as a span with its energy (plugin traces), and give the command a
    /// TRACEPARENT
    #[arg(long)]
    trace: bool,
    /// Run the command this often, and report mean, spread and outliers; it then has no input and output
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    repeat: Option<u32>,
    #[command(flatten)]
    runs: RunOptions,
    #[command(flatten)]
    baseline: BaselineOptions,
    /// Write tables in Markdown to this file
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write a web page to this file that shows who used how much when
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write every run to this file, as JSON that `wattrace compare` reads
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
    /// Exit with 3 if the command used more than this, on average over all runs
    #[arg(long, value_name = "J", value_parser = joules)]
    max_joules: Option<f64>,
    #[command(flatten)]
    budget: BudgetOptions,
    /// The command and its arguments; what follows CMD belongs to it
    #[arg(trailing_var_arg = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

impl Options {
    fn is_repeated(&self) -> bool {
        self.repeat.is_some() || self.runs.are_given()
    }
}

/// What was measured.
struct Measured {
    /// In the two formats of `--format`: for people, and for programs.
    text: String,
    json: String,
    /// All runs, for `--markdown`, `--export` and `--max-joules`.
    runs: RepeatReport,
    /// For `--html`.
    page: Option<String>,
    /// The exit code of the last run.
    code: u8,
}

pub(super) fn main(options: &Options, plugins: &[Registered]) -> Result<ExitCode, Failure> {
    let own = |failure: Failure| Failure { code: if failure.code == 2 { 2 } else { FAILED }, ..failure };
    let mut config = Config::load(&options.configuration.request(), plugins).map_err(Failure::usage)?;
    if options.html.is_some() && options.is_repeated() {
        let others = "--repeat, --warmup, --prepare and --ignore-failure";
        return Err(Failure::usage(format!("--html shows a single run: leave out {others}")));
    }
    // Created before the command runs, which may take an hour, so that an error is reported before.
    let mut output = create("--output", options.output.as_deref()).map_err(own)?;
    let mut markdown = create("--markdown", options.markdown.as_deref()).map_err(own)?;
    let mut export = create("--export", options.export.as_deref()).map_err(own)?;
    let mut html = create("--html", options.html.as_deref()).map_err(own)?;
    let runtime = session::runtime().map_err(own)?;
    let result = runtime.block_on(measure(options, &mut config, plugins, runtime.handle()));
    runtime.shutdown_timeout(Duration::from_millis(100));
    let Measured { text, json, runs, page, code } =
        result.map_err(|f| if f.code == 1 { own(f) } else { f })?;
    let report = if options.format == Format::Json { json } else { text };
    let written = match (&mut output, options.format) {
        (Some(file), _) => write(&report, file),
        (None, Format::Json) => write(&report, &mut std::io::stdout()),
        (None, Format::Human) => write(&report, &mut std::io::stderr()),
    };
    written
        .and_then(|()| markdown.as_mut().map_or(Ok(()), |file| write(&runs.markdown(), file)))
        .and_then(|()| export.as_mut().map_or(Ok(()), |file| write(&line(&runs)?, file)))
        .and_then(|()| html.as_mut().zip(page).map_or(Ok(()), |(file, page)| write(&page, file)))
        .map_err(|e| own(Failure::new(format!("cannot write the report: {e}"))))?;
    Ok(ExitCode::from(gate(options.max_joules, &runs).map_err(own)?.unwrap_or(code)))
}

fn create(option: &str, path: Option<&Path>) -> Result<Option<File>, Failure> {
    let create = |path: &Path| {
        File::create(path).map_err(|e| Failure::new(format!("{option} {}: {e}", path.display())))
    };
    path.map(create).transpose()
}

/// A report as one line of JSON.
fn line(report: &impl serde::Serialize) -> std::io::Result<String> {
    Ok(serde_json::to_string(report)? + "\n")
}

fn write(text: &str, to: &mut dyn Write) -> std::io::Result<()> {
    to.write_all(text.as_bytes())?;
    to.flush()
}

/// The exit code if the command used more than it may.
fn gate(most: Option<f64>, runs: &RepeatReport) -> Result<Option<u8>, Failure> {
    let Some(most) = most else { return Ok(None) };
    let Some(used) = runs.mean_joules() else {
        let reason = "no joules were measured or estimated, `wattrace doctor` says why";
        return Err(Failure::new(format!("--max-joules {most}: {reason}")));
    };
    if used <= most {
        return Ok(None);
    }
    eprintln!("wattrace: the command used {used:.3} J, more than --max-joules {most}");
    Ok(Some(EXCEEDED))
}

async fn measure(
    options: &Options,
    config: &mut Config,
    plugins: &[Registered],
    runtime: &Handle,
) -> Result<Measured, Failure> {
    let budget = options.budget.open(options.is_repeated())?;
    if !options.is_repeated() {
        process_stats::ask_for(config);
    }
    let has_traces = trace::prepare(config, options.trace)?;
    let outputs = match (options.with_outputs, options.trace) {
        (true, _) => Outputs::All,
        (false, true) => Outputs::Of(trace::PLUGIN),
        (false, false) => Outputs::None,
    };
    let history = options.html.is_some().then(SharedHistory::default);
    let mut tracer = Tracer::start(config, plugins, runtime, outputs, budget, history).await?;
    tracer.report_missing(config, plugins);
    baseline::take(&options.baseline, &mut tracer).await?;
    tracer.is_traced = has_traces && outputs != Outputs::None;
    if !options.is_repeated() {
        return once(options, tracer).await;
    }
    let result = repeat(options, &mut tracer).await;
    tracer.stop().await;
    result
}

async fn once(options: &Options, mut tracer: Tracer) -> Result<Measured, Failure> {
    let job = Job { command: options.command.clone(), directory: None, shares_terminal: true };
    let ended = tracer.run(&job).await?;
    let (budget, history) = (tracer.budget.take(), tracer.history.take());
    let recording = tracer.stop().await;
    let recording = lock(&recording);
    let (code, selected) = (shell_code(ended.status), ended.selection(&recording));
    let mut report = Report::new(&options.command, code, ended.window.clone(), &selected, &recording);
    let exceeded = budget.is_some_and(|budget| report.add_budget(budget));
    let json = line(&report).map_err(Failure::new)?;
    let page = history.map(|history| page(&options.command, &history, &selected, &recording)).transpose()?;
    let runs = vec![RunUsage::new(&ended, &recording)];
    let runs = RepeatReport::new(&options.command, 0, None, runs);
    let code = if exceeded { EXCEEDED } else { code };
    Ok(Measured { text: report.for_people(), json, runs, page, code })
}

/// The page about one run.
fn page(
    command: &[String],
    history: &SharedHistory,
    selected: &Selection,
    recording: &Recording,
) -> Result<String, Failure> {
    let identity = |&at: &usize| recording.processes[at].consumer.identity();
    let history = std::mem::take(&mut *history::lock(history));
    let document =
        history.into_document(&command.join(" "), &selected.processes.iter().map(identity).collect());
    wattrace_page::html::file(&document).map_err(|e| Failure::new(format!("--html: {e}")))
}

async fn repeat(options: &Options, tracer: &mut Tracer) -> Result<Measured, Failure> {
    let shares_terminal = options.runs.show_output;
    let job = Job { command: options.command.clone(), directory: None, shares_terminal };
    let (warmup, count) = (options.runs.warmup(0), options.repeat.unwrap_or(1));
    let mut progress = Progress::new("wattrace", !shares_terminal);
    for number in 1..=warmup {
        progress.show(&format!("warm-up {number} of {warmup}"));
        options.runs.run(tracer, &job).await?;
    }
    let mut runs: Vec<RunUsage> = Vec::new();
    progress.begin_steps();
    for number in 1..=count {
        let last = runs.last().map(|run| format!("; the last one took {:.3} s", run.wall_s));
        let now = format!("run {number} of {count}{}", last.unwrap_or_default());
        progress.show_step(runs.len(), count as usize, &now);
        runs.push(options.runs.run(tracer, &job).await?);
    }
    drop(progress);
    let code = runs.iter().map(|run| run.exit_code).find(|&code| code != 0).unwrap_or(0);
    let report = RepeatReport::new(&options.command, warmup, options.runs.prepare.clone(), runs);
    let json = line(&report).map_err(Failure::new)?;
    Ok(Measured { text: report.for_people(), json, runs: report, page: None, code })
}
