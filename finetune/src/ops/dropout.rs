//! LoRA dropout: the adapter's input with a share of its values set to zero and the rest scaled up.
//!
//! The mask is never stored. Whether a value stays is a hash of a seed, the module and the value's place, so backward makes
//! the same mask again, and so does any thread, device or restart. One seed may serve all rows, or each stretch of rows has
//! its own and places are counted from its beginning. (The hash is the finaliser "lowbias32" by Wellons, twice with
//! different keys; it is no cryptography and needs none.)

use burn::tensor::Tensor;

use super::narrow::like;
use crate::host::{self, Kernels, Values};

/// The mask of one module in one step.
#[derive(Clone, Debug)]
pub(crate) struct Mask {
    /// In the order of their rows.
    stretches: Vec<Stretch>,
    /// A value whose hash is below stays.
    threshold: u32,
    scale: f32,
}

/// Rows whose mask follows from one seed and from places within them.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    first_row: usize,
    keys: [u32; 2],
}

impl Mask {
    /// `seeds` has the first row of each stretch, the first of them row 0, and the seed of the stretch.
    ///
    /// # Units
    /// `rate` is the share set to zero, in `0..1`.
    pub(crate) fn new(rate: f64, seeds: &[(usize, u64)], module: usize) -> Self {
        let stretches = seeds
            .iter()
            .map(|&(first_row, seed)| Stretch::new(first_row, seed, module));
        let keep = 1.0 - rate;
        Self {
            stretches: stretches.collect(),
            threshold: (keep * f64::from(u32::MAX)) as u32,
            scale: (1.0 / keep) as f32,
        }
    }

    /// The keys of a row, and how many rows its stretch has before it.
    fn at(&self, row: usize) -> ([u32; 2], usize) {
        let begun = self
            .stretches
            .partition_point(|stretch| stretch.first_row <= row);
        let Stretch { first_row, keys } = self.stretches[begun - 1];
        (keys, row - first_row)
    }

    /// The factor of the value at a place: zero or the scale.
    #[inline(always)]
    fn factor(&self, keys: [u32; 2], place: u32) -> f32 {
        let hash = mixed(mixed(place ^ keys[0]).wrapping_add(keys[1]));
        if hash < self.threshold {
            self.scale
        } else {
            0.0
        }
    }
}

impl Stretch {
    fn new(first_row: usize, seed: u64, module: usize) -> Self {
        // The module goes through SplitMix64's step, so that neighbouring modules get unrelated keys.
        let mut key = seed.wrapping_add((module as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        key = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        key = (key ^ (key >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        key ^= key >> 31;
        Self {
            first_row,
            keys: [key as u32, (key >> 32) as u32],
        }
    }
}

#[inline(always)]
fn mixed(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// `x` under the mask. It is linear and its own transpose, so backward applies it to the gradient.
///
/// # Shapes
/// `x` and the result are `[rows, width]`.
pub(crate) fn apply(kernels: Kernels, x: &Tensor<2>, mask: &Mask) -> Tensor<2> {
    let [rows, width] = x.dims();
    let source = (kernels == Kernels::Host).then(|| Values::of(x));
    let mut out = vec![1.0; rows * width];
    host::for_rows(
        &mut out,
        width,
        #[inline(always)]
        |row, out| {
            if let Some(source) = &source {
                out.copy_from_slice(host::row(source.slice(), width, row));
            }
            let (keys, before) = mask.at(row);
            let mut place = (before as u32).wrapping_mul(width as u32);
            for value in out {
                *value *= mask.factor(keys, place);
                place = place.wrapping_add(1);
            }
        },
    );
    match kernels {
        Kernels::Host => host::tensor(out, [rows, width]),
        Kernels::Portable => {
            let factors = host::upload(out, [rows, width], &x.device());
            x.clone() * like(factors, x.dtype())
        }
    }
}
