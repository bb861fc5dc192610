//! Squared Euclidean distances, in f64 and always in the same pattern of additions.
//!
//! As `|a - b|^2` and not as `|a|^2 + |b|^2 - 2ab`: updates of one round are close to each other, and the latter would leave
//! only rounding of it.

use pulp::{Arch, Simd, WithSimd};

/// Partial sums side by side: enough that additions do not wait for each other.
const LANES: usize = 32;

/// `|a - b|^2`.
pub(super) fn squared_distance<T: Copy + Into<f64>>(a: &[f32], b: &[T]) -> f64 {
    struct Distance<'a, T>(&'a [f32], &'a [T]);
    impl<T: Copy + Into<f64>> WithSimd for Distance<'_, T> {
        type Output = f64;

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> f64 {
            let Self(a, b) = self;
            let mut partial = [0.0_f64; LANES];
            let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
            for (a, b) in a.iter().zip(b) {
                for lane in 0..LANES {
                    let difference = f64::from(a[lane]) - b[lane].into();
                    partial[lane] += difference * difference;
                }
            }
            for ((sum, &a), &b) in partial.iter_mut().zip(a_rest).zip(b_rest) {
                let difference = f64::from(a) - b.into();
                *sum += difference * difference;
            }
            partial.iter().sum()
        }
    }
    Arch::new().dispatch(Distance(a, b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_of_close_vectors_keep_their_digits() {
        // 1000 and 1000.0001 in f32 are 2^-13 apart.
        let (a, b) = ([1000.0_f32; 67], [1000.0_f32 + 1.0 / 8192.0; 67]);
        assert_eq!(squared_distance(&a, &b), 67.0 / 67_108_864.0);
        assert_eq!(squared_distance(&a, &[1000.0_f64 + 0.5; 67]), 67.0 / 4.0);
    }
}
