//! LoRA dropout: the adapter's input with a share of its values set to zero and the rest scaled up.
//!
//! The mask is never stored. Whether a value stays is a hash of the step's seed, the module and the value's place, so
//! backward makes the same mask again, and so does any thread, device or restart. (The hash is the finaliser "lowbias32"
//! by Wellons, twice with different keys; it is no cryptography and needs none.)

use burn::tensor::Tensor;

use super::narrow::like;
use crate::host::{self, Kernels, Values};

/// The mask of one module in one step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mask {
    keys: [u32; 2],
    /// A value whose hash is below stays.
    threshold: u32,
    scale: f32,
}

impl Mask {
    /// # Units
    /// `rate` is the share set to zero, in `0..1`.
    pub(crate) fn new(rate: f64, seed: u64, module: usize) -> Self {
        // The module goes through SplitMix64's step, so that neighbouring modules get unrelated keys.
        let mut key = seed.wrapping_add((module as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        key = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        key = (key ^ (key >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        key ^= key >> 31;
        let keep = 1.0 - rate;
        Self {
            keys: [key as u32, (key >> 32) as u32],
            threshold: (keep * f64::from(u32::MAX)) as u32,
            scale: (1.0 / keep) as f32,
        }
    }

    /// The factor of the value at a place: zero or the scale.
    #[inline(always)]
    fn factor(self, place: u32) -> f32 {
        let hash = mixed(mixed(place ^ self.keys[0]).wrapping_add(self.keys[1]));
        if hash < self.threshold {
            self.scale
        } else {
            0.0
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
pub(crate) fn apply(kernels: Kernels, x: &Tensor<2>, mask: Mask) -> Tensor<2> {
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
            let start = (row as u32).wrapping_mul(width as u32);
            let mut place = start;
            for value in out {
                *value *= mask.factor(place);
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
