use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest as _, Sha256};

use super::*;

const FORMS: [(Encoding, Encoding); 3] = [
    (Encoding::Bf16, Encoding::Bf16),
    (Encoding::F32, Encoding::F32),
    (Encoding::Bf16, Encoding::F32),
];

fn travelling(values: &[f32], encoding: Encoding) -> (Vec<u8>, Travelling<'_>) {
    let bytes = encoding.encode(values);
    let sha256 = Sha256::digest(&bytes).into();
    let side = Travelling {
        values,
        encoding,
        sha256,
    };
    (bytes, side)
}

/// Writes and rebuilds; gives the delta and the lengths of both adapters' bytes.
fn there_and_back(base: &[f32], next: &[f32], forms: (Encoding, Encoding)) -> Vec<u8> {
    let (before, base) = travelling(base, forms.0);
    let (after, next) = travelling(next, forms.1);
    let bytes = between(base, next).unwrap();
    let delta = Delta::parse(&bytes).unwrap();
    assert_eq!((delta.base(), delta.adapter()), (base.sha256, next.sha256));
    let rebuilt = delta.rebuild(before.as_slice()).unwrap();
    assert!(rebuilt == after, "other bytes came out");
    bytes
}

/// Values as after some rounds, and as one round later: moved by a few hundredths of the usual size.
fn two_rounds(count: usize, seed: u64) -> (Vec<f32>, Vec<f32>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut unit = || (rng.next_u32() >> 8) as f32 / (1 << 24) as f32 - 0.5;
    let base: Vec<f32> = (0..count).map(|_| 0.04 * unit()).collect();
    let next = base.iter().map(|value| value + 0.001 * (unit() + unit()));
    let next = next.collect();
    (base, next)
}

#[test]
fn every_value_can_become_every_other() {
    // All of bf16, not numbers among them, against the same in another order.
    let base: Vec<f32> = (0..=u16::MAX)
        .map(|upper| f32::from_bits(u32::from(upper) << 16))
        .collect();
    for shift in [0, 1, 0x1234, 0x8000, 0xffff] {
        let mut next = base.clone();
        next.rotate_left(shift);
        for forms in FORMS {
            there_and_back(&base, &next, forms);
        }
    }
}

#[test]
fn what_moved_little_takes_little_room_and_what_did_not_move_next_to_none() {
    let (base, next) = two_rounds(BLOCK + 4321, 7);
    let whole = |encoding: Encoding| encoding.size(base.len()) as f64;
    let share = |next: &[f32], forms: (Encoding, Encoding)| {
        there_and_back(&base, next, forms).len() as f64 / whole(forms.1)
    };
    assert!(share(&next, FORMS[0]) < 0.45);
    assert!(share(&next, FORMS[1]) < 0.75);
    assert!(share(&base, FORMS[0]) < 0.002);
    assert!(share(&base, FORMS[1]) < 0.002);
}

#[test]
fn the_bytes_are_the_same_for_any_number_of_threads() {
    let (base, next) = two_rounds(2 * BLOCK + 1, 3);
    let by = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = pool.build().unwrap();
        pool.install(|| there_and_back(&base, &next, FORMS[0]))
    };
    assert!(by(1) == by(3));
}

#[test]
fn an_empty_adapter_and_one_of_a_single_value_have_deltas_too() {
    for forms in FORMS {
        assert_eq!(there_and_back(&[], &[], forms).len(), HEAD_BYTES);
        there_and_back(&[1.0], &[-3.5e-20], forms);
    }
}

#[test]
fn what_has_no_delta_is_refused() {
    let (_, base) = travelling(&[1.0, 2.0], Encoding::F32);
    let (_, short) = travelling(&[1.0], Encoding::F32);
    let (_, narrow) = travelling(&[1.0, 2.0], Encoding::Bf16);
    let (_, blocks) = travelling(&[1.0, 2.0], Encoding::Int8);
    assert!(matches!(
        between(base, short),
        Err(DeltaError::Values {
            found: 1,
            expected: 2
        })
    ));
    for next in [narrow, blocks] {
        assert!(matches!(between(base, next), Err(DeltaError::Form)));
    }
}

#[test]
fn a_base_of_another_length_is_refused_before_anything_is_allocated() {
    let (base, next) = two_rounds(1000, 1);
    let (before, base) = travelling(&base, Encoding::Bf16);
    let (_, next) = travelling(&next, Encoding::Bf16);
    let mut bytes = between(base, next).unwrap();
    let refused = Delta::parse(&bytes).unwrap().rebuild(&before[..1998]);
    assert!(matches!(
        refused,
        Err(DeltaError::Base {
            values: 1000,
            found: 1998
        })
    ));
    // However many values it claims.
    for claimed in [0, 999, 1001, 1 << 40, u64::MAX / 2, u64::MAX] {
        bytes[10..18].copy_from_slice(&u64::to_le_bytes(claimed));
        let refused = Delta::parse(&bytes).unwrap().rebuild(before.as_slice());
        assert!(matches!(refused, Err(DeltaError::Base { .. })), "{claimed}");
    }
}

#[test]
fn a_delta_that_is_cut_off_or_longer_than_it_should_be_is_refused_at_every_length() {
    let (base, next) = two_rounds(200, 5);
    let (before, base) = travelling(&base, Encoding::F32);
    let (_, next) = travelling(&next, Encoding::F32);
    let bytes = between(base, next).unwrap();
    for length in 0..bytes.len() {
        let cut = Delta::parse(&bytes[..length]).and_then(|cut| cut.rebuild(before.as_slice()));
        let error = cut.unwrap_err();
        assert!(matches!(error, DeltaError::Cut { .. }), "{length}: {error}");
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    let error = Delta::parse(&longer)
        .unwrap()
        .rebuild(before.as_slice())
        .unwrap_err();
    assert_eq!(error.to_string(), "1 bytes are behind the end of the delta");
    // The last frame ends where its block does.
    let mut inner = [bytes.as_slice(), &[0]].concat();
    let length = u32::from_le_bytes(inner[HEAD_BYTES..HEAD_BYTES + 4].try_into().unwrap()) + 1;
    inner[HEAD_BYTES..HEAD_BYTES + 4].copy_from_slice(&length.to_le_bytes());
    let error = Delta::parse(&inner)
        .unwrap()
        .rebuild(before.as_slice())
        .unwrap_err();
    assert!(error.to_string().contains("block 0"), "{error}");
}

#[test]
fn a_changed_byte_is_refused_or_comes_to_an_adapter_of_the_same_length() {
    let (base, next) = two_rounds(300, 9);
    let (before, base) = travelling(&base, Encoding::Bf16);
    let (after, next) = travelling(&next, Encoding::Bf16);
    let bytes = between(base, next).unwrap();
    let (mut refused, mut other) = (0, 0);
    for place in HEAD_BYTES..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[place] ^= 1 << bit;
            match Delta::parse(&changed).unwrap().rebuild(before.as_slice()) {
                Ok(rebuilt) => {
                    assert_eq!(rebuilt.len(), after.len(), "{place}.{bit}");
                    other += usize::from(rebuilt != after);
                }
                Err(_) => refused += 1,
            }
        }
    }
    // What zstd lets through is found out by the adapter's digest.
    assert!(0 < refused && 0 < other, "{refused} refused, {other} other");
}

proptest! {
    #![proptest_config(crate::properties::fixed_seed())]

    #[test]
    fn any_values_come_back(pairs in prop::collection::vec((any::<u32>(), any::<u32>()), 0..300)) {
        let float = |bits: &u32| f32::from_bits(*bits);
        let base: Vec<f32> = pairs.iter().map(|(base, _)| float(base)).collect();
        let next: Vec<f32> = pairs.iter().map(|(_, next)| float(next)).collect();
        for forms in FORMS {
            there_and_back(&base, &next, forms);
        }
    }

    #[test]
    fn any_bytes_are_a_delta_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300), values in 0..40_u64) {
        let base = vec![0; 2 * values as usize];
        let mut with_head = [MAGIC.as_slice(), &[1, 1], &values.to_le_bytes(), &[0; 64]].concat();
        with_head.extend_from_slice(&bytes);
        for bytes in [bytes, with_head] {
            if let Ok(delta) = Delta::parse(&bytes)
                && let Ok(rebuilt) = delta.rebuild(base.as_slice())
            {
                prop_assert_eq!(rebuilt.len(), base.len());
            }
        }
    }
}
