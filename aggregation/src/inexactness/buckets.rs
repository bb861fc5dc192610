//! The sketch of a product of two factors: random buckets on either side of it, at the cost of one addition a value.
//!
//! Each input of a module, and each output, is in one of sixteen buckets and has a random sign (the count sketch of Charikar, Chen and
//! Farach-Colton 2002). Sixteen neighbours are in sixteen different buckets, so that they are added lane by lane; which of them is in
//! which is drawn for each sixteen anew, as models repeat themselves from head to head.

use pulp::{Arch, Simd, WithSimd};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::layout::AdapterLayout;

/// Buckets on either side of a module's matrix.
pub(super) const BUCKETS: usize = 16;
/// Ways to deal sixteen neighbours to the buckets: the first of them is in bucket 0, 5, 10 or 15.
const WAYS: usize = 4;
const TURN: usize = 5;

/// Sixteen neighbours, of whom the last may be missing.
#[derive(Debug)]
struct Group {
    signs: [f32; BUCKETS],
    way: usize,
}

/// The buckets and signs of the inputs and outputs of every module.
///
/// One table for all modules, of which each takes another window: as good as a table for each,
/// as two modules never see the same group at the same place, and a few hundred times smaller.
#[derive(Debug)]
pub(super) struct Buckets {
    inputs: Vec<Group>,
    outputs: Vec<Group>,
    /// Input width of each module.
    widths: Vec<usize>,
}

impl Buckets {
    /// Draws them, the same for equal layouts.
    pub(super) fn new(layout: &AdapterLayout) -> Self {
        let modules = layout.modules();
        let table = |stream, widest: usize| {
            let mut rng = ChaCha8Rng::from_seed(layout.digest());
            rng.set_stream(stream);
            (0..widest.div_ceil(BUCKETS) + modules.len())
                .map(|_| Group::new(rng.next_u32()))
                .collect()
        };
        Self {
            inputs: table(0, modules.iter().map(|m| m.in_features).max().unwrap_or(0)),
            outputs: table(1, modules.iter().map(|m| m.out_features).max().unwrap_or(0)),
            widths: modules.iter().map(|m| m.in_features).collect(),
        }
    }

    /// `Y B A X` of one module, with a line of `Y` and a column of `X` for each bucket.
    ///
    /// Always the same operations in the same order, so that equal factors give equal sketches.
    pub(super) fn sketch(&self, module: usize, a: &[f32], b: &[f32]) -> [[f64; BUCKETS]; BUCKETS] {
        Arch::new().dispatch(Sketch {
            inputs: &self.inputs[module..],
            outputs: &self.outputs[module..],
            width: self.widths[module],
            a,
            b,
        })
    }
}

impl Group {
    /// Takes what it is from random bits.
    fn new(bits: u32) -> Self {
        let sign = |place| if (bits >> place) & 1 == 0 { 1.0 } else { -1.0 };
        Self {
            signs: std::array::from_fn(sign),
            way: (bits >> BUCKETS) as usize % WAYS,
        }
    }
}

/// The bucket of one of sixteen neighbours.
fn bucket(way: usize, place: usize) -> usize {
    (place + TURN * way) % BUCKETS
}

/// To be compiled for the widest vectors of the machine. Each lane is computed apart, nothing is fused, so the result is the same on
/// every machine.
struct Sketch<'a> {
    inputs: &'a [Group],
    outputs: &'a [Group],
    width: usize,
    a: &'a [f32],
    b: &'a [f32],
}

impl WithSimd for Sketch<'_> {
    type Output = [[f64; BUCKETS]; BUCKETS];

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Self::Output {
        let Self {
            inputs,
            outputs,
            width,
            a,
            b,
        } = self;
        let rank = a.len() / width;
        let left = bucketed_rows(b, rank, outputs);
        let mut sketch = [[0.0; BUCKETS]; BUCKETS];
        for (row, values) in a.chunks_exact(width).enumerate() {
            let right = bucketed(values, inputs);
            for (line, left) in sketch.iter_mut().zip(left.iter().skip(row).step_by(rank)) {
                for (entry, right) in line.iter_mut().zip(right) {
                    *entry += f64::from(*left) * f64::from(right);
                }
            }
        }
        sketch
    }
}

/// The signed values of a row of `A` in their buckets.
#[inline(always)]
fn bucketed(values: &[f32], groups: &[Group]) -> [f32; BUCKETS] {
    let mut sums = [[0.0; BUCKETS]; WAYS];
    let (whole, rest) = values.as_chunks::<BUCKETS>();
    for (values, group) in whole.iter().zip(groups) {
        let sums = sums[group.way].iter_mut();
        for ((sum, value), sign) in sums.zip(values).zip(&group.signs) {
            *sum += value * sign;
        }
    }
    if let Some(group) = groups.get(whole.len()) {
        let sums = sums[group.way].iter_mut();
        for ((sum, value), sign) in sums.zip(rest).zip(&group.signs) {
            *sum += value * sign;
        }
    }
    let mut buckets = [0.0; BUCKETS];
    for (way, sums) in sums.iter().enumerate() {
        for (place, sum) in sums.iter().enumerate() {
            buckets[bucket(way, place)] += sum;
        }
    }
    buckets
}

/// The signed rows of `B` in their buckets: as many values a bucket as a row has, one bucket after the other.
#[inline(always)]
fn bucketed_rows(values: &[f32], rank: usize, groups: &[Group]) -> Vec<f32> {
    let mut buckets = vec![0.0; BUCKETS * rank];
    for (rows, group) in values.chunks(BUCKETS * rank).zip(groups) {
        for (place, (row, sign)) in rows.chunks_exact(rank).zip(group.signs).enumerate() {
            let bucket = &mut buckets[bucket(group.way, place) * rank..][..rank];
            for (sum, value) in bucket.iter_mut().zip(row) {
                *sum += value * sign;
            }
        }
    }
    buckets
}
