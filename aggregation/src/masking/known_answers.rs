//! The known answers of algorithms.md 4.2, and what must hold for any participants: masks cancel, one masked vector tells nothing.

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use sha2::{Digest, Sha256};

use super::*;

fn context() -> Context {
    Context(Sha256::digest(b"TEST-CTX").into())
}

/// Participants 1 to 3 with secret keys of one repeated byte.
fn pair_secret(id: u8) -> PairSecret {
    PairSecret::from_bytes(&[id; 32])
}

fn self_secret(id: u8) -> SelfSecret {
    SelfSecret::from_bytes(&[0x10 + id; 32])
}

fn pair_key(own: u8, peer: u8) -> MaskKey {
    let public = pair_secret(peer).public();
    let peer = (u32::from(peer), &public);
    pair_secret(own)
        .mask_key(&context(), own.into(), peer)
        .unwrap()
}

/// The first words of a mask.
fn words(key: MaskKey) -> [u32; 4] {
    let (mut masks, mut words) = (MaskSet::new(), [0; 4]);
    masks.push(key, Sign::Plus);
    masks.add_to(Ring::Bits32, &mut words);
    words
}

/// All masks of one participant among `ids`.
fn masks(own: u8, ids: &[u8]) -> MaskSet {
    let mut masks = MaskSet::new();
    masks.push(
        self_secret(own).mask_key(&context(), own.into()),
        Sign::Plus,
    );
    for &peer in ids.iter().filter(|&&peer| peer != own) {
        masks.push(pair_key(own, peer), Sign::of_pair(own.into(), peer.into()));
    }
    masks
}

#[test]
fn context_keys_and_masks_are_the_published_ones() {
    assert_eq!(hex::encode(&context().0[..4]), "ffe5c97f");
    assert_eq!(
        hex::encode(pair_secret(1).public().0),
        "a4e09292b651c278b9772c569f5fa9bb13d906b46ab68c9df9dc2b4409f8a209"
    );
    assert_eq!(
        hex::encode(pair_key(1, 2).bytes()),
        "bc8c39b8dda45434ae8c6f8c59022957b6453c3913cc687d529724c8ceb36fab"
    );
    assert_eq!(pair_key(1, 2).bytes(), pair_key(2, 1).bytes());
    assert_eq!(
        words(pair_key(1, 2)),
        [1542841659, 3631287017, 3808779458, 2279624192]
    );
    assert_eq!(
        words(pair_key(1, 3)),
        [1987268359, 2501303425, 3025238516, 3575651434]
    );
    assert_eq!(
        words(pair_key(2, 3)),
        [2754429755, 3848861112, 2978822628, 2916632600]
    );
    let own = self_secret(1).mask_key(&context(), 1);
    assert_eq!(words(own), [1192604589, 667161091, 3451040014, 2041677841]);
}

#[test]
fn three_masked_vectors_are_the_published_ones_and_unmask_with_and_without_the_third() {
    let plain: [[u32; 4]; 3] = [
        [1, 2, 3, 4],
        [10, 20, 30, 40],
        [100, 200, 300, 4_294_967_291],
    ];
    let ids = [1, 2, 3];
    let masked = ids.map(|id| {
        let mut vector = plain[usize::from(id) - 1];
        masks(id, &ids).add_to(Ring::Bits32, &mut vector);
        vector
    });
    assert_eq!(masked[0], [427747312, 2504784239, 1695123399, 3601986175]);
    assert_eq!(masked[1], [652377329, 1861193261, 1241611596, 3381959301]);
    assert_eq!(masked[2], [306500480, 3271190508, 3565254590, 3297703432]);

    let sum = |count: usize| {
        let mut sum = [0_u32; 4];
        for vector in &masked[..count] {
            for (sum, element) in sum.iter_mut().zip(vector) {
                *sum = sum.wrapping_add(*element);
            }
        }
        sum
    };
    let own = |ids: &[u8]| {
        let mut set = MaskSet::new();
        for &id in ids {
            set.push(self_secret(id).mask_key(&context(), id.into()), Sign::Plus);
        }
        set
    };
    let mut all = sum(3);
    own(&[1, 2, 3]).take_from(Ring::Bits32, &mut all);
    assert_eq!(all, [111, 222, 333, 39]);

    let mut two = sum(2);
    let mut set = own(&[1, 2]);
    for id in [1, 2] {
        set.push(pair_key(3, id), Sign::of_pair(id.into(), 3));
    }
    set.take_from(Ring::Bits32, &mut two);
    assert_eq!(two, [11, 22, 33, 44]);
}

#[test]
fn the_primitives_are_the_standards() {
    // RFC 5869, A.1.
    let hkdf = hkdf::Hkdf::<Sha256>::new(
        Some(&hex::decode("000102030405060708090a0b0c").unwrap()),
        &[0x0b; 22],
    );
    let mut okm = [0; 42];
    hkdf.expand(&hex::decode("f0f1f2f3f4f5f6f7f8f9").unwrap(), &mut okm)
        .unwrap();
    assert_eq!(
        hex::encode(okm),
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    );
    // ChaCha20 with a key, nonce and counter of zeros.
    let zero = MaskKey::new(zeroize::Zeroizing::new([0; 32]));
    let bytes: Vec<u8> = words(zero)
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    assert_eq!(hex::encode(&bytes[..8]), "76b8e0ada0f13d90");
}

#[test]
fn secrets_are_never_printed() {
    let (pair, own) = (pair_secret(0x41), self_secret(0x31));
    let mut set = MaskSet::new();
    set.push(own.mask_key(&context(), 1), Sign::Plus);
    let said = format!("{pair:?} {own:?} {set:?}");
    assert!(!said.contains("4141") && !said.contains("65, 65"), "{said}");
    assert!(
        said.contains("MaskKey") && said.contains("SelfSecret"),
        "{said}"
    );
}

#[test]
fn a_masked_vector_has_uniform_bytes_whatever_is_under_the_mask() {
    for plain in [vec![0_u32; 1 << 16], vec![u32::MAX; 1 << 16]] {
        let mut vector = plain;
        masks(2, &[1, 2, 3]).add_to(Ring::Bits32, &mut vector);
        let mut counts = [0_u32; 256];
        for byte in vector.iter().flat_map(|element| element.to_le_bytes()) {
            counts[usize::from(byte)] += 1;
        }
        let expected = (1 << 18) as f64 / 256.0;
        let chi_square: f64 = counts
            .iter()
            .map(|&count| (f64::from(count) - expected).powi(2) / expected)
            .sum();
        // 255 degrees of freedom: mean 255, standard deviation 22.6; five of them to either side.
        assert!((142.0..368.0).contains(&chi_square), "{chi_square}");
    }
}

/// One simulated attempt: everybody masks, some drop out after that, the rest's shares open the sum.
fn attempt(
    ring: Ring,
    values: &[Vec<f32>],
    dropped: &[bool],
    seed: [u8; 32],
) -> (RingSum, RingSum) {
    let fixed = FixedRing::for_bounds(ring, values.len() as u32, 0.5).unwrap();
    let mut rng = ChaCha20Rng::from_seed(seed);
    let context = Context(seed);
    let secrets: Vec<_> = values
        .iter()
        .map(|_| (PairSecret::draw(&mut rng), SelfSecret::draw(&mut rng)))
        .collect();
    let count = secrets.len() as u32;
    let pair = |own: u32, peer: u32| {
        let public = secrets[peer as usize].0.public();
        let key = secrets[own as usize]
            .0
            .mask_key(&context, own, (peer, &public));
        (key.unwrap(), Sign::of_pair(own, peer))
    };
    let (mut masked, mut plain) = (
        RingSum::new(fixed, values[0].len()),
        RingSum::new(fixed, values[0].len()),
    );
    let mut off = MaskSet::new();
    for own in 0..count {
        let weight = (u64::from(own) + 1, u64::from(count));
        let mut vector = fixed
            .encode(&values[own as usize], weight, 1e9)
            .unwrap()
            .elements;
        if dropped[own as usize] {
            continue;
        }
        plain.add(fixed.to_bytes(&vector).as_slice()).unwrap();
        let mut on = MaskSet::new();
        on.push(secrets[own as usize].1.mask_key(&context, own), Sign::Plus);
        off.push(secrets[own as usize].1.mask_key(&context, own), Sign::Plus);
        for peer in (0..count).filter(|&peer| peer != own) {
            let (key, sign) = pair(own, peer);
            on.push(key, sign);
            if dropped[peer as usize] {
                // From the secret of the one that dropped out, as the server does it.
                off.push(pair(peer, own).0, sign);
            }
        }
        on.add_to(ring, &mut vector);
        masked.add(fixed.to_bytes(&vector).as_slice()).unwrap();
    }
    masked.unmask(&off);
    (masked, plain)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..crate::properties::fixed_seed() })]

    #[test]
    fn masks_cancel_for_any_participants_and_any_that_drop_out(
        seed in any::<[u8; 32]>(),
        ring in prop::sample::select(vec![Ring::Bits16, Ring::Bits24, Ring::Bits32]),
        length in prop::sample::select(vec![1_usize, 7, 2047, 2048, 2049, 5000]),
        dropped in prop::collection::vec(any::<bool>(), 3..20),
    ) {
        prop_assume!(dropped.iter().any(|dropped| !dropped));
        let value = |own: usize, index: usize| ((own * 31 + index * 7) % 100) as f32 / 100.0 - 0.5;
        let values: Vec<Vec<f32>> = (0..dropped.len())
            .map(|own| (0..length).map(|index| value(own, index)).collect())
            .collect();
        let (masked, plain) = attempt(ring, &values, &dropped, seed);
        prop_assert_eq!(&masked, &plain);
        prop_assert_eq!(masked.mean().unwrap(), plain.mean().unwrap());
    }
}
