//! The numbers of algorithms.md 1.2, exactly and by sketch.

use super::*;
use crate::layout::ModuleLayout;
use crate::strategy::fedavg::FedAvg;
use crate::strategy::fixed_point::FixedPoint;

/// One 2 x 2 module of rank one with `s = 1`.
fn layout() -> Arc<AdapterLayout> {
    let modules = vec![ModuleLayout {
        name: "m".to_owned(),
        in_features: 2,
        out_features: 2,
    }];
    Arc::new(AdapterLayout::new(1, 1.0, false, modules).unwrap())
}

fn unit(index: usize) -> Adapter {
    let mut values = vec![0.0; 4];
    values[index] = 1.0;
    values[2 + index] = 1.0;
    Adapter::from_values(layout(), values).unwrap()
}

#[test]
fn two_orthogonal_participants_have_relative_error_one_over_root_two() {
    // B1 = e1, A1 = e1^T, B2 = e2, A2 = e2^T, w = 1/2: ideal diag(1/2, 1/2), residual norm 1/2.
    let zero = Adapter::zeros(layout());
    let found = exact(&zero, &[(&unit(0), 1), (&unit(1), 1)]);
    assert!((found - 0.5_f64.sqrt()).abs() < 1e-15, "{found}");
}

#[test]
fn uneven_weights_give_the_published_matrices() {
    // w = (3/4, 1/4): ideal diag(.75, .25), separate means [[.5625, .1875], [.1875, .0625]].
    let zero = Adapter::zeros(layout());
    let (one, two) = (unit(0), unit(1));
    let mut sum = FedAvg::new(layout(), FixedPoint::for_bounds(2, 3, 2.0).unwrap());
    sum.fold(&one, 3).unwrap();
    sum.fold(&two, 1).unwrap();
    let mean = sum.mean().unwrap();
    let separate: Vec<f32> = mean
        .b(0)
        .iter()
        .flat_map(|b| mean.a(0).iter().map(move |a| a * b))
        .collect();
    assert_eq!(separate, [0.5625, 0.1875, 0.1875, 0.0625]);
    let (residual, ideal) = (
        4.0 * 0.1875_f64.powi(2),
        0.75_f64.powi(2) + 0.25_f64.powi(2),
    );
    let found = exact(&zero, &[(&one, 3), (&two, 1)]);
    assert!((found - (residual / ideal).sqrt()).abs() < 1e-15, "{found}");
    let estimate = sum.inexactness(&zero, &mean);
    // One module of rank one is the worst case of the estimate.
    assert!(
        (estimate / found - 1.0).abs() < 0.5,
        "estimate {estimate}, exact {found}"
    );
}

#[test]
fn the_error_is_zero_when_all_share_one_factor() {
    let global = Adapter::initial(layout(), 1);
    let with_b = |b: [f32; 2]| Adapter::from_values(layout(), vec![0.0, 0.0, b[0], b[1]]).unwrap();
    let (x, y) = (with_b([1.0, 2.0]), with_b([-3.0, 0.5]));
    assert_eq!(exact(&global, &[(&x, 1), (&y, 5)]), 0.0);
    let mut sum = FedAvg::new(layout(), FixedPoint::for_bounds(2, 5, 8.0).unwrap());
    sum.fold(&x, 1).unwrap();
    sum.fold(&y, 5).unwrap();
    assert_eq!(sum.inexactness(&global, &sum.mean().unwrap()), 0.0);
}

#[test]
fn the_error_is_the_pairwise_covariance() {
    // sum_i w_i B_i A_i - B A = sum_{i<j} w_i w_j (B_i - B_j)(A_i - A_j), on random factors.
    let (rank, width, weights) = (2, 5, [0.5, 0.3, 0.2]);
    let random = |seed: usize, len: usize| -> Vec<f64> {
        (0..len)
            .map(|i| ((i * 31 + seed * 17) as f64).sin())
            .collect()
    };
    let all_a: Vec<_> = (0..3).map(|i| random(i, rank * width)).collect();
    let all_b: Vec<_> = (0..3).map(|i| random(i + 9, 3 * rank)).collect();
    let mean = |factors: &[Vec<f64>]| -> Vec<f64> {
        let zeros = vec![0.0; factors[0].len()];
        factors
            .iter()
            .zip(weights)
            .fold(zeros, |sum, (factor, weight)| {
                sum.iter()
                    .zip(factor)
                    .map(|(sum, value)| sum + weight * value)
                    .collect()
            })
    };
    let (mean_a, mean_b) = (mean(&all_a), mean(&all_b));
    let minus = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x - y).collect::<Vec<_>>();
    let mut pairs = Vec::new();
    for i in 0..3 {
        for j in i + 1..3 {
            let (a, b) = (minus(&all_a[i], &all_a[j]), minus(&all_b[i], &all_b[j]));
            pairs.push((weights[i] * weights[j], a, b));
        }
    }
    // The left side minus the right side is the zero matrix.
    let mut terms: Vec<_> = (0..3)
        .map(|i| Term {
            weight: weights[i],
            a: &all_a[i],
            b: &all_b[i],
        })
        .collect();
    terms.push(Term {
        weight: -1.0,
        a: &mean_a,
        b: &mean_b,
    });
    let left = product_norm_squared(&terms, rank).sqrt();
    terms.extend(pairs.iter().map(|(weight, a, b)| Term {
        weight: -weight,
        a,
        b,
    }));
    let difference = product_norm_squared(&terms, rank).sqrt();
    assert!(
        left > 0.1 && difference < 1e-7 * left,
        "{left} {difference}"
    );
}
