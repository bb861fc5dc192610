//! Eigendecomposition of a small symmetric matrix by Jacobi rotations, in f64.
//!
//! Cyclic Jacobi (Golub and Van Loan, Matrix Computations, section 8.5): slow for large matrices, but
//! accurate to the last bits, without dependencies, and the same everywhere. Matrices here are
//! `rank x rank`. No general eigensolver: symmetric input only.

/// Sweeps after which rotation stops; quadratic convergence needs under ten.
const SWEEPS_MAX: usize = 60;

/// `M = Q diag(values) Q^T` of a symmetric matrix.
#[derive(Debug, Clone)]
pub(crate) struct Eigen {
    /// The eigenvalues, in no order.
    pub(crate) values: Vec<f64>,
    /// Row-major, one eigenvector a row: `Q^T`.
    pub(crate) vectors: Vec<f64>,
}

impl Eigen {
    /// Decomposes a symmetric row-major `[size, size]` matrix.
    pub(crate) fn of_symmetric(mut matrix: Vec<f64>, size: usize) -> Self {
        assert_eq!(matrix.len(), size * size, "the matrix is not square");
        let mut vectors = vec![0.0; size * size];
        for index in 0..size {
            vectors[index * size + index] = 1.0;
        }
        for _ in 0..SWEEPS_MAX {
            let mut rotated = false;
            for p in 0..size {
                for q in p + 1..size {
                    rotated |= rotate(&mut matrix, &mut vectors, size, (p, q));
                }
            }
            if !rotated {
                break;
            }
        }
        let values = (0..size)
            .map(|index| matrix[index * size + index])
            .collect();
        Self { values, vectors }
    }
}

/// Zeroes the entry at `(p, q)`; false if it already was negligible.
fn rotate(matrix: &mut [f64], vectors: &mut [f64], size: usize, (p, q): (usize, usize)) -> bool {
    let (pp, qq, pq) = (
        matrix[p * size + p],
        matrix[q * size + q],
        matrix[p * size + q],
    );
    // Relative to the two diagonal entries, so that small eigenvalues are accurate too.
    if pq.abs() <= f64::EPSILON * 0.25 * (pp * qq).abs().sqrt() || pq == 0.0 {
        return false;
    }
    let theta = (qq - pp) / (2.0 * pq);
    let tangent = theta.signum() / (theta.abs() + theta.hypot(1.0));
    let cosine = 1.0 / tangent.hypot(1.0);
    let sine = tangent * cosine;
    for k in 0..size {
        let (kp, kq) = (matrix[k * size + p], matrix[k * size + q]);
        matrix[k * size + p] = cosine * kp - sine * kq;
        matrix[k * size + q] = sine * kp + cosine * kq;
    }
    turn_rows(matrix, size, (p, q), (cosine, sine));
    turn_rows(vectors, size, (p, q), (cosine, sine));
    matrix[p * size + q] = 0.0;
    matrix[q * size + p] = 0.0;
    true
}

fn turn_rows(matrix: &mut [f64], size: usize, (p, q): (usize, usize), (cosine, sine): (f64, f64)) {
    for k in 0..size {
        let (pk, qk) = (matrix[p * size + k], matrix[q * size + k]);
        matrix[p * size + k] = cosine * pk - sine * qk;
        matrix[q * size + k] = sine * pk + cosine * qk;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest entry of `Q diag(values) Q^T - M` and of `Q^T Q - I`.
    fn errors(matrix: &[f64], size: usize) -> (f64, f64) {
        let eigen = Eigen::of_symmetric(matrix.to_vec(), size);
        let q = &eigen.vectors;
        let (mut rebuilt, mut orthogonal) = (0.0_f64, 0.0_f64);
        for i in 0..size {
            for j in 0..size {
                let sum = (0..size).map(|m| q[m * size + i] * eigen.values[m] * q[m * size + j]);
                rebuilt = rebuilt.max((sum.sum::<f64>() - matrix[i * size + j]).abs());
                let dot: f64 = (0..size).map(|k| q[i * size + k] * q[j * size + k]).sum();
                orthogonal = orthogonal.max((dot - f64::from(u8::from(i == j))).abs());
            }
        }
        (rebuilt, orthogonal)
    }

    #[test]
    fn a_two_by_two_matrix_has_its_known_eigenvalues() {
        let mut values = Eigen::of_symmetric(vec![2.0, 1.0, 1.0, 2.0], 2).values;
        values.sort_by(f64::total_cmp);
        assert!(
            (values[0] - 1.0).abs() < 1e-15 && (values[1] - 3.0).abs() < 1e-15,
            "{values:?}"
        );
    }

    #[test]
    fn decompositions_rebuild_their_matrix() {
        for size in [1, 2, 3, 8, 16, 33] {
            let x: Vec<f64> = (0..size * size)
                .map(|i| ((i * i * 7 + i) as f64).sin())
                .collect();
            // X X^T is symmetric and, with its first row doubled into the last, singular.
            let matrix = crate::gram::of_rows((&x, &x), size, None);
            let (rebuilt, orthogonal) = errors(&matrix, size);
            assert!(
                rebuilt < 1e-13 * size as f64 && orthogonal < 1e-13,
                "{rebuilt} {orthogonal}"
            );
        }
    }

    #[test]
    fn zero_diagonal_and_singular_matrices_are_no_exception() {
        for matrix in [
            vec![0.0; 9],
            vec![1.0; 9],
            vec![0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        ] {
            let (rebuilt, orthogonal) = errors(&matrix, 3);
            assert!(
                rebuilt < 1e-15 && orthogonal < 1e-15,
                "{rebuilt} {orthogonal}"
            );
        }
    }
}
