//! The visitor of training: gradients of `A` and `B`, collected as an adapter.

use aggregation::Adapter;
use burn::tensor::Tensor;

use super::block::{Pass, Visitor};
use crate::{host, lora::Site};

/// Collects the gradients of all modules.
pub(super) struct GradientVisitor<'a> {
    pass: &'a Pass<'a>,
    gradient: Adapter,
}

impl<'a> GradientVisitor<'a> {
    pub(super) fn new(pass: &'a Pass<'a>, gradient: Adapter) -> Self {
        Self { pass, gradient }
    }

    pub(super) fn finish(self) -> Adapter {
        self.gradient
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
        let found = way.gradient(kernels);
        self.gradient
            .a_mut(module)
            .copy_from_slice(&host::download(found.a));
        self.gradient
            .b_mut(module)
            .copy_from_slice(&host::download(found.b));
        dx
    }
}
