//! The accuracy of attribution: our modes and other tools' formulas, on a simulated machine on which the
//! energy of every thread is known.
//!
//! `cargo xtask eval [--write-docs]`, or `cargo bench -p wattrace --bench eval`. With `--trace FILE`, how
//! well power is predicted on a table of a real machine's counters.
//!
//! | module | holds |
//! | --- | --- |
//! | `scenarios` | the machines, and what runs on them |
//! | `drive` | runs a scenario once, and gives every method what it would see |
//! | `observe` | what a polling tool can see at one moment |
//! | `ours` | the attribution plugin, in each of its modes |
//! | `methods` | other tools' formulas |
//! | `score` | errors against the truth |
//! | `coverage` | how often the published intervals cover the truth |
//! | `table` | the results as Markdown |
//! | `trace`, `least_squares` | a real machine's trace; what linear models reach on it |
//! | `page` | docs/evaluation.md |

mod coverage;
mod drive;
mod least_squares;
mod methods;
mod observe;
mod ours;
mod page;
mod scenarios;
mod score;
mod table;
mod trace;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use wattrace_api::Error;
use wattrace_progress::Progress;

use coverage::Coverage;
use drive::{Judged, Run};
use scenarios::Scenario;

type Result<T> = std::result::Result<T, Error>;

/// The lengths of windows that every scenario runs with.
const WINDOWS: [Duration; 2] = [Duration::from_secs(1), Duration::from_millis(10)];
/// Every scenario runs once with each of these seeds. They determine everything random: when, where and for
/// how long threads run, the warm-up, the meter's noise, and when samples are taken.
const SEEDS: [u64; 9] = [1, 2, 3, 4, 5, 6, 7, 8, 9];
/// Further seeds for intervals: how many of them cover is a matter of many programs.
const MORE_SEEDS: std::ops::RangeInclusive<u64> = 10..=300;

/// A scenario to run.
struct Job<'a> {
    scenario: &'a Scenario,
    window: Duration,
    hidden: f64,
    seed: u64,
    judged: Judged,
}

fn main() -> Result<()> {
    // `cargo test --all-targets` runs benchmarks without this argument: nothing to do then.
    if !std::env::args().any(|a| a == "--bench") {
        return Ok(());
    }
    // `cargo bench --bench eval -- smt --seed=7`: scenarios whose name contains this, with this seed instead
    // of the usual ones.
    let arguments = || std::env::args().skip(1);
    let only: Vec<String> = arguments().filter(|a| !a.starts_with("--")).collect();
    let write_docs = arguments().any(|a| a == "--write-docs");
    if let Some(path) = arguments().find_map(|a| a.strip_prefix("--trace=").map(PathBuf::from)) {
        let text = trace::results(&path)?;
        println!("{text}");
        return if write_docs { page::write_trace(&text) } else { Ok(()) };
    }
    let given: Vec<u64> =
        arguments().filter_map(|a| a.strip_prefix("--seed=").and_then(|n| n.parse().ok())).collect();
    let more_seeds: Vec<u64> = if given.is_empty() { MORE_SEEDS.collect() } else { Vec::new() };
    let seeds = if given.is_empty() { SEEDS.to_vec() } else { given };

    let (scenarios, mut jobs) = (scenarios::all(), Vec::new());
    let mut add = |scenario, window, hidden, judged, seeds: &[u64]| {
        jobs.extend(seeds.iter().map(|&seed| Job { scenario, window, hidden, seed, judged }));
    };
    let wanted = |s: &&Scenario| only.is_empty() || only.iter().any(|part| s.name.contains(part.as_str()));
    let wanted: Vec<&Scenario> = scenarios.iter().filter(wanted).collect();
    for scenario in &wanted {
        WINDOWS.iter().for_each(|&window| add(scenario, window, 1.0, Judged::Methods, &seeds));
    }
    // The scenario of mixed code again, with kinds of code that differ more or less in what no counter shows.
    let differences: &[f64] = if only.is_empty() { &[0.0, 1.0, 2.0, 4.0] } else { &[] };
    for scenario in scenarios.iter().filter(|scenario| scenario.name == scenarios::MIXED_CODE) {
        differences.iter().for_each(|&hidden| add(scenario, WINDOWS[0], hidden, Judged::Methods, &seeds));
    }
    for scenario in &wanted {
        WINDOWS.iter().for_each(|&window| add(scenario, window, 1.0, Judged::Intervals, &more_seeds));
    }
    let mut runs = run_all(&jobs)?;
    let more = runs.split_off(runs.len() - wanted.len() * WINDOWS.len() * more_seeds.len());
    let mut runs: Vec<Run> = runs.chunks(seeds.len()).map(Run::mean).collect();
    let hidden = runs.split_off(runs.len() - differences.len());
    let hidden: Vec<(f64, Run)> = differences.iter().copied().zip(hidden).collect();
    for (run, more) in runs.iter_mut().zip(more.chunks(more_seeds.len().max(1))) {
        let all = std::iter::once(&run.coverage).chain(more.iter().map(|run| &run.coverage));
        run.coverage = Coverage::sum(all);
    }

    let text = table::results(&runs, &hidden);
    println!("{text}");
    if write_docs {
        page::write_results(&text)?;
    }
    // Whatever the accuracy, our books must close.
    match runs.iter().flat_map(|run| &run.ours).find(|score| score.conservation != Some(0.0)) {
        Some(score) => Err(Error::fatal(format!("the books of {} do not close", score.method))),
        None => Ok(()),
    }
}

fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The run of each job, in order. Runs as many at a time as there are CPUs.
fn run_all(jobs: &[Job<'_>]) -> Result<Vec<Run>> {
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let progress = Mutex::new(Progress::new("eval", true));
    let worker = || {
        let mut runs = Vec::new();
        while let Some((at, job)) =
            Some(next.fetch_add(1, Relaxed)).and_then(|at| jobs.get(at).map(|job| (at, job)))
        {
            let Job { scenario, window, hidden, seed, judged } = job;
            let now = format!("{}, {window:?} windows, seed {seed}", scenario.name);
            lock(&progress).show_step(done.load(Relaxed), jobs.len(), &now);
            runs.push((at, drive::run(scenario, *window, *hidden, *seed, *judged)?));
            done.fetch_add(1, Relaxed);
        }
        Ok(runs)
    };
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let done = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cpus).map(|_| scope.spawn(worker)).collect();
        let join = |worker: ScopedJoinHandle<'_, Result<Vec<(usize, Run)>>>| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        workers.into_iter().map(join).collect::<Result<Vec<_>>>()
    })?;
    let mut runs: Vec<_> = done.into_iter().flatten().collect();
    runs.sort_by_key(|(at, _)| *at);
    Ok(runs.into_iter().map(|(_, run)| run).collect())
}
