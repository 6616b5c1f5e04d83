//! What the runs say: how each measure changed, and what that means for the question. `wattrace-statistics`
//! has the method.

use wattrace_statistics::{
    Answer, Interval, Look, Pair, Plan, Question, Shift, Summary, paired_shift, unpaired_shift,
};

use crate::cli::exec::usage::RunUsage;

/// The probability of a false alarm in a comparison.
pub(super) const ERROR: f64 = 0.05;

/// What is asked. Both are fractions of A.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// The smallest difference that matters.
    pub(super) difference: f64,
    /// By how much B may be above A; `None`: no gate.
    pub(super) max_increase: Option<f64>,
}

impl Asked {
    /// The question about the logarithms of joules that ends the comparison.
    fn question(self) -> Question {
        match self.max_increase {
            Some(limit) => Question::Exceeds { limit: limit.ln_1p() },
            None => self.whether_it_differs(),
        }
    }

    fn whether_it_differs(self) -> Question {
        Question::Differs { by: self.difference.ln_1p() }
    }
}

/// The runs of both sides, each in the order in which they ran.
#[derive(Clone, Debug, Default)]
pub(super) struct Runs {
    pub(super) a: Vec<RunUsage>,
    pub(super) b: Vec<RunUsage>,
    /// Of each pair of an A and a B, which run one right after the other: whether B is first. A comparison
    /// that stops early does not make all pairs. `None`: the sides ran at different times.
    pub(super) b_first: Option<Vec<bool>>,
}

impl Runs {
    /// All runs.
    pub(super) fn all(&self) -> impl Iterator<Item = &RunUsage> {
        self.a.iter().chain(&self.b)
    }

    /// A letter for each run, in their order.
    pub(super) fn order(&self) -> String {
        match &self.b_first {
            Some(pairs) => {
                pairs.iter().take(self.b.len()).map(|&b_first| if b_first { "BA" } else { "AB" }).collect()
            }
            None => "A".repeat(self.a.len()) + &"B".repeat(self.b.len()),
        }
    }

    /// By how much `value` is higher in B.
    fn shift(&self, value: impl Fn(&RunUsage) -> f64, error: f64) -> Option<Shift> {
        let of = |side: &[RunUsage]| side.iter().map(&value).collect::<Vec<f64>>();
        let (a, b) = (of(&self.a), of(&self.b));
        let Some(b_first) = &self.b_first else { return unpaired_shift(&a, &b, error) };
        let pairs: Vec<Pair> =
            (a.iter().zip(&b).zip(b_first)).map(|((&a, &b), &b_first)| Pair { a, b, b_first }).collect();
        paired_shift(&pairs, error)
    }
}

/// What is compared: its key in JSON, its name and unit for people, and its value.
pub(super) struct Measure {
    pub(super) key: &'static str,
    pub(super) name: &'static str,
    value: fn(&RunUsage) -> f64,
}

/// The first one decides; the second is what a meter alone would say.
pub(super) const MEASURES: [Measure; 4] = [
    Measure { key: "energy_j", name: "command, J", value: |run| run.energy_j },
    Measure { key: "machine_j", name: "whole machine, J", value: |run| run.machine_j },
    Measure { key: "cpu_time_s", name: "CPU time, s", value: |run| run.cpu_time_s },
    Measure { key: "wall_s", name: "wall time, s", value: |run| run.wall_s },
];

/// How a measure changed from A to B.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) a: Summary,
    pub(super) b: Summary,
    /// As a fraction of A, and what it may be.
    pub(super) change: f64,
    pub(super) interval: Interval,
}

/// How a program of the tree changed, in joules.
#[derive(Clone, Debug)]
pub(super) struct ProgramChange {
    pub(super) program: String,
    pub(super) a: Summary,
    pub(super) b: Summary,
    pub(super) change: f64,
    pub(super) interval: Interval,
}

/// A look at all runs so far.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    pub(super) look: Look,
    /// What the question was answered with; `None` if it was not.
    pub(super) answer: Option<Answer>,
    /// Whether more runs would hardly answer it.
    pub(super) is_hopeless: bool,
    /// Which side uses more, whatever the question is.
    pub(super) difference: Option<Answer>,
    /// By [`MEASURES`]; `None` where a value is zero.
    pub(super) changes: Vec<Option<Change>>,
    /// The smallest change that all runs of the plan find in 95 of 100 comparisons, as a fraction.
    pub(super) smallest: f64,
    /// The standard deviation of a run, as a fraction.
    pub(super) noise: f64,
}

impl Verdict {
    /// Looks at `runs`. `None` if a run has no joules.
    pub(super) fn look(runs: &Runs, asked: Asked, look: Look, plan: &Plan) -> Option<Self> {
        let changes: Vec<_> =
            MEASURES.iter().map(|measure| relative_change(runs, measure.value, look.error)).collect();
        let (shift, _) = changes.first()?.as_ref()?;
        let question = asked.question();
        let answer = question.answer(shift.interval);
        Some(Self {
            look,
            answer,
            is_hopeless: answer.is_none() && question.is_hopeless(shift, look.runs, plan),
            difference: asked.whether_it_differs().answer(shift.interval),
            smallest: plan.smallest_shift(shift.stddev).exp_m1(),
            noise: shift.stddev.exp_m1(),
            changes: changes.into_iter().map(|change| change.map(|(_, change)| change)).collect(),
        })
    }

    /// The change that decides.
    pub(super) fn energy(&self) -> Option<&Change> {
        self.changes.first()?.as_ref()
    }
}

/// The change of a value by its logarithm, so that it is a fraction of A.
fn relative_change(runs: &Runs, value: fn(&RunUsage) -> f64, error: f64) -> Option<(Shift, Change)> {
    let found = runs.shift(|run| value(run).ln(), error)?;
    let [a, b] = summaries(runs, &value)?;
    let change = Change { a, b, change: found.estimate.exp_m1(), interval: found.interval.map(f64::exp_m1) };
    Some((found, change))
}

fn summaries(runs: &Runs, value: &dyn Fn(&RunUsage) -> f64) -> Option<[Summary; 2]> {
    let of = |side: &[RunUsage]| Summary::of(&side.iter().map(value).collect::<Vec<f64>>());
    Some([of(&runs.a)?, of(&runs.b)?])
}

/// How each program changed, that with the largest change first. A program that a run lacks used nothing in
/// it.
pub(super) fn programs(runs: &Runs, error: f64) -> Vec<ProgramChange> {
    let mut names: Vec<&String> = runs.all().flat_map(|run| run.programs.keys()).collect();
    names.sort();
    names.dedup();
    let change = |name: &String| {
        let value = |run: &RunUsage| run.programs.get(name).map_or(0.0, |program| program.energy_j);
        let found = runs.shift(value, error)?;
        let [a, b] = summaries(runs, &value)?;
        Some(ProgramChange { program: name.clone(), a, b, change: found.estimate, interval: found.interval })
    };
    let mut changes: Vec<_> = names.into_iter().filter_map(change).collect();
    changes.sort_by(|p, q| q.change.abs().total_cmp(&p.change.abs()));
    changes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cli::exec::usage::ProgramUsage;

    /// Runs: `more` is what B's compiler uses more than A's.
    fn runs(more: f64) -> Runs {
        let run = |jitter: f64, more: f64| {
            let program = |energy_j| ProgramUsage { processes: 1, cpu_time_s: 1.0, energy_j };
            let (compiler, linker) = (8.0 + jitter + more, 2.0 - jitter / 4.0);
            RunUsage {
                energy_j: compiler + linker,
                machine_j: 50.0 + 10.0 * jitter,
                cpu_time_s: 1.0 + jitter,
                programs: BTreeMap::from([
                    ("cc1plus".into(), program(compiler)),
                    ("ld".into(), program(linker)),
                ]),
                ..RunUsage::default()
            }
        };
        let jitters = [0.01, -0.03, 0.02, 0.0, -0.01, 0.03];
        Runs {
            a: jitters.map(|j| run(j, 0.0)).to_vec(),
            b: jitters.map(|j| run(-j, more)).to_vec(),
            b_first: Some([true, false, false].repeat(2)),
        }
    }

    fn look(more: f64, max_increase: Option<f64>) -> Verdict {
        let asked = Asked { difference: 0.02, max_increase };
        let plan = Plan::new(6, ERROR).unwrap();
        Verdict::look(&runs(more), asked, plan.last(), &plan).unwrap()
    }

    #[test]
    fn changes_are_fractions_of_a_and_the_programs_say_where_they_come_from() {
        let verdict = look(1.0, None);
        assert_eq!((verdict.answer, verdict.difference), (Some(Answer::More), Some(Answer::More)));
        let energy = verdict.energy().unwrap();
        assert!((energy.change - 0.10).abs() < 0.003, "{energy:?}");
        assert!(energy.interval.low > 0.09 && energy.interval.high < 0.11, "{energy:?}");
        let machine = verdict.changes[1].as_ref().unwrap();
        assert!(machine.change.abs() < 0.01 && machine.interval.low < 0.0, "{machine:?}");
        assert!(verdict.changes[3].is_none(), "no wall time was recorded");
        let programs = programs(&runs(1.0), ERROR);
        assert_eq!((programs.len(), programs[0].program.as_str()), (2, "cc1plus"));
        assert!((programs[0].change - 1.0).abs() < 0.03 && programs[0].interval.low > 0.9, "{programs:?}");
        assert!(programs[1].interval.low < 0.0 && programs[1].interval.high > 0.0, "{programs:?}");
    }

    #[test]
    fn a_gate_asks_for_the_limit_and_still_names_the_direction() {
        let verdict = look(1.0, Some(0.2));
        assert_eq!((verdict.answer, verdict.difference), (Some(Answer::Held), Some(Answer::More)));
        let verdict = look(3.0, Some(0.2));
        assert_eq!((verdict.answer, verdict.difference), (Some(Answer::Exceeded), Some(Answer::More)));
        assert!(verdict.noise > 0.0 && verdict.smallest > verdict.noise, "{verdict:?}");
    }

    #[test]
    fn without_joules_there_is_no_verdict() {
        let plan = Plan::new(6, ERROR).unwrap();
        let runs = Runs { a: vec![RunUsage::default(); 6], b: vec![RunUsage::default(); 6], b_first: None };
        let asked = Asked { difference: 0.02, max_increase: None };
        assert!(Verdict::look(&runs, asked, plan.last(), &plan).is_none());
    }

    #[test]
    fn a_pair_is_compared_with_what_ran_beside_it_and_other_times_are_not() {
        let jitters = [0.0, 2.0, 4.0, 6.0, 8.0, 10.0];
        let run = |energy_j| RunUsage { energy_j, ..RunUsage::default() };
        let (a, b) = (jitters.map(|j| run(10.0 + j)).to_vec(), jitters.map(|j| run(10.5 + j)).to_vec());
        let of = |b_first| Runs { a: a.clone(), b: b.clone(), b_first }.shift(|run| run.energy_j, ERROR);
        // The runs of each pair are one apart, so half of what they drift is within it.
        let paired = of(Some([true, false, false, true, false, true].to_vec())).unwrap();
        assert!(paired.interval.low > -0.6 && paired.interval.high < 1.6, "{paired:?}");
        let unpaired = of(None).unwrap();
        assert!(unpaired.interval.low < -5.0 && unpaired.interval.high > 5.0, "{unpaired:?}");
    }

    #[test]
    fn the_order_has_a_letter_for_each_run() {
        let of = |b_first| Runs { a: vec![RunUsage::default(); 2], b: vec![RunUsage::default(); 2], b_first };
        let orders = [of(Some(vec![true, false])).order(), of(None).order()];
        assert_eq!(orders, ["BAAB", "AABB"]);
    }
}
