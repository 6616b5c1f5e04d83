//! Cholesky's decomposition of a small symmetric matrix, of which only some rows and columns count.

/// The upper triangle whose transpose times itself is the matrix, over the unknowns.
#[derive(Debug)]
pub(super) struct Cholesky<'a, const N: usize> {
    upper: [[f64; N]; N],
    unknowns: &'a [usize],
}

impl<'a, const N: usize> Cholesky<'a, N> {
    /// That of the rows and columns of `matrix` that are `unknowns`; `None` if it is not positive definite
    /// there: equations with it have no unique solution. Loops go along rows, so that they are vectorised.
    pub(super) fn of(matrix: &[[f64; N]; N], unknowns: &'a [usize]) -> Option<Self> {
        let n = unknowns.len();
        let mut upper = [[0.0; N]; N];
        for i in 0..n {
            let (above, row) = upper.split_at_mut(i);
            let row = &mut row[0];
            let values = &matrix[unknowns[i]];
            unknowns[i..].iter().zip(&mut row[i..n]).for_each(|(&column, value)| *value = values[column]);
            let diagonal = row[i];
            for other in above.iter() {
                add(&mut row[i..n], &other[i..n], -other[i]);
            }
            if row[i] > 1e-12 * diagonal {
                let pivot = row[i].sqrt();
                row[i..n].iter_mut().for_each(|value| *value /= pivot);
            } else {
                return None;
            }
        }
        Some(Self { upper, unknowns })
    }

    /// The x for which the matrix times x is `b`; 0 but for the unknowns.
    pub(super) fn solve(&self, b: &[f64; N]) -> [f64; N] {
        let Self { upper, unknowns } = self;
        let n = unknowns.len();
        let mut y = [0.0; N];
        for i in 0..n {
            let known: f64 = (0..i).map(|k| upper[k][i] * y[k]).sum();
            y[i] = (b[unknowns[i]] - known) / upper[i][i];
        }
        let mut x = [0.0; N];
        for i in (0..n).rev() {
            let known: f64 = (i + 1..n).map(|k| upper[i][k] * x[unknowns[k]]).sum();
            x[unknowns[i]] = (y[i] - known) / upper[i][i];
        }
        x
    }

    /// The inverse of the matrix; 0 but for the unknowns. To solve for each column takes much longer.
    pub(super) fn inverse(&self) -> [[f64; N]; N] {
        let Self { upper, unknowns } = self;
        let n = unknowns.len();
        // That of the transposed triangle, and its transpose times itself.
        let (mut triangle, mut product) = ([[0.0; N]; N], [[0.0; N]; N]);
        for i in 0..n {
            let (above, row) = triangle.split_at_mut(i);
            let row = &mut row[0];
            for (k, other) in above.iter().enumerate() {
                add(&mut row[..=k], &other[..=k], -upper[k][i]);
            }
            row[i] = 1.0;
            row[..=i].iter_mut().for_each(|value| *value /= upper[i][i]);
            for j in 0..=i {
                add(&mut product[j][..=j], &row[..=j], row[j]);
            }
        }
        let mut inverse = [[0.0; N]; N];
        for (i, &row) in unknowns.iter().enumerate() {
            for (j, &column) in unknowns.iter().enumerate().take(i + 1) {
                inverse[row][column] = product[i][j];
                inverse[column][row] = product[i][j];
            }
        }
        inverse
    }
}

/// Adds `times` the other row to `row`.
fn add(row: &mut [f64], other: &[f64], times: f64) {
    row.iter_mut().zip(other).for_each(|(value, other)| *value += times * other);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equations_are_solved_over_the_unknowns_alone() {
        // 4x + 2z = 10 and 2x + 3z = 11; the middle row does not count.
        let matrix = [[4.0, 9.0, 2.0], [9.0, 9.0, 9.0], [2.0, 9.0, 3.0]];
        let x = Cholesky::of(&matrix, &[0, 2]).map(|factor| factor.solve(&[10.0, 7.0, 11.0]));
        let x = x.unwrap_or_default();
        assert!((x[0] - 1.0).abs() < 1e-12 && x[1] == 0.0 && (x[2] - 3.0).abs() < 1e-12, "{x:?}");
    }

    #[test]
    fn the_inverse_has_the_solutions_of_unit_vectors_as_columns() {
        let matrix = [[4.0, 9.0, 2.0, 1.0], [9.0; 4], [2.0, 9.0, 3.0, 0.5], [1.0, 9.0, 0.5, 2.0]];
        let unknowns = [0, 2, 3];
        let factor = Cholesky::of(&matrix, &unknowns).expect("positive definite");
        let inverse = factor.inverse();
        assert_eq!(inverse[1], [0.0; 4]);
        for column in unknowns {
            let mut unit = [0.0; 4];
            unit[column] = 1.0;
            let solution = factor.solve(&unit);
            unknowns.iter().for_each(|&i| assert!((inverse[i][column] - solution[i]).abs() < 1e-12));
        }
    }

    #[test]
    fn a_matrix_that_is_not_positive_definite_has_none() {
        for matrix in [[[1.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 1.0]], [[f64::NAN, 0.0], [0.0, 1.0]]] {
            assert!(Cholesky::of(&matrix, &[0, 1]).is_none(), "{matrix:?}");
        }
    }
}
