//! A site that does not train: what stands for its training is done to the values of the global adapter.

use aggregation::AdapterLayout;
use finetune::train::Trained;
use protocol::plan::CheckedPlan;

use super::*;
use crate::site::{Agreement, Follower, Learner, Site};

/// What is done to the values.
pub(super) type Change = dyn Fn(&mut [f32]) + Send + Sync;

/// Agrees to every plan and answers at once.
#[derive(Clone)]
pub(super) struct Untrained {
    pub(super) layout: Arc<AdapterLayout>,
    pub(super) weight: u64,
    /// In the place of training.
    pub(super) change: Arc<Change>,
}

impl Site for Untrained {
    fn agree(&self, _: &CheckedPlan) -> Result<Box<dyn Agreement>, ClientError> {
        Ok(Box::new(self.clone()))
    }
}

impl Agreement for Untrained {
    fn layout(&self) -> &Arc<AdapterLayout> {
        &self.layout
    }

    fn learner(&self, _: Option<&[u8]>, _: Option<&[u8]>) -> Result<Box<dyn Learner>, ClientError> {
        Ok(Box::new(self.clone()))
    }
}

impl Learner for Untrained {
    fn learn(
        &mut self,
        global: &Adapter,
        _: u64,
        steps: u64,
        _: &mut dyn Follower,
    ) -> Result<Trained, ClientError> {
        let mut adapter = global.clone();
        (self.change)(adapter.values_mut());
        Ok(Trained {
            adapter,
            steps,
            examples_used: self.weight,
            tokens: 1,
            mean_loss: 1.0,
        })
    }

    fn checkpoint(&self) -> Vec<u8> {
        Vec::new()
    }
}
