//! `wattrace compare`: which of two commands uses more energy, and by how much. Runs both in pairs, each in
//! random order, until the question is answered or cannot be.
//!
//! | file | holds |
//! | --- | --- |
//! | `compare/side.rs`, `checkout.rs` | what is compared: commands, revisions, saved reports |
//! | `compare/machine.rs` | checks of the machine |
//! | `compare/verdict.rs` | what the runs say |
//! | `compare/report.rs`, `text.rs` | the report: `wattrace.compare/1`; for people, and in Markdown |

mod checkout;
mod machine;
mod report;
mod side;
mod text;
mod verdict;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::runtime::Handle;
use wattrace_progress::Progress;
use wattrace_statistics::Plan;

use self::machine::State;
use self::report::{Comparison, Gate, Report};
use self::side::{Side, Subject};
use self::verdict::{Asked, ERROR, Runs, Verdict};
use super::exec::EXCEEDED;
use super::exec::baseline::{self, BaselineOptions};
use super::exec::repeat::{RunOptions, SavedRuns};
use super::exec::tracer::Tracer;
use super::failure::{Failure, print};
use super::options::{Configuration, joules, percent};
use super::session::{self, Outputs};
use crate::config::Config;
use crate::plugins::Registered;

/// The exit code with `--strict` if a gate could not be decided.
const UNDECIDED: u8 = 4;

/// The most runs of each side without `--runs`.
const DEFAULT_RUNS: u32 = 20;

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    configuration: Configuration,
    /// Format of the report on standard output
    #[arg(short, long, value_enum, default_value = "human")]
    format: ReportFormat,
    /// Write tables in Markdown to this file, too, as for a pull request
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write the report with all runs to this file, too, as JSON
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
    /// The most runs of each side; it stops earlier if the question is answered or cannot be
    #[arg(short = 'n', long, value_name = "N", default_value_t = DEFAULT_RUNS)]
    #[arg(value_parser = clap::value_parser!(u32).range(6..=10_000))]
    runs: u32,
    /// Make all these runs, and look only then
    #[arg(long)]
    all_runs: bool,
    #[command(flatten)]
    run: RunOptions,
    #[command(flatten)]
    baseline: BaselineOptions,
    /// Without a gate: the smallest difference that matters
    #[arg(long, value_name = "P%", value_parser = percent, default_value = "2%")]
    difference: f64,
    /// Gate: exit with 3 if B is shown to use this much more than A
    #[arg(long, value_name = "P%", value_parser = percent)]
    max_increase: Option<f64>,
    /// Gate: exit with 3 if B uses more than this on average
    #[arg(long, value_name = "J", value_parser = joules)]
    max_joules: Option<f64>,
    /// Exit with 4 if the noise was too large to decide --max-increase
    #[arg(long, requires = "max_increase")]
    strict: bool,
    /// Compare one command in two revisions of this git repository
    #[arg(long, value_name = "A..B")]
    git: Option<String>,
    /// With --git: build each revision by this shell command
    #[arg(long, value_name = "CMD", requires = "git")]
    build: Option<String>,
    /// The order of the runs follows from this number [default: another one each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Two shell commands, or two reports of `exec --export` (*.json); with --git one command
    #[arg(value_name = "A B", num_args = 1..=2, required = true)]
    what: Vec<String>,
}

/// How the report is written to standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ReportFormat {
    /// For people
    Human,
    /// For programs
    Json,
    /// For pull requests
    Markdown,
}

impl Options {
    fn asked(&self) -> Asked {
        Asked { difference: self.difference, max_increase: self.max_increase }
    }
}

pub(super) fn main(options: &Options, plugins: &[Registered]) -> Result<ExitCode, Failure> {
    // The gates' codes are not those of commands.
    let own = |failure: Failure| match failure.code {
        2 | 128.. => failure,
        _ => Failure { code: 1, ..failure },
    };
    let mut config = Config::load(&options.configuration.request(), plugins).map_err(Failure::usage)?;
    let mut markdown = create("--markdown", options.markdown.as_deref())?;
    let mut export = create("--export", options.export.as_deref())?;
    let report = match Subject::find(options).map_err(own)? {
        Subject::Saved(saved) => compare_saved(options, saved).map_err(own)?,
        Subject::Commands { sides, checkouts } => {
            let runtime = session::runtime()?;
            let result = runtime.block_on(compare(options, &mut config, plugins, runtime.handle(), sides));
            runtime.shutdown_timeout(Duration::from_millis(100));
            drop(checkouts);
            result.map_err(own)?
        }
    };
    let json = serde_json::to_string(&report.json()).map_err(Failure::new)? + "\n";
    let cannot = |e| Failure::new(format!("cannot write the report: {e}"));
    if let Some(file) = &mut markdown {
        file.write_all(report.markdown().as_bytes()).map_err(cannot)?;
    }
    if let Some(file) = &mut export {
        file.write_all(json.as_bytes()).map_err(cannot)?;
    }
    match options.format {
        ReportFormat::Human => print(&report.for_people())?,
        ReportFormat::Json => print(&json)?,
        ReportFormat::Markdown => print(&report.markdown())?,
    }
    Ok(ExitCode::from(match report.gate() {
        Gate::Exceeded => EXCEEDED,
        Gate::Undecided if options.strict => UNDECIDED,
        _ => 0,
    }))
}

fn create(option: &str, path: Option<&Path>) -> Result<Option<File>, Failure> {
    let create = |path: &Path| {
        File::create(path).map_err(|e| Failure::new(format!("{option} {}: {e}", path.display())))
    };
    path.map(create).transpose()
}

/// Compares runs of another day.
fn compare_saved(options: &Options, saved: [SavedRuns; 2]) -> Result<Report, Failure> {
    let names = saved.clone().map(|side| side.command.join(" "));
    let [a, b] = saved.map(|side| side.runs);
    let fewest = a.len().min(b.len());
    let Some(plan) = Plan::once(fewest, ERROR) else {
        return Err(Failure::usage("both reports need at least 5 runs: `wattrace exec --repeat 20 …`"));
    };
    let runs = Runs { a, b, b_first: None };
    let verdict = Verdict::look(&runs, options.asked(), plan.last(), &plan).ok_or_else(no_joules)?;
    let remarks = vec![
        "the reports are of different times: what changed on the machine in between counts as a difference; \
         two commands are compared in random order"
            .to_owned(),
    ];
    let programs = verdict::programs(&runs, plan.last().error);
    let seed = options.seed.unwrap_or(0);
    let comparison = Comparison { names, plan, runs, seed, verdict, programs, remarks };
    Ok(Report::new(options, comparison))
}

/// Runs both sides until the question is answered.
async fn compare(
    options: &Options,
    config: &mut Config,
    plugins: &[Registered],
    runtime: &Handle,
    sides: [Side; 2],
) -> Result<Report, Failure> {
    let plan = if options.all_runs { Plan::once } else { Plan::new }(options.runs as usize, ERROR);
    let plan = plan.ok_or_else(|| Failure::usage("--runs: at least 6, fewer pairs show nothing"))?;
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..1 << 53));
    let mut random = fastrand::Rng::with_seed(seed);
    let mut tracer = Tracer::start(config, plugins, runtime, Outputs::None, None, None).await?;
    baseline::take(&options.baseline, &mut tracer).await?;
    let earlier = State::read(Path::new("/"));
    tokio::time::sleep(machine::LOOK).await;
    let before = State::read(Path::new("/"));
    let mut progress = Progress::new("wattrace", !options.run.show_output);
    let mut remarks = before.before(&earlier);
    for remark in &remarks {
        progress.say(remark);
    }
    for number in 1..=options.run.warmup(1) {
        for side in &sides {
            progress.show(&format!("warm-up {number}: {}", side.name));
            options.run.run(&mut tracer, &side.job).await?;
        }
    }
    progress.begin_steps();
    let order = order(plan.last().runs, &mut random);
    let mut runs = Runs { b_first: Some(order.clone()), ..Runs::default() };
    let mut verdict = None;
    for (number, &look) in plan.looks().iter().enumerate() {
        for &b_first in &order[runs.b.len()..look.runs] {
            for is_b in [b_first, !b_first] {
                let (side, letter) = if is_b { (&sides[1], 'B') } else { (&sides[0], 'A') };
                let (done, total) = (runs.all().count(), 2 * plan.last().runs);
                let now = format!("run {} of at most {total}: {letter}, {}", done + 1, side.name);
                progress.show_step(done, total, &now);
                let usage = options.run.run(&mut tracer, &side.job).await?;
                if is_b { &mut runs.b } else { &mut runs.a }.push(usage);
            }
        }
        let found = Verdict::look(&runs, options.asked(), look, &plan).ok_or_else(no_joules)?;
        if number == 0 {
            progress.say(&text::outlook(&found, &plan));
        }
        let ends = found.answer.is_some() || found.is_hopeless;
        verdict = Some(found);
        if ends {
            break;
        }
    }
    drop(progress);
    tracer.stop().await;
    let verdict = verdict.ok_or_else(no_joules)?;
    remarks.extend(machine::during(&runs.all().collect::<Vec<_>>()));
    remarks.extend(State::read(Path::new("/")).after(&before));
    let names = sides.map(|side| side.name);
    let error = verdict.look.error;
    let programs = verdict::programs(&runs, error);
    let comparison = Comparison { names, plan, runs, seed, verdict, programs, remarks };
    Ok(Report::new(options, comparison))
}

/// Of each of so many pairs, whether B is first.
fn order(pairs: usize, random: &mut fastrand::Rng) -> Vec<bool> {
    (0..pairs).map(|_| random.bool()).collect()
}

fn no_joules() -> Failure {
    Failure::new(
        "a run has no joules: no meter and no estimate works here (`wattrace doctor` says why), or the \
         command is too short for them",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_pairs_is_random_and_follows_from_the_seed() {
        let of = |seed| order(100, &mut fastrand::Rng::with_seed(seed));
        assert!((30..70).contains(&of(1).iter().filter(|&&b_first| b_first).count()));
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        let changes = of(1).windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!((30..70).contains(&changes), "the sides alternate {changes} times in 99");
    }
}
