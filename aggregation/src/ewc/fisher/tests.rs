//! The factored Fisher against the dense one.

use super::*;
use crate::layout::ModuleLayout;

fn layout(out_features: usize, in_features: usize) -> AdapterLayout {
    let modules = vec![ModuleLayout {
        name: "m".to_owned(),
        in_features,
        out_features,
    }];
    AdapterLayout::new(1, 1.0, false, modules).unwrap()
}

/// Row sums, column sums and total of a dense matrix.
fn marginals(dense: &[f64], width: usize) -> (Vec<f64>, Vec<f64>, f64) {
    let rows = dense
        .chunks_exact(width)
        .map(|row| row.iter().sum())
        .collect();
    let columns = (0..width)
        .map(|j| dense.iter().skip(j).step_by(width).sum())
        .collect();
    (rows, columns, dense.iter().sum())
}

/// The squared gradient `(D^T X)^2` of one example, entry by entry.
fn squared_gradient(d: &[f64], x: &[f64], (out, width): (usize, usize)) -> Vec<f64> {
    let mut gradient = vec![0.0; out * width];
    for (d, x) in d.chunks_exact(out).zip(x.chunks_exact(width)) {
        for (i, d) in d.iter().enumerate() {
            for (j, x) in x.iter().enumerate() {
                gradient[i * width + j] += d * x;
            }
        }
    }
    gradient.iter().map(|value| value * value).collect()
}

fn wave(seed: usize, len: usize) -> Vec<f64> {
    (0..len)
        .map(|i| ((i * 13 + seed * 7 + 1) as f64).sin())
        .collect()
}

#[test]
fn factored_marginals_equal_dense_marginals() {
    let (out, width, examples) = (4, 6, 5);
    let mut accumulator = FisherAccumulator::new(&layout(out, width));
    let mut dense = vec![0.0; out * width];
    for example in 0..examples {
        let tokens = 3 + example;
        let (d, x) = (
            wave(example, tokens * out),
            wave(example + 50, tokens * width),
        );
        let squared = squared_gradient(&d, &x, (out, width));
        let (row, col, total) = marginals(&squared, width);
        accumulator.add(0, &row, &col, total);
        accumulator.finish_example(tokens as u64);
        dense
            .iter_mut()
            .zip(&squared)
            .for_each(|(sum, value)| *sum += value);
    }
    let tokens = 3 + 4 + 5 + 6 + 7;
    dense
        .iter_mut()
        .for_each(|value| *value /= f64::from(tokens));
    let anchor = accumulator.finish([1; 32]).unwrap();
    assert_eq!((anchor.tokens, anchor.examples), (25, 5));
    let fisher = &anchor.modules["m"];
    let factored: Vec<f64> = fisher
        .u
        .iter()
        .flat_map(|&u| fisher.v.iter().map(move |&v| f64::from(u) * f64::from(v)))
        .collect();
    let (found, expected) = (marginals(&factored, width), marginals(&dense, width));
    let close = |x: &[f64], y: &[f64]| x.iter().zip(y).all(|(x, y)| (x / y - 1.0).abs() < 1e-6);
    assert!(close(&found.0, &expected.0) && close(&found.1, &expected.1));
    assert!(close(&[found.2], &[expected.2]));
}

#[test]
fn one_token_is_reproduced_entry_by_entry() {
    // The gradient of one token has rank one, so factoring loses nothing.
    let (d, x) = (wave(1, 3), wave(2, 5));
    let squared = squared_gradient(&d, &x, (3, 5));
    let (row, col, total) = marginals(&squared, 5);
    let mut accumulator = FisherAccumulator::new(&layout(3, 5));
    accumulator.add(0, &row, &col, total);
    accumulator.finish_example(1);
    let anchor = accumulator.finish([0; 32]).unwrap();
    let fisher = &anchor.modules["m"];
    for (i, u) in fisher.u.iter().enumerate() {
        for (j, v) in fisher.v.iter().enumerate() {
            let found = f64::from(*u) * f64::from(*v);
            assert!((found / squared[i * 5 + j] - 1.0).abs() < 1e-6);
        }
    }
}

#[test]
fn gradients_are_squared_per_example_not_per_batch() {
    // algorithms.md 2.1: {+1, -1, +1, -1} is 1, where the squared batch mean would be 0.
    let mut accumulator = FisherAccumulator::new(&layout(1, 1));
    for gradient in [1.0_f64, -1.0, 1.0, -1.0] {
        let squared = gradient * gradient;
        accumulator.add(0, &[squared], &[squared], squared);
        accumulator.finish_example(1);
    }
    let fisher = &accumulator.finish([0; 32]).unwrap().modules["m"];
    assert_eq!(fisher.u[0] * fisher.v[0], 1.0);
}

#[test]
fn an_example_that_is_not_finite_is_dropped_as_a_whole_and_counted() {
    let mut accumulator = FisherAccumulator::new(&layout(1, 2));
    accumulator.add(0, &[2.0], &[1.0, 1.0], 2.0);
    accumulator.finish_example(2);
    for bad in [f64::NAN, f64::INFINITY, -1.0] {
        accumulator.add(0, &[9.0], &[9.0, bad], 9.0);
        accumulator.finish_example(5);
    }
    assert_eq!((accumulator.examples(), accumulator.dropped()), (1, 3));
    let anchor = accumulator.finish([0; 32]).unwrap();
    assert_eq!(
        (
            anchor.tokens,
            anchor.modules["m"].u[0] * anchor.modules["m"].v[0]
        ),
        (2, 0.5)
    );
}

#[test]
fn importances_above_the_quantile_are_clamped() {
    let width = 2000;
    let mut col = vec![1.0; width];
    col[7] = 1e9;
    let total = col.iter().sum();
    let mut accumulator = FisherAccumulator::new(&layout(1, width));
    accumulator.add(0, &[total], &col, total);
    accumulator.finish_example(1);
    let fisher = &accumulator.finish([0; 32]).unwrap().modules["m"];
    assert_eq!(fisher.v[7], fisher.v[8]);
}

#[test]
fn a_module_no_gradient_reached_has_no_importance() {
    let mut accumulator = FisherAccumulator::new(&layout(1, 1));
    accumulator.finish_example(1);
    assert_eq!(accumulator.finish([0; 32]).unwrap().modules["m"].u, [0.0]);
}

#[test]
fn without_an_example_there_is_no_anchor() {
    let mut accumulator = FisherAccumulator::new(&layout(1, 1));
    accumulator.add(0, &[f64::NAN], &[1.0], 1.0);
    accumulator.finish_example(1);
    let refused = accumulator.finish([0; 32]).unwrap_err();
    assert_eq!(refused, AnchorError::NoExamples { dropped: 1 });
}
