//! A difference of two adapters as it travels: made, measured and hashed in one pass.

use sha2::{Digest, Sha256};

use super::{Adapter, STRETCH, squared_norm};
use crate::encoding::Encoding;
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

impl Adapter {
    /// This adapter minus `base` as it travels.
    ///
    /// The same as [`Self::difference`], [`Encoding::encode`], [`Self::norm`] and the digest, without a pass over memory for each.
    ///
    /// # Errors
    /// As [`Self::difference`].
    pub fn update(&self, base: &Self, encoding: Encoding) -> Result<Update, AdapterError> {
        self.check_same_layout(base)?;
        let mut bytes = Vec::with_capacity(self.values.len() * encoding.width());
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
            let update = trained.update(&base, encoding).unwrap();
            assert_eq!(update.bytes, encoding.encode(difference.values()));
            let sha256: [u8; 32] = Sha256::digest(&update.bytes).into();
            assert_eq!(update.sha256, sha256);
            assert!((update.norm / difference.norm() - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn a_difference_that_is_not_finite_is_refused_and_its_place_named() {
        let (mut trained, base) = (adapter(1), adapter(2));
        trained.values_mut()[4500] = f32::INFINITY;
        let said = trained
            .update(&base, Encoding::Bf16)
            .unwrap_err()
            .to_string();
        assert_eq!(said, trained.difference(&base).unwrap_err().to_string());
    }
}
