//! The gradient of each example of a batch by itself, for clipping one by one (DP-SGD).
//!
//! Forward and the way back through the frozen layers are those of the whole batch. Only the last products, which sum over
//! rows, are made example by example; together they cost what the one product over all rows costs (Lee and Kifer 2021,
//! arXiv 2009.03106, explains why rows suffice).

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
    /// The loss of a batch and, for each of its examples, the gradient with respect to `A` and `B`.
    ///
    /// Each gradient is that of the example's own sum of nats. The gradients are all in memory at once: an adapter for
    /// every example.
    ///
    /// # Errors
    /// [`ModelError`] if the batch or the adapter does not fit the model.
    pub fn loss_and_example_gradients(
        &self,
        batch: &Batch,
        factors: &LoraFactors,
        options: PassOptions,
    ) -> Result<(LossSum, Vec<Adapter>), ModelError> {
        self.check(batch)?;
        let zeros = Adapter::zeros(Arc::clone(factors.layout()));
        let gradients = vec![zeros; batch.segments.len()];
        if batch.targets.is_empty() {
            return Ok((LossSum::default(), gradients));
        }
        let branches = Branches::new(&self.config, Some(factors), options.dropout)?;
        let pass = self.pass(batch, branches);
        let mut visitor = ExampleVisitor {
            pass: &pass,
            examples: &batch.segments,
            gradients,
        };
        let loss = self.forward_backward(batch, &pass, options.checkpointing, &mut visitor);
        Ok((loss, visitor.gradients))
    }
}

/// Collects the gradients of all modules, example by example.
struct ExampleVisitor<'a> {
    pass: &'a Pass<'a>,
    /// The rows of each example.
    examples: &'a [Range<usize>],
    gradients: Vec<Adapter>,
}

impl Visitor for ExampleVisitor<'_> {
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
        for (rows, gradient) in self.examples.iter().zip(&mut self.gradients) {
            let found = way.gradient_of(kernels, rows);
            gradient
                .a_mut(module)
                .copy_from_slice(&host::download(found.a));
            gradient
                .b_mut(module)
                .copy_from_slice(&host::download(found.b));
        }
        pass_on.then(|| branch.input_gradient(kernels, &way))
    }
}
