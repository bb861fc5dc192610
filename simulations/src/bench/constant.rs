//! The site that does not train: it answers with the global adapter plus its share of what the round has.

use std::sync::Arc;

use aggregation::{Adapter, AdapterLayout};
use client::terms::Objection;
use client::{Agreement, ClientError, Follower, Learner, Site};
use finetune::train::Trained;
use protocol::Digest;
use protocol::plan::CheckedPlan;

use super::moves::Moves;

/// A participant's share and weight.
#[derive(Clone, Debug)]
pub(super) struct ConstantSite {
    pub(super) layout: Arc<AdapterLayout>,
    pub(super) moves: Moves,
    pub(super) share: f32,
    pub(super) weight: u64,
}

impl Site for ConstantSite {
    fn agree(&self, plan: &CheckedPlan) -> Result<Box<dyn Agreement>, ClientError> {
        let (wanted, found) = (plan.layout_digest, Digest(self.layout.digest()));
        if wanted != found {
            return Err(Objection::OtherLayout { wanted, found }.into());
        }
        Ok(Box::new(self.clone()))
    }
}

impl Agreement for ConstantSite {
    fn layout(&self) -> &Arc<AdapterLayout> {
        &self.layout
    }

    fn learner(
        &self,
        _anchor: Option<&[u8]>,
        _earlier: Option<&[u8]>,
    ) -> Result<Box<dyn Learner>, ClientError> {
        Ok(Box::new(self.clone()))
    }
}

impl Learner for ConstantSite {
    fn learn(
        &mut self,
        global: &Adapter,
        first_step: u64,
        steps: u64,
        _follower: &mut dyn Follower,
    ) -> Result<Trained, ClientError> {
        // The scenario has one step a round.
        let round = u32::try_from(first_step)
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        let values = self.moves.moved(global.values(), self.share, round);
        let adapter = Adapter::from_values(Arc::clone(&self.layout), values);
        let adapter = adapter.map_err(|source| ClientError::Adapter {
            when: "the next update".to_owned(),
            source,
        })?;
        Ok(Trained {
            adapter,
            steps,
            examples_used: self.weight,
            tokens: 0,
            mean_loss: 0.0,
        })
    }

    fn checkpoint(&self) -> Vec<u8> {
        Vec::new()
    }
}
