//! The penalty against its dense form, its gradient against finite differences.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::ewc::{Anchor, ModuleFisher};
use crate::layout::{AdapterLayout, ModuleLayout};
use crate::properties::fixed_seed;

fn layout() -> Arc<AdapterLayout> {
    let module = |name: &str, in_features, out_features| ModuleLayout {
        name: name.to_owned(),
        in_features,
        out_features,
    };
    let modules = vec![module("x", 5, 3), module("y", 2, 4)];
    Arc::new(AdapterLayout::new(2, 3.0, false, modules).unwrap())
}

const VALUES: usize = 28;

fn any_case() -> impl Strategy<Value = (Adapter, BoundAnchor)> {
    // Multiples of 1/64, so that the steps of the finite differences are exact in f32.
    let value = (-128..128_i16).prop_map(|value| f32::from(value) / 64.0);
    let values = prop::collection::vec(value, VALUES);
    let fisher = |out, width| {
        let part = |len| prop::collection::vec(0.0_f32..3.0, len);
        (part(out), part(width)).prop_map(|(u, v)| ModuleFisher { u, v })
    };
    (values, fisher(3, 5), fisher(4, 2)).prop_map(|(values, x, y)| {
        let modules = BTreeMap::from([("x".to_owned(), x), ("y".to_owned(), y)]);
        let anchor = Anchor {
            base_fingerprint: [0; 32],
            tokens: 1,
            examples: 1,
            modules,
        };
        let adapter = Adapter::from_values(layout(), values).unwrap();
        (adapter, anchor.bind(&layout(), &[0; 32]).unwrap())
    })
}

/// `(lambda / 2) sum_ij u_i v_j (s (B A)_ij)^2`, entry by entry.
fn dense_penalty(adapter: &Adapter, anchor: &BoundAnchor, lambda: f64) -> f64 {
    let (layout, rank) = (adapter.layout(), adapter.layout().rank());
    let mut sum = 0.0;
    for (index, module) in layout.modules().iter().enumerate() {
        let (a, b, fisher) = (adapter.a(index), adapter.b(index), anchor.module(index));
        for i in 0..module.out_features {
            for j in 0..module.in_features {
                let entry: f64 = (0..rank)
                    .map(|r| f64::from(b[i * rank + r]) * f64::from(a[r * module.in_features + j]))
                    .sum();
                let importance = f64::from(fisher.u[i]) * f64::from(fisher.v[j]);
                sum += importance * (layout.scale() * entry).powi(2);
            }
        }
    }
    0.5 * lambda * sum
}

proptest! {
    #![proptest_config(fixed_seed())]

    #[test]
    fn the_penalty_equals_the_dense_one((adapter, anchor) in any_case(), lambda in 0.1..10.0_f64) {
        let (found, expected) =
            (penalty(&adapter, &anchor, lambda), dense_penalty(&adapter, &anchor, lambda));
        prop_assert!((found - expected).abs() <= 1e-12 * (1.0 + expected), "{found} {expected}");
    }

    #[test]
    fn the_gradient_equals_finite_differences((adapter, anchor) in any_case()) {
        let gradient = penalty_gradient(&adapter, &anchor, 0.7);
        let largest = gradient.values().iter().fold(1.0_f64, |max, &g| max.max(f64::from(g).abs()));
        // Quadratic in each single value, so that central differences have no error but rounding;
        // steps of one half are exact.
        for index in 0..VALUES {
            let at = |step: f32| {
                let mut moved = adapter.clone();
                moved.values_mut()[index] += step;
                let value = f64::from(moved.values()[index]);
                (value, penalty(&moved, &anchor, 0.7))
            };
            let ((high, above), (low, below)) = (at(0.5), at(-0.5));
            let slope = (above - below) / (high - low);
            let error = (slope - f64::from(gradient.values()[index])).abs();
            prop_assert!(error <= 1e-6 * largest, "value {index}: {slope}, error {error}");
        }
    }

    #[test]
    fn no_lambda_and_no_b_mean_no_penalty((mut adapter, anchor) in any_case()) {
        prop_assert_eq!(penalty(&adapter, &anchor, 0.0), 0.0);
        for module in 0..2 {
            adapter.b_mut(module).fill(0.0);
        }
        prop_assert_eq!(penalty(&adapter, &anchor, 1.0), 0.0);
        prop_assert_eq!(penalty_gradient(&adapter, &anchor, 1.0).norm(), 0.0);
    }
}
