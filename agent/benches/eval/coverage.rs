//! How often the 95 % intervals that attribution publishes cover the truth, and how wide they are.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::drive::Run;
use crate::score::MIN_JOULES;
use crate::{MORE_SEEDS, SEEDS};

/// Half the width of an interval that is not published, J: it is smaller (`LEAST_HALF_WIDTH` in
/// `plugins/attribution/src/books/totals.rs`).
const UNPUBLISHED: f64 = 1e-3;

/// The intervals of the processes of a scenario, with one seed or over several.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Coverage {
    processes: f64,
    /// Of which the interval covers the truth.
    covered: f64,
    /// Sums over them: half the width of the interval, and the error, both as parts of the truth.
    half_widths: f64,
    errors: f64,
}

impl Coverage {
    /// The coverage of the processes that caused enough to be scored one by one, in joules by their number:
    /// what they caused, what they were given, and half the width of its interval.
    pub(crate) fn of(
        caused: &[f64],
        given: &BTreeMap<usize, f64>,
        half_widths: &BTreeMap<usize, f64>,
    ) -> Self {
        let mut sum = Self::default();
        for (number, &joules) in caused.iter().enumerate().filter(|(_, joules)| **joules >= MIN_JOULES) {
            let error = (given.get(&number).copied().unwrap_or(0.0) - joules).abs();
            let half_width = half_widths.get(&number).copied().unwrap_or(UNPUBLISHED);
            sum.processes += 1.0;
            sum.covered += f64::from(error <= half_width);
            sum.half_widths += half_width / joules;
            sum.errors += error / joules;
        }
        sum
    }

    /// That of several runs.
    pub(crate) fn sum<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            processes: sum.processes + one.processes,
            covered: sum.covered + one.covered,
            half_widths: sum.half_widths + one.half_widths,
            errors: sum.errors + one.errors,
        })
    }

    /// How many percent are covered.
    fn percent(&self) -> f64 {
        self.covered / self.processes * 100.0
    }

    /// The half width over the error, means of both.
    fn ratio(&self) -> f64 {
        self.half_widths / self.errors
    }

    fn row(&self, name: &str) -> String {
        let part = |sum: f64| sum / self.processes * 100.0;
        format!(
            "| {name} | {:.0} | {:.1} % | {:.1} % | {:.1} % | {:.2} |\n",
            self.processes,
            self.percent(),
            part(self.half_widths),
            part(self.errors),
            self.ratio()
        )
    }
}

/// The goals of intervals, what came out, and whether they are met.
pub(crate) fn goals(runs: &[Run]) -> [(String, String, bool); 2] {
    let goal = |goal: &str, is_met: fn(&Coverage) -> bool, value: fn(&Coverage) -> String| {
        let missed = runs.iter().filter(|run| !is_met(&run.coverage));
        let missed: Vec<String> = missed
            .map(|run| format!("{}, {:?}: {}", run.scenario, run.window, value(&run.coverage)))
            .collect();
        let result = if missed.is_empty() { "in all".to_owned() } else { missed.join("; ") };
        (goal.to_owned(), result, missed.is_empty())
    };
    [
        goal(
            "its 95 % intervals cover 93 to 97 % of the processes in every scenario",
            |of| (93.0..=97.0).contains(&of.percent()),
            |of| format!("{:.1} %", of.percent()),
        ),
        goal(
            "half their width is at most 2.5 times the mean error",
            |of| of.ratio() <= 2.5,
            |of| format!("{:.2}", of.ratio()),
        ),
    ]
}

/// The table: a row for each scenario and window.
pub(crate) fn results(runs: &[Run]) -> String {
    let seeds = SEEDS.len() + MORE_SEEDS.count();
    let mut text = format!(
        "\n### Intervals\n\n\
         How many of the 95 % intervals that `fitted` publishes (`wattrace.consumer.energy.uncertainty`) \
         cover the\ntruth, over all processes of at least 20 mJ and {seeds} seeds, and the means of half \
         width and error as parts of\nwhat a process caused. Intervals of less than 1 mJ are not published; \
         they count as 1 mJ. The half width of\nnormally distributed errors is 2.5 times their mean.\n\n\
         | scenario, window | processes | covered | half width | error | half width over error |\n\
         | --- | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for run in runs {
        text += &run.coverage.row(&format!("{}, {:?}", run.scenario, run.window));
    }
    let all = Coverage::sum(runs.iter().map(|run| &run.coverage));
    _ = write!(text, "{}", all.row("all"));
    text
}
