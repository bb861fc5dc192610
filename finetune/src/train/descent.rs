//! One step down a slope: clipping, AdamW, then the pull of the anchor; and the moments that AdamW keeps between steps.

use std::sync::Arc;

use aggregation::{
    Adapter, AdapterLayout,
    ewc::{self, Factor},
};

use super::{TrainError, Trainer, slope::Slope};
use crate::adamw::{self, AdamW};

impl Trainer {
    /// Moves the adapter: clipping, AdamW, then the anchor. Gives the mean gradient's norm and the rate.
    pub(super) fn descend(
        &mut self,
        adapter: &mut Adapter,
        slope: &Slope,
        step: u64,
    ) -> Result<(f64, f64), TrainError> {
        let (layout, adamw) = self.optimizer.as_mut().expect("the run has met its layout");
        let norm = adamw::norm(slope.gradient.values()) / slope.divisor;
        // Private gradients were clipped before they were summed.
        let limit = self.recipe.clip_norm.filter(|_| self.privacy.is_none());
        let clip = adamw::clip_factor(norm, limit);
        let scale = clip / slope.divisor;
        let rate = self.recipe.learning_rate_at(step);
        adamw.step(adapter.values_mut(), slope.gradient.values(), scale, rate);
        if let Some(pull) = &self.pull {
            let strength = |module: usize, factor: Factor| {
                let range = match factor {
                    Factor::A => layout.a_range(module),
                    Factor::B => layout.b_range(module),
                };
                let denominator = adamw.typical_denominator(range);
                // A factor that never had a gradient was not moved by Adam, so there is nothing to pull back.
                if denominator == 0.0 {
                    return 0.0;
                }
                // Adam has seen the gradient as it was clipped, and takes no smaller a step for it. The pull is clipped with it, or
                // its share in the step would grow by what clipping took off the loss's.
                pull.lambda * clip * rate / (denominator + adamw.epsilon())
            };
            ewc::proximal_step(adapter, &pull.anchor, None, &strength);
        }
        Ok((norm, rate))
    }

    /// The optimizer's steps, running means and running squares; nothing before the first step.
    pub(super) fn moments(&self) -> (u64, &[f32], &[f32]) {
        match &self.optimizer {
            Some((_, adamw)) => adamw.moments(),
            None => (0, &[], &[]),
        }
    }

    pub(super) fn set_moments(
        &mut self,
        layout: &Arc<AdapterLayout>,
        (steps, mean, square): (u64, Vec<f32>, Vec<f32>),
    ) -> Result<(), &'static str> {
        if steps == 0 {
            self.optimizer = None;
            return Ok(());
        }
        let count = layout.parameters();
        if mean.len() != count || square.len() != count {
            return Err("its moments do not fit the adapter");
        }
        let adamw = AdamW::resumed(&self.recipe, steps, mean, square);
        self.optimizer = Some((Arc::clone(layout), adamw));
        Ok(())
    }

    /// Makes the optimizer at the first call and checks the layout at the later ones.
    pub(super) fn meet(&mut self, layout: &Arc<AdapterLayout>) -> Result<(), TrainError> {
        if let Some(pull) = &self.pull
            && pull.anchor.layout().digest() != layout.digest()
        {
            return Err(TrainError::OtherAnchor);
        }
        match &self.optimizer {
            Some((known, _)) if known.digest() != layout.digest() => Err(TrainError::OtherLayout),
            Some(_) => Ok(()),
            None => {
                let adamw = AdamW::new(&self.recipe, layout.parameters());
                self.optimizer = Some((Arc::clone(layout), adamw));
                Ok(())
            }
        }
    }
}
