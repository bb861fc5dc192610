//! The exponential as straight-line arithmetic, so that loops over it become vector instructions.
//!
//! Range reduction by multiples of ln 2 in two parts and a polynomial of degree 6 (the classic Cephes scheme); relative
//! error below 3e-7 where the result is normal. NaN stays NaN: a diverging training must be seen.

/// Adding it rounds to an integer and leaves that integer in the low bits.
const ROUND: f32 = 12_582_912.0;
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// Below and above, the result would leave the normal f32 range.
const LOWEST: f32 = -87.0;
const HIGHEST: f32 = 88.0;

/// `e^x`, saturating outside -87..=88.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Comparisons and not `clamp` or `max`, which would swallow a NaN or forbid vectorisation.
    let x = if x < LOWEST { LOWEST } else { x };
    let x = if x > HIGHEST { HIGHEST } else { x };
    let rounded = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    let mut p = 1.987_569_1e-4_f32;
    p = p.mul_add(r, 1.398_199_9e-3);
    p = p.mul_add(r, 8.333_452e-3);
    p = p.mul_add(r, 4.166_579_6e-2);
    p = p.mul_add(r, 0.166_666_66);
    p = p.mul_add(r, 0.5);
    let value = p.mul_add(r * r, r) + 1.0;
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(0x3f80_0000));
    value * power
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_the_library_over_its_range() {
        let mut worst = 0.0_f64;
        for step in -86_000..=87_000 {
            let x = step as f32 * 1e-3;
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) - exact).abs() / exact);
        }
        assert!(worst < 3e-7, "relative error {worst}");
    }

    #[test]
    fn far_ends_saturate_and_nan_stays() {
        assert!(exp(-1e30) < 2e-38 && exp(f32::NEG_INFINITY) >= 0.0);
        assert!(exp(1e30).is_finite());
        assert!(exp(f32::NAN).is_nan());
        assert_eq!(exp(0.0), 1.0);
    }
}
