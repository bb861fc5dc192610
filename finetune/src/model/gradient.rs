//! The visitor of training: gradients of `A` and `B`, collected as adapters, one for every group of rows.
//!
//! Forward and the way back through the frozen layers are those of the whole batch. Only the last products, which sum over
//! rows, are made group by group; together they cost what one product over all rows costs (Lee and Kifer 2021, arXiv
//! 2009.03106). Training has one group, clipping example by example (DP-SGD) one an example.

use std::{ops::Range, sync::Arc};

use aggregation::Adapter;
use burn::tensor::Tensor;

use super::{
    Branches, Llama, LossSum, ModelError, PassOptions,
    block::{Pass, Visitor},
};
use crate::{
    batch::Batch,
    host,
    lora::{LoraFactors, Site},
};

impl Llama {
    /// The loss of a batch, and for each group of its rows the gradient of the sum of nats through these rows.
    pub(super) fn gradients(
        &self,
        batch: &Batch,
        factors: &LoraFactors,
        options: PassOptions,
        groups: &[Range<usize>],
    ) -> Result<(LossSum, Vec<Adapter>), ModelError> {
        self.check(batch)?;
        let zeros = Adapter::zeros(Arc::clone(factors.layout()));
        let gradients = vec![zeros; groups.len()];
        if batch.targets.is_empty() {
            return Ok((LossSum::default(), gradients));
        }
        let branches = Branches::new(&self.config, Some(factors), options.dropout)?;
        let pass = self.pass(batch, branches);
        let mut visitor = GradientVisitor {
            pass: &pass,
            groups,
            gradients,
        };
        let loss = self.forward_backward(batch, &pass, options.checkpointing, &mut visitor);
        Ok((loss, visitor.gradients))
    }
}

/// Collects the gradients of all modules.
struct GradientVisitor<'a> {
    pass: &'a Pass<'a>,
    groups: &'a [Range<usize>],
    /// One for every group.
    gradients: Vec<Adapter>,
}

impl Visitor for GradientVisitor<'_> {
    fn sites(&self) -> &[Site] {
        self.pass.branches.sites()
    }

    fn visit(
        &mut self,
        site: Site,
        x: &Tensor<2>,
        dy: &Tensor<2>,
        pass_on: bool,
    ) -> Option<Tensor<2>> {
        let kernels = self.pass.kernels;
        let branch = self.pass.branches.at(site.layer, site.projection)?;
        let module = self.sites().iter().position(|&known| known == site)?;
        let way = branch.way_back(kernels, x, dy);
        let dx = pass_on.then(|| branch.input_gradient(kernels, &way));
        for (rows, gradient) in self.groups.iter().zip(&mut self.gradients) {
            let found = way.gradient(kernels, rows);
            gradient
                .a_mut(module)
                .copy_from_slice(&host::download(found.a));
            gradient
                .b_mut(module)
                .copy_from_slice(&host::download(found.b));
        }
        dx
    }
}
