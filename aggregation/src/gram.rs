//! Small matrices from tall ones: weighted Gram matrices of LoRA factors, in f64.
//!
//! Everything the project asks about `B * A` (norms, distances, the EWC penalty) is a sum of
//! products of such `rank x rank` matrices, so no `[out, in]` matrix is ever formed. Weights are
//! the diagonal of the factored Fisher, or none.

/// `X diag(weight) Y^T` for row-major `x` `[rows_x, width]` and `y` `[rows_y, width]`.
///
/// # Shapes
/// `weight` has `width` entries or is absent; the result is row-major `[rows_x, rows_y]`.
pub(crate) fn of_rows<T: Copy + Into<f64>>(
    (x, y): (&[T], &[T]),
    width: usize,
    weight: Option<&[f32]>,
) -> Vec<f64> {
    let mut gram = Vec::with_capacity((x.len() / width) * (y.len() / width));
    let mut weighted = vec![0.0; width];
    for row in x.chunks_exact(width) {
        for (index, (out, &value)) in weighted.iter_mut().zip(row).enumerate() {
            *out = value.into() * weight.map_or(1.0, |weight| f64::from(weight[index]));
        }
        gram.extend(y.chunks_exact(width).map(|other| dot(&weighted, other)));
    }
    gram
}

/// `X^T diag(weight) Y` for row-major `x` `[height, columns_x]` and `y` `[height, columns_y]`.
///
/// # Shapes
/// `weight` has `height` entries or is absent; the result is row-major `[columns_x, columns_y]`.
pub(crate) fn of_columns<T: Copy + Into<f64>>(
    (x, y): (&[T], &[T]),
    (columns_x, columns_y): (usize, usize),
    weight: Option<&[f32]>,
) -> Vec<f64> {
    let mut gram = vec![0.0; columns_x * columns_y];
    let rows = x.chunks_exact(columns_x).zip(y.chunks_exact(columns_y));
    for (index, (row_x, row_y)) in rows.enumerate() {
        let factor = weight.map_or(1.0, |weight| f64::from(weight[index]));
        for (&left, sums) in row_x.iter().zip(gram.chunks_exact_mut(columns_y)) {
            let left = left.into() * factor;
            for (sum, &right) in sums.iter_mut().zip(row_y) {
                *sum += left * right.into();
            }
        }
    }
    gram
}

/// `<X, Y>`: the sum of the products of equal positions.
pub(crate) fn inner(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

/// One summand `weight * B * A` of a sum of products.
#[derive(Clone, Copy)]
pub(crate) struct Term<'a, T> {
    /// Its coefficient.
    pub(crate) weight: f64,
    /// Row-major `[rank, in]`.
    pub(crate) a: &'a [T],
    /// Row-major `[out, rank]`.
    pub(crate) b: &'a [T],
}

/// `|sum_i weight_i B_i A_i|_F^2`, from `<B_i^T B_j, A_i A_j^T>` over all pairs.
pub(crate) fn product_norm_squared<T: Copy + Into<f64>>(terms: &[Term<'_, T>], rank: usize) -> f64 {
    let mut total = 0.0;
    for (index, left) in terms.iter().enumerate() {
        for (other, right) in terms.iter().enumerate().skip(index) {
            let columns = of_columns((left.b, right.b), (rank, rank), None);
            let rows = of_rows((left.a, right.a), left.a.len() / rank, None);
            let twice = if other == index { 1.0 } else { 2.0 };
            total += twice * left.weight * right.weight * inner(&columns, &rows);
        }
    }
    // A sum of squares that cancelled to a rounding error below zero is zero.
    total.max(0.0)
}

/// Four partial sums in a fixed pattern, so that the result is the same everywhere.
fn dot<T: Copy + Into<f64>>(x: &[f64], y: &[T]) -> f64 {
    let mut partial = [0.0_f64; 4];
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<4>(), y.as_chunks::<4>());
    for (x, y) in x.iter().zip(y) {
        for lane in 0..4 {
            partial[lane] += x[lane] * y[lane].into();
        }
    }
    let rest: f64 = x_rest.iter().zip(y_rest).map(|(x, &y)| x * y.into()).sum();
    partial.iter().sum::<f64>() + rest
}
