//! The closed-form proximal step toward the anchor, for the client after its optimizer step and for
//! the server after averaging.
//!
//! It minimises `1/2 |B - B0|^2 + (t/2) sum_ij u_i v_j (s (B A)_ij - s (B* A*)_ij)^2` over `B` with `A`
//! fixed, then the same over `A` with the new `B` (one Gauss-Seidel pass; algorithms.md 2.4 b). Rows
//! of `B` are independent: `b_i <- (I + t s^2 u_i M_A)^-1 (b_i + t s^2 u_i A V A*^T b*_i)`, and one
//! eigendecomposition of `M_A = A V A^T` serves them all. Unlike a gradient step it is stable for any
//! strength. Written as a correction to the old value, so that where the strength or the
//! importance is zero not one bit changes.

use crate::adapter::Adapter;
use crate::ewc::anchor::{BoundAnchor, ModuleFisher};
use crate::ewc::eigen::Eigen;
use crate::gram;
use crate::layout::Factor;
use rayon::prelude::*;

/// Pulls an adapter toward the anchor: `B` row by row, then `A` column by column.
///
/// `reference` is the adapter whose `s B* A*` is the anchor; without one it is the base model,
/// `delta W = 0`. `strength` gives `t` for each module and factor; where it is zero the factor is
/// left bit for bit as it is.
///
/// # Panics
/// If the anchor or the reference has another layout, or a strength is negative or not finite.
pub fn proximal_step(
    adapter: &mut Adapter,
    anchor: &BoundAnchor,
    reference: Option<&Adapter>,
    strength: &(dyn Fn(usize, Factor) -> f64 + Sync),
) {
    anchor.assert_fits(adapter.layout());
    if let Some(reference) = reference {
        assert!(
            reference.same_layout(adapter),
            "the reference adapter has another layout"
        );
    }
    let modules = adapter.layout().modules().len();
    let pulled: Vec<_> = (0..modules)
        .into_par_iter()
        .map(|module| {
            let strengths = Strengths::of(module, adapter.layout().scale(), strength);
            let target = reference.map(|reference| Factors::of(reference, module));
            let mut factors = Factors::of(adapter, module);
            factors.pull_both(anchor.module(module), target.as_ref(), &strengths);
            (strengths, factors)
        })
        .collect();
    for (module, (strengths, factors)) in pulled.iter().enumerate() {
        if strengths.a > 0.0 {
            narrow(adapter.a_mut(module), &factors.a);
        }
        if strengths.b > 0.0 {
            narrow(adapter.b_mut(module), &factors.b);
        }
    }
}

/// How hard each factor of one module is pulled; includes `s^2`.
struct Strengths {
    a: f64,
    b: f64,
}

impl Strengths {
    fn of(module: usize, scale: f64, strength: &dyn Fn(usize, Factor) -> f64) -> Self {
        let checked = |factor| {
            let strength = strength(module, factor);
            assert!(
                strength.is_finite() && strength >= 0.0,
                "strength {strength} is not usable"
            );
            strength * scale * scale
        };
        Self {
            a: checked(Factor::A),
            b: checked(Factor::B),
        }
    }
}

fn narrow(values: &mut [f32], pulled: &[f64]) {
    values
        .iter_mut()
        .zip(pulled)
        .for_each(|(value, &pulled)| *value = pulled as f32);
}

/// One module's factors in f64.
#[derive(Debug, Clone)]
struct Factors {
    /// Row-major `[rank, in]`.
    a: Vec<f64>,
    /// Row-major `[out, rank]`.
    b: Vec<f64>,
    rank: usize,
}

impl Factors {
    fn of(adapter: &Adapter, module: usize) -> Self {
        let widen = |values: &[f32]| values.iter().copied().map(f64::from).collect();
        let rank = adapter.layout().rank();
        Self {
            a: widen(adapter.a(module)),
            b: widen(adapter.b(module)),
            rank,
        }
    }

    /// Moves `B` and then `A` to the minimiser, where there is a strength.
    fn pull_both(&mut self, fisher: &ModuleFisher, target: Option<&Self>, strengths: &Strengths) {
        if strengths.b > 0.0 {
            self.pull(Factor::B, fisher, target, strengths.b);
            // What is kept of B is f32, and A follows what is kept.
            for value in &mut self.b {
                *value = f64::from(*value as f32);
            }
        }
        if strengths.a > 0.0 {
            self.pull(Factor::A, fisher, target, strengths.a);
        }
    }

    /// Moves one factor to the minimiser, in f64; `strength` includes `s^2`.
    fn pull(
        &mut self,
        factor: Factor,
        fisher: &ModuleFisher,
        target: Option<&Self>,
        strength: f64,
    ) {
        match factor {
            Factor::B => self.pull_rows_of_b(fisher, target, strength),
            Factor::A => self.pull_columns_of_a(fisher, target, strength),
        }
    }

    fn pull_rows_of_b(&mut self, fisher: &ModuleFisher, target: Option<&Self>, strength: f64) {
        let (rank, width) = (self.rank, fisher.v.len());
        let mut solver = Solver::new(
            gram::of_rows((&self.a, &self.a), width, Some(&fisher.v)),
            rank,
        );
        // A V A*^T, which carries a row of B* into the rank space of this adapter.
        let cross = target.map(|target| {
            (
                target,
                gram::of_rows((&self.a, &target.a), width, Some(&fisher.v)),
            )
        });
        let mut pull = vec![0.0; rank];
        for (index, row) in self.b.chunks_exact_mut(rank).enumerate() {
            if let Some((target, cross)) = &cross {
                let row = &target.b[index * target.rank..][..target.rank];
                multiply(cross, row, &mut pull);
            }
            solver.solve(
                row,
                strength * f64::from(fisher.u[index]),
                cross.as_ref().map(|_| pull.as_slice()),
            );
        }
    }

    fn pull_columns_of_a(&mut self, fisher: &ModuleFisher, target: Option<&Self>, strength: f64) {
        let (rank, width) = (self.rank, fisher.v.len());
        let sizes = |other: usize| (rank, other);
        let gram = gram::of_columns((&self.b, &self.b), sizes(rank), Some(&fisher.u));
        let mut solver = Solver::new(gram, rank);
        // B^T U B*, which carries a column of A* into the rank space of this adapter.
        let cross = target.map(|target| {
            let both = (self.b.as_slice(), target.b.as_slice());
            (
                target,
                gram::of_columns(both, sizes(target.rank), Some(&fisher.u)),
            )
        });
        let (mut column, mut pull) = (vec![0.0; rank], vec![0.0; rank]);
        let mut wanted = vec![0.0; target.map_or(0, |target| target.rank)];
        for index in 0..width {
            if let Some((target, cross)) = &cross {
                let values = target.a.iter().skip(index).step_by(width);
                wanted
                    .iter_mut()
                    .zip(values)
                    .for_each(|(wanted, &value)| *wanted = value);
                multiply(cross, &wanted, &mut pull);
            }
            for (place, value) in column.iter_mut().enumerate() {
                *value = self.a[place * width + index];
            }
            solver.solve(
                &mut column,
                strength * f64::from(fisher.v[index]),
                cross.as_ref().map(|_| pull.as_slice()),
            );
            for (place, value) in column.iter().enumerate() {
                self.a[place * width + index] = *value;
            }
        }
    }
}

/// Solves `(I + t M) x = x0 + t pull` for many `t` with one decomposition of `M`.
struct Solver {
    eigen: Eigen,
    /// `Q`, row-major: the transpose of the eigenvectors.
    basis: Vec<f64>,
    rank: usize,
    /// Room for one row, reused.
    wanted: Vec<f64>,
    held: Vec<f64>,
}

impl Solver {
    fn new(gram: Vec<f64>, rank: usize) -> Self {
        let mut eigen = Eigen::of_symmetric(gram, rank);
        // A Gram matrix has no negative eigenvalues but for rounding.
        eigen
            .values
            .iter_mut()
            .for_each(|value| *value = value.max(0.0));
        let columns = (0..rank).flat_map(|k| (0..rank).map(move |m| (m, k)));
        let basis = columns.map(|(m, k)| eigen.vectors[m * rank + k]).collect();
        Self {
            eigen,
            basis,
            rank,
            wanted: vec![0.0; rank],
            held: vec![0.0; rank],
        }
    }

    /// `x += Q diag(t / (1 + t values)) (Q^T pull - diag(values) Q^T x)`.
    fn solve(&mut self, x: &mut [f64], t: f64, pull: Option<&[f64]>) {
        if t == 0.0 {
            return;
        }
        let Self {
            eigen,
            basis,
            rank,
            wanted,
            held,
        } = self;
        combine_rows(basis, *rank, x, held);
        match pull {
            Some(pull) => combine_rows(basis, *rank, pull, wanted),
            None => wanted.fill(0.0),
        }
        for ((wanted, held), value) in wanted.iter_mut().zip(held.iter()).zip(&eigen.values) {
            *wanted = t * (*wanted - value * held) / (1.0 + t * value);
        }
        combine_rows(&eigen.vectors, *rank, wanted, held);
        x.iter_mut().zip(held).for_each(|(x, moved)| *x += *moved);
    }
}

/// `out = sum_k weights_k row_k` of a row-major square matrix: the order in which it vectorises.
fn combine_rows(matrix: &[f64], size: usize, weights: &[f64], out: &mut [f64]) {
    out.fill(0.0);
    for (row, weight) in matrix.chunks_exact(size).zip(weights) {
        out.iter_mut()
            .zip(row)
            .for_each(|(out, value)| *out += weight * value);
    }
}

/// `out = matrix * vector` for a row-major matrix.
fn multiply(matrix: &[f64], vector: &[f64], out: &mut [f64]) {
    for (out, row) in out.iter_mut().zip(matrix.chunks_exact(vector.len())) {
        *out = gram::inner(row, vector);
    }
}

#[cfg(test)]
mod tests;
