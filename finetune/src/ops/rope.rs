//! Rotary position embedding in the rotate-half form of Hugging Face (Su et al. 2021, arXiv 2104.09864).
//!
//! Pair `i` of a head is elements `i` and `i + head_dim / 2`. Scaling for long contexts is already in the frequencies.
//! A rotation's transpose turns the other way, so backward is forward with the sine negated.

use burn::tensor::{Device, Tensor};

use super::narrow::{like, widened};
use crate::host::{self, Kernels, Values};

/// Cosines and sines of every row's position.
#[derive(Clone, Debug)]
pub(crate) struct Angles {
    /// `[rows, head_dim / 2]`.
    cos: Tensor<2>,
    sin: Tensor<2>,
}

impl Angles {
    /// Computes the angles in f64, since a position times a frequency loses digits in f32.
    pub(crate) fn new(positions: &[u32], frequencies: &[f64], device: &Device) -> Self {
        let shape = [positions.len(), frequencies.len()];
        let angles: Vec<f64> = positions
            .iter()
            .flat_map(|&position| frequencies.iter().map(move |f| f64::from(position) * f))
            .collect();
        let cos = angles.iter().map(|angle| angle.cos() as f32).collect();
        let sin = angles.iter().map(|angle| angle.sin() as f32).collect();
        Self {
            cos: host::upload(cos, shape, device),
            sin: host::upload(sin, shape, device),
        }
    }

    /// The angles of the way back.
    pub(crate) fn reversed(&self) -> Self {
        Self {
            cos: self.cos.clone(),
            sin: self.sin.clone().neg(),
        }
    }
}

/// Turns every head of every row.
///
/// # Shapes
/// `x` and the result are `[rows, heads * head_dim]`.
pub(crate) fn rotate(kernels: Kernels, x: Tensor<2>, angles: &Angles) -> Tensor<2> {
    let [rows, width] = x.dims();
    let half = angles.cos.dims()[1];
    if kernels == Kernels::Portable {
        let heads = width / (2 * half);
        let precision = x.dtype();
        let x = widened(&x).reshape([rows, heads, 2 * half]);
        let (low, high) = (x.clone().narrow(2, 0, half), x.narrow(2, half, half));
        let cos = angles.cos.clone().reshape([rows, 1, half]);
        let sin = angles.sin.clone().reshape([rows, 1, half]);
        let turned_low = low.clone() * cos.clone() - high.clone() * sin.clone();
        let turned_high = high * cos + low * sin;
        let turned = Tensor::cat(vec![turned_low, turned_high], 2).reshape([rows, width]);
        return like(turned, precision);
    }
    let (cos, sin) = (Values::of(&angles.cos), Values::of(&angles.sin));
    host::update(x, |x| {
        host::for_rows(
            x,
            width,
            #[inline(always)]
            |row, x| {
                let cos = host::row(cos.slice(), half, row);
                let sin = host::row(sin.slice(), half, row);
                for head in x.chunks_exact_mut(2 * half) {
                    let (low, high) = head.split_at_mut(half);
                    for (((low, high), cos), sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
                        let (l, h) = (*low, *high);
                        *low = l * cos - h * sin;
                        *high = h * cos + l * sin;
                    }
                }
            },
        );
    })
}
