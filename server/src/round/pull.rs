//! How hard the server pulls toward the anchor after a round.
//!
//! A participant that takes the EWC step itself does so after each AdamW step, in Adam's own metric: its strength is
//! `lambda * lr / rms(g)`, with `rms(g)` the root mean square of a factor's gradient before clipping. The server sees
//! no gradients, so it takes what the anchor says about them: with `F` the Fisher information a token,
//! a batch of `T` tokens has `E g^2 = F / T`, and by the factored Fisher
//! `F_B = s^2 u_i (A V A^T)_mm`, `F_A = s^2 v_j (B^T U B)_mm`. One step after a round stands for all steps of the round:
//! `strength = lambda * sum(lr) / rms`. So `lambda` keeps its units (algorithms.md 2.3) wherever the step is taken, up
//! to the estimate: participants' own text has other gradients than the anchor's.

use aggregation::{Adapter, Factor};
use protocol::Round;
use protocol::plan::{CheckedPlan, Schedule, TrainingPlan};

use crate::start::LoadedAnchor;

/// Keeps a factor without any importance from a strength that is not finite.
const RMS_MIN: f64 = 1e-8;

/// The strengths of one round's step.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pull {
    /// `(A, B)` of each module.
    strengths: Vec<(f64, f64)>,
}

impl Pull {
    /// Works out the strengths for the adapter that came out of `round`.
    pub(super) fn new(
        plan: &CheckedPlan,
        lambda: f64,
        anchor: &LoadedAnchor,
        adapter: &Adapter,
        round: Round,
    ) -> Self {
        let training = &plan.training;
        let distance = learning_rates(training, plan.rounds, round);
        let examples = f64::from(training.batch_examples) * f64::from(training.accumulation);
        let tokens = examples
            * anchor
                .example_tokens
                .clamp(1.0, f64::from(training.max_tokens));
        let layout = adapter.layout();
        let (rank, scale) = (layout.rank(), layout.scale());
        let strength = |mean_square: f64| {
            let rms = scale * (mean_square / tokens).sqrt();
            lambda * distance / rms.max(RMS_MIN)
        };
        let strengths = layout.modules().iter().enumerate().map(|(index, module)| {
            let fisher = anchor.bound.module(index);
            // A is [rank, in], its columns weighted by v; B is [out, rank], its rows weighted by u.
            let of_a = adapter.a(index).iter().zip(fisher.v.iter().cycle());
            let weighted_a: f64 = of_a
                .map(|(&a, &v)| f64::from(v) * f64::from(a).powi(2))
                .sum();
            let rows = adapter.b(index).chunks(rank).zip(&fisher.u);
            let weighted_b: f64 = rows
                .map(|(row, &u)| {
                    f64::from(u) * row.iter().map(|&b| f64::from(b).powi(2)).sum::<f64>()
                })
                .sum();
            let mean = |values: &[f32], count: usize| {
                values.iter().copied().map(f64::from).sum::<f64>() / count as f64
            };
            let rank = rank as f64;
            let square_a = mean(&fisher.v, module.in_features) * weighted_b / rank;
            let square_b = mean(&fisher.u, module.out_features) * weighted_a / rank;
            (strength(square_a), strength(square_b))
        });
        Self {
            strengths: strengths.collect(),
        }
    }

    /// Gives the strength for one factor.
    pub(super) fn strength(&self, module: usize, factor: Factor) -> f64 {
        let (a, b) = self.strengths[module];
        match factor {
            Factor::A => a,
            Factor::B => b,
        }
    }
}

/// The sum of the learning rates of a round's steps.
fn learning_rates(training: &TrainingPlan, rounds: u32, round: Round) -> f64 {
    let steps = u64::from(training.local_steps);
    let total = steps * u64::from(rounds);
    let first = steps * u64::from(round.0.saturating_sub(1));
    let shares: f64 = (first..first + steps)
        .map(|step| share(training, step, total))
        .sum();
    training.learning_rate * shares
}

/// The share of the peak rate at a step of the run: linear warm-up, then the plan's schedule.
fn share(training: &TrainingPlan, step: u64, total: u64) -> f64 {
    let warmup = u64::from(training.warmup_steps);
    if step < warmup {
        return (step + 1) as f64 / warmup as f64;
    }
    let done = (step - warmup) as f64 / total.saturating_sub(warmup).max(1) as f64;
    match training.schedule {
        Schedule::Constant => 1.0,
        Schedule::Linear => 1.0 - done,
        Schedule::Cosine => f64::midpoint(1.0, (std::f64::consts::PI * done).cos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn training(schedule: Schedule, warmup_steps: u32) -> TrainingPlan {
        TrainingPlan {
            local_steps: 5,
            batch_examples: 1,
            accumulation: 1,
            max_tokens: 8,
            learning_rate: 0.5,
            warmup_steps,
            schedule,
            weight_decay: 0.0,
            clip_norm: 1.0,
        }
    }

    #[test]
    fn a_rounds_learning_rates_follow_the_schedule_over_the_whole_run() {
        let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found}");
        near(
            learning_rates(&training(Schedule::Constant, 0), 2, Round(2)),
            2.5,
        );
        // Shares 1, .9, .8, .7, .6 and then .5 to .1.
        near(
            learning_rates(&training(Schedule::Linear, 0), 2, Round(1)),
            2.0,
        );
        near(
            learning_rates(&training(Schedule::Linear, 0), 2, Round(2)),
            0.75,
        );
        // Warm-up .5, 1, then 1, 7/8, 6/8.
        near(
            learning_rates(&training(Schedule::Linear, 2), 2, Round(1)),
            0.5 * 4.125,
        );
        near(
            learning_rates(&training(Schedule::Cosine, 0), 1, Round(1)),
            0.5 * 3.0,
        );
    }
}
