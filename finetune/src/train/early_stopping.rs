//! When to stop: the held-out loss has not improved for some evaluations.
//!
//! Only the decision. Who evaluates keeps the adapter of the best evaluation and goes back to it.

use serde::{Deserialize, Serialize};

/// How long to wait for an improvement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patience {
    /// Evaluations without improvement after which training stops; at least 1.
    pub evaluations: u64,
}

/// Early stopping, and what it judges by: losses on other text, or at other steps, say nothing beside the ones before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validation {
    /// How long it waits.
    pub patience: Patience,
    /// The digest of the held-out data.
    pub held_out: [u8; 32],
    /// Steps between two evaluations.
    pub every: u64,
}

/// The best evaluation so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Steps taken before it.
    pub step: u64,
    /// Mean held-out loss in nats per token.
    pub loss: f64,
}

/// What an evaluation means for the training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The loss is the lowest so far: keep this adapter.
    Improved,
    /// It is not; this many evaluations have passed since the best.
    Waiting(u64),
    /// Patience is at its end: go back to the best adapter.
    Stop,
}

/// The state of early stopping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EarlyStopping {
    patience: Patience,
    best: Option<Best>,
    since: u64,
}

impl EarlyStopping {
    /// Makes the state before the first evaluation.
    pub fn new(patience: Patience) -> Self {
        Self {
            patience,
            best: None,
            since: 0,
        }
    }

    /// Takes in the loss after `step` steps. An equal loss is no improvement.
    pub fn judge(&mut self, step: u64, loss: f64) -> Verdict {
        if self.best.is_none_or(|best| loss < best.loss) {
            self.best = Some(Best { step, loss });
            self.since = 0;
            return Verdict::Improved;
        }
        self.since += 1;
        if self.since >= self.patience.evaluations {
            Verdict::Stop
        } else {
            Verdict::Waiting(self.since)
        }
    }

    /// Gives the best evaluation so far.
    pub fn best(&self) -> Option<Best> {
        self.best
    }

    /// Whether the last verdict was to stop.
    pub fn is_over(&self) -> bool {
        self.since >= self.patience.evaluations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_after_the_patience_and_remembers_the_best() {
        let mut stopping = EarlyStopping::new(Patience { evaluations: 2 });
        let verdicts: Vec<Verdict> = [3.0, 2.0, 2.5, 1.5, 1.5, 1.6]
            .into_iter()
            .zip(0..)
            .map(|(loss, evaluation)| stopping.judge(10 * evaluation, loss))
            .collect();
        use Verdict::{Improved, Stop, Waiting};
        assert_eq!(
            verdicts,
            [Improved, Improved, Waiting(1), Improved, Waiting(1), Stop]
        );
        let best = Best {
            step: 30,
            loss: 1.5,
        };
        assert_eq!(stopping.best(), Some(best));
        assert!(stopping.is_over());
    }

    #[test]
    fn waits_as_long_as_it_gets_better() {
        let mut stopping = EarlyStopping::new(Patience { evaluations: 1 });
        for evaluation in 0..20 {
            let verdict = stopping.judge(evaluation, -(evaluation as f64));
            assert_eq!(verdict, Verdict::Improved);
        }
        assert!(!stopping.is_over());
    }
}
