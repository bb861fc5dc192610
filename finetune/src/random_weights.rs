//! Weights drawn from a hash: a decoder of any known shape without its files, for benchmarks and tests of speed.
//!
//! The values are small, uniform and the same everywhere; norms are one. Such a model knows nothing, but its arithmetic
//! costs what a real one's costs.

use rayon::prelude::*;

use crate::{config::LlamaConfig, error::LoadError, weights::WeightSource};

/// Half the width of the uniform distribution; its standard deviation is the 0.02 of usual initialisations.
const BOUND: f32 = 0.035;

/// Values that one thread draws at a time.
const PIECE: usize = 1 << 16;

/// A source of weights of one shape.
#[derive(Clone, Debug)]
pub struct RandomWeights(pub LlamaConfig);

impl WeightSource for RandomWeights {
    fn config(&self) -> &LlamaConfig {
        &self.0
    }

    fn contains(&self, _hf_name: &str) -> bool {
        true
    }

    fn tensor(&self, hf_name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        let count = shape.iter().product();
        if shape.len() == 1 {
            return Ok(vec![1.0; count]);
        }
        let seed = hf_name
            .bytes()
            .fold(0, |seed, byte| mixed(seed ^ u64::from(byte)));
        let mut values = vec![0.0; count];
        values
            .par_chunks_mut(PIECE)
            .enumerate()
            .for_each(|(piece, values)| {
                let first = (piece * PIECE) as u64;
                for (value, place) in values.iter_mut().zip(first..) {
                    // 24 bits: all that an f32 between one half and one can hold.
                    let share = (mixed(seed ^ place) >> 40) as f32 / (1 << 24) as f32;
                    *value = (2.0 * share - 1.0) * BOUND;
                }
            });
        Ok(values)
    }
}

/// One step of `SplitMix64` (Steele, Lea and Flood 2014).
fn mixed(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiny;

    #[test]
    fn values_are_uniform_repeatable_and_differ_by_tensor() {
        let weights = RandomWeights(tiny::shape());
        let one = weights.tensor("one", &[300, 400]).unwrap();
        assert_eq!(one, weights.tensor("one", &[300, 400]).unwrap());
        assert_ne!(one, weights.tensor("other", &[300, 400]).unwrap());
        let mean = one.iter().sum::<f32>() / one.len() as f32;
        let square = one.iter().map(|x| x * x).sum::<f32>() / one.len() as f32;
        assert!(mean.abs() < 3e-4, "{mean}");
        assert!(
            (square.sqrt() - BOUND / 3.0_f32.sqrt()).abs() < 2e-4,
            "{square}"
        );
        assert!(one.iter().all(|x| x.abs() <= BOUND));
    }

    #[test]
    fn norms_are_one() {
        let norm = RandomWeights(tiny::shape())
            .tensor("model.norm.weight", &[8])
            .unwrap();
        assert_eq!(norm, [1.0; 8]);
    }
}
