//! Least squares with coefficients of zero or more, for a few unknowns, from the normal equations (Bro and de
//! Jong, "A fast non-negativity-constrained least squares algorithm", Journal of Chemometrics 11, 1997).

use super::cholesky::Cholesky;
use super::features::{FEATURES, Features};

/// A square matrix of features by features.
pub(super) type Matrix = [Features; FEATURES];

/// The x ≥ 0 that minimises `x·Gx − 2 b·x`, over the unknowns that are `allowed`; the others stay 0. `g` must
/// be symmetric and positive definite on the allowed ones: a ridge makes it so.
pub(super) fn solve(g: &Matrix, b: &Features, allowed: &[usize]) -> Features {
    let mut x = [0.0; FEATURES];
    let mut passive: Vec<usize> = Vec::with_capacity(allowed.len());
    // Each round adds the unknown that reduces the error most. In tests it never took three rounds per
    // unknown.
    for _ in 0..3 * allowed.len() {
        let gain = |&j: &usize| (b[j] - dot(&g[j], &x)) / g[j][j].sqrt();
        let candidates = allowed.iter().copied().filter(|j| !passive.contains(j));
        let best = candidates.max_by(|i, j| gain(i).total_cmp(&gain(j)));
        let scale = allowed.iter().map(|&j| b[j].abs() / g[j][j].sqrt()).fold(0.0, f64::max);
        match best {
            Some(j) if gain(&j) > 1e-10 * scale => passive.push(j),
            _ => break,
        }
        loop {
            let Some(s) = Cholesky::of(g, &passive).map(|factor| factor.solve(b)) else {
                passive.pop();
                break;
            };
            // Where a coefficient would become negative, move only until the first one reaches zero, and
            // leave that one out.
            let step = passive.iter().filter(|&&j| s[j] <= 0.0).map(|&j| x[j] / (x[j] - s[j]));
            let Some(step) = step.min_by(f64::total_cmp) else {
                x = s;
                break;
            };
            for &j in &passive {
                x[j] += step * (s[j] - x[j]);
            }
            passive.retain(|&j| {
                let stays = x[j] > 1e-14 * (x[j] - s[j]).abs() && x[j] > 0.0;
                if !stays {
                    x[j] = 0.0;
                }
                stays
            });
            if passive.is_empty() {
                break;
            }
        }
    }
    x
}

fn dot(a: &Features, b: &Features) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn equations(rows: &[(Features, f64)]) -> (Matrix, Features) {
        let (mut g, mut b) = ([[0.0; FEATURES]; FEATURES], [0.0; FEATURES]);
        for (row, y) in rows {
            for i in 0..FEATURES {
                b[i] += row[i] * y;
                for j in 0..FEATURES {
                    g[i][j] += row[i] * row[j];
                }
            }
        }
        (0..FEATURES).for_each(|i| g[i][i] += 1e-9);
        (g, b)
    }

    proptest! {
        /// A truth without negative coefficients is found. At any solution, changing a coefficient would
        /// increase the error (the conditions of Karush, Kuhn and Tucker).
        #[test]
        fn the_solution_is_optimal(
            rows in prop::collection::vec((prop::array::uniform13(0.0..1.0f64), -0.5..5.0f64), 16..40),
            truth in prop::array::uniform13(0.0..3.0f64),
        ) {
            let all: Vec<usize> = (0..FEATURES).collect();
            let exact: Vec<_> = rows.iter().map(|(row, _)| (*row, dot(row, &truth))).collect();
            let (g, b) = equations(&exact);
            for (found, truth) in solve(&g, &b, &all).iter().zip(truth) {
                prop_assert!((found - truth).abs() < 1e-3, "{found} for {truth}");
            }
            let (g, b) = equations(&rows);
            let x = solve(&g, &b, &all);
            for j in all {
                let gradient = b[j] - dot(&g[j], &x);
                prop_assert!(x[j] >= 0.0);
                prop_assert!(gradient < 1e-6, "more of {j} would be better: {gradient}");
                prop_assert!(x[j] == 0.0 || gradient.abs() < 1e-6, "another {j} would be better: {gradient}");
            }
        }
    }

    #[test]
    fn unknowns_that_are_not_allowed_stay_zero_and_equal_columns_are_solved() {
        let mut rows = Vec::new();
        for i in 0..20 {
            let u = f64::from(i) / 20.0;
            let mut row = [0.0; FEATURES];
            [row[0], row[1], row[2], row[4]] = [1.0, u, u, u];
            rows.push((row, 10.0 + 40.0 * u));
        }
        let (g, b) = equations(&rows);
        let x = solve(&g, &b, &[0, 1, 2]);
        assert!((x[0] - 10.0).abs() < 1e-3 && (x[1] + x[2] - 40.0).abs() < 1e-3, "{x:?}");
        assert_eq!(x[4], 0.0);
    }
}
