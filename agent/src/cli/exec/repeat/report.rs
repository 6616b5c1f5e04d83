//! The object `wattrace.repeat/1`: all runs of a command, and what they have in common. docs/user-guide.md
//! explains the fields.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wattrace_statistics::Summary;

use super::super::usage::RunUsage;

/// The schema's name and version.
const SCHEMA: &str = "wattrace.repeat/1";

/// All runs of a command.
#[derive(Debug, Serialize)]
pub(in crate::cli::exec) struct RepeatReport {
    schema: &'static str,
    pub(super) command: Vec<String>,
    pub(super) origin: String,
    pub(super) warmup: u32,
    prepare: Option<String>,
    pub(super) summary: BTreeMap<&'static str, Summary>,
    /// The most expensive first.
    pub(super) programs: Vec<Program>,
    pub(super) runs: Vec<RunUsage>,
}

/// A program of the command's tree, over all runs.
#[derive(Debug, Serialize)]
pub(super) struct Program {
    pub(super) program: String,
    /// Processes of a run, on average.
    pub(super) processes: f64,
    pub(super) energy_j: Summary,
    pub(super) cpu_time_s: Summary,
}

/// What is summed up: the keys of `summary`.
pub(super) const ENERGY: &str = "energy_j";
pub(super) const MACHINE: &str = "machine_j";
pub(super) const CPU_TIME: &str = "cpu_time_s";
pub(super) const WALL: &str = "wall_s";

/// A key of `summary`, and the value of a run.
type Measure = (&'static str, fn(&RunUsage) -> f64);

const MEASURES: [Measure; 4] = [
    (ENERGY, |run| run.energy_j),
    (MACHINE, |run| run.machine_j),
    (CPU_TIME, |run| run.cpu_time_s),
    (WALL, |run| run.wall_s),
];

impl RepeatReport {
    pub(in crate::cli::exec) fn new(
        command: &[String],
        warmup: u32,
        prepare: Option<String>,
        runs: Vec<RunUsage>,
    ) -> Self {
        let of = |value: fn(&RunUsage) -> f64| Summary::of(&runs.iter().map(value).collect::<Vec<_>>());
        let summary = MEASURES.into_iter().filter_map(|(name, value)| Some((name, of(value)?))).collect();
        Self {
            schema: SCHEMA,
            command: command.to_vec(),
            origin: runs.first().map_or("none", |run| &run.origin).to_owned(),
            warmup,
            prepare,
            summary,
            programs: programs(&runs),
            runs,
        }
    }

    /// The mean of the command's joules; `None` without meter and estimate.
    pub(in crate::cli::exec) fn mean_joules(&self) -> Option<f64> {
        self.summary.get(ENERGY).filter(|_| self.origin != "none").map(|energy| energy.mean)
    }
}

/// The programs of all runs. One that a run lacks used nothing in it.
fn programs(runs: &[RunUsage]) -> Vec<Program> {
    let mut names: Vec<&String> = runs.iter().flat_map(|run| run.programs.keys()).collect();
    names.sort();
    names.dedup();
    let of = |name: &String| {
        let of_runs = || runs.iter().map(|run| run.programs.get(name));
        let energy: Vec<f64> = of_runs().map(|p| p.map_or(0.0, |p| p.energy_j)).collect();
        let cpu_time: Vec<f64> = of_runs().map(|p| p.map_or(0.0, |p| p.cpu_time_s)).collect();
        let processes: usize = of_runs().flatten().map(|p| p.processes).sum();
        Some(Program {
            program: name.clone(),
            processes: processes as f64 / runs.len() as f64,
            energy_j: Summary::of(&energy)?,
            cpu_time_s: Summary::of(&cpu_time)?,
        })
    };
    let mut programs: Vec<Program> = names.into_iter().filter_map(of).collect();
    let order = |p: &Program| (p.energy_j.mean, p.cpu_time_s.mean);
    programs.sort_by(|a, b| order(b).partial_cmp(&order(a)).unwrap_or(std::cmp::Ordering::Equal));
    programs
}

/// The part of a saved `wattrace.repeat/1` that another command needs.
#[derive(Clone, Debug, Deserialize)]
pub(in crate::cli) struct SavedRuns {
    schema: String,
    pub(in crate::cli) command: Vec<String>,
    pub(in crate::cli) runs: Vec<RunUsage>,
}

impl SavedRuns {
    /// Reads what `exec --export` wrote.
    ///
    /// # Errors
    /// What is wrong with the text, and what to do.
    pub(in crate::cli) fn parse(json: &str) -> Result<Self, String> {
        let remedy = "write one with `wattrace exec --repeat 20 --export FILE -- CMD`";
        let saved: Self =
            serde_json::from_str(json).map_err(|e| format!("no report of repeated runs ({e}): {remedy}"))?;
        if saved.schema != SCHEMA {
            return Err(format!("has the schema {}, not {SCHEMA}: {remedy}", saved.schema));
        }
        Ok(saved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exec::usage::ProgramUsage;

    fn run(energy_j: f64, programs: &[(&str, f64)]) -> RunUsage {
        let program = |&(name, energy_j): &(&str, f64)| {
            (name.to_owned(), ProgramUsage { processes: 2, cpu_time_s: energy_j / 10.0, energy_j })
        };
        let programs = programs.iter().map(program).collect();
        RunUsage { energy_j, origin: "simulated".into(), programs, ..RunUsage::default() }
    }

    #[test]
    fn a_program_that_a_run_lacks_used_nothing_in_it_and_the_most_expensive_one_comes_first() {
        let runs = vec![run(5.0, &[("as", 1.0), ("cc1plus", 4.0)]), run(3.0, &[("cc1plus", 3.0)])];
        let report = RepeatReport::new(&["make".into()], 1, None, runs);
        assert_eq!(report.mean_joules(), Some(4.0));
        let found: Vec<_> =
            report.programs.iter().map(|p| (p.program.as_str(), p.processes, p.energy_j.mean)).collect();
        assert_eq!(found, [("cc1plus", 2.0, 3.5), ("as", 1.0, 0.5)]);
    }

    #[test]
    fn what_is_saved_can_be_read_again_and_other_files_are_refused_with_the_remedy() {
        let report = RepeatReport::new(&["make".into()], 1, None, vec![run(5.0, &[("ld", 5.0)])]);
        let saved = SavedRuns::parse(&serde_json::to_string(&report).unwrap()).unwrap();
        assert_eq!((saved.command, saved.runs), (report.command, report.runs));
        for text in ["{}", "no JSON", r#"{"schema": "wattrace.exec/1", "command": [], "runs": []}"#] {
            let message = SavedRuns::parse(text).unwrap_err();
            assert!(message.contains("--export"), "{message}");
        }
    }
}
