//! One decoder block: attention and feed-forward, each behind an RMSNorm and added to the residual stream.
//!
//! Forward keeps the two residual inputs with one number a row, the rotated queries and keys, the values, attention's
//! output with its normalisers, and gate and up. Normed inputs and the gated product are computed again in backward,
//! and only where an adapter needs them. With checkpointing, forward keeps only the block's input, and backward begins by
//! computing the rest again, the last product excepted.

use burn::tensor::Tensor;

use super::branches::Branches;
use crate::{
    host::{self, Kernels},
    lora::{Projection, Site},
    ops::{
        attention::{self, Attended, Heads, Inputs, Span},
        linear::Linear,
        rms_norm,
        rope::{self, Angles},
        swiglu,
    },
};

/// What all blocks of one pass share.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    pub(super) kernels: Kernels,
    pub(super) angles: Angles,
    pub(super) spans: Vec<Span>,
    pub(super) branches: Branches<'a>,
}

/// The frozen weights of one block.
#[derive(Debug)]
pub(super) struct Block {
    /// `[1, hidden]`.
    pub(super) attention_norm: Tensor<2>,
    /// `[1, hidden]`.
    pub(super) feed_norm: Tensor<2>,
    /// In the order of [`Projection::ALL`].
    pub(super) projections: [Linear; Projection::ALL.len()],
    pub(super) heads: Heads,
    pub(super) eps: f64,
}

/// What forward computed and backward reads.
#[derive(Debug)]
pub(super) struct Saved {
    /// The block's input: what all the rest can be computed from.
    pub(super) x_in: Tensor<2>,
    inverse_in: Tensor<2>,
    inputs: Inputs,
    attended: Attended,
    x_mid: Tensor<2>,
    inverse_mid: Tensor<2>,
    gate: Tensor<2>,
    up: Tensor<2>,
}

/// What backward shows each wanted projection to.
pub(super) trait Visitor {
    /// The projections to be shown.
    fn sites(&self) -> &[Site];

    /// Takes a projection's input and the gradient of its output; gives what an adapter adds to the gradient of the
    /// input, if `pass_on` asks for it and there is something to add.
    fn visit(
        &mut self,
        site: Site,
        x: &Tensor<2>,
        dy: &Tensor<2>,
        pass_on: bool,
    ) -> Option<Tensor<2>>;
}

impl Block {
    /// The residual stream after this block.
    ///
    /// # Shapes
    /// `x` and the result are `[rows, hidden]`.
    pub(super) fn forward(
        &self,
        pass: &Pass<'_>,
        layer: usize,
        x: Tensor<2>,
    ) -> (Tensor<2>, Saved) {
        let saved = self.state(pass, layer, x);
        let out = self.feed_output(pass, layer, &saved.x_mid, &saved.gate, &saved.up);
        (out, saved)
    }

    /// All that backward reads, from the block's input.
    pub(super) fn state(&self, pass: &Pass<'_>, layer: usize, x: Tensor<2>) -> Saved {
        let (inverse_in, inputs) = self.attention_inputs(pass, layer, &x);
        let attended = attention::forward(pass.kernels, &inputs, &pass.spans, self.heads);
        let x_mid = self.attention_output(pass, layer, &x, &attended.out);
        let (inverse_mid, gate, up) = self.feed_inputs(pass, layer, &x_mid);
        Saved {
            x_in: x,
            inverse_in,
            inputs,
            attended,
            x_mid,
            inverse_mid,
            gate,
            up,
        }
    }

    /// Normed and projected: rotated queries and keys, and values.
    pub(super) fn attention_inputs(
        &self,
        pass: &Pass<'_>,
        layer: usize,
        x: &Tensor<2>,
    ) -> (Tensor<2>, Inputs) {
        let inverse = rms_norm::inverse(pass.kernels, x, self.eps);
        let normed = rms_norm::apply(pass.kernels, x, &inverse, &self.attention_norm);
        let q = self.project(pass, layer, Projection::Q, &normed);
        let k = self.project(pass, layer, Projection::K, &normed);
        let v = self.project(pass, layer, Projection::V, &normed);
        let q = rope::rotate(pass.kernels, q, &pass.angles);
        let k = rope::rotate(pass.kernels, k, &pass.angles);
        (inverse, Inputs { q, k, v })
    }

    /// The residual stream after attention.
    pub(super) fn attention_output(
        &self,
        pass: &Pass<'_>,
        layer: usize,
        x: &Tensor<2>,
        attended: &Tensor<2>,
    ) -> Tensor<2> {
        let out = self.project(pass, layer, Projection::O, attended);
        host::add(pass.kernels, out, x.clone())
    }

    /// Normed and projected: the norm's inverse, gate and up.
    pub(super) fn feed_inputs(
        &self,
        pass: &Pass<'_>,
        layer: usize,
        x: &Tensor<2>,
    ) -> (Tensor<2>, Tensor<2>, Tensor<2>) {
        let inverse = rms_norm::inverse(pass.kernels, x, self.eps);
        let normed = rms_norm::apply(pass.kernels, x, &inverse, &self.feed_norm);
        let gate = self.project(pass, layer, Projection::Gate, &normed);
        let up = self.project(pass, layer, Projection::Up, &normed);
        (inverse, gate, up)
    }

    /// The residual stream after the feed-forward block.
    pub(super) fn feed_output(
        &self,
        pass: &Pass<'_>,
        layer: usize,
        x: &Tensor<2>,
        gate: &Tensor<2>,
        up: &Tensor<2>,
    ) -> Tensor<2> {
        let gated = swiglu::forward(pass.kernels, gate, up);
        let out = self.project(pass, layer, Projection::Down, &gated);
        host::add(pass.kernels, out, x.clone())
    }

    fn linear(&self, projection: Projection) -> &Linear {
        &self.projections[projection as usize]
    }

    fn project(
        &self,
        pass: &Pass<'_>,
        layer: usize,
        projection: Projection,
        x: &Tensor<2>,
    ) -> Tensor<2> {
        let y = self.linear(projection).forward(pass.kernels, x);
        match pass.branches.at(layer, projection) {
            Some(branch) => branch.add_forward(pass.kernels, y, x),
            None => y,
        }
    }

    /// The gradient of the residual stream before this block, or nothing where no adapter is below.
    pub(super) fn backward(
        &self,
        pass: &Pass<'_>,
        layer: usize,
        saved: Saved,
        dy: Tensor<2>,
        visitor: &mut dyn Visitor,
        lowest: bool,
    ) -> Option<Tensor<2>> {
        let mut way = Way {
            block: self,
            kernels: pass.kernels,
            layer,
            visitor,
            lowest,
        };
        let d_mid = way.feed_forward(&saved, dy)?;
        way.attention(pass, saved, d_mid)
    }
}

/// The way back through one block.
struct Way<'a> {
    block: &'a Block,
    kernels: Kernels,
    layer: usize,
    visitor: &'a mut dyn Visitor,
    /// Nothing is adapted in the blocks below.
    lowest: bool,
}

impl Way<'_> {
    fn wants(&self, projections: &[Projection]) -> bool {
        let mut sites = self.visitor.sites().iter();
        sites.any(|site| site.layer == self.layer && projections.contains(&site.projection))
    }

    /// Shows one projection to the visitor, and adds its input gradient to `sum` if one is needed below.
    fn through(
        &mut self,
        projection: Projection,
        x: Option<&Tensor<2>>,
        dy: &Tensor<2>,
        sum: Option<Tensor<2>>,
        pass_on: bool,
    ) -> Option<Tensor<2>> {
        let site = Site {
            layer: self.layer,
            projection,
        };
        let wanted = x.filter(|_| self.wants(&[projection]));
        let extra = wanted.and_then(|x| self.visitor.visit(site, x, dy, pass_on));
        if !pass_on {
            return None;
        }
        let sum = match (sum, extra) {
            (Some(sum), Some(extra)) => Some(host::add(self.kernels, sum, extra)),
            (sum, extra) => sum.or(extra),
        };
        Some(
            self.block
                .linear(projection)
                .weight
                .backward(self.kernels, dy, sum),
        )
    }

    /// From the block's output to the residual stream between attention and feed-forward.
    fn feed_forward(&mut self, saved: &Saved, dy: Tensor<2>) -> Option<Tensor<2>> {
        use Projection::{Down, Gate, K, O, Q, Up, V};
        let (gate, up) = (&saved.gate, &saved.up);
        let below = !self.lowest || self.wants(&[Q, K, V, O]);
        let inner = self.wants(&[Gate, Up]);
        let gated = self
            .wants(&[Down])
            .then(|| swiglu::forward(self.kernels, gate, up));
        let d_gated = self.through(Down, gated.as_ref(), &dy, None, below || inner)?;
        let (d_gate, d_up) = swiglu::backward(self.kernels, d_gated, gate, up);
        let (x, inverse, norm) = (&saved.x_mid, &saved.inverse_mid, &self.block.feed_norm);
        let normed = inner.then(|| rms_norm::apply(self.kernels, x, inverse, norm));
        let dx = self.through(Gate, normed.as_ref(), &d_gate, None, below);
        let dx = self.through(Up, normed.as_ref(), &d_up, dx, below)?;
        let dx = rms_norm::backward(self.kernels, &dx, x, inverse, norm);
        Some(host::add(self.kernels, dx, dy))
    }

    /// From between attention and feed-forward to the block's input.
    fn attention(&mut self, pass: &Pass<'_>, saved: Saved, dy: Tensor<2>) -> Option<Tensor<2>> {
        use Projection::{K, O, Q, V};
        let below = !self.lowest;
        let inner = self.wants(&[Q, K, V]);
        let out = &saved.attended.out;
        let d_out = self.through(O, Some(out), &dy, None, below || inner)?;
        let (inputs, spans) = (&saved.inputs, &pass.spans);
        let d = attention::backward(
            self.kernels,
            &d_out,
            inputs,
            &saved.attended,
            spans,
            self.block.heads,
        );
        let back = pass.angles.reversed();
        let dq = rope::rotate(self.kernels, d.q, &back);
        let dk = rope::rotate(self.kernels, d.k, &back);
        let (x, inverse, norm) = (&saved.x_in, &saved.inverse_in, &self.block.attention_norm);
        let normed = inner.then(|| rms_norm::apply(self.kernels, x, inverse, norm));
        let dx = self.through(Q, normed.as_ref(), &dq, None, below);
        let dx = self.through(K, normed.as_ref(), &dk, dx, below);
        let dx = self.through(V, normed.as_ref(), &d.v, dx, below)?;
        let dx = rms_norm::backward(self.kernels, &dx, x, inverse, norm);
        Some(host::add(self.kernels, dx, dy))
    }
}
