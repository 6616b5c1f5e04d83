//! Errors against the truth.

use crate::methods::Books;

/// Processes that caused less are judged together, as if they were one, J: what a CPU draws in the time of a
/// few updates of a meter.
pub(crate) const LEAST_JOULES: f64 = 0.02;

/// What is true, in joules of packages and memory together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Truth {
    /// By process.
    pub(crate) processes: Vec<f64>,
    /// What nobody caused.
    pub(crate) idle: f64,
    /// What the meters said.
    pub(crate) measured: f64,
}

/// How a method did. Errors are in parts of what is true: 0.04 is 4 %.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) method: String,
    /// Mean over the processes of what each is off; the small ones count as one.
    pub(crate) mean: f64,
    /// The same for each of the runs that this is the mean of.
    pub(crate) means: Vec<f64>,
    /// The same, by how much each caused.
    pub(crate) weighted: f64,
    /// The process that is off most.
    pub(crate) worst: f64,
    /// The mean once more, with all that was attributed scaled to what was caused: whether the proportions
    /// are right.
    pub(crate) proportions: f64,
    /// How far idle energy is off; `None`: it is not told.
    pub(crate) idle: Option<f64>,
    /// How far the sum of all is from what was measured; `None`: the method claims no sum.
    pub(crate) conservation: Option<f64>,
}

impl Verdict {
    /// The mean of verdicts about one method. The worst process is that of all runs, and so is what is left
    /// over.
    pub(crate) fn mean<'a>(verdicts: impl Iterator<Item = &'a Verdict>) -> Self {
        let verdicts: Vec<&Verdict> = verdicts.collect();
        let mean = |of: fn(&Verdict) -> f64| {
            verdicts.iter().map(|v| of(v)).sum::<f64>() / verdicts.len().max(1) as f64
        };
        let told = |of: fn(&Verdict) -> Option<f64>| verdicts.iter().all(|v| of(v).is_some());
        Self {
            method: verdicts.first().map(|v| v.method.clone()).unwrap_or_default(),
            mean: mean(|v| v.mean),
            means: verdicts.iter().map(|v| v.mean).collect(),
            weighted: mean(|v| v.weighted),
            worst: verdicts.iter().map(|v| v.worst).fold(0.0, f64::max),
            proportions: mean(|v| v.proportions),
            idle: told(|v| v.idle).then(|| mean(|v| v.idle.unwrap_or(0.0))),
            conservation: told(|v| v.conservation)
                .then(|| verdicts.iter().filter_map(|v| v.conservation).fold(0.0, f64::max)),
        }
    }

    /// Judges what was attributed between `before` and `after`.
    pub(crate) fn of(method: &str, truth: &Truth, before: &Books, after: &Books) -> Self {
        let given = |number: usize| {
            let at = |books: &Books| books.processes.get(&number).copied().unwrap_or(0.0);
            at(after) - at(before)
        };
        let all = || truth.processes.iter().enumerate().map(|(number, &joules)| (joules, given(number)));
        let (caused, attributed) = all().fold((0.0, 0.0), |sum, (t, g)| (sum.0 + t, sum.1 + g));
        let scale = if attributed > 0.0 { caused / attributed } else { 0.0 };
        let (mut judged, small) = all().partition::<Vec<_>, _>(|(joules, _)| *joules >= LEAST_JOULES);
        let small = small.iter().fold((0.0, 0.0), |sum, (t, g)| (sum.0 + t, sum.1 + g));
        if small.0 >= LEAST_JOULES {
            judged.push(small);
        }
        let off = |scale: f64| {
            let one = move |&(t, g): &(f64, f64)| (g * scale - t).abs() / t;
            judged.iter().map(one).collect::<Vec<f64>>()
        };
        let mean = |errors: &[f64]| errors.iter().sum::<f64>() / errors.len().max(1) as f64;
        let idle = after.idle.map(|after| after - before.idle.unwrap_or(0.0));
        let sum = attributed + idle.unwrap_or(0.0);
        Self {
            method: method.to_owned(),
            mean: mean(&off(1.0)),
            means: vec![mean(&off(1.0))],
            weighted: all().map(|(t, g)| (g - t).abs()).sum::<f64>() / caused,
            worst: off(1.0).into_iter().fold(0.0, f64::max),
            proportions: mean(&off(scale)),
            idle: idle.map(|idle| (idle - truth.idle).abs() / truth.idle),
            conservation: Some((sum - truth.measured).abs() / truth.measured),
        }
    }
}
