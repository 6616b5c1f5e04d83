//! How well energy is attributed: ours and others' formulas, on a simulated machine whose every thread's energy is known.
//!
//! `cargo xtask eval [--write-docs]`, or `cargo bench -p wattrace --bench eval`.
//!
//! | module | holds |
//! | --- | --- |
//! | `scenarios` | the machines, and what runs on them |
//! | `drive` | runs a scenario once, and shows it to every method as each would see it |
//! | `observe` | what a tool that polls can see at a reading |
//! | `ours` | the attribution plugin, in each of its modes |
//! | `methods` | others' formulas |
//! | `judge` | errors against the truth |
//! | `table` | the results as Markdown |

mod drive;
mod judge;
mod methods;
mod observe;
mod ours;
mod scenarios;
mod table;

use std::path::Path;
use std::time::Duration;

use wattrace_api::Error;

type Result<T> = std::result::Result<T, Error>;

/// The windows that every scenario is measured in.
const WINDOWS: [Duration; 2] = [Duration::from_secs(1), Duration::from_millis(10)];

fn main() -> Result<()> {
    // `cargo test --all-targets` runs benchmarks without this argument; there they have nothing to say.
    if !std::env::args().any(|a| a == "--bench") {
        return Ok(());
    }
    // `cargo bench --bench eval -- smt`: scenarios whose name has it.
    let only: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let write_docs = std::env::args().any(|a| a == "--write-docs");

    let mut runs = Vec::new();
    for scenario in scenarios::all() {
        if !only.is_empty() && !only.iter().any(|name| scenario.name.contains(name.as_str())) {
            continue;
        }
        for window in WINDOWS {
            eprintln!("eval: {}, {window:?} windows", scenario.name);
            runs.push(drive::run(&scenario, window, 1.0)?);
        }
    }
    let hidden = if only.is_empty() { sensitivity()? } else { Vec::new() };
    let text = table::results(&runs, &hidden);
    println!("{text}");
    if write_docs {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/evaluation.md");
        let page = include_str!("page.md").replace("{results}", text.trim_end());
        std::fs::write(&path, page).map_err(|e| Error::fatal(format!("{}: {e}", path.display())))?;
        eprintln!("eval: wrote docs/evaluation.md");
    }
    // Whatever the accuracy: books of ours that do not close are a bug.
    match runs.iter().flat_map(|run| &run.ours).find(|verdict| verdict.conservation != Some(0.0)) {
        Some(verdict) => Err(Error::fatal(format!("the books of {} do not close", verdict.method))),
        None => Ok(()),
    }
}

/// The scenario of mixed code once more, with kinds of code that differ by more or less in what no counter tells.
fn sensitivity() -> Result<Vec<(f64, drive::Run)>> {
    let mixed = scenarios::all().into_iter().find(|scenario| scenario.name == scenarios::MIXED_CODE);
    let mut runs = Vec::new();
    if let Some(scenario) = mixed {
        for hidden in [0.0, 1.0, 2.0, 4.0] {
            eprintln!("eval: {}, hidden differences times {hidden}", scenario.name);
            runs.push((hidden, drive::run(&scenario, WINDOWS[0], hidden)?));
        }
    }
    Ok(runs)
}
