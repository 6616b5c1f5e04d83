//! Least squares with coefficients of 0 or more, by coordinate descent, for other tools' models and for
//! comparisons.

/// The normal equations of the samples that were added.
pub(crate) struct Sums {
    xx: Vec<Vec<f64>>,
    xy: Vec<f64>,
}

/// Passes over the coefficients, and the relative change of one below which they have converged.
const MAX_PASSES: usize = 20_000;
const CONVERGED: f64 = 1e-9;

impl Sums {
    /// No samples of so many features.
    pub(crate) fn new(features: usize) -> Self {
        Self { xx: vec![vec![0.0; features]; features], xy: vec![0.0; features] }
    }

    /// Adds a sample so many times; -1 takes it away.
    pub(crate) fn add(&mut self, x: &[f64], y: f64, times: f64) {
        for (i, value) in x.iter().enumerate() {
            self.xy[i] += times * value * y;
            x.iter().zip(&mut self.xx[i]).for_each(|(other, sum)| *sum += times * value * other);
        }
    }

    /// The coefficients that fit best.
    pub(crate) fn fit(&self) -> Vec<f64> {
        let count = self.xy.len();
        let mut found = vec![0.0; count];
        for _ in 0..MAX_PASSES {
            let mut change = 0.0_f64;
            for i in 0..count {
                let own = self.xx[i][i];
                let others: f64 = (0..count).filter(|&j| j != i).map(|j| found[j] * self.xx[i][j]).sum();
                let new = if own > 1e-12 { ((self.xy[i] - others) / own).max(0.0) } else { 0.0 };
                change = change.max((new - found[i]).abs() / (new + found[i]).max(f64::MIN_POSITIVE));
                found[i] = new;
            }
            if change < CONVERGED {
                break;
            }
        }
        found
    }
}
