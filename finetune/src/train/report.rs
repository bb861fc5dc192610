//! What is told of a training: of each step, and of some steps together.

use aggregation::Adapter;

/// What one optimizer step did.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// The step of the run, from 0.
    pub step: u64,
    /// Steps of this call done, this one included.
    pub done: u64,
    /// Steps that this call was asked for.
    pub asked: u64,
    /// Mean loss over the step's response tokens, in nats, before the step; not a number if a private step drew no record with a
    /// finite one.
    pub loss: f64,
    /// Response tokens of the step: those that the loss counts.
    pub tokens: u64,
    /// All tokens of the step, prompts included: what a speed is measured in.
    pub rows: u64,
    /// Norm of the mean gradient before clipping.
    pub gradient_norm: f64,
    /// The learning rate that the step was taken with.
    pub learning_rate: f64,
    /// Lines of the data that the step read, in its order.
    pub lines: Vec<usize>,
}

impl StepReport {
    /// Gives the loss in words, or that there is none: a private step may draw no record, or none with a finite loss.
    pub fn loss_sentence(&self) -> String {
        if self.lines.is_empty() {
            "no record drawn".to_owned()
        } else if self.tokens == 0 {
            "no finite loss".to_owned()
        } else {
            format!("loss {:.4}", self.loss)
        }
    }
}

/// The outcome of some steps.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The adapter after the last step.
    pub adapter: Adapter,
    /// Steps done; fewer than asked for if the observer broke off.
    pub steps: u64,
    /// Different examples that contributed: the participant's weight in federated averaging.
    pub examples_used: u64,
    /// Response tokens that contributed, repetitions counted.
    pub tokens: u64,
    /// Mean loss over those tokens in nats, each before its own step; 0 if no step was done.
    pub mean_loss: f64,
}
