//! Errors against the truth.

use crate::methods::Attributed;

/// Processes that caused less, in joules, are scored together as one: a CPU draws this much during a few
/// updates of a meter.
pub(crate) const MIN_JOULES: f64 = 0.02;

/// The truth, in joules of packages and memory together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Truth {
    /// Caused by each process.
    pub(crate) processes: Vec<f64>,
    /// Caused by no process.
    pub(crate) idle: f64,
    /// Measured by the meters.
    pub(crate) measured: f64,
}

/// The errors of a method, relative to the truth: 0.04 is 4 %.
#[derive(Clone, Debug)]
pub(crate) struct Score {
    pub(crate) method: String,
    /// Mean of the processes' errors; small processes count as one.
    pub(crate) mean: f64,
    /// The same for each run of the mean.
    pub(crate) means: Vec<f64>,
    /// The same, weighted by energy.
    pub(crate) weighted: f64,
    /// The largest error of a process.
    pub(crate) worst: f64,
    /// The mean error after the attributed energy is scaled to the caused energy: the error of the
    /// proportions.
    pub(crate) proportions: f64,
    /// The error of idle energy. `None`: the method does not report it.
    pub(crate) idle: Option<f64>,
    /// The error of the sum of everything against the measured energy. `None`: the method does not report a
    /// sum.
    pub(crate) conservation: Option<f64>,
}

impl Score {
    /// The mean of the scores of one method. The worst process and the conservation error are the largest of
    /// all runs.
    pub(crate) fn mean<'a>(scores: impl Iterator<Item = &'a Score>) -> Self {
        let scores: Vec<&Score> = scores.collect();
        let mean =
            |of: fn(&Score) -> f64| scores.iter().map(|v| of(v)).sum::<f64>() / scores.len().max(1) as f64;
        let reported = |of: fn(&Score) -> Option<f64>| scores.iter().all(|v| of(v).is_some());
        Self {
            method: scores.first().map(|v| v.method.clone()).unwrap_or_default(),
            mean: mean(|v| v.mean),
            means: scores.iter().map(|v| v.mean).collect(),
            weighted: mean(|v| v.weighted),
            worst: scores.iter().map(|v| v.worst).fold(0.0, f64::max),
            proportions: mean(|v| v.proportions),
            idle: reported(|v| v.idle).then(|| mean(|v| v.idle.unwrap_or(0.0))),
            conservation: reported(|v| v.conservation)
                .then(|| scores.iter().filter_map(|v| v.conservation).fold(0.0, f64::max)),
        }
    }

    /// Scores what was attributed between `before` and `after`.
    pub(crate) fn of(method: &str, truth: &Truth, before: &Attributed, after: &Attributed) -> Self {
        let given = |number: usize| {
            let at = |books: &Attributed| books.processes.get(&number).copied().unwrap_or(0.0);
            at(after) - at(before)
        };
        let all = || truth.processes.iter().enumerate().map(|(number, &joules)| (joules, given(number)));
        let (caused, attributed) = all().fold((0.0, 0.0), |sum, (t, g)| (sum.0 + t, sum.1 + g));
        let scale = if attributed > 0.0 { caused / attributed } else { 0.0 };
        let (mut scored, small) = all().partition::<Vec<_>, _>(|(joules, _)| *joules >= MIN_JOULES);
        let small = small.iter().fold((0.0, 0.0), |sum, (t, g)| (sum.0 + t, sum.1 + g));
        if small.0 >= MIN_JOULES {
            scored.push(small);
        }
        let errors = |scale: f64| {
            let one = move |&(t, g): &(f64, f64)| (g * scale - t).abs() / t;
            scored.iter().map(one).collect::<Vec<f64>>()
        };
        let mean = |errors: &[f64]| errors.iter().sum::<f64>() / errors.len().max(1) as f64;
        let idle = after.idle.map(|after| after - before.idle.unwrap_or(0.0));
        let sum = attributed + idle.unwrap_or(0.0);
        Self {
            method: method.to_owned(),
            mean: mean(&errors(1.0)),
            means: vec![mean(&errors(1.0))],
            weighted: all().map(|(t, g)| (g - t).abs()).sum::<f64>() / caused,
            worst: errors(1.0).into_iter().fold(0.0, f64::max),
            proportions: mean(&errors(scale)),
            idle: idle.map(|idle| (idle - truth.idle).abs() / truth.idle),
            conservation: Some((sum - truth.measured).abs() / truth.measured),
        }
    }
}
