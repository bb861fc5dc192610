//! Against published tables, the analytic Gaussian mechanism, and properties.
//!
//! Table values were made with Opacus's `RDPAccountant` and `dp-accounting` 0.6.0; the columns say which orders.

use proptest::prelude::*;

use super::*;
use crate::properties::fixed_seed;

fn step(q: f64, sigma: f64) -> SampledGaussian {
    SampledGaussian::new(q, sigma).unwrap()
}

fn after(orders: Orders, q: f64, sigma: f64, steps: u64) -> Accountant {
    let mut accountant = Accountant::new(orders);
    accountant.add(step(q, sigma), steps);
    accountant
}

/// The default orders of Opacus: 1.1 to 10.9 by tenths, 12 to 63.
fn opacus() -> Orders {
    let tenths = (11..110).map(|tenths| f64::from(tenths) / 10.0);
    let orders: Vec<f64> = tenths.chain((12..64).map(f64::from)).collect();
    Orders::of(&orders)
}

fn whole_to_256() -> Orders {
    let orders: Vec<f64> = (2..=256).map(f64::from).collect();
    Orders::of(&orders)
}

fn relative(found: f64, expected: f64) -> f64 {
    ((found - expected) / expected).abs()
}

struct Row {
    q: f64,
    sigma: f64,
    steps: u64,
    delta: f64,
    opacus: f64,
    whole: f64,
    order: f64,
}

#[rustfmt::skip]
const TABLE: [Row; 12] = [
    Row { q: 0.04, sigma: 1.5, steps: 2250, delta: 1e-5, opacus: 7.329_111_171_4, whole: 7.329_876_773_835, order: 4.0 },
    Row { q: 0.01, sigma: 4.0, steps: 10_000, delta: 1e-5, opacus: 1.035_490_066_0, whole: 1.035_490_066_036, order: 17.0 },
    Row { q: 256.0 / 60_000.0, sigma: 1.1, steps: 14_062, delta: 1e-5, opacus: 2.596_555_869_0, whole: 2.596_981_178_595, order: 8.0 },
    Row { q: 0.01, sigma: 1.0, steps: 1000, delta: 1e-5, opacus: 2.101_365_271_6, whole: 2.107_753_075_452, order: 8.0 },
    Row { q: 0.01, sigma: 1.0, steps: 10_000, delta: 1e-5, opacus: 6.712_738_297_4, whole: 6.719_402_117_939, order: 4.0 },
    Row { q: 0.1, sigma: 1.0, steps: 100, delta: 1e-5, opacus: 7.899_255_002_4, whole: 7.972_921_510_381, order: 3.0 },
    Row { q: 0.1, sigma: 2.0, steps: 100, delta: 1e-5, opacus: 2.580_568_808_7, whole: 2.586_652_178_168, order: 8.0 },
    Row { q: 0.5, sigma: 4.0, steps: 50, delta: 1e-5, opacus: 4.305_842_497_7, whole: 4.322_853_112_639, order: 6.0 },
    Row { q: 1.0, sigma: 10.0, steps: 30, delta: 1e-5, opacus: 2.396_428_468_6, whole: 2.396_679_575_298, order: 9.0 },
    Row { q: 1.0, sigma: 5.0, steps: 1, delta: 1e-5, opacus: 0.794_522_032_5, whole: 0.794_522_032_537, order: 22.0 },
    Row { q: 1.0, sigma: 1.0, steps: 1, delta: 1e-5, opacus: 4.728_507_067_2, whole: 4.752_728_336_820, order: 5.0 },
    Row { q: 0.001, sigma: 0.7, steps: 20_000, delta: 1e-6, opacus: 2.767_682_748_1, whole: 2.767_682_748_118, order: 6.0 },
];

#[test]
fn epsilons_equal_the_published_table_to_the_digits_given() {
    for Row {
        q,
        sigma,
        steps,
        delta,
        opacus: fractional,
        whole,
        order,
    } in TABLE
    {
        let found = after(whole_to_256(), q, sigma, steps).cost(delta);
        assert!(
            (found.epsilon - whole).abs() < 1e-9,
            "{q} {sigma}: {found:?} {whole}"
        );
        assert_eq!(found.order, Some(order), "{q} {sigma}");
        let found = after(opacus(), q, sigma, steps).cost(delta).epsilon;
        assert!(
            (found - fractional).abs() < 1e-9,
            "{q} {sigma}: {found} {fractional}"
        );
        let dense = after(Orders::dense(), q, sigma, steps).cost(delta).epsilon;
        assert!(
            dense <= whole.min(fractional) + 1e-9,
            "{q} {sigma}: {dense}"
        );
    }
}

#[test]
fn divergences_of_one_step_equal_the_published_ones() {
    type Divergences = &'static [(f64, f64)];
    let cases: [(f64, f64, Divergences); 3] = [
        (
            0.01,
            1.0,
            &[
                (2.0, 1.718_134_22e-4),
                (3.0, 2.646_375_75e-4),
                (4.0, 3.631_540_49e-4),
                (8.0, 8.936_439_08e-4),
                (16.0, 3.087_850_783_7),
                (32.0, 11.246_275_937_0),
            ],
        ),
        (
            0.04,
            1.5,
            &[
                (2.0, 8.949_969_67e-4),
                (8.0, 4.271_584_53e-3),
                (16.0, 0.167_009_279),
            ],
        ),
        (
            0.1,
            1.0,
            &[
                (2.0, 0.017_036_863_2),
                (3.0, 0.031_712_300_3),
                (8.0, 1.378_361_411_3),
            ],
        ),
    ];
    for (q, sigma, orders) in cases {
        for &(order, expected) in orders {
            let found = renyi::divergence(step(q, sigma), order);
            assert!(
                relative(found, expected) < 5e-9,
                "{q} {sigma} {order}: {found} {expected}"
            );
        }
        let two = (q * q * (1.0 / (sigma * sigma)).exp_m1()).ln_1p();
        assert!(relative(renyi::divergence(step(q, sigma), 2.0), two) < 1e-13);
    }
    // The published test of dp-accounting: 50 steps, to a relative error of 1e-4. It sums absolute values, which at order 1.5 is
    // visibly more than the divergence is.
    let published = [
        (2.5, 1.085_487_10e-3),
        (5.0, 2.180_756_56e-3),
        (50.0, 2.384_603_75e-2),
        (100.0, 167.416_308),
    ];
    for (order, expected) in published {
        let found = 50.0 * renyi::divergence(step(0.01, 2.5), order);
        assert!(
            relative(found, expected) < 1e-4,
            "{order}: {found} {expected}"
        );
    }
    assert!(50.0 * renyi::divergence(step(0.01, 2.5), 1.5) < 6.705_797_41e-4);
    assert_eq!(renyi::divergence(step(1.0, 2.0), 3.0), 3.0 / 8.0);
}

#[test]
fn fractional_orders_are_summed_with_their_signs() {
    // Adding absolute values gives 0.00183330155 here.
    let found = renyi::divergence(step(0.04, 1.5), 3.9);
    assert!((found - 0.001_833_202_20).abs() < 5e-12, "{found}");
}

/// `A(alpha)` minus one by the trapezoidal rule over `N(0, sigma^2)`, which converges faster than any power for such integrands.
fn excess_by_quadrature(q: f64, sigma: f64, alpha: f64) -> f64 {
    let (points, width) = (40_000, 40.0 * sigma + alpha);
    let h = 2.0 * width / f64::from(points);
    let sum: f64 = (0..=points)
        .map(|point| {
            let z = f64::from(point) * h - width;
            let density = (-z * z / (2.0 * sigma * sigma)).exp();
            let ratio = q * ((2.0 * z - 1.0) / (2.0 * sigma * sigma)).exp_m1();
            density * ((alpha * ratio.ln_1p()).exp_m1() - alpha * ratio)
        })
        .sum();
    sum * h / (sigma * (2.0 * std::f64::consts::PI).sqrt())
}

#[test]
fn divergences_equal_the_integral_that_they_stand_for() {
    for (q, sigma) in [
        (0.01, 2.5),
        (0.04, 1.5),
        (0.5, 1.0),
        (0.9, 4.0),
        (0.001, 0.8),
    ] {
        for order in [1.1, 1.5, 2.0, 2.5, 3.9, 7.0, 9.3] {
            let expected = excess_by_quadrature(q, sigma, order).ln_1p() / (order - 1.0);
            let found = renyi::divergence(step(q, sigma), order);
            assert!(
                (found - expected).abs() < 1e-12 + 1e-9 * expected,
                "{q} {sigma} {order}: {found} {expected}"
            );
        }
    }
}

#[test]
fn fractional_orders_pass_through_the_whole_ones() {
    for (q, sigma) in [(0.01, 1.0), (0.1, 2.0), (0.5, 0.8), (0.9, 4.0), (1e-4, 0.5)] {
        for order in [2.0, 5.0, 9.0] {
            let whole = renyi::divergence(step(q, sigma), order);
            let (below, above) = (order - 1e-7, order + 1e-7);
            let around = [below, above].map(|order| renyi::divergence(step(q, sigma), order));
            for near in around {
                assert!(
                    relative(near, whole) < 1e-4,
                    "{q} {sigma} {order}: {near} {whole}"
                );
            }
        }
    }
}

#[test]
fn steps_of_different_noise_compose() {
    // The example in the documentation of Opacus: epsilon 0.336 at order 23.
    let orders: Vec<f64> = (2..=32).map(f64::from).collect();
    let mut accountant = Accountant::new(Orders::of(&orders));
    accountant.add(step(1e-5, 1.0), 10);
    accountant.add(step(1e-4, 3.0), 4);
    let found = accountant.cost(1e-5);
    assert!((found.epsilon - 0.336).abs() < 5e-4, "{found:?}");
    assert_eq!(found.order, Some(23.0));
}

#[test]
fn nothing_released_costs_nothing() {
    let mut accountant = Accountant::default();
    accountant.add(step(0.1, 1.0), 0);
    assert_eq!(
        accountant.cost(1e-5),
        Cost {
            epsilon: 0.0,
            order: None
        }
    );
    assert_eq!(accountant.delta(1.0), 0.0);
}

#[test]
fn noise_for_a_budget_equals_the_published_tables() {
    let cases = [
        (10_000.0, 256.0, 1000, 1e-5, [3.411, 1.931, 1.206, 0.852]),
        (50_000.0, 512.0, 1000, 1e-6, [1.691, 1.106, 0.827, 0.649]),
        (2_000.0, 64.0, 500, 1e-4, [2.679, 1.588, 1.052, 0.771]),
    ];
    for (records, batch, steps, delta, noises) in cases {
        for (epsilon, expected) in [1.0, 2.0, 4.0, 8.0].into_iter().zip(noises) {
            let budget = Budget::new(epsilon, delta).unwrap();
            let q = batch / records;
            let found = noise_within(budget, q, steps, &Accountant::default()).unwrap();
            assert!(
                (found - expected).abs() < 6e-4,
                "{records} {epsilon}: {found} {expected}"
            );
            assert!(after(Orders::default(), q, found, steps).is_within(budget));
            assert!(!after(Orders::default(), q, found * (1.0 - 1e-5), steps).is_within(budget));
        }
    }
    // Opacus: epsilon 8 at delta 1e-5, sampling rate 0.04.
    for (steps, expected) in [(2250, 1.416), (2000, 1.3562)] {
        let budget = Budget::new(8.0, 1e-5).unwrap();
        let found = noise_within(budget, 0.04, steps, &Accountant::new(opacus())).unwrap();
        assert!((found - expected).abs() < 6e-4, "{steps}: {found}");
    }
}

#[test]
fn analytic_gaussian_equals_its_paper_and_bounds_the_accountant_from_below() {
    let cases = [
        (1.0, 4.377_178),
        (2.0, 1.993_091),
        (5.0, 0.725_522),
        (10.0, 0.340_669),
    ];
    for (noise, expected) in cases {
        let exact = gaussian_epsilon(noise, 1e-5);
        assert!((exact - expected).abs() < 1e-6, "{noise}: {exact}");
        let bound = after(Orders::default(), 1.0, noise, 1).cost(1e-5).epsilon;
        assert!(
            exact < bound && bound < 1.2 * exact,
            "{noise}: {exact} {bound}"
        );
    }
    for (epsilon, expected) in [
        (1.0, 3.730_632),
        (2.0, 1.993_812),
        (4.0, 1.081_162),
        (8.0, 0.600_229),
    ] {
        let found = gaussian_noise(epsilon, 1e-5);
        assert!((found - expected).abs() < 1e-6, "{epsilon}: {found}");
    }
    // Thirty releases are one with noise 10 / sqrt(30).
    assert!((gaussian_epsilon(10.0 / 30.0_f64.sqrt(), 1e-5) - 2.207_059).abs() < 1e-6);
}

#[test]
fn budget_after_earlier_runs_is_smaller_and_ends() {
    let budget = Budget::new(2.0, 1e-5).unwrap();
    let mechanism = step(0.01, 1.0);
    let fresh = Accountant::default();
    let all = steps_within(budget, mechanism, &fresh, 1_000_000);
    assert!(fresh.with(mechanism, all).is_within(budget));
    assert!(!fresh.with(mechanism, all + 1).is_within(budget));
    let half = fresh.with(mechanism, all / 2);
    assert_eq!(
        steps_within(budget, mechanism, &half, 1_000_000),
        all - all / 2
    );
    assert_eq!(
        steps_within(budget, mechanism, &fresh.with(mechanism, all), 1_000_000),
        0
    );
    let refused = noise_within(budget, 0.01, 100, &fresh.with(mechanism, all + 1)).unwrap_err();
    assert!(
        matches!(refused, PrivacyError::Unreachable { .. }),
        "{refused}"
    );
}

#[test]
fn senseless_parameters_are_refused_and_named() {
    for q in [0.0, -0.1, 1.1, f64::NAN] {
        assert!(
            SampledGaussian::new(q, 1.0)
                .unwrap_err()
                .to_string()
                .starts_with("the sampling rate is")
        );
    }
    for noise in [0.0, -1.0, f64::INFINITY, f64::NAN] {
        let refused = SampledGaussian::new(0.5, noise).unwrap_err().to_string();
        assert!(refused.starts_with("the noise multiplier is"), "{refused}");
    }
    assert!(
        Budget::new(f64::INFINITY, 1e-5)
            .unwrap_err()
            .to_string()
            .starts_with("epsilon is inf")
    );
    for delta in [0.0, 1.0, f64::NAN] {
        assert!(
            Budget::new(1.0, delta)
                .unwrap_err()
                .to_string()
                .starts_with("delta is")
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..fixed_seed() })]

    #[test]
    fn cost_grows_with_sampling_and_steps_and_falls_with_noise_and_delta(
        q in 1e-4..0.9_f64, sigma in 0.5..20.0_f64, steps in 1_u64..5000, delta in 1e-8..1e-2_f64,
    ) {
        let epsilon = |q, sigma, steps, delta| after(Orders::default(), q, sigma, steps).cost(delta).epsilon;
        let here = epsilon(q, sigma, steps, delta);
        prop_assert!(here.is_finite() && here >= 0.0);
        let slack = 1e-9 * (1.0 + here);
        prop_assert!(epsilon(q * 1.1, sigma, steps, delta) >= here - slack);
        prop_assert!(epsilon(q, sigma * 1.1, steps, delta) <= here + slack);
        prop_assert!(epsilon(q, sigma, steps + 1, delta) >= here - slack);
        prop_assert!(epsilon(q, sigma, steps, delta * 2.0) <= here + slack);
        let back = after(Orders::default(), q, sigma, steps).delta(here);
        prop_assert!(here == 0.0 || relative(back, delta) < 1e-6, "{} {}", back, delta);
    }

    #[test]
    fn order_of_spending_does_not_matter_to_the_last_bit(
        parts in proptest::collection::vec((1e-3..0.5_f64, 0.8..5.0_f64, 1_u64..300), 1..5), cut in 0_u64..300,
    ) {
        let (mut forward, mut backward) = (Accountant::default(), Accountant::default());
        for &(q, sigma, steps) in &parts {
            forward.add(step(q, sigma), steps);
        }
        for &(q, sigma, steps) in parts.iter().rev() {
            let first = cut.min(steps);
            backward.add(step(q, sigma), first);
            backward.add(step(q, sigma), steps - first);
        }
        prop_assert_eq!(forward.cost(1e-5), backward.cost(1e-5));
    }
}
