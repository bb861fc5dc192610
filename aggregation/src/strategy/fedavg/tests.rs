//! FedAvg: known numbers, bounds, and that order, threads and the unit of weights change no bit.

use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;
use crate::Encoding;
use crate::admission::{AdmissionError, AdmissionRules, Admitted, admit};
use crate::encoded::{EncodedUpdate, ReadAt};
use crate::inexactness;
use crate::layout::ModuleLayout;
use crate::properties::fixed_seed;

fn layout() -> Arc<AdapterLayout> {
    let module = |name: &str, in_features, out_features| ModuleLayout {
        name: name.to_owned(),
        in_features,
        out_features,
    };
    let modules = vec![module("x", 5, 3), module("y", 2, 4)];
    Arc::new(AdapterLayout::new(2, 4.0, false, modules).unwrap())
}

const VALUES: usize = 28;

fn update(values: Vec<f32>) -> Adapter {
    Adapter::from_values(layout(), values).unwrap()
}

fn fixed() -> FixedPoint {
    FixedPoint::for_bounds(16, 100_000, 10.0).unwrap()
}

fn folded<'a>(updates: impl IntoIterator<Item = &'a (Adapter, u64)>) -> FedAvg {
    let mut sum = FedAvg::new(layout(), fixed());
    for (update, weight) in updates {
        sum.fold(update, *weight).unwrap();
    }
    sum
}

#[test]
fn the_mean_is_weighted_by_examples() {
    let sum = folded(&[
        (update(vec![1.0; VALUES]), 3),
        (update(vec![-1.0; VALUES]), 1),
    ]);
    assert_eq!((sum.participants(), sum.total_weight()), (2, 4));
    assert_eq!(sum.mean().unwrap().values(), [0.5; VALUES]);
}

#[test]
fn without_an_update_there_is_no_mean() {
    let sum = FedAvg::new(layout(), fixed());
    assert_eq!(sum.mean(), Err(AggregateError::Empty));
    let zero = Adapter::zeros(layout());
    assert_eq!(sum.inexactness(&zero, &zero), 0.0);
}

#[test]
fn without_an_update_or_after_an_adapter_of_another_layout_there_is_no_next_one() {
    let (global, none) = (Adapter::zeros(layout()), &[] as &[&Admitted<&[u8]>]);
    let refusal = |sum: FedAvg, global: &Adapter| match sum.into_next(none, 1.0, global) {
        Err(FoldError::Refused(error)) => error,
        other => panic!("{other:?}"),
    };
    let empty = FedAvg::new(layout(), fixed());
    assert_eq!(refusal(empty, &global), AggregateError::Empty);
    let sum = folded(&[(update(vec![1.0; VALUES]), 3)]);
    let other = AdapterLayout::new(1, 1.0, false, layout().modules().to_vec()).unwrap();
    let other = Adapter::zeros(Arc::new(other));
    assert_eq!(refusal(sum, &other), AggregateError::LayoutMismatch);
    let sum = folded(&[(update(vec![1.0; VALUES]), 3)]);
    let largest = update(vec![f32::MAX; VALUES]);
    assert_eq!(sum.into_next(none, 1.0, &largest).unwrap().adapter, largest);
}

#[test]
fn what_the_bounds_exclude_is_refused_and_changes_nothing() {
    let good = (update(vec![0.25; VALUES]), 7);
    let mut sum = folded([&good]);
    let before = sum.mean().unwrap();
    let weight = |found| AggregateError::Weight {
        found,
        limit: 100_000,
    };
    assert_eq!(sum.fold(&good.0, 0), Err(weight(0)));
    assert_eq!(sum.fold(&good.0, 100_001), Err(weight(100_001)));
    let mut values = vec![0.0; VALUES];
    values[VALUES - 1] = 10.1;
    let said = sum.fold(&update(values), 1).unwrap_err().to_string();
    assert_eq!(said, "lora_B of y has a value outside -10 to 10 at index 7");
    let other = AdapterLayout::new(1, 1.0, false, layout().modules().to_vec()).unwrap();
    let other = Adapter::zeros(Arc::new(other));
    assert_eq!(sum.fold(&other, 1), Err(AggregateError::LayoutMismatch));
    assert_eq!((sum.participants(), sum.mean().unwrap()), (1, before));
}

#[test]
fn a_value_that_is_not_a_number_is_refused() {
    let mut bad = update(vec![0.0; VALUES]);
    bad.values_mut()[0] = f32::NAN;
    let refused = FedAvg::new(layout(), fixed()).fold(&bad, 1);
    assert!(matches!(
        refused,
        Err(AggregateError::Value { index: 0, .. })
    ));
}

#[test]
fn one_participant_too_many_is_refused_also_across_threads() {
    let fixed = FixedPoint::for_bounds(2, 1, 1.0).unwrap();
    let zero = update(vec![0.0; VALUES]);
    let mut sum = FedAvg::new(layout(), fixed);
    sum.fold(&zero, 1).unwrap();
    let part = sum.clone();
    sum.fold(&zero, 1).unwrap();
    let refused = Err(AggregateError::TooManyParticipants { limit: 2 });
    assert_eq!(sum.fold(&zero, 1), refused);
    assert_eq!(sum.merge(&part), refused);
    let other = FedAvg::new(layout(), FixedPoint::for_bounds(2, 2, 1.0).unwrap());
    assert_eq!(sum.merge(&other), Err(AggregateError::FixedPointMismatch));
}

#[test]
fn sums_at_the_extreme_bounds_do_not_overflow() {
    for (participants, weight, norm) in [
        (3, 1_u64 << 40, 1.0),
        (8, 1_000_000, 1e6),
        (64, 3, 0.001),
        (2, 1, 3.0),
    ] {
        let fixed = FixedPoint::for_bounds(participants, weight, norm).unwrap();
        for sign in [1.0, -1.0] {
            let value = (sign * norm) as f32;
            // The bound may lie between two f32 values; take the one inside.
            let inside = if f64::from(value).abs() > norm {
                value * 0.999_999_9
            } else {
                value
            };
            let extreme = update(vec![inside; VALUES]);
            let mut sum = FedAvg::new(layout(), fixed);
            for _ in 0..participants {
                sum.fold(&extreme, weight).unwrap();
            }
            let mean = sum.mean().unwrap();
            for found in mean.values() {
                let error = f64::from(found - inside).abs();
                assert!(error <= fixed.step() + norm * 1e-7, "{found} for {inside}");
            }
        }
    }
}

#[test]
fn measured_inexactness_of_one_participant_is_nothing() {
    let global = Adapter::initial(layout(), 3);
    let sum = folded(&[(Adapter::initial(layout(), 5), 9)]);
    assert!(
        sum.inexactness(&global, &sum.mean().unwrap()) < 1e-6,
        "{}",
        sum.inexactness(&global, &sum.mean().unwrap())
    );
}

#[test]
fn measured_inexactness_estimates_the_exact_one() {
    // Many modules, as in a real model, make the estimate of 16 buckets a side sharp; their sides are no multiples of that.
    let modules = (0..64).map(|index| ModuleLayout {
        name: format!("m{index}"),
        in_features: 203,
        out_features: 121,
    });
    let layout = Arc::new(AdapterLayout::new(4, 8.0, false, modules.collect()).unwrap());
    let noise = |seed: u64, scale: f32| {
        let mut adapter = Adapter::initial(Arc::clone(&layout), seed);
        for module in 0..64 {
            let pattern: Vec<f32> = adapter.a(module).iter().rev().copied().collect();
            let b = adapter.b_mut(module);
            b.iter_mut().zip(pattern).for_each(|(b, value)| *b = value);
        }
        adapter
            .values_mut()
            .iter_mut()
            .for_each(|value| *value *= scale);
        adapter
    };
    let global = noise(1, 1.0);
    let updates = [
        (noise(2, 0.5), 30_u64),
        (noise(3, 0.7), 10),
        (noise(4, 0.4), 60),
    ];
    let mut sum = FedAvg::new(Arc::clone(&layout), fixed());
    for (update, weight) in &updates {
        sum.fold(update, *weight).unwrap();
    }
    let pairs: Vec<_> = updates
        .iter()
        .map(|(update, weight)| (update, *weight))
        .collect();
    let (estimate, exact) = (
        sum.inexactness(&global, &sum.mean().unwrap()),
        inexactness::exact(&global, &pairs),
    );
    assert!(exact > 0.01, "the case says nothing: {exact}");
    assert!(
        (estimate / exact - 1.0).abs() < 0.05,
        "estimate {estimate}, exact {exact}"
    );
}

fn any_updates(count: usize) -> impl Strategy<Value = Vec<(Adapter, u64)>> {
    let values = prop::collection::vec(-1.5_f32..1.5, VALUES).prop_map(update);
    prop::collection::vec((values, 1_u64..10_000), 1..=count)
}

/// Everything observable about a sum, bit for bit.
fn fingerprint(sum: &FedAvg) -> ([u8; 32], u64) {
    let global = Adapter::initial(layout(), 1);
    (
        sum.mean().unwrap().sha256(),
        sum.inexactness(&global, &sum.mean().unwrap()).to_bits(),
    )
}

fn rules() -> AdmissionRules {
    AdmissionRules {
        norm_max: fixed().norm_max(),
        weight_max: fixed().weight_max(),
    }
}

/// The updates' bytes in f32.
fn encoded(updates: &[(Adapter, u64)]) -> Vec<Vec<u8>> {
    let updates = updates.iter();
    let bytes = updates.map(|(update, _)| Encoding::F32.encode(update.values()));
    bytes.collect()
}

fn admitted<'a>(bytes: &'a [Vec<u8>], updates: &[(Adapter, u64)]) -> Vec<Admitted<&'a [u8]>> {
    let admitted = bytes.iter().zip(updates).map(|(bytes, (_, weight))| {
        let update = EncodedUpdate::new(bytes.as_slice(), Encoding::F32);
        admit(&layout(), update, *weight, &rules()).unwrap()
    });
    admitted.collect()
}

/// A sum of what the updates' bytes say.
fn folded_from_bytes(updates: &[(Adapter, u64)], encoding: Encoding) -> FedAvg {
    let mut sum = FedAvg::new(layout(), fixed());
    for (update, weight) in updates {
        let bytes = encoding.encode(update.values());
        let update = EncodedUpdate::new(bytes.as_slice(), encoding);
        let admitted = admit(&layout(), update, *weight, &rules()).unwrap();
        sum.fold_admitted(&admitted).unwrap();
    }
    sum
}

#[test]
fn an_update_whose_bytes_are_lost_is_no_refusal() {
    struct Lost(AtomicBool);
    impl ReadAt for Lost {
        fn size(&self) -> io::Result<u64> {
            Ok(VALUES as u64 * 4)
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
    let bytes = Lost(AtomicBool::new(false));
    let rules = AdmissionRules {
        norm_max: 1.0,
        weight_max: 1,
    };
    let update = EncodedUpdate::new(&bytes, Encoding::F32);
    let admitted = admit(&layout(), update, 1, &rules).unwrap();
    bytes.0.store(true, Ordering::Relaxed);
    let mut sum = FedAvg::new(layout(), fixed());
    assert!(matches!(
        sum.fold_admitted(&admitted),
        Err(FoldError::Read { update: 0, .. })
    ));
    let update = EncodedUpdate::new(&bytes, Encoding::F32);
    let refused = admit(&layout(), update, 1, &rules);
    assert!(matches!(refused, Err(AdmissionError::Read(_))));
}

#[test]
fn of_updates_folded_together_the_one_that_is_refused_or_lost_keeps_all_out_and_is_named() {
    struct Bytes(Vec<u8>, AtomicBool);
    impl ReadAt for Bytes {
        fn size(&self) -> io::Result<u64> {
            self.0.as_slice().size()
        }
        fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            if self.1.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.as_slice().read_exact_at(buffer, offset)
        }
    }
    let values = Encoding::F32.encode(&[0.25; VALUES]);
    let files = [(); 3].map(|()| Bytes(values.clone(), AtomicBool::new(false)));
    let rules = AdmissionRules {
        norm_max: 10.0,
        weight_max: 7,
    };
    let admitted = files.each_ref().map(|file| {
        let update = EncodedUpdate::new(file, Encoding::F32);
        admit(&layout(), update, 7, &rules).unwrap()
    });
    let [one, two, three] = &admitted;
    let mut sum = FedAvg::new(layout(), FixedPoint::for_bounds(2, 7, 10.0).unwrap());
    assert_eq!(sum.check_admitted(one, 1), Ok(()));
    let refused = AggregateError::TooManyParticipants { limit: 2 };
    assert_eq!(sum.check_admitted(one, 2), Err(refused.clone()));
    let error = sum.fold_together(&[one, two, three], f64::INFINITY);
    assert!(matches!(error, Err(FoldError::Refused(found)) if found == refused));
    assert_eq!(
        (sum.participants(), sum.mean()),
        (0, Err(AggregateError::Empty))
    );
    files[1].1.store(true, Ordering::Relaxed);
    let error = sum.fold_together(&[one, two], f64::INFINITY);
    assert!(
        matches!(error, Err(FoldError::Read { update: 1, .. })),
        "{error:?}"
    );
}

#[test]
fn modules_of_several_stretches_are_summed_to_their_ends() {
    let module = ModuleLayout {
        name: "wide".to_owned(),
        in_features: 20_000,
        out_features: 13_001,
    };
    let layout = Arc::new(AdapterLayout::new(1, 1.0, false, vec![module]).unwrap());
    let rules = AdmissionRules {
        norm_max: 1e4,
        weight_max: 3,
    };
    let values = |update: usize| -> Vec<f32> {
        let value = |place| ((place * 31 + update * 17) % 101) as f32 / 64.0;
        (0..layout.parameters()).map(value).collect()
    };
    let bytes = [0, 1, 2].map(|update| Encoding::F32.encode(&values(update)));
    let admitted = bytes.each_ref().map(|bytes| {
        let update = EncodedUpdate::new(bytes.as_slice(), Encoding::F32);
        admit(&layout, update, 1, &rules).unwrap()
    });
    let mut sum = FedAvg::new(
        Arc::clone(&layout),
        FixedPoint::for_bounds(3, 3, 1e4).unwrap(),
    );
    sum.fold_together(&[&admitted[0], &admitted[1]], f64::INFINITY)
        .unwrap();
    sum.fold_admitted(&admitted[2]).unwrap();
    let [one, two, three] = [0, 1, 2].map(values);
    for (place, mean) in sum.mean().unwrap().values().iter().enumerate() {
        // Sums of multiples of 1/64 are exact.
        let expected = (f64::from(one[place] + two[place] + three[place]) / 3.0) as f32;
        assert_eq!(*mean, expected, "{place}");
    }
}

proptest! {
    #![proptest_config(fixed_seed())]

    #[test]
    fn updates_folded_together_are_those_folded_one_after_the_other(
        updates in any_updates(9),
        group in 1..10_usize,
        clip_norm in 0.5..8.0_f64,
    ) {
        let bytes = encoded(&updates);
        let admitted = admitted(&bytes, &updates);
        let (mut together, mut single) = (FedAvg::new(layout(), fixed()), FedAvg::new(layout(), fixed()));
        let all: Vec<_> = admitted.iter().collect();
        all.chunks(group).for_each(|group| together.fold_together(group, clip_norm).unwrap());
        all.iter().for_each(|one| single.fold_together(&[*one], clip_norm).unwrap());
        prop_assert_eq!(fingerprint(&together), fingerprint(&single));
        let counts = |sum: &FedAvg| (sum.participants(), sum.total_weight(), sum.within_clip());
        prop_assert_eq!(counts(&together), counts(&single));
    }

    #[test]
    fn the_next_adapter_is_the_global_one_and_the_mean_of_all_whichever_were_added_before(
        updates in any_updates(9),
        before in 0..10_usize,
        clip_norm in 0.5..8.0_f64,
    ) {
        let bytes = encoded(&updates);
        let admitted = admitted(&bytes, &updates);
        let all: Vec<_> = admitted.iter().collect();
        let mut sum = FedAvg::new(layout(), fixed());
        sum.fold_together(&all, clip_norm).unwrap();
        let (mean, global) = (sum.mean().unwrap(), Adapter::initial(layout(), 1));
        let mut expected = mean.clone();
        expected.add(&global).unwrap();
        let (first, last) = all.split_at(before.min(all.len()));
        let mut part = FedAvg::new(layout(), fixed());
        part.fold_together(first, clip_norm).unwrap();
        let next = part.into_next(last, clip_norm, &global).unwrap();
        prop_assert_eq!(next.adapter.sha256(), expected.sha256());
        prop_assert_eq!(next.inexactness.to_bits(), sum.inexactness(&global, &mean).to_bits());
        prop_assert!((next.update_norm - mean.norm()).abs() <= 1e-12 * mean.norm());
    }

    #[test]
    fn folding_bytes_is_folding_their_values(updates in any_updates(6)) {
        prop_assert_eq!(fingerprint(&folded_from_bytes(&updates, Encoding::F32)), fingerprint(&folded(&updates)));
        for encoding in [Encoding::Bf16, Encoding::Int8] {
            let rounded: Vec<_> = updates
                .iter()
                .map(|(update, weight)| {
                    let bytes = encoding.encode(update.values());
                    (Adapter::from_encoded(layout(), encoding, &bytes).unwrap(), *weight)
                })
                .collect();
            prop_assert_eq!(fingerprint(&folded_from_bytes(&updates, encoding)), fingerprint(&folded(&rounded)));
        }
    }

    #[test]
    fn any_permutation_gives_the_same_bytes(
        (updates, shuffled) in any_updates(9)
            .prop_flat_map(|updates| (Just(updates.clone()), Just(updates).prop_shuffle())),
    ) {
        prop_assert_eq!(fingerprint(&folded(&updates)), fingerprint(&folded(&shuffled)));
    }

    #[test]
    fn any_thread_count_gives_the_same_bytes(updates in any_updates(9), threads in 1..6_usize) {
        let parts: Vec<FedAvg> = std::thread::scope(|scope| {
            let part = |thread| folded(updates.iter().skip(thread).step_by(threads));
            let handles: Vec<_> = (0..threads).map(|t| scope.spawn(move || part(t))).collect();
            handles.into_iter().map(|handle| handle.join().unwrap()).collect()
        });
        let mut sum = FedAvg::new(layout(), fixed());
        parts.iter().rev().for_each(|part| sum.merge(part).unwrap());
        prop_assert_eq!(fingerprint(&sum), fingerprint(&folded(&updates)));
    }

    #[test]
    fn multiplying_all_weights_changes_nothing(updates in any_updates(6), factor in 2..10_u64) {
        let scaled: Vec<_> =
            updates.iter().map(|(update, weight)| (update.clone(), weight * factor)).collect();
        let (one, other) = (folded(&updates), folded(&scaled));
        prop_assert_eq!(one.mean().unwrap().sha256(), other.mean().unwrap().sha256());
    }

    #[test]
    fn equal_updates_return_the_update(
        values in prop::collection::vec(-1.5_f32..1.5, VALUES),
        weights in prop::collection::vec(1_u64..100_000, 1..9),
    ) {
        let one = update(values);
        let updates: Vec<_> = weights.iter().map(|&weight| (one.clone(), weight)).collect();
        let mean = folded(&updates).mean().unwrap();
        let alone = folded(&updates[..1]).mean().unwrap();
        prop_assert_eq!(&mean, &alone);
        for (mean, value) in mean.values().iter().zip(one.values()) {
            prop_assert!(f64::from((mean - value).abs()) <= fixed().step());
        }
    }

    #[test]
    fn the_mean_equals_a_naive_one_in_f64(updates in any_updates(9)) {
        let mean = folded(&updates).mean().unwrap();
        let total: f64 = updates.iter().map(|(_, weight)| *weight as f64).sum();
        for index in 0..VALUES {
            let terms = updates.iter();
            let sum: f64 = terms.map(|(u, weight)| f64::from(u.values()[index]) * *weight as f64).sum();
            let found = f64::from(mean.values()[index]);
            prop_assert!((found - sum / total).abs() <= fixed().step() + 2e-7);
        }
    }
}
