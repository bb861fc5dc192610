//! The proximal step: known numbers, optimality, limits, and that no strength means no change.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::ewc::{Anchor, penalty};
use crate::layout::{AdapterLayout, ModuleLayout};
use crate::properties::fixed_seed;

fn bound(layout: &Arc<AdapterLayout>, fishers: Vec<ModuleFisher>) -> BoundAnchor {
    let names = layout.modules().iter().map(|module| module.name.clone());
    let modules = names.zip(fishers).collect::<BTreeMap<_, _>>();
    let anchor = Anchor {
        base_fingerprint: [0; 32],
        tokens: 1,
        examples: 1,
        modules,
    };
    anchor.bind(layout, &[0; 32]).unwrap()
}

fn one_module(rank: usize, out_features: usize, in_features: usize) -> Arc<AdapterLayout> {
    let modules = vec![ModuleLayout {
        name: "m".to_owned(),
        in_features,
        out_features,
    }];
    Arc::new(AdapterLayout::new(rank, 1.5 * rank as f64, false, modules).unwrap())
}

#[test]
fn the_scalar_case_has_its_published_value() {
    // d = k = r = 1, s = 1, u = 2, v = 3, A = 1/2, B = 4, strength .1: 4 / (1 + .1 * 2 * 3 * .25).
    let fisher = ModuleFisher {
        u: vec![2.0],
        v: vec![3.0],
    };
    let mut factors = Factors {
        a: vec![0.5],
        b: vec![4.0],
        rank: 1,
    };
    factors.pull(Factor::B, &fisher, None, 0.1);
    assert!(
        (factors.b[0] - 3.478_260_869_565_217).abs() < 1e-15,
        "{}",
        factors.b[0]
    );
    assert_eq!(factors.a[0], 0.5);

    let modules = vec![ModuleLayout {
        name: "m".to_owned(),
        in_features: 1,
        out_features: 1,
    }];
    let layout = Arc::new(AdapterLayout::new(1, 1.0, false, modules).unwrap());
    let mut adapter = Adapter::from_values(Arc::clone(&layout), vec![0.5, 4.0]).unwrap();
    let strength = |_, factor| if factor == Factor::B { 0.1 } else { 0.0 };
    proximal_step(&mut adapter, &bound(&layout, vec![fisher]), None, &strength);
    assert_eq!(adapter.values(), [0.5, 3.478_260_869_565_217_f64 as f32]);
}

#[test]
fn the_decoupled_scalar_step_has_its_published_value() {
    // algorithms.md 2.3: theta 4, anchor 0, eta .1, lambda 10, F 1: 4 / (1 + 1) = 2, as A = 1.
    let fisher = ModuleFisher {
        u: vec![1.0],
        v: vec![1.0],
    };
    let mut factors = Factors {
        a: vec![1.0],
        b: vec![4.0],
        rank: 1,
    };
    factors.pull(Factor::B, &fisher, None, 0.1 * 10.0);
    assert!((factors.b[0] - 2.0).abs() < 1e-15);
}

#[test]
fn the_compromise_of_domain_and_anchor_is_the_analytic_one() {
    // algorithms.md 2.5: H = 2, b = 4, F = 1, a = 0: (H b + lambda F a) / (H + lambda F). With an
    // identity metric that is a step of strength lambda / H from b.
    for (lambda, expected) in [(0.0, 4.0), (1.0, 2.666_666_666_666_667), (10.0, 2.0 / 3.0)] {
        let fisher = ModuleFisher {
            u: vec![1.0],
            v: vec![1.0],
        };
        let mut factors = Factors {
            a: vec![1.0],
            b: vec![4.0],
            rank: 1,
        };
        factors.pull(Factor::B, &fisher, None, lambda / 2.0);
        assert!(
            (factors.b[0] - expected).abs() < 1e-14,
            "{lambda}: {}",
            factors.b[0]
        );
    }
}

/// Everything a step minimises over, dense and in f64.
#[derive(Debug, Clone)]
struct Case {
    before: Factors,
    target: Factors,
    fisher: ModuleFisher,
    strength: f64,
}

impl Case {
    fn sizes(&self) -> (usize, usize, usize) {
        (self.fisher.u.len(), self.fisher.v.len(), self.before.rank)
    }

    /// `(B A - B* A*)_ij`, `s` being in the strength.
    fn gap(&self, now: &Factors, with_target: bool, i: usize, j: usize) -> f64 {
        let width = self.fisher.v.len();
        let entry = |f: &Factors| -> f64 {
            (0..f.rank)
                .map(|r| f.b[i * f.rank + r] * f.a[r * width + j])
                .sum()
        };
        entry(now)
            - if with_target {
                entry(&self.target)
            } else {
                0.0
            }
    }

    /// The largest entry of the gradient of what a step minimises.
    fn gradient(&self, now: &Factors, factor: Factor, with_target: bool) -> f64 {
        let (out, width, rank) = self.sizes();
        let weight = |i: usize, j: usize| {
            let importance = f64::from(self.fisher.u[i]) * f64::from(self.fisher.v[j]);
            self.strength * importance * self.gap(now, with_target, i, j)
        };
        let entry = |r: usize, i: usize, j: usize| match factor {
            Factor::B => {
                let pull: f64 = (0..width)
                    .map(|j| weight(i, j) * now.a[r * width + j])
                    .sum();
                now.b[i * rank + r] - self.before.b[i * rank + r] + pull
            }
            Factor::A => {
                let pull: f64 = (0..out).map(|i| weight(i, j) * now.b[i * rank + r]).sum();
                now.a[r * width + j] - self.before.a[r * width + j] + pull
            }
        };
        let mut largest = 0.0_f64;
        for r in 0..rank {
            for i in 0..out {
                for j in 0..width {
                    largest = largest.max(entry(r, i, j).abs());
                }
            }
        }
        largest
    }
}

fn any_case() -> impl Strategy<Value = Case> {
    let sizes = (1..5_usize, 1..6_usize, 1..4_usize, 1..3_usize);
    (sizes, 0.001..20.0_f64).prop_flat_map(|((out, width, rank, other), strength)| {
        let part = |len| prop::collection::vec(-1.0..1.0_f64, len);
        let importance = |len| prop::collection::vec(0.0..2.0_f32, len);
        let factors = move |rank: usize| {
            (part(rank * width), part(out * rank)).prop_map(move |(a, b)| Factors { a, b, rank })
        };
        (
            factors(rank),
            factors(other),
            importance(out),
            importance(width),
        )
            .prop_map(move |(before, target, u, v)| Case {
                before,
                target,
                fisher: ModuleFisher { u, v },
                strength,
            })
    })
}

proptest! {
    #![proptest_config(fixed_seed())]

    #[test]
    fn a_step_ends_where_the_gradient_is_zero(case in any_case(), with_target in any::<bool>()) {
        for factor in [Factor::B, Factor::A] {
            let mut now = case.before.clone();
            now.pull(factor, &case.fisher, with_target.then_some(&case.target), case.strength);
            let gradient = case.gradient(&now, factor, with_target);
            prop_assert!(gradient < 1e-12, "{factor}: gradient {gradient}");
        }
    }

    #[test]
    fn a_strong_step_reaches_the_anchor(case in any_case()) {
        // Where every output and input matters and the target is in reach: B* in the span of A.
        let ones = |len: usize| vec![1.0; len];
        let (out, width, _) = case.sizes();
        let fisher = ModuleFisher { u: ones(out), v: ones(width) };
        let target = Factors {
            a: case.before.a.clone(),
            b: case.before.b.iter().map(|b| 1.0 - b).collect(),
            rank: case.before.rank,
        };
        let case = Case { target, fisher, strength: 1e12, ..case };
        let mut now = case.before.clone();
        now.pull(Factor::B, &case.fisher, Some(&case.target), case.strength);
        let mut gap = 0.0_f64;
        for i in 0..out {
            for j in 0..width {
                gap = gap.max(case.gap(&now, true, i, j).abs());
            }
        }
        // A direction that A hardly spans is pulled only as far as it is worth.
        prop_assert!(gap < 1e-3, "gap {gap}");
    }

    #[test]
    fn no_strength_changes_no_bit(seed in any::<u64>()) {
        let layout = one_module(3, 4, 5);
        let mut adapter = Adapter::initial(Arc::clone(&layout), seed);
        adapter.b_mut(0).iter_mut().enumerate().for_each(|(i, b)| *b = (i as f32).sin());
        let fisher = ModuleFisher { u: vec![1.0; 4], v: vec![2.0; 5] };
        let before = adapter.to_le_bytes();
        proximal_step(&mut adapter, &bound(&layout, vec![fisher]), None, &|_, _| 0.0);
        prop_assert_eq!(adapter.to_le_bytes(), before);
    }

    #[test]
    fn a_step_never_raises_the_penalty(seed in any::<u64>(), strength in 0.0..100.0_f64) {
        let layout = one_module(3, 4, 5);
        let mut adapter = Adapter::initial(Arc::clone(&layout), seed);
        adapter.b_mut(0).iter_mut().enumerate().for_each(|(i, b)| *b = (i as f32).sin());
        let fisher = ModuleFisher { u: vec![0.1, 0.0, 3.0, 1.0], v: vec![2.0, 0.0, 1.0, 1.0, 0.5] };
        let anchor = bound(&layout, vec![fisher]);
        let before = penalty(&adapter, &anchor, 1.0);
        proximal_step(&mut adapter, &anchor, None, &|_, _| strength);
        prop_assert!(penalty(&adapter, &anchor, 1.0) <= before * (1.0 + 1e-6));
    }
}

#[test]
fn what_does_not_matter_is_left_bit_for_bit() {
    let layout = one_module(2, 3, 4);
    let mut adapter = Adapter::initial(Arc::clone(&layout), 11);
    adapter
        .b_mut(0)
        .copy_from_slice(&[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]);
    let before = adapter.clone();
    let fisher = ModuleFisher {
        u: vec![0.0, 1.0, 1.0],
        v: vec![1.0, 0.0, 1.0, 1.0],
    };
    proximal_step(
        &mut adapter,
        &bound(&layout, vec![fisher]),
        None,
        &|_, _| 5.0,
    );
    assert_eq!(
        adapter.b(0)[..2],
        before.b(0)[..2],
        "the row of an output without importance"
    );
    assert_ne!(adapter.b(0)[2..], before.b(0)[2..]);
    for row in 0..2 {
        assert_eq!(
            adapter.a(0)[row * 4 + 1],
            before.a(0)[row * 4 + 1],
            "an unimportant input"
        );
    }
}

#[test]
fn the_adapter_that_is_its_own_reference_stays() {
    let layout = one_module(2, 3, 4);
    let mut adapter = Adapter::initial(Arc::clone(&layout), 5);
    adapter
        .b_mut(0)
        .copy_from_slice(&[0.1, -0.2, 0.3, 0.4, 0.5, 0.6]);
    let reference = adapter.clone();
    let fisher = ModuleFisher {
        u: vec![1.0; 3],
        v: vec![1.0; 4],
    };
    proximal_step(
        &mut adapter,
        &bound(&layout, vec![fisher]),
        Some(&reference),
        &|_, _| 50.0,
    );
    for (now, before) in adapter.values().iter().zip(reference.values()) {
        assert!((now - before).abs() < 1e-6);
    }
}

#[test]
fn a_step_takes_the_factors_one_after_the_other() {
    // A sees the B that was just moved: the same as two calls with one factor each.
    let layout = one_module(2, 3, 4);
    let mut both = Adapter::initial(Arc::clone(&layout), 5);
    both.b_mut(0)
        .copy_from_slice(&[0.1, -0.2, 0.3, 0.4, 0.5, 0.6]);
    let mut apart = both.clone();
    let fisher = ModuleFisher {
        u: vec![1.0, 2.0, 0.5],
        v: vec![1.0; 4],
    };
    let anchor = bound(&layout, vec![fisher]);
    proximal_step(&mut both, &anchor, None, &|_, _| 2.0);
    for only in [Factor::B, Factor::A] {
        let strength = |_, factor| if factor == only { 2.0 } else { 0.0 };
        proximal_step(&mut apart, &anchor, None, &strength);
    }
    assert_eq!(both, apart);
}
