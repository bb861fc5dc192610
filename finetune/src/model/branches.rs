//! The adapter's branches of one pass, found by layer and projection.

use super::{Dropout, ModelError};
use crate::{
    batch::Batch,
    config::LlamaConfig,
    lora::{LoraFactors, Projection, Site},
    ops::{dropout::Mask, linear::Branch},
};

/// One slot a layer and projection.
#[derive(Debug, Default)]
pub(super) struct Branches<'a> {
    slots: Vec<[Option<Branch<'a>>; Projection::ALL.len()]>,
    /// Sites in the order of the adapter's modules.
    sites: Vec<Site>,
}

impl<'a> Branches<'a> {
    /// Checks that the adapter fits the model and sorts its modules into slots.
    pub(super) fn new(
        config: &LlamaConfig,
        factors: Option<&'a LoraFactors>,
        dropout: Option<(Dropout<'_>, &Batch)>,
    ) -> Result<Self, ModelError> {
        let Some(factors) = factors else {
            return Ok(Self::default());
        };
        let layout = factors.layout();
        let dropout = dropout.filter(|(dropout, _)| dropout.rate > 0.0);
        let dropout =
            dropout.map(|(dropout, batch)| (dropout.rate, dropout.seeds.by_first_row(batch)));
        let mut branches = Self {
            slots: vec![Default::default(); config.num_hidden_layers],
            sites: Vec::with_capacity(factors.modules.len()),
        };
        for (index, module) in factors.modules.iter().enumerate() {
            let named = &layout.modules()[index];
            let site = module.site;
            let found = [named.in_features, named.out_features];
            let inside = site.layer < config.num_hidden_layers;
            let expected = if inside {
                site.projection.widths(config).into()
            } else {
                [0, 0]
            };
            if found != expected {
                let module = named.name.clone();
                return Err(ModelError::OtherModel {
                    module,
                    found,
                    expected,
                });
            }
            let mask = dropout.as_ref();
            let mask = mask.map(|(rate, seeds)| Mask::new(*rate, seeds, index));
            branches.slots[site.layer][site.projection as usize] = Some(Branch {
                factors: module,
                scale: layout.scale(),
                mask,
            });
            branches.sites.push(site);
        }
        Ok(branches)
    }

    pub(super) fn at(&self, layer: usize, projection: Projection) -> Option<&Branch<'a>> {
        self.slots.get(layer)?[projection as usize].as_ref()
    }

    /// The adapted sites, in the order of the adapter's modules.
    pub(super) fn sites(&self) -> &[Site] {
        &self.sites
    }
}
