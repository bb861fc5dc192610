//! The space that the rows of a matrix span, and how far a vector is from it.
//!
//! By the eigenvectors of the smaller of the two Gram matrices (Golub and Van Loan, Matrix Computations, section 8.6): good to
//! about eight digits, which is enough to tell inside from outside. For matrices with one small side, such as LoRA factors.

use crate::ewc::eigen::Eigen;

/// Directions below this share of the largest singular value count as rounding.
const NEGLIGIBLE: f64 = 1e-5;

/// An orthonormal basis of the strongest directions of a matrix's rows.
#[derive(Clone, Debug)]
pub struct RowSpace {
    /// Row-major, one direction a row, the strongest first.
    basis: Vec<f64>,
    columns: usize,
}

impl RowSpace {
    /// Finds the at most `dimensions_max` strongest directions.
    ///
    /// # Shapes
    /// `matrix` is row-major, `[rows, columns]`.
    ///
    /// # Panics
    /// If the matrix is not of whole rows.
    pub fn of(matrix: &[f32], columns: usize, dimensions_max: usize) -> Self {
        assert!(
            columns > 0 && matrix.len().is_multiple_of(columns),
            "a matrix has whole rows"
        );
        let rows: Vec<&[f32]> = matrix.chunks_exact(columns).collect();
        let is_wide = rows.len() <= columns;
        let gram = if is_wide {
            gram_of_rows(&rows)
        } else {
            gram_of_columns(&rows, columns)
        };
        let size = rows.len().min(columns);
        let Eigen { values, vectors } = Eigen::of_symmetric(gram, size);
        let mut order: Vec<usize> = (0..size).collect();
        order.sort_by(|&one, &other| values[other].total_cmp(&values[one]));
        let largest = order.first().map_or(0.0, |&first| values[first].max(0.0));
        let is_kept = |&index: &usize| {
            values[index] > 0.0 && values[index] > NEGLIGIBLE * NEGLIGIBLE * largest
        };
        let mut basis = Vec::new();
        for index in order.into_iter().filter(is_kept).take(dimensions_max) {
            let vector = &vectors[index * size..(index + 1) * size];
            if is_wide {
                basis.extend(combined(&rows, vector, values[index].sqrt(), columns));
            } else {
                basis.extend_from_slice(vector);
            }
        }
        Self { basis, columns }
    }

    /// How many directions were kept.
    pub fn dimensions(&self) -> usize {
        self.basis.len() / self.columns
    }

    /// The part of the vector that lies outside, as a share of its length: 0 inside, 1 at a right angle. A zero vector is
    /// outside.
    ///
    /// # Shapes
    /// `vector` is `[columns]`.
    pub fn distance(&self, vector: &[f32]) -> f64 {
        let square: f64 = vector.iter().map(|&value| f64::from(value).powi(2)).sum();
        if square == 0.0 {
            return 1.0;
        }
        let inside: f64 = self
            .basis
            .chunks_exact(self.columns)
            .map(|direction| {
                direction
                    .iter()
                    .zip(vector)
                    .map(|(one, &other)| one * f64::from(other))
                    .sum::<f64>()
                    .powi(2)
            })
            .sum();
        (1.0 - inside / square).max(0.0).sqrt()
    }
}

fn gram_of_rows(rows: &[&[f32]]) -> Vec<f64> {
    let product = |one: &[f32], other: &[f32]| {
        one.iter()
            .zip(other)
            .map(|(&a, &b)| f64::from(a) * f64::from(b))
            .sum()
    };
    rows.iter()
        .flat_map(|one| rows.iter().map(move |other| product(one, other)))
        .collect()
}

fn gram_of_columns(rows: &[&[f32]], columns: usize) -> Vec<f64> {
    let mut gram = vec![0.0; columns * columns];
    for row in rows {
        for (one, line) in row.iter().zip(gram.chunks_exact_mut(columns)) {
            for (other, sum) in row.iter().zip(line) {
                *sum += f64::from(*one) * f64::from(*other);
            }
        }
    }
    gram
}

/// The right singular vector of a left one: `M^T q / sigma`.
fn combined(rows: &[&[f32]], weights: &[f64], sigma: f64, columns: usize) -> Vec<f64> {
    let mut sum = vec![0.0; columns];
    for (row, weight) in rows.iter().zip(weights) {
        for (sum, &value) in sum.iter_mut().zip(*row) {
            *sum += weight * f64::from(value) / sigma;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_inside_and_what_is_at_a_right_angle_is_outside() {
        let matrix = [3.0, 4.0, 0.0, 0.0, 0.0, 2.0];
        let space = RowSpace::of(&matrix, 3, 3);
        assert_eq!(space.dimensions(), 2);
        for (vector, expected) in [
            ([3.0, 4.0, 7.0], 0.0),
            ([-4.0, 3.0, 0.0], 1.0),
            ([5.0, 0.0, 0.0], 0.8),
            ([0.0; 3], 1.0),
        ] {
            assert!(
                (space.distance(&vector) - expected).abs() < 1e-7,
                "{vector:?}"
            );
        }
    }

    #[test]
    fn tall_and_wide_matrices_of_the_same_rows_span_the_same() {
        let wide = [1.0, 2.0, 0.5, -1.0, 0.0, 1.0];
        let tall: Vec<f32> = [wide, wide, wide].concat();
        let (one, other) = (RowSpace::of(&wide, 3, 3), RowSpace::of(&tall, 3, 3));
        assert_eq!((one.dimensions(), other.dimensions()), (2, 2));
        let vector = [0.3, -0.2, 0.9];
        assert!((one.distance(&vector) - other.distance(&vector)).abs() < 1e-7);
    }

    #[test]
    fn the_strongest_directions_are_kept() {
        let matrix = [10.0, 0.0, 0.0, 1.0];
        let space = RowSpace::of(&matrix, 2, 1);
        assert!(space.distance(&[1.0, 0.0]) < 1e-7);
        assert!(space.distance(&[0.0, 1.0]) > 0.999);
        assert_eq!(RowSpace::of(&[0.0; 4], 2, 2).dimensions(), 0);
    }
}
