//! The visitor of training: gradients of `A` and `B`, collected as adapters, one for every group of rows.
//!
//! Forward and the way back through the frozen layers are those of the whole batch. Only the last products, which sum over
//! rows, are made group by group; together they cost what one product over all rows costs (Lee and Kifer 2021, arXiv
//! 2009.03106). Training has one group, clipping example by example (DP-SGD) one an example.

use std::{ops::Range, sync::Arc};

use aggregation::{Adapter, AdapterLayout};
use burn::tensor::Tensor;

use super::{
    Branches, Llama, LossSum, ModelError, PassOptions,
    block::{Pass, Visitor},
};
use crate::{
    batch::Batch,
    device, host,
    lora::{LoraFactors, Site},
    ops::linear::BranchGradient,
};

/// Modules whose gradients leave the device together: all of a step's, and not all of a hundred examples'.
const MODULES_PER_TRANSFER: usize = 512;

impl Llama {
    /// For each group of a batch's rows the sum of nats of their targets, and its gradient through these rows.
    pub(super) fn gradients(
        &self,
        batch: &Batch,
        factors: &LoraFactors,
        options: PassOptions<'_>,
        groups: &[Range<usize>],
    ) -> Result<Vec<(LossSum, Adapter)>, ModelError> {
        self.check(batch)?;
        if batch.targets.is_empty() {
            let zeros = Adapter::zeros(Arc::clone(factors.layout()));
            return Ok(vec![(LossSum::default(), zeros); groups.len()]);
        }
        let dropout = options.dropout.map(|dropout| (dropout, batch));
        let branches = Branches::new(&self.config, Some(factors), dropout)?;
        let pass = self.pass(batch, branches);
        device::guarded(|| {
            let mut visitor = GradientVisitor {
                pass: &pass,
                groups,
                found: Vec::new(),
            };
            let nats = self.forward_backward(batch, &pass, options.checkpointing, &mut visitor);
            let losses = groups.iter().map(|rows| loss_of(rows, batch, &nats));
            losses.zip(visitor.adapters(factors.layout())).collect()
        })
        .map_err(ModelError::from)
    }
}

/// The loss of the targets in these rows, in their order; `nats` has one number a target of the batch.
fn loss_of(rows: &Range<usize>, batch: &Batch, nats: &[f64]) -> LossSum {
    let before = |end: usize| {
        batch
            .targets
            .partition_point(|target| (target.row as usize) < end)
    };
    LossSum::of(&nats[before(rows.start)..before(rows.end)])
}

/// Collects the gradients of all modules.
struct GradientVisitor<'a> {
    pass: &'a Pass<'a>,
    groups: &'a [Range<usize>],
    /// On the device until all are there.
    found: Vec<Found>,
}

/// The gradient of one module through one group of rows.
struct Found {
    group: usize,
    module: usize,
    gradient: BranchGradient,
}

impl GradientVisitor<'_> {
    /// The gradients as adapters, one for every group.
    fn adapters(self, layout: &Arc<AdapterLayout>) -> Vec<Adapter> {
        let mut adapters = vec![Adapter::zeros(Arc::clone(layout)); self.groups.len()];
        let mut found = self.found.into_iter().peekable();
        while found.peek().is_some() {
            let mut places = Vec::with_capacity(MODULES_PER_TRANSFER);
            let mut tensors = Vec::with_capacity(2 * MODULES_PER_TRANSFER);
            for Found {
                group,
                module,
                gradient,
            } in found.by_ref().take(MODULES_PER_TRANSFER)
            {
                places.push((group, module));
                tensors.extend([gradient.a, gradient.b]);
            }
            let values = host::download_all(tensors);
            for ((group, module), values) in places.into_iter().zip(values.chunks_exact(2)) {
                adapters[group].a_mut(module).copy_from_slice(&values[0]);
                adapters[group].b_mut(module).copy_from_slice(&values[1]);
            }
        }
        adapters
    }
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
        for (group, rows) in self.groups.iter().enumerate() {
            self.found.push(Found {
                group,
                module,
                gradient: way.gradient(kernels, rows),
            });
        }
        dx
    }
}
