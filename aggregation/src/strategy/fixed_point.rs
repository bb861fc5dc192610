//! Fixed point: f32 values as integers, so that their weighted sum does not depend on order.
//!
//! Integer addition is associative, float addition is not. A value `v` becomes
//! `round(v * 2^fraction_bits)`, ties to even. The number of fraction bits follows from the run
//! plan's bounds such that the sum over all participants cannot overflow an i64 (algorithms.md
//! 4.4 with rounding to nearest instead of stochastic rounding).

use pulp::{Arch, Simd, WithSimd};

use crate::strategy::fedavg::AggregateError;

/// Fewer fraction bits than this would round typical updates (1e-4) to nothing.
pub const FRACTION_BITS_MIN: u32 = 16;
/// More are of no use: f32 values of this size are lost in any adapter.
pub const FRACTION_BITS_MAX: u32 = 60;
/// Bits of one encoded value, so that rounding can go through the mantissa of an f64.
const VALUE_BITS_MAX: i32 = 51;
/// Bits of the total weight, so that it is exact in f64.
const WEIGHT_BITS_MAX: u32 = 53;
/// `1.5 * 2^52`: an f64 of this size has its last mantissa bit at one, so that adding to it rounds
/// to an integer, which then stands in the low bits.
const ROUNDER: f64 = 6_755_399_441_055_744.0;

/// The encoding of values, derived from what a run plan allows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FixedPoint {
    fraction_bits: u32,
    participants_max: u32,
    weight_max: u64,
    norm_max: f64,
}

impl FixedPoint {
    /// Picks the most fraction bits with which no sum can overflow.
    ///
    /// # Units
    /// `weight_max` counts training examples a participant; `norm_max` bounds the norm of an
    /// update, and therefore each of its values.
    ///
    /// # Errors
    /// [`AggregateError::Bounds`] if a bound is zero or not a number, or if the bounds together
    /// leave fewer than [`FRACTION_BITS_MIN`] fraction bits.
    pub fn for_bounds(
        participants_max: u32,
        weight_max: u64,
        norm_max: f64,
    ) -> Result<Self, AggregateError> {
        let refused = || AggregateError::Bounds {
            participants_max,
            weight_max,
            norm_max,
        };
        let total = u128::from(participants_max) * u128::from(weight_max);
        let usable = norm_max.is_finite() && norm_max > 0.0;
        if !usable || total == 0 || total > 1 << WEIGHT_BITS_MAX {
            return Err(refused());
        }
        let fits = |fraction_bits: u32| {
            let largest = (norm_max * power_of_two(fraction_bits)).ceil();
            // Below 2^51 the conversion is exact, and the product stays below 2^104.
            largest <= f64::from(VALUE_BITS_MAX).exp2()
                && (largest as u128) * total <= i64::MAX.unsigned_abs().into()
        };
        let mut candidates = (FRACTION_BITS_MIN..=FRACTION_BITS_MAX).rev();
        let fraction_bits = candidates.find(|&bits| fits(bits)).ok_or_else(refused)?;
        Ok(Self {
            fraction_bits,
            participants_max,
            weight_max,
            norm_max,
        })
    }

    /// How many bits stand after the binary point.
    pub fn fraction_bits(&self) -> u32 {
        self.fraction_bits
    }

    /// The distance of two neighbouring encodable values.
    pub fn step(&self) -> f64 {
        1.0 / self.scale()
    }

    /// How many participants may contribute.
    pub fn participants_max(&self) -> u32 {
        self.participants_max
    }

    /// The largest weight of one participant.
    pub fn weight_max(&self) -> u64 {
        self.weight_max
    }

    /// The largest magnitude of a value.
    pub fn norm_max(&self) -> f64 {
        self.norm_max
    }

    pub(crate) fn scale(&self) -> f64 {
        power_of_two(self.fraction_bits)
    }
}

/// Rounds `value * scale` to the nearest integer, ties to even, for magnitudes up to 2^51.
///
/// Through the mantissa instead of `as i64`, because that vectorises.
#[inline(always)]
fn encode(value: f32, scale: f64) -> i64 {
    let shifted = f64::from(value) * scale + ROUNDER;
    (shifted.to_bits() as i64).wrapping_sub(ROUNDER.to_bits() as i64)
}

/// What turns sums into means.
#[derive(Clone, Copy)]
struct Divisor {
    total: i64,
    /// `total`, which is exact, and what is closest to `1 / total`.
    as_f64: f64,
    inverse: f64,
    /// Exact, as `scale` is a power of two.
    step: f64,
}

impl Divisor {
    fn new(total: i64, scale: f64) -> Self {
        let as_f64 = total as f64;
        Self {
            total,
            as_f64,
            inverse: 1.0 / as_f64,
            step: 1.0 / scale,
        }
    }

    /// `sum / total` in units of `1 / scale`, rounded once to f64 and once to f32.
    ///
    /// Quotient and remainder apart: the result depends on the ratio only, so that multiplying all
    /// weights by one number changes no bit. Without branches and conversions that do not vectorise.
    #[inline(always)]
    fn mean(self, sum: i64) -> f32 {
        // The quotient through f64, which is many times faster than integer division: it is below 2^51,
        // so it is off by one at most, and the remainder tells. Wrapping, as a product that is off by
        // one may leave i64 where the sum does not; the remainder is exact all the same.
        let guess = (to_f64(sum) * self.inverse).floor();
        let guess = ((guess + ROUNDER).to_bits() as i64).wrapping_sub(ROUNDER.to_bits() as i64);
        let rest = sum.wrapping_sub(guess.wrapping_mul(self.total));
        // All ones where the quotient is one too large, or one too small.
        let over = rest >> 63;
        let under = self.total.wrapping_sub(1).wrapping_sub(rest) >> 63;
        let whole = guess.wrapping_add(over).wrapping_sub(under);
        let rest = rest
            .wrapping_add(self.total & over)
            .wrapping_sub(self.total & under);
        debug_assert!(
            (0..self.total).contains(&rest),
            "the quotient was off by more than one"
        );
        let whole = f64::from_bits(whole.wrapping_add(ROUNDER.to_bits() as i64) as u64) - ROUNDER;
        ((whole + to_f64(rest) / self.as_f64) * self.step) as f32
    }
}

/// An integer as the closest f64: its halves, which are exact, and their sum, which is rounded.
#[inline(always)]
fn to_f64(integer: i64) -> f64 {
    /// `2^52`, whose lowest mantissa bit is at one.
    const LOW: u64 = 0x4330_0000_0000_0000;
    /// `2^84 + 2^63`: the lowest bit is at 2^32, and the sign's place is filled.
    const HIGH: u64 = 0x4530_0000_8000_0000;
    let low = f64::from_bits((integer as u64 & 0xffff_ffff) | LOW);
    let high = f64::from_bits((integer as u64 >> 32) ^ HIGH);
    (high - (f64::from_bits(HIGH) + f64::from_bits(LOW))) + low
}

/// Adds `factor` times the encoded values to the sums.
pub(crate) fn add_weighted(sums: &mut [i64], values: &[f32], scale: f64, factor: i64) {
    struct Add<'a>(&'a mut [i64], &'a [f32], f64, i64);
    impl WithSimd for Add<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            let Self(sums, values, scale, factor) = self;
            for (sum, &value) in sums.iter_mut().zip(values) {
                // Cannot wrap: `FixedPoint::for_bounds` excludes it. Written as wrapping because a
                // check for each value would keep the loop from being vectorised.
                *sum = sum.wrapping_add(encode(value, scale).wrapping_mul(factor));
            }
        }
    }
    Arch::new().dispatch(Add(sums, values, scale, factor));
}

/// Fills in `sum / total` of each sum, in units of `1 / scale`.
pub(crate) fn decode_means(values: &mut [f32], sums: &[i64], total: i64, scale: f64) {
    struct Decode<'a>(&'a mut [f32], &'a [i64], Divisor);
    impl WithSimd for Decode<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            let Self(values, sums, divisor) = self;
            for (value, &sum) in values.iter_mut().zip(sums) {
                *value = divisor.mean(sum);
            }
        }
    }
    Arch::new().dispatch(Decode(values, sums, Divisor::new(total, scale)));
}

fn power_of_two(exponent: u32) -> f64 {
    f64::from(exponent).exp2()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::properties::fixed_seed;

    fn decode_mean(sum: i64, total: i64, scale: f64) -> f32 {
        let mut mean = [0.0];
        decode_means(&mut mean, &[sum], total, scale);
        mean[0]
    }

    /// With integer division.
    fn slowly(sum: i64, total: i64) -> f32 {
        let (whole, rest) = (sum.div_euclid(total), sum.rem_euclid(total));
        (whole as f64 + rest as f64 / total as f64) as f32
    }

    proptest! {
        #![proptest_config(fixed_seed())]

        #[test]
        fn means_are_exact_division(
            (total, quotients) in (0..=53_u32)
                .prop_flat_map(|bits| 1..=1_i64 << bits)
                .prop_flat_map(|total| {
                    let limit = (i64::MAX / total).min(1 << 51) - 1;
                    (Just(total), prop::collection::vec((-limit..=limit, 0..total), 1..40))
                }),
        ) {
            let sums: Vec<_> = quotients.iter().map(|(whole, rest)| whole * total + rest).collect();
            let mut means = vec![0.0; sums.len()];
            decode_means(&mut means, &sums, total, 1.0);
            for (mean, sum) in means.iter().zip(sums) {
                prop_assert_eq!(mean.to_bits(), slowly(sum, total).to_bits(), "{} / {}", sum, total);
            }
        }

        #[test]
        fn integers_become_the_closest_f64(integer in any::<i64>(), shift in 0..64_u32) {
            for integer in [integer, integer >> shift] {
                prop_assert_eq!(to_f64(integer), integer as f64);
            }
        }
    }

    #[test]
    fn values_round_to_the_nearest_step_and_ties_to_even() {
        // The numbers of algorithms.md 4.4: c = 0.5, m = 20, so a step of 2^-21.
        let scale = power_of_two(21);
        assert_eq!(encode(0.1, scale), 209_715);
        assert_eq!(encode(-0.25, scale), -524_288);
        assert_eq!(encode(0.5, scale), 1_048_576);
        let mean = decode_mean(209_715 - 524_288 + 1_048_576, 1, scale);
        assert_eq!(mean, 0.349_999_904_6_f64 as f32);
        assert_eq!(
            [encode(0.5, 1.0), encode(1.5, 1.0), encode(-2.5, 1.0)],
            [0, 2, -2]
        );
    }

    #[test]
    fn the_largest_values_stay_exact() {
        let limit = f64::from(VALUE_BITS_MAX).exp2();
        assert_eq!(encode(1.0, limit), 1 << VALUE_BITS_MAX);
        assert_eq!(encode(-1.0, limit), -(1 << VALUE_BITS_MAX));
    }

    #[test]
    fn the_mean_of_any_sum_is_exact_division() {
        for total in [1_i64, 3, 7, 1000, (1 << 53) - 1, 1 << 53] {
            for sum in [
                0,
                1,
                -1,
                total - 1,
                total,
                -total,
                i64::MAX,
                i64::MIN + 1,
                1 << 52,
            ] {
                // Sums whose quotient is beyond 2^51 do not occur.
                let Some(sum) = (sum / total).abs().lt(&(1 << 51)).then_some(sum) else {
                    continue;
                };
                assert_eq!(
                    decode_mean(sum, total, 1.0),
                    slowly(sum, total),
                    "{sum} / {total}"
                );
            }
        }
    }

    #[test]
    fn one_more_fraction_bit_would_overflow() {
        for (participants, weight, norm) in [
            (2, 1, 1.0),
            (10, 1, 0.5),
            (1000, 1_000_000, 100.0),
            (64, 100_000, 10.0),
        ] {
            let fixed = FixedPoint::for_bounds(participants, weight, norm).unwrap();
            let total = f64::from(participants) * weight as f64;
            let largest = norm * fixed.scale();
            assert!(largest * total <= 2f64.powi(63) && largest <= 2f64.powi(51));
            assert!(largest * total > 2f64.powi(62) || largest > 2f64.powi(50));
        }
    }

    #[test]
    fn bounds_that_leave_no_precision_are_refused() {
        for (participants, weight, norm) in [
            (0, 1, 1.0),
            (1, 0, 1.0),
            (1, 1, 0.0),
            (1, 1, f64::NAN),
            (1, 1, f64::INFINITY),
            (1, 1, 1e30),
            (u32::MAX, u64::MAX, 1.0),
            (1000, 1 << 40, 1000.0),
        ] {
            let said = FixedPoint::for_bounds(participants, weight, norm)
                .unwrap_err()
                .to_string();
            assert!(said.contains("fixed point"), "{said}");
        }
    }
}
