//! The baseline: one institution by itself, with the federation's recipe and as many steps.

use std::ops::ControlFlow;
use std::sync::Arc;

use aggregation::Adapter;
use finetune::base::BaseModel;
use finetune::recipe::Recipe;
use finetune::train::Trainer;

use crate::progress::Progress;
use crate::summary::{Arm, StepRecord};
use crate::text::InstitutionText;

/// How to train alone.
pub struct Baseline<'a> {
    /// The frozen model.
    pub base: &'a Arc<BaseModel>,
    /// The run plan's recipe; its `total_steps` are done.
    pub recipe: &'a Recipe,
    /// The run plan's seed.
    pub seed: u64,
    /// The adapter the federation starts from.
    pub start: &'a Adapter,
}

impl Baseline<'_> {
    /// Trains one institution; its steps are added to `steps`.
    ///
    /// # Errors
    /// If the training diverges.
    pub fn train(
        &self,
        institution: &InstitutionText,
        progress: &Progress,
        steps: &mut Vec<StepRecord>,
    ) -> anyhow::Result<Adapter> {
        let total = self.recipe.total_steps;
        let task = progress.task(&institution.name, total);
        let mut trainer = Trainer::new(
            Arc::clone(&self.base.llama),
            Arc::clone(&institution.train),
            self.recipe.clone(),
            self.seed,
            None,
        )?;
        let trained = trainer.run(self.start, 0, total, &mut |report| {
            task.set(report.done, &format!("loss {:.3}", report.loss));
            steps.push(StepRecord {
                arm: Arm::Alone,
                participant: institution.name.clone(),
                step: report.step + 1,
                loss: report.loss,
            });
            ControlFlow::Continue(())
        })?;
        Ok(trained.adapter)
    }
}
