//! A difference of two adapters as it travels: made, measured and hashed in one pass.

use sha2::{Digest, Sha256};

use super::{Adapter, STRETCH, all_finite, squared_norm};
use crate::encoding::int8::{self, Rounding};
use crate::encoding::{Encoding, le_bytes};
use crate::error::AdapterError;

/// An update in bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// Its values in the encoding asked for.
    pub bytes: Vec<u8>,
    /// SHA-256 of the bytes.
    pub sha256: [u8; 32],
    /// The Euclidean norm of the values before they were encoded.
    pub norm: f64,
}

/// An update in blocks of int8, and what it does not say.
#[derive(Debug, Clone, PartialEq)]
pub struct CompressedUpdate {
    /// As it travels; `norm` is that of the difference alone, without what an earlier update left over.
    pub update: Update,
    /// What was to be sent minus what is: to be added to the next update if this one counts.
    pub left_over: Adapter,
    /// The norm of `left_over` over that of what was to be sent.
    pub rounding: f64,
}

impl Adapter {
    /// This adapter minus `base` plus what an earlier update left over, in blocks of [int8](Encoding::Int8), rounded at random.
    ///
    /// The random numbers follow from `context` and from the values that are rounded: equal values in the same context give the
    /// same bytes, and it takes the values to know which numbers they were rounded by.
    ///
    /// # Errors
    /// As [`Self::difference`], and if what is to be sent is not finite.
    pub fn compressed_update(
        &self,
        base: &Self,
        left_over: Option<&Self>,
        context: &[u8],
    ) -> Result<CompressedUpdate, AdapterError> {
        let mut rest = self.difference(base)?;
        let norm = rest.norm();
        if let Some(left_over) = left_over {
            rest.add(left_over)?;
        }
        let whole = rest.norm();
        let seed = Sha256::new()
            .chain_update(b"foedus/rounding/1")
            .chain_update((context.len() as u64).to_le_bytes())
            .chain_update(context)
            .chain_update(le_bytes(&rest.values))
            .finalize();
        let bytes = int8::encode_in_place(&mut rest.values, Rounding::Random(seed.into()));
        let sha256 = Sha256::digest(&bytes).into();
        // What is left of the largest numbers may not be one.
        if !all_finite(&rest.values) {
            rest.check_finite()?;
        }
        let left = rest.norm();
        Ok(CompressedUpdate {
            update: Update {
                bytes,
                sha256,
                norm,
            },
            left_over: rest,
            rounding: if left == 0.0 { 0.0 } else { left / whole },
        })
    }

    /// This adapter minus `base` as it travels.
    ///
    /// The same as [`Self::difference`], [`Encoding::encode`], [`Self::norm`] and the digest, without a pass over memory for each.
    /// `made` is shown the bytes that there are so far, again and again while they become more, and the whole at last.
    ///
    /// # Errors
    /// As [`Self::difference`].
    pub fn update(
        &self,
        base: &Self,
        encoding: Encoding,
        mut made: impl FnMut(&[u8]),
    ) -> Result<Update, AdapterError> {
        self.check_same_layout(base)?;
        let mut bytes = Vec::with_capacity(encoding.size(self.values.len()));
        let (mut hash, mut square) = (Sha256::new(), 0.0);
        let mut difference = Vec::with_capacity(STRETCH);
        let stretches = self.values.chunks(STRETCH).zip(base.values.chunks(STRETCH));
        for (values, base) in stretches {
            difference.clear();
            difference.extend(values.iter().zip(base).map(|(value, base)| value - base));
            // Not finite if any value is not: squares of f32 cannot overflow f64.
            square += squared_norm(&difference);
            let from = bytes.len();
            encoding.append_encoded(&difference, &mut bytes);
            hash.update(&bytes[from..]);
            made(&bytes);
        }
        if !square.is_finite() {
            // Names the first value that is not finite.
            self.difference(base)?;
        }
        Ok(Update {
            bytes,
            sha256: hash.finalize().into(),
            norm: square.sqrt(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::layout::{AdapterLayout, ModuleLayout};

    fn adapter(seed: u64) -> Adapter {
        let modules = vec![ModuleLayout {
            name: "model.layers.0.self_attn.q_proj".to_owned(),
            in_features: 1500,
            out_features: 2333,
        }];
        let layout = Arc::new(AdapterLayout::new(3, 1.0, false, modules).unwrap());
        Adapter::initial(layout, seed)
    }

    #[test]
    fn the_one_pass_gives_what_the_single_steps_give() {
        let (trained, base) = (adapter(1), adapter(2));
        let difference = trained.difference(&base).unwrap();
        for encoding in [Encoding::F32, Encoding::Bf16] {
            let mut shown = Vec::new();
            let made = |bytes: &[u8]| shown.extend_from_slice(&bytes[shown.len()..]);
            let update = trained.update(&base, encoding, made).unwrap();
            assert_eq!(update.bytes, encoding.encode(difference.values()));
            assert!(shown == update.bytes);
            let sha256: [u8; 32] = Sha256::digest(&update.bytes).into();
            assert_eq!(update.sha256, sha256);
            assert!((update.norm / difference.norm() - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn a_compressed_update_and_what_it_leaves_over_are_the_whole_and_go_on_in_the_next() {
        let (trained, base) = (adapter(1), adapter(2));
        let difference = trained.difference(&base).unwrap();
        let decode = |update: &Update| {
            Adapter::from_encoded(Arc::clone(base.layout()), Encoding::Int8, &update.bytes).unwrap()
        };
        let first = trained.compressed_update(&base, None, b"1").unwrap();
        assert_eq!(
            first.update.bytes.len(),
            Encoding::Int8.size(base.values().len())
        );
        let sha256: [u8; 32] = Sha256::digest(&first.update.bytes).into();
        assert_eq!(first.update.sha256, sha256);
        let sent = decode(&first.update);
        assert_eq!(first.left_over, difference.difference(&sent).unwrap());
        let rounding = first.left_over.norm() / difference.norm();
        assert_eq!(
            (first.rounding, first.update.norm),
            (rounding, difference.norm())
        );
        assert!((1e-4..1.0 / 127.0).contains(&rounding), "{rounding}");
        // The same values in the same context are rounded alike, in another one otherwise.
        assert_eq!(trained.compressed_update(&base, None, b"1").unwrap(), first);
        assert_ne!(
            trained.compressed_update(&base, None, b"2").unwrap().update,
            first.update
        );
        let second = trained
            .compressed_update(&base, Some(&first.left_over), b"2")
            .unwrap();
        let mut both = sent;
        both.add(&decode(&second.update)).unwrap();
        both.add(&second.left_over).unwrap();
        let mut twice = difference.clone();
        twice.add(&difference).unwrap();
        assert!(both.difference(&twice).unwrap().norm() < 1e-6 * twice.norm());
    }

    #[test]
    fn a_compressed_update_of_values_that_are_not_finite_is_refused() {
        let (mut trained, base) = (adapter(1), adapter(2));
        trained.values_mut()[4500] = f32::NAN;
        let said = trained.compressed_update(&base, None, b"").unwrap_err();
        assert!(said.to_string().contains("not finite at index 0"), "{said}");
    }

    #[test]
    fn a_difference_that_is_not_finite_is_refused_and_its_place_named() {
        let (mut trained, base) = (adapter(1), adapter(2));
        trained.values_mut()[4500] = f32::INFINITY;
        let said = trained
            .update(&base, Encoding::Bf16, |_| ())
            .unwrap_err()
            .to_string();
        assert_eq!(said, trained.difference(&base).unwrap_err().to_string());
    }
}
