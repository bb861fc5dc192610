//! Robust rules: known numbers, what hostile participants cannot do and from when on they can, and what changes no bit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;
use crate::encoding::Encoding;
use crate::layout::ModuleLayout;
use crate::properties::fixed_seed;

/// One module with a factor `A` of `values - 1` values and a `B` of one.
fn layout(values: usize) -> Arc<AdapterLayout> {
    let module = ModuleLayout {
        name: "x".to_owned(),
        in_features: values - 1,
        out_features: 1,
    };
    Arc::new(AdapterLayout::new(1, 1.0, false, vec![module]).unwrap())
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("p{index:04}")).collect()
}

/// Applies the rule to updates named in their order.
fn within(
    rule: RobustRule,
    updates: &[Vec<f32>],
    encoding: Encoding,
    block_bytes: usize,
) -> Result<Outcome, RobustError> {
    let bytes: Vec<_> = updates.iter().map(|one| encoding.encode(one)).collect();
    let encoded = bytes
        .iter()
        .map(|bytes| EncodedUpdate::new(bytes.as_slice(), encoding));
    let named: BTreeMap<_, _> = names(updates.len()).into_iter().zip(encoded).collect();
    rule.apply_within(&layout(updates[0].len()), &named, block_bytes)
}

fn of(rule: RobustRule, updates: &[Vec<f32>]) -> Outcome {
    within(rule, updates, Encoding::F32, BLOCK_BYTES).unwrap()
}

const MEDIAN: RobustRule = RobustRule::Median;
const TRIMMED: RobustRule = RobustRule::TrimmedMean { trim: 1 };
const KRUM: RobustRule = RobustRule::Krum {
    byzantine: 1,
    keep: 1,
};
const MULTI_KRUM: RobustRule = RobustRule::Krum {
    byzantine: 1,
    keep: 3,
};
const GEOMETRIC: RobustRule = RobustRule::GeometricMedian { passes: 8 };
const RULES: [RobustRule; 5] = [MEDIAN, TRIMMED, KRUM, MULTI_KRUM, GEOMETRIC];

/// Four corners of a square, and somebody far away.
fn corners() -> Vec<Vec<f32>> {
    let points = [
        [0.0, 0.0],
        [0.0, 2.0],
        [2.0, 0.0],
        [2.0, 2.0],
        [100.0, 100.0],
    ];
    points.map(Vec::from).to_vec()
}

#[test]
fn known_points_have_known_medians_and_means() {
    // Four corners tie under Krum; the first by name is taken.
    let square: Vec<_> = [
        [0.0, 0.0],
        [0.0, 1.0],
        [1.0, 0.0],
        [1.0, 1.0],
        [100.0, 100.0],
    ]
    .map(Vec::from)
    .to_vec();
    let median = of(MEDIAN, &square);
    assert_eq!(median.update, [1.0, 1.0]);
    assert_eq!(median.distances[0], 2.0_f64.sqrt());
    assert_eq!(median.distances[4], 19602.0_f64.sqrt());
    assert_eq!(of(TRIMMED, &square).update, [2.0 / 3.0; 2]);
    let krum = of(KRUM, &square);
    assert_eq!(
        (krum.update, krum.left_out),
        (vec![0.0, 0.0], vec![1, 2, 3, 4])
    );
    let geometric = of(RobustRule::GeometricMedian { passes: 200 }, &square);
    for value in geometric.update {
        assert!((value - 0.788_675).abs() < 2e-6, "{value}");
    }
}

#[test]
fn an_even_number_has_the_mean_of_the_two_middle_values_as_median() {
    let updates = [1.0, 4.0, 2.0, 9.0].map(|value| vec![value, -value]);
    assert_eq!(of(MEDIAN, &updates).update, [3.0, -3.0]);
    // Halves of what is largest do not overflow.
    let updates = [f32::MAX; 4].map(|value| vec![value, -value]);
    assert_eq!(of(MEDIAN, &updates).update, [f32::MAX, -f32::MAX]);
}

#[test]
fn the_geometric_median_of_a_triangle_is_the_known_point() {
    let updates = [[0.0, 0.0], [4.0, 0.0], [0.0, 3.0]].map(Vec::from);
    let found = of(RobustRule::GeometricMedian { passes: 300 }, &updates);
    let expected = [0.695_788_53_f64, 0.751_176_11];
    for (found, expected) in found.update.iter().zip(expected) {
        assert!(
            (f64::from(*found) - expected).abs() < 1e-6,
            "{found} for {expected}"
        );
    }
    let sum: f64 = found.distances.iter().sum();
    assert!((sum - 6.766_432_567_522).abs() < 1e-9, "{sum}");
}

#[test]
fn krum_takes_the_update_in_the_middle_and_multi_krum_the_mean_of_the_best() {
    let line = [0.0, 1.0, 2.0, 10.0, 100.0].map(|value| vec![value, 0.0]);
    let krum = of(KRUM, &line);
    assert_eq!(krum.update, [1.0, 0.0]);
    assert_eq!(krum.distances, [1.0, 0.0, 1.0, 9.0, 99.0]);
    let multi = of(MULTI_KRUM, &line);
    assert_eq!((multi.update, multi.left_out), (vec![1.0, 0.0], vec![3, 4]));
}

#[test]
fn too_few_updates_are_refused_with_the_condition() {
    for (rule, needed) in [
        (MEDIAN, 3),
        (TRIMMED, 3),
        (KRUM, 5),
        (GEOMETRIC, 3),
        (RobustRule::TrimmedMean { trim: 2 }, 5),
        (
            RobustRule::Krum {
                byzantine: 2,
                keep: 6,
            },
            8,
        ),
    ] {
        assert_eq!(rule.updates_min(), needed);
        let updates = vec![vec![0.0; 2]; needed - 1];
        let said = within(rule, &updates, Encoding::F32, BLOCK_BYTES).unwrap_err();
        let found = needed - 1;
        assert_eq!(
            said.to_string(),
            format!("{rule} needs at least {needed} updates, and there are {found}")
        );
        within(
            rule,
            &vec![vec![0.0; 2]; needed],
            Encoding::F32,
            BLOCK_BYTES,
        )
        .unwrap();
    }
    let many = vec![vec![0.0; 2]; UPDATES_MAX + 1];
    let said = within(MEDIAN, &many, Encoding::F32, BLOCK_BYTES).unwrap_err();
    assert!(matches!(said, RobustError::TooMany { found } if found == UPDATES_MAX + 1));
}

#[test]
fn what_was_damaged_since_its_admission_is_named() {
    let mut updates = vec![vec![0.5; 3]; 5];
    updates[3][2] = f32::NAN;
    for rule in RULES {
        let said = within(rule, &updates, Encoding::F32, BLOCK_BYTES).unwrap_err();
        assert_eq!(
            said.to_string(),
            "lora_B of x in the update of p0003 has a value that is not finite at index 0"
        );
    }
    let bytes = [0; 11];
    let short: BTreeMap<_, _> = names(3)
        .into_iter()
        .map(|name| (name, EncodedUpdate::new(bytes.as_slice(), Encoding::F32)))
        .collect();
    let said = MEDIAN.apply(&layout(3), &short).unwrap_err().to_string();
    assert_eq!(
        said,
        "the update of p0000 has 11 bytes, the run's layout 12"
    );
}

#[test]
fn bytes_that_cannot_be_read_are_an_error_and_no_result() {
    struct Lost(AtomicBool);
    impl ReadAt for Lost {
        fn size(&self) -> io::Result<u64> {
            Ok(12)
        }
        fn read_exact_at(&self, buffer: &mut [u8], _: u64) -> io::Result<()> {
            buffer.fill(0);
            if self.0.load(Ordering::Relaxed) {
                Err(io::ErrorKind::StorageFull.into())
            } else {
                Ok(())
            }
        }
    }
    let files: Vec<_> = (0..5)
        .map(|index| Lost(AtomicBool::new(index == 4)))
        .collect();
    let updates: BTreeMap<_, _> = names(5)
        .into_iter()
        .zip(
            files
                .iter()
                .map(|file| EncodedUpdate::new(file, Encoding::F32)),
        )
        .collect();
    for rule in RULES {
        let failed = rule.apply(&layout(3), &updates);
        assert!(matches!(failed, Err(RobustError::Read { name, .. }) if name == "p0004"));
    }
}

#[test]
fn up_to_a_thousand_updates_fit_one_block() {
    let stretch = super::super::columns::STRETCH * size_of::<f32>();
    assert!(UPDATES_MAX * stretch <= BLOCK_BYTES);
}

/// Small numbers drawn from a seed.
fn noise(seed: u64, values: usize) -> Vec<f32> {
    crate::Adapter::initial(layout(values), seed)
        .values()
        .to_vec()
}

/// So many values that blocks and stretches end in the middle of something.
const LONG: usize = 3 * 256 * 7 + 131;

fn long_updates(count: u64) -> Vec<Vec<f32>> {
    (0..count)
        .map(|seed| {
            // `initial` leaves B zero.
            let mut values = noise(seed, LONG);
            values[LONG - 1] = seed as f32 - 3.0;
            values
        })
        .collect()
}

#[test]
fn neither_the_size_of_a_block_nor_threads_change_a_bit() {
    let updates = long_updates(9);
    for rule in RULES {
        let expected = of(rule, &updates);
        for block_bytes in [1, 9 * 4 * 256 * 2, 9 * 4 * 256 * 5 + 17] {
            let found = within(rule, &updates, Encoding::F32, block_bytes).unwrap();
            assert_eq!(found, expected, "{rule} in blocks of {block_bytes}");
        }
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let found = pool.build().unwrap().install(|| of(rule, &updates));
            assert_eq!(found, expected, "{rule} on {threads} threads");
        }
    }
}

#[test]
fn rounded_updates_come_to_what_their_values_come_to() {
    let updates = long_updates(6);
    for encoding in [Encoding::Bf16, Encoding::Int8] {
        let rounded: Vec<_> = updates
            .iter()
            .map(|values| {
                let mut rounded = vec![0.0; values.len()];
                encoding.decode(&encoding.encode(values), &mut rounded);
                rounded
            })
            .collect();
        for rule in RULES {
            let found = within(rule, &updates, encoding, BLOCK_BYTES).unwrap();
            assert_eq!(found, of(rule, &rounded));
        }
    }
}

#[test]
fn each_rule_bears_as_many_as_it_says_and_breaks_when_more_are_hostile() {
    let honest = |count: usize| (0..count).map(|index| vec![1.0 + index as f32 / 100.0; 40]);
    let with = |count, hostile| {
        let hostile = std::iter::repeat_n(vec![-1e6; 40], hostile);
        honest(count).chain(hostile).collect::<Vec<_>>()
    };
    let geometric = RobustRule::GeometricMedian { passes: 30 };
    // Of seven.
    for (rule, borne) in [
        (MEDIAN, 3),
        (RobustRule::TrimmedMean { trim: 2 }, 2),
        (
            RobustRule::Krum {
                byzantine: 2,
                keep: 1,
            },
            2,
        ),
        (geometric, 3),
    ] {
        let good = of(rule, &with(7 - borne, borne)).update;
        assert!(
            good.iter().all(|value| (0.9..1.2).contains(value)),
            "{rule}: {good:?}"
        );
    }
    for (rule, hostile) in [
        (MEDIAN, 4),
        (RobustRule::TrimmedMean { trim: 2 }, 3),
        // Krum breaks when the hostile ones alone are the n - f - 2 = 3 nearest of each other.
        (
            RobustRule::Krum {
                byzantine: 2,
                keep: 1,
            },
            4,
        ),
        (geometric, 4),
    ] {
        let bad = of(rule, &with(7 - hostile, hostile)).update;
        assert!(bad.iter().all(|&value| value < -1000.0), "{rule}: {bad:?}");
    }
}

#[test]
fn the_far_away_corner_moves_the_mean_and_no_rule() {
    let updates = corners();
    let mean: f32 = updates.iter().map(|one| one[0]).sum::<f32>() / 5.0;
    assert_eq!(mean, 20.8);
    for rule in RULES {
        for value in of(rule, &updates).update {
            assert!((0.0..=2.0).contains(&value), "{rule}: {value}");
        }
    }
}

const VALUES: usize = 19;

fn honest_updates(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Vec<f32>>> {
    let update = prop::collection::vec(-1.0_f32..1.0, VALUES);
    prop::collection::vec(update, count)
}

/// What each of some participants sends instead of an update.
fn hostile_update() -> impl Strategy<Value = Vec<f32>> {
    let value = prop_oneof![
        Just(1e30_f32),
        Just(-1e30),
        Just(f32::MAX),
        Just(-f32::MAX),
        -1e3_f32..1e3
    ];
    prop_oneof![
        Just(vec![1e30_f32; VALUES]),
        Just(vec![-1e30_f32; VALUES]),
        prop::collection::vec(value, VALUES),
    ]
}

fn is_in_range_of(honest: &[Vec<f32>], found: &[f32]) -> bool {
    (0..VALUES).all(|column| {
        let values = || honest.iter().map(|one| one[column]);
        let (low, high) = (
            values().fold(f32::INFINITY, f32::min),
            values().fold(f32::NEG_INFINITY, f32::max),
        );
        (low..=high).contains(&found[column])
    })
}

fn distance(one: &[f32], other: &[f32]) -> f64 {
    let squares = one.iter().zip(other);
    let squares = squares.map(|(&one, &other)| (f64::from(one) - f64::from(other)).powi(2));
    squares.sum::<f64>().sqrt()
}

fn diameter(updates: &[Vec<f32>]) -> f64 {
    let pairs = updates
        .iter()
        .flat_map(|one| updates.iter().map(move |other| distance(one, other)));
    pairs.fold(0.0, f64::max)
}

proptest! {
    #![proptest_config(fixed_seed())]

    #[test]
    fn who_has_which_name_does_not_matter_to_median_and_trimmed_mean(
        (updates, shuffled) in honest_updates(3..12)
            .prop_flat_map(|updates| (Just(updates.clone()), Just(updates).prop_shuffle())),
    ) {
        for rule in [MEDIAN, TRIMMED] {
            prop_assert_eq!(of(rule, &updates).update, of(rule, &shuffled).update);
        }
    }

    #[test]
    fn who_has_which_name_matters_to_the_others_by_rounding_only(
        (updates, shuffled) in honest_updates(5..12)
            .prop_flat_map(|updates| (Just(updates.clone()), Just(updates).prop_shuffle())),
    ) {
        for rule in [KRUM, MULTI_KRUM, GEOMETRIC] {
            let (one, other) = (of(rule, &updates).update, of(rule, &shuffled).update);
            for (one, other) in one.iter().zip(other) {
                prop_assert!((one - other).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn the_order_of_arrival_changes_no_bit(
        (updates, order) in honest_updates(5..12)
            .prop_flat_map(|updates| {
                let order: Vec<_> = (0..updates.len()).collect();
                (Just(updates), Just(order).prop_shuffle())
            }),
    ) {
        let bytes: Vec<_> = updates.iter().map(|one| Encoding::F32.encode(one)).collect();
        let names = names(updates.len());
        for rule in RULES {
            let arrived = order.iter().map(|&index| {
                let update = EncodedUpdate::new(bytes[index].as_slice(), Encoding::F32);
                (names[index].as_str(), update)
            });
            let found = rule.apply(&layout(VALUES), &arrived.collect::<BTreeMap<_, _>>()).unwrap();
            prop_assert_eq!(found, of(rule, &updates));
        }
    }

    #[test]
    fn hostile_values_never_leave_the_honest_range_under_median_and_trimmed_mean(
        honest in honest_updates(5..8),
        hostile in prop::collection::vec(hostile_update(), 1..3),
    ) {
        let all = [honest.clone(), hostile.clone()].concat();
        prop_assert!(is_in_range_of(&honest, &of(MEDIAN, &all).update));
        let rule = RobustRule::TrimmedMean { trim: hostile.len() };
        prop_assert!(is_in_range_of(&honest, &of(rule, &all).update));
        // Also if they come first by name.
        let all = [hostile, honest.clone()].concat();
        prop_assert!(is_in_range_of(&honest, &of(MEDIAN, &all).update));
        prop_assert!(is_in_range_of(&honest, &of(rule, &all).update));
    }

    #[test]
    fn krum_returns_an_honest_update_whatever_one_sends_from_far_away(
        honest in honest_updates(4..9),
        sign in prop_oneof![Just(-1.0_f32), Just(1.0)],
        magnitude in 10.0_f32..1e30,
    ) {
        let mut all = honest.clone();
        all.insert(0, vec![sign * magnitude; VALUES]);
        let krum = of(KRUM, &all);
        prop_assert!(honest.contains(&krum.update));
        prop_assert!(krum.left_out.contains(&0));
        let multi = of(MULTI_KRUM, &all);
        prop_assert!(multi.left_out.contains(&0));
        prop_assert!(is_in_range_of(&honest, &multi.update));
    }

    #[test]
    fn the_geometric_median_stays_within_some_honest_diameters(
        honest in honest_updates(5..8),
        hostile in prop::collection::vec(hostile_update(), 1..3),
    ) {
        let found = of(GEOMETRIC, &[honest.clone(), hostile].concat()).update;
        let (nearest, limit) = (distance(&found, &honest[0]), 3.0 * diameter(&honest));
        prop_assert!(nearest <= limit, "{nearest} of {limit}");
    }

    #[test]
    fn equal_updates_come_to_that_update(update in prop::collection::vec(-1e3_f32..1e3, VALUES), count in 5..9_usize) {
        for rule in RULES {
            let found = of(rule, &vec![update.clone(); count]);
            for (found, value) in found.update.iter().zip(&update) {
                prop_assert!((found - value).abs() <= f32::EPSILON * value.abs());
            }
        }
    }

    #[test]
    fn the_median_equals_a_sorted_column(updates in honest_updates(3..20)) {
        let found = of(MEDIAN, &updates).update;
        for column in 0..VALUES {
            let mut values: Vec<_> = updates.iter().map(|one| one[column]).collect();
            values.sort_unstable_by(f32::total_cmp);
            let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
            prop_assert_eq!(found[column], (f64::from(low) / 2.0 + f64::from(high) / 2.0) as f32);
        }
    }
}
