//! An institution that attacks: it trains like the others and then sends the opposite, as large as the plan lets through.
//!
//! For trying strategies only. It claims the largest weight, too. It keeps the protocol: what breaks it is tested elsewhere.

use std::sync::Arc;

use aggregation::{Adapter, AdapterError, AdapterLayout};
use client::{Agreement, ClientError, Follower, Learner, Site};
use finetune::train::Trained;
use protocol::plan::{CheckedPlan, LimitsPlan};

/// Share of the plan's largest norm that is made use of: rounding for the way must not carry an update over it.
const SHARE: f64 = 0.98;

/// A site whose updates are turned around.
pub(crate) struct HostileSite(pub(crate) Arc<dyn Site>);

struct Turned<T: ?Sized> {
    limits: LimitsPlan,
    inner: Box<T>,
}

impl Site for HostileSite {
    fn agree(&self, plan: &CheckedPlan) -> Result<Box<dyn Agreement>, ClientError> {
        Ok(Box::new(Turned {
            limits: plan.limits.clone(),
            inner: self.0.agree(plan)?,
        }))
    }
}

impl Agreement for Turned<dyn Agreement> {
    fn layout(&self) -> &Arc<AdapterLayout> {
        self.inner.layout()
    }

    fn learner(
        &self,
        anchor: Option<&[u8]>,
        earlier: Option<&[u8]>,
    ) -> Result<Box<dyn Learner>, ClientError> {
        Ok(Box::new(Turned {
            limits: self.limits.clone(),
            inner: self.inner.learner(anchor, earlier)?,
        }))
    }

    fn keep(&self, adapter: &Adapter) -> Result<(), ClientError> {
        self.inner.keep(adapter)
    }
}

impl Learner for Turned<dyn Learner> {
    fn learn(
        &mut self,
        global: &Adapter,
        first_step: u64,
        steps: u64,
        follower: &mut dyn Follower,
    ) -> Result<Trained, ClientError> {
        let mut trained = self.inner.learn(global, first_step, steps, follower)?;
        let norm = SHARE * self.limits.update_norm_max;
        trained.adapter = turned(&trained.adapter, global, norm).map_err(|source| {
            let when = "an attack".to_owned();
            ClientError::Adapter { when, source }
        })?;
        trained.examples_used = self.limits.weight_max;
        Ok(trained)
    }

    fn checkpoint(&self) -> Vec<u8> {
        self.inner.checkpoint()
    }
}

/// Gives the adapter as far as `norm` on the other side of `global`; where nothing was learnt, `global` itself.
fn turned(adapter: &Adapter, global: &Adapter, norm: f64) -> Result<Adapter, AdapterError> {
    let mut difference = adapter.difference(global)?;
    let length = difference.norm();
    if 0.0 < length {
        difference.scale(-norm / length);
    }
    difference.add(global)?;
    Ok(difference)
}

#[cfg(test)]
mod tests {
    use aggregation::ModuleLayout;

    use super::*;

    #[test]
    fn what_was_learnt_is_turned_around_and_as_long_as_asked_for() {
        let module = ModuleLayout {
            name: "x".to_owned(),
            in_features: 1,
            out_features: 1,
        };
        let layout = Arc::new(AdapterLayout::new(1, 1.0, false, vec![module]).unwrap());
        let global = Adapter::from_values(Arc::clone(&layout), vec![1.0, 1.0]).unwrap();
        let adapter = Adapter::from_values(layout, vec![4.0, 5.0]).unwrap();
        let attack = turned(&adapter, &global, 10.0).unwrap();
        assert_eq!(attack.values(), [-5.0, -7.0]);
        assert_eq!(turned(&global, &global, 10.0).unwrap(), global);
    }
}
