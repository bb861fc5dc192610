//! How an adapter is trained: everything but the model, the data and the seed, in one checked value.
//!
//! Not configuration of a program (that is the client's) and not the run plan (that is `protocol`'s): both are turned
//! into a [`Recipe`], so that a participant and a stand-alone training follow the same path.

use std::collections::BTreeMap;

use crate::{model::Checkpointing, schedule::Schedule};

/// The hyper-parameters of one training run.
///
/// The defaults are those of the usual LoRA recipe for instruction tuning, except for the rate, which is on the careful
/// side for a base that must keep its general English.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Peak learning rate, reached at the end of the warm-up. Default `2e-4`.
    pub learning_rate: f64,
    /// Course of the rate after the warm-up. Default linear.
    pub schedule: Schedule,
    /// Steps of linear warm-up, part of `total_steps`. Default 0.
    pub warmup_steps: u64,
    /// Optimizer steps of the whole run, all rounds together. Default 100.
    pub total_steps: u64,
    /// Examples of one micro-batch: one forward and backward pass. Default 4.
    pub batch_examples: usize,
    /// Micro-batches of one optimizer step. Default 1.
    pub accumulation: usize,
    /// Longest example in tokens; the data set is cut to it when it is loaded. Default 512.
    pub max_tokens: usize,
    /// Largest Euclidean norm of a step's mean gradient; longer ones are scaled down to it. Default 1; `None` for no limit.
    pub clip_norm: Option<f64>,
    /// Decoupled weight decay: each step multiplies the factors by `1 - rate * decay` first. Default 0.
    pub weight_decay: f64,
    /// Decay of the gradient's running mean. Default 0.9.
    pub beta1: f64,
    /// Decay of the squared gradient's running mean. Default 0.999.
    pub beta2: f64,
    /// Added to the denominator of the update. Default `1e-8`.
    pub epsilon: f64,
    /// Share of LoRA's inputs that is zeroed while training. Default 0.1.
    pub dropout: f64,
    /// What forward keeps for backward: memory against time, the result is the same. Default none.
    pub checkpointing: Checkpointing,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            learning_rate: 2e-4,
            schedule: Schedule::Linear,
            warmup_steps: 0,
            total_steps: 100,
            batch_examples: 4,
            accumulation: 1,
            max_tokens: 512,
            clip_norm: Some(1.0),
            weight_decay: 0.0,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            dropout: 0.1,
            checkpointing: Checkpointing::None,
        }
    }
}

/// A recipe's value is outside what can be trained with.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field} is {found}: {rule}")]
pub struct RecipeError {
    /// The field of [`Recipe`].
    pub field: &'static str,
    /// Its value.
    pub found: String,
    /// What it must be.
    pub rule: &'static str,
}

impl Recipe {
    /// Gives the examples that one optimizer step reads.
    pub fn step_examples(&self) -> usize {
        self.batch_examples * self.accumulation
    }

    /// Gives the learning rate of one step of the run, counted from 0.
    pub fn learning_rate_at(&self, step: u64) -> f64 {
        self.learning_rate
            * self
                .schedule
                .share(step, self.warmup_steps, self.total_steps)
    }

    /// Gives the fields that the result depends on, by name: two recipes with equal facts train the same.
    pub fn facts(&self) -> BTreeMap<String, String> {
        let clip_norm = self
            .clip_norm
            .map_or_else(|| "none".to_owned(), |norm| norm.to_string());
        let facts = [
            ("learning_rate", self.learning_rate.to_string()),
            ("schedule", self.schedule.to_string()),
            ("warmup_steps", self.warmup_steps.to_string()),
            ("total_steps", self.total_steps.to_string()),
            ("batch_examples", self.batch_examples.to_string()),
            ("accumulation", self.accumulation.to_string()),
            ("max_tokens", self.max_tokens.to_string()),
            ("clip_norm", clip_norm),
            ("weight_decay", self.weight_decay.to_string()),
            ("beta1", self.beta1.to_string()),
            ("beta2", self.beta2.to_string()),
            ("epsilon", self.epsilon.to_string()),
            ("dropout", self.dropout.to_string()),
        ];
        facts
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`RecipeError`] names the first field that is out of bounds, what it is and what it must be.
    pub fn check(&self) -> Result<(), RecipeError> {
        let positive = "must be above zero and finite";
        let count = "must be at least 1";
        let decay = "must be at least 0 and below 1";
        let real = |value: f64| value.is_finite() && value > 0.0;
        let share = |value: f64| (0.0..1.0).contains(&value);
        rule(
            "learning_rate",
            self.learning_rate,
            real(self.learning_rate),
            positive,
        )?;
        rule("total_steps", self.total_steps, self.total_steps > 0, count)?;
        rule(
            "batch_examples",
            self.batch_examples,
            self.batch_examples > 0,
            count,
        )?;
        rule(
            "accumulation",
            self.accumulation,
            self.accumulation > 0,
            count,
        )?;
        rule(
            "accumulation",
            self.accumulation,
            self.batch_examples.checked_mul(self.accumulation).is_some(),
            "must give a countable number of examples per step",
        )?;
        rule(
            "max_tokens",
            self.max_tokens,
            self.max_tokens > 1,
            "must be at least 2",
        )?;
        if let Some(norm) = self.clip_norm {
            rule("clip_norm", norm, real(norm), positive)?;
        }
        let weight_decay = self.weight_decay;
        let decays = weight_decay.is_finite() && weight_decay >= 0.0;
        rule(
            "weight_decay",
            weight_decay,
            decays,
            "must be at least zero and finite",
        )?;
        rule("beta1", self.beta1, share(self.beta1), decay)?;
        rule("beta2", self.beta2, share(self.beta2), decay)?;
        rule("epsilon", self.epsilon, real(self.epsilon), positive)?;
        rule("dropout", self.dropout, share(self.dropout), decay)
    }
}

fn rule(
    field: &'static str,
    found: impl ToString,
    holds: bool,
    rule: &'static str,
) -> Result<(), RecipeError> {
    if holds {
        Ok(())
    } else {
        Err(RecipeError {
            field,
            found: found.to_string(),
            rule,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_recipe_is_sound() {
        assert_eq!(Recipe::default().check(), Ok(()));
    }

    #[test]
    fn each_bad_field_is_named_with_its_value() {
        type Spoil = fn(&mut Recipe);
        let cases: [(Spoil, &str); 13] = [
            (
                |recipe| recipe.learning_rate = f64::NAN,
                "learning_rate is NaN",
            ),
            (|recipe| recipe.learning_rate = 0.0, "learning_rate is 0"),
            (|recipe| recipe.total_steps = 0, "total_steps is 0"),
            (|recipe| recipe.batch_examples = 0, "batch_examples is 0"),
            (|recipe| recipe.accumulation = 0, "accumulation is 0"),
            (
                |recipe| recipe.accumulation = usize::MAX,
                "accumulation is 18446744073709551615",
            ),
            (|recipe| recipe.max_tokens = 1, "max_tokens is 1"),
            (|recipe| recipe.clip_norm = Some(0.0), "clip_norm is 0"),
            (|recipe| recipe.weight_decay = -0.1, "weight_decay is -0.1"),
            (|recipe| recipe.beta1 = 1.0, "beta1 is 1"),
            (|recipe| recipe.beta2 = -0.5, "beta2 is -0.5"),
            (|recipe| recipe.epsilon = 0.0, "epsilon is 0"),
            (|recipe| recipe.dropout = 1.0, "dropout is 1"),
        ];
        for (spoil, expected) in cases {
            let mut recipe = Recipe::default();
            spoil(&mut recipe);
            let refused = recipe.check().unwrap_err().to_string();
            assert!(refused.starts_with(expected), "{refused}");
        }
    }

    #[test]
    fn rate_spans_the_run_and_peaks_after_the_warm_up() {
        let recipe = Recipe {
            learning_rate: 1e-3,
            warmup_steps: 2,
            total_steps: 10,
            ..Recipe::default()
        };
        assert_eq!(recipe.learning_rate_at(0), 5e-4);
        assert_eq!(recipe.learning_rate_at(1), 1e-3);
        assert_eq!(recipe.learning_rate_at(6), 5e-4);
    }
}
