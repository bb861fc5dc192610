//! The EWC penalty and its gradient, from `rank x rank` matrices.
//!
//! With `U = diag(u)`, `V = diag(v)`, `M_B = B^T U B`, `M_A = A V A^T` (algorithms.md 2.2):
//! `P = (lambda / 2) s^2 <M_B, M_A>`, `dP/dB = lambda s^2 U B M_A`, `dP/dA = lambda s^2 M_B A V`.
//! The anchor is the base model itself, `delta W = 0`. Computed in f64, rounded to f32 at the end.

use std::sync::Arc;

use crate::adapter::Adapter;
use crate::ewc::anchor::BoundAnchor;
use crate::gram;

/// The penalty of an adapter: `(lambda / 2) sum_ij u_i v_j (s (B A)_ij)^2` over all modules.
///
/// # Units
/// Nats per token of general text, to second order, times `lambda`.
///
/// # Panics
/// If the anchor was bound to another layout.
pub fn penalty(adapter: &Adapter, anchor: &BoundAnchor, lambda: f64) -> f64 {
    anchor.assert_fits(adapter.layout());
    let scale = adapter.layout().scale();
    let modules = 0..adapter.layout().modules().len();
    let sum: f64 = modules
        .map(|module| {
            let (m_a, m_b) = grams(adapter, anchor, module);
            gram::inner(&m_b, &m_a)
        })
        .sum();
    0.5 * lambda * scale * scale * sum
}

/// The gradient of [`penalty`] with respect to every value of the adapter.
///
/// # Panics
/// If the anchor was bound to another layout.
pub fn penalty_gradient(adapter: &Adapter, anchor: &BoundAnchor, lambda: f64) -> Adapter {
    anchor.assert_fits(adapter.layout());
    let layout = Arc::clone(adapter.layout());
    let strength = lambda * layout.scale() * layout.scale();
    let rank = layout.rank();
    let mut gradient = Adapter::zeros(Arc::clone(&layout));
    for (index, module) in layout.modules().iter().enumerate() {
        let fisher = anchor.module(index);
        let (m_a, m_b) = grams(adapter, anchor, index);
        let rows = gradient.b_mut(index).chunks_exact_mut(rank);
        for ((row, b), &u) in rows.zip(adapter.b(index).chunks_exact(rank)).zip(&fisher.u) {
            for (value, column) in row.iter_mut().zip(m_a.chunks_exact(rank)) {
                let sum: f64 = b.iter().zip(column).map(|(&b, m)| f64::from(b) * m).sum();
                *value = (strength * f64::from(u) * sum) as f32;
            }
        }
        let width = module.in_features;
        let mut sum = vec![0.0; width];
        for (row, weights) in gradient
            .a_mut(index)
            .chunks_exact_mut(width)
            .zip(m_b.chunks_exact(rank))
        {
            sum.fill(0.0);
            for (a, weight) in adapter.a(index).chunks_exact(width).zip(weights) {
                sum.iter_mut()
                    .zip(a)
                    .for_each(|(sum, &a)| *sum += weight * f64::from(a));
            }
            for ((value, sum), &v) in row.iter_mut().zip(&sum).zip(&fisher.v) {
                *value = (strength * f64::from(v) * sum) as f32;
            }
        }
    }
    gradient
}

/// `(A V A^T, B^T U B)` of one module.
fn grams(adapter: &Adapter, anchor: &BoundAnchor, module: usize) -> (Vec<f64>, Vec<f64>) {
    let (layout, fisher) = (adapter.layout(), anchor.module(module));
    let (a, b) = (adapter.a(module), adapter.b(module));
    let m_a = gram::of_rows(
        (a, a),
        layout.modules()[module].in_features,
        Some(&fisher.v),
    );
    let m_b = gram::of_columns((b, b), (layout.rank(), layout.rank()), Some(&fisher.u));
    (m_a, m_b)
}

#[cfg(test)]
mod tests;
