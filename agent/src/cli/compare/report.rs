//! The report of a comparison: the object `wattrace.compare/1`, and what the gates say. `text.rs` has it for
//! people. docs/user-guide.md explains the fields.

use serde_json::{Value, json};
use wattrace_statistics::{Answer, Interval, Look, Plan};

use super::Options;
use super::verdict::{Asked, ERROR, MEASURES, ProgramChange, Runs, Verdict};

/// What was done, and what came out.
pub(super) struct Comparison {
    /// Of A and B.
    pub(super) names: [String; 2],
    pub(super) plan: Plan,
    pub(super) runs: Runs,
    pub(super) seed: u64,
    /// Of the last look.
    pub(super) verdict: Verdict,
    /// That with the largest change first.
    pub(super) programs: Vec<ProgramChange>,
    /// What is worth knowing about the machine.
    pub(super) remarks: Vec<String>,
}

/// The report.
pub(super) struct Report {
    pub(super) comparison: Comparison,
    pub(super) asked: Asked,
    pub(super) max_joules: Option<f64>,
}

/// What the gates say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// There is none.
    None,
    Held,
    Exceeded,
    /// The noise is too large to say.
    Undecided,
}

impl Report {
    pub(super) fn new(options: &Options, comparison: Comparison) -> Self {
        Self { comparison, asked: options.asked(), max_joules: options.max_joules }
    }

    /// `more` or `less` if B was shown to use more or less than A, `same` if the two are the same to within
    /// the smallest difference that matters, otherwise `undecided`.
    pub(super) fn verdict(&self) -> &'static str {
        match self.comparison.verdict.difference {
            Some(Answer::More) => "more",
            Some(Answer::Less) => "less",
            Some(Answer::Same) => "same",
            _ => "undecided",
        }
    }

    /// What all gates together say.
    pub(super) fn gate(&self) -> Gate {
        match (self.increase_gate(), self.joules_gate()) {
            (Gate::Exceeded, _) | (_, Gate::Exceeded) => Gate::Exceeded,
            (Gate::None, joules) => joules,
            (increase, _) => increase,
        }
    }

    pub(super) fn increase_gate(&self) -> Gate {
        match (self.asked.max_increase, self.comparison.verdict.answer) {
            (None, _) => Gate::None,
            (_, Some(Answer::Held)) => Gate::Held,
            (_, Some(Answer::Exceeded)) => Gate::Exceeded,
            _ => Gate::Undecided,
        }
    }

    pub(super) fn joules_gate(&self) -> Gate {
        match (self.max_joules, self.comparison.verdict.energy()) {
            (Some(most), Some(energy)) if energy.b.mean > most => Gate::Exceeded,
            (Some(_), Some(_)) => Gate::Held,
            _ => Gate::None,
        }
    }

    /// `measured`, `estimated` or `simulated`.
    pub(super) fn origin(&self) -> &str {
        self.comparison.runs.a.first().map_or("none", |run| &run.origin)
    }

    /// Runs of A and of B.
    pub(super) fn counts(&self) -> [usize; 2] {
        [self.comparison.runs.a.len(), self.comparison.runs.b.len()]
    }

    /// The object `wattrace.compare/1`.
    pub(super) fn json(&self) -> Value {
        let Comparison { names, plan, runs, seed, verdict, programs, remarks } = &self.comparison;
        let measures: Vec<Value> = (MEASURES.iter().zip(&verdict.changes))
            .filter_map(|(measure, change)| {
                let change = change.as_ref()?;
                Some(json!({
                    "measure": measure.key, "a": change.a, "b": change.b,
                    "change": change.change, "interval": interval(change.interval),
                }))
            })
            .collect();
        let programs: Vec<Value> = (programs.iter())
            .map(|p| {
                json!({
                    "program": p.program, "a_j": p.a, "b_j": p.b,
                    "change_j": p.change, "interval_j": interval(p.interval),
                })
            })
            .collect();
        let look = |look: &Look| json!({ "runs": look.runs, "error": look.error });
        let looks: Vec<Value> = plan.looks().iter().map(look).collect();
        let [of_a, of_b] = self.counts();
        json!({
            "schema": "wattrace.compare/1",
            "verdict": self.verdict(),
            "text": self.in_words(),
            "origin": self.origin(),
            "gate": {
                "result": self.gate().as_str(),
                "max_increase": self.asked.max_increase, "increase": self.increase_gate().as_str(),
                "max_joules": self.max_joules, "joules": self.joules_gate().as_str(),
            },
            "plan": {
                "runs": plan.last().runs, "difference": self.asked.difference, "error": ERROR,
                "looks": looks, "seed": seed, "order": runs.order(),
            },
            "noise": verdict.noise,
            "smallest_difference": verdict.smallest,
            "interval_error": verdict.look.error,
            "measures": measures,
            "programs": programs,
            "machine": remarks,
            "a": { "name": names[0], "count": of_a, "runs": runs.a },
            "b": { "name": names[1], "count": of_b, "runs": runs.b },
        })
    }
}

impl Gate {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Gate::None => "none",
            Gate::Held => "held",
            Gate::Exceeded => "exceeded",
            Gate::Undecided => "undecided",
        }
    }
}

/// An end that is not bounded is `null`.
fn interval(interval: Interval) -> Value {
    json!({ "low": interval.low, "high": interval.high })
}
