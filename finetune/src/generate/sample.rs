//! Chooses one token from the logits of a position.
//!
//! Top-p is nucleus sampling (Holtzman et al. 2020, 1904.09751): the smallest set of likeliest tokens whose probability
//! reaches p. All in f64 on the host, ties broken by the lower token, so that a seed gives the same text on every device
//! that gives the same logits.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use super::{GenerateError, Sampling};

/// A checked [`Sampling`] with its generator.
#[derive(Debug)]
pub(super) struct Sampler {
    temperature: f64,
    top_p: f64,
    generator: ChaCha8Rng,
}

impl Sampler {
    pub(super) fn new(sampling: &Sampling) -> Result<Self, GenerateError> {
        let Sampling {
            temperature,
            top_p,
            seed,
            ..
        } = *sampling;
        if !temperature.is_finite() || temperature < 0.0 {
            let rule = "must be 0 (greedy) or above";
            return Err(GenerateError::Sampling {
                field: "temperature",
                found: temperature,
                rule,
            });
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            let rule = "must be above 0 and at most 1";
            return Err(GenerateError::Sampling {
                field: "top_p",
                found: top_p,
                rule,
            });
        }
        Ok(Self {
            temperature,
            top_p,
            generator: ChaCha8Rng::seed_from_u64(seed),
        })
    }

    /// Chooses a token.
    ///
    /// # Shapes
    /// One logit for each token of the vocabulary.
    pub(super) fn choose(&mut self, logits: &[f32]) -> u32 {
        if self.temperature == 0.0 {
            return likeliest(logits);
        }
        let nucleus = self.nucleus(logits);
        let total: f64 = nucleus.iter().map(|&(_, weight)| weight).sum();
        let mut left = self.uniform() * total;
        for &(token, weight) in &nucleus {
            left -= weight;
            if left < 0.0 {
                return token;
            }
        }
        // Rounding may leave a remainder at the end of the sum; the last token owns it.
        nucleus
            .last()
            .map_or_else(|| likeliest(logits), |&(token, _)| token)
    }

    /// Gives the likeliest tokens with their unnormalised probabilities, in falling order.
    fn nucleus(&self, logits: &[f32]) -> Vec<(u32, f64)> {
        let peak = f64::from(logits[likeliest(logits) as usize]);
        let mut weights: Vec<(u32, f64)> = (0u32..)
            .zip(logits)
            .map(|(token, &logit)| (token, ((f64::from(logit) - peak) / self.temperature).exp()))
            .filter(|&(_, weight)| weight > 0.0)
            .collect();
        weights.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
        let wanted = self.top_p * weights.iter().map(|&(_, weight)| weight).sum::<f64>();
        let mut reached = 0.0;
        let kept = weights.iter().take_while(|&&(_, weight)| {
            let open = reached < wanted;
            reached += weight;
            open
        });
        let kept = kept.count();
        weights.truncate(kept);
        weights
    }

    /// A draw from `0.0..1.0` with 53 bits.
    fn uniform(&mut self) -> f64 {
        (self.generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Gives the token with the greatest logit, the lowest of equals; NaN never wins.
fn likeliest(logits: &[f32]) -> u32 {
    let mut best = (0u32, f32::NEG_INFINITY);
    for (token, &logit) in (0u32..).zip(logits) {
        if logit > best.1 {
            best = (token, logit);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(temperature: f64, top_p: f64, seed: u64) -> Sampler {
        Sampler::new(&Sampling {
            temperature,
            top_p,
            seed,
            max_new_tokens: 1,
        })
        .unwrap()
    }

    #[test]
    fn greedy_takes_the_likeliest_and_the_lower_of_equals() {
        assert_eq!(sampler(0.0, 1.0, 1).choose(&[0.5, 2.0, f32::NAN, 2.0]), 1);
    }

    #[test]
    fn small_top_p_is_greedy() {
        let mut sampler = sampler(1.0, 0.1, 2);
        assert!((0..50).all(|_| sampler.choose(&[0.0, 1.0, 0.5]) == 1));
    }

    #[test]
    fn nucleus_stops_where_the_probability_is_reached() {
        // Probabilities 0.5, 0.3, 0.2: two tokens reach 0.7, all three are needed for 0.81.
        let logits = [0.3f32.ln(), 0.5f32.ln(), 0.2f32.ln()];
        let tokens = |top_p| -> Vec<u32> {
            sampler(1.0, top_p, 3)
                .nucleus(&logits)
                .iter()
                .map(|&(token, _)| token)
                .collect()
        };
        assert_eq!(tokens(0.4), [1]);
        assert_eq!(tokens(0.7), [1, 0]);
        assert_eq!(tokens(0.81), [1, 0, 2]);
        assert_eq!(tokens(1.0), [1, 0, 2]);
    }

    #[test]
    fn draws_follow_the_probabilities_and_the_seed() {
        let logits = [0.3f32.ln(), 0.5f32.ln(), 0.2f32.ln()];
        let draw = |seed| -> Vec<u32> {
            let mut sampler = sampler(1.0, 1.0, seed);
            (0..4_000).map(|_| sampler.choose(&logits)).collect()
        };
        let drawn = draw(5);
        assert_eq!(drawn, draw(5));
        assert_ne!(drawn, draw(6));
        for (token, expected) in [(0, 0.3), (1, 0.5), (2, 0.2)] {
            let share = drawn.iter().filter(|&&found| found == token).count() as f64 / 4_000.0;
            assert!(
                (share - expected).abs() < 0.03,
                "token {token}: {share} against {expected}"
            );
        }
    }

    #[test]
    fn temperature_sharpens() {
        let logits = [1.0, 2.0];
        let share = |temperature| {
            let nucleus = sampler(temperature, 1.0, 0).nucleus(&logits);
            nucleus[0].1 / (nucleus[0].1 + nucleus[1].1)
        };
        assert!((share(1.0) - 0.731_058_578_6).abs() < 1e-9);
        assert!((share(0.5) - 0.880_797_077_9).abs() < 1e-9);
    }

    #[test]
    fn values_out_of_bounds_are_named() {
        let bad = |temperature, top_p| {
            let sampling = Sampling {
                temperature,
                top_p,
                ..Sampling::default()
            };
            Sampler::new(&sampling).unwrap_err().to_string()
        };
        assert_eq!(
            bad(-1.0, 1.0),
            "temperature is -1: must be 0 (greedy) or above"
        );
        assert_eq!(bad(1.0, 0.0), "top_p is 0: must be above 0 and at most 1");
        assert_eq!(
            bad(1.0, f64::NAN),
            "top_p is NaN: must be above 0 and at most 1"
        );
    }
}
