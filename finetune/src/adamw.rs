//! AdamW on the host: the adapter's f32 values are the masters, the moments live beside them.
//!
//! Adapters are small (SmolLM2-135M at rank 16 on q and v: under a million values), so the optimizer runs on host
//! vectors, in one fixed order, and its result does not depend on the device or on a thread count. Moments are kept in
//! f32 as PyTorch keeps them; each element's arithmetic is in f64.
//!
//! Source: Loshchilov and Hutter 2019 (1711.05101), algorithm 2, in the form of `torch.optim.AdamW`: decay first, bias
//! correction of both moments, epsilon added after the square root.

use std::ops::Range;

use crate::recipe::Recipe;

/// The state of AdamW for one vector of values.
#[derive(Clone, Debug)]
pub struct AdamW {
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    weight_decay: f64,
    /// Running mean of the gradient.
    mean: Vec<f32>,
    /// Running mean of the squared gradient.
    square: Vec<f32>,
    steps: u64,
}

impl AdamW {
    /// Makes the state before the first step, for `values` values.
    pub fn new(recipe: &Recipe, values: usize) -> Self {
        Self {
            beta1: recipe.beta1,
            beta2: recipe.beta2,
            epsilon: recipe.epsilon,
            weight_decay: recipe.weight_decay,
            mean: vec![0.0; values],
            square: vec![0.0; values],
            steps: 0,
        }
    }

    /// Makes the state after `steps` steps from its moments.
    ///
    /// # Panics
    /// If the moments differ in length; a reader of untrusted bytes has compared them before.
    pub fn resumed(recipe: &Recipe, steps: u64, mean: Vec<f32>, square: Vec<f32>) -> Self {
        assert_eq!(mean.len(), square.len(), "both moments are of one vector");
        Self {
            mean,
            square,
            steps,
            ..Self::new(recipe, 0)
        }
    }

    /// Gives the steps taken, the running means and the running squares.
    pub fn moments(&self) -> (u64, &[f32], &[f32]) {
        (self.steps, &self.mean, &self.square)
    }

    /// Gives the number of steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Takes one step against `gradient * scale`.
    ///
    /// `scale` turns a summed gradient into the mean that the step is about and applies the clipping, without a pass of
    /// its own over the gradient.
    ///
    /// # Shapes
    /// `values` and `gradient` have the length given to [`AdamW::new`].
    ///
    /// # Panics
    /// If they do not: a caller's mistake, never a matter of input.
    pub fn step(&mut self, values: &mut [f32], gradient: &[f32], scale: f64, learning_rate: f64) {
        assert_eq!(
            values.len(),
            self.mean.len(),
            "values belong to this optimizer"
        );
        assert_eq!(
            gradient.len(),
            self.mean.len(),
            "the gradient belongs to these values"
        );
        self.steps += 1;
        let keep = 1.0 - learning_rate * self.weight_decay;
        let rate = learning_rate / self.correction(self.beta1);
        let square_correction = self.correction(self.beta2).sqrt();
        let (beta1, beta2, epsilon) = (self.beta1, self.beta2, self.epsilon);
        let moments = self.mean.iter_mut().zip(&mut self.square);
        for ((value, &gradient), (mean, square)) in values.iter_mut().zip(gradient).zip(moments) {
            let gradient = f64::from(gradient) * scale;
            let m = beta1 * f64::from(*mean) + (1.0 - beta1) * gradient;
            let v = beta2 * f64::from(*square) + (1.0 - beta2) * gradient * gradient;
            *mean = m as f32;
            *square = v as f32;
            let denominator = v.sqrt() / square_correction + epsilon;
            *value = (f64::from(*value) * keep - rate * m / denominator) as f32;
        }
    }

    /// Gives the typical size of Adam's denominator over a range of values: the root of the mean of `v_hat`.
    ///
    /// It is what turns a gradient into Adam's units, so a penalty applied outside the optimizer divides its strength by
    /// it. Zero before the first step and for values that never had a gradient.
    pub fn typical_denominator(&self, range: Range<usize>) -> f64 {
        if self.steps == 0 || range.is_empty() {
            return 0.0;
        }
        let squares = &self.square[range];
        let sum: f64 = squares.iter().map(|&square| f64::from(square)).sum();
        (sum / squares.len() as f64 / self.correction(self.beta2)).sqrt()
    }

    /// Gives the epsilon of the denominator.
    pub fn epsilon(&self) -> f64 {
        self.epsilon
    }

    /// What a running mean that began at zero has to be divided by.
    fn correction(&self, beta: f64) -> f64 {
        // Past i32::MAX steps the power is zero for every beta below one.
        1.0 - beta.powi(i32::try_from(self.steps).unwrap_or(i32::MAX))
    }
}

/// Gives the factor that `torch.nn.utils.clip_grad_norm_` multiplies a gradient of this norm by.
///
/// One unless the norm exceeds the limit; the `1e-6` is theirs.
pub fn clip_factor(norm: f64, limit: Option<f64>) -> f64 {
    limit.map_or(1.0, |limit| (limit / (norm + 1e-6)).min(1.0))
}

/// Gives the Euclidean norm over all values, summed in f64 from first to last.
pub fn norm(values: &[f32]) -> f64 {
    values
        .iter()
        .map(|&value| f64::from(value) * f64::from(value))
        .sum::<f64>()
        .sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three values, three steps: printed by `torch.optim.AdamW` of torch 2.15 in f32 with lr 0.1, betas (0.9, 0.999),
    /// eps 1e-8, weight decay 0.01. The same by hand in f64 from its algorithm box differs by less than 1e-7.
    const GRADIENTS: [[f32; 3]; 3] = [[0.1, -0.2, 0.0], [0.3, 0.1, -0.4], [-0.2, 0.05, 0.1]];
    const EXPECTED: [[f64; 3]; 3] = [
        [0.899_000_049, -1.898_000_002, 0.499_500_006],
        [0.806_322_932, -1.869_468_331, 0.573_414_207],
        [0.779_726_207, -1.861_459_970, 0.613_142_908],
    ];

    fn recipe() -> Recipe {
        Recipe {
            weight_decay: 0.01,
            ..Recipe::default()
        }
    }

    #[test]
    fn steps_equal_the_numbers_of_torch() {
        let mut values = [1.0f32, -2.0, 0.5];
        let mut adamw = AdamW::new(&recipe(), 3);
        for (gradient, expected) in GRADIENTS.iter().zip(EXPECTED) {
            adamw.step(&mut values, gradient, 1.0, 0.1);
            for (value, expected) in values.iter().zip(expected) {
                assert!(
                    (f64::from(*value) - expected).abs() < 2e-7,
                    "{value} != {expected}"
                );
            }
        }
        assert_eq!(adamw.steps(), 3);
    }

    #[test]
    fn scale_is_the_same_as_a_scaled_gradient() {
        let (mut plain, mut scaled) = ([1.0f32, -2.0, 0.5], [1.0f32, -2.0, 0.5]);
        let mut first = AdamW::new(&recipe(), 3);
        let mut second = AdamW::new(&recipe(), 3);
        for gradient in GRADIENTS {
            first.step(&mut plain, &gradient, 1.0, 0.1);
            second.step(&mut scaled, &gradient.map(|value| value * 4.0), 0.25, 0.1);
        }
        assert_eq!(plain, scaled);
    }

    #[test]
    fn value_without_gradient_only_decays() {
        let mut values = [0.5f32];
        AdamW::new(&recipe(), 1).step(&mut values, &[0.0], 1.0, 0.1);
        assert_eq!(values, [0.499_5]);
        let mut values = [0.5f32];
        AdamW::new(&Recipe::default(), 1).step(&mut values, &[0.0], 1.0, 0.1);
        assert_eq!(values, [0.5]);
    }

    #[test]
    fn typical_denominator_is_the_gradients_size_after_one_step() {
        let mut adamw = AdamW::new(&Recipe::default(), 4);
        assert_eq!(adamw.typical_denominator(0..2), 0.0);
        adamw.step(&mut [0.0; 4], &[0.3, 0.4, 0.0, 0.0], 1.0, 0.1);
        // v_hat is g squared after the first step: root of (0.09 + 0.16) / 2.
        assert!((adamw.typical_denominator(0..2) - 0.353_553_39).abs() < 1e-6);
        assert_eq!(adamw.typical_denominator(2..4), 0.0);
    }

    #[test]
    fn clipping_equals_torch_and_leaves_short_gradients_alone() {
        assert_eq!(clip_factor(0.5, Some(1.0)), 1.0);
        assert!((clip_factor(5.0, Some(1.0)) - 1.0 / 5.000_001).abs() < 1e-15);
        assert_eq!(clip_factor(5.0, None), 1.0);
        assert_eq!(norm(&[3.0, -4.0]), 5.0);
    }
}
