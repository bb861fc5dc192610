//! Squares of sixteen by sixteen values and their transposition: how a matrix is packed across its rows.
//!
//! A transposing copy one value at a time costs a twentieth of a whole product; by registers it costs a hundredth. AVX-512
//! has registers for it; on other processors the values are exchanged one by one.

/// Side of a square.
pub(super) const SIDE: usize = 16;

/// Sixteen rows of sixteen values.
pub(super) type Square = [[f32; SIDE]; SIDE];

/// Exchanges rows and columns.
pub(super) fn transpose(square: &mut Square) {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V4::try_new() {
        pulp::Simd::vectorize(simd, by_registers::Transposition { simd, square });
        return;
    }
    one_by_one(square);
}

fn one_by_one(square: &mut Square) {
    for row in 1..SIDE {
        let (above, below) = square.split_at_mut(row);
        for (column, above) in above.iter_mut().enumerate() {
            std::mem::swap(&mut above[row], &mut below[0][column]);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod by_registers {
    use std::arch::x86_64::__m512;

    use pulp::{Simd, WithSimd, core_arch::x86::Avx512f, x86::V4};

    use super::{SIDE, Square};

    /// One square in sixteen registers.
    pub(super) struct Transposition<'a> {
        pub(super) simd: V4,
        pub(super) square: &'a mut Square,
    }

    impl WithSimd for Transposition<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            let avx = self.simd.avx512f;
            let rows: [__m512; SIDE] = self.square.map(pulp::cast);
            // Values of two rows in turn, then pairs of four rows.
            let pairs: [__m512; SIDE] = std::array::from_fn(|place| {
                let (one, other) = (rows[place & !1], rows[place | 1]);
                if place & 1 == 0 {
                    avx._mm512_unpacklo_ps(one, other)
                } else {
                    avx._mm512_unpackhi_ps(one, other)
                }
            });
            let fours: [__m512; SIDE] = std::array::from_fn(|place| {
                let first = (place & !3) + (place >> 1 & 1);
                let one = avx._mm512_castps_pd(pairs[first]);
                let other = avx._mm512_castps_pd(pairs[first + 2]);
                avx._mm512_castpd_ps(if place & 1 == 0 {
                    avx._mm512_unpacklo_pd(one, other)
                } else {
                    avx._mm512_unpackhi_pd(one, other)
                })
            });
            // Even and odd quarters of two registers, four rows apart and then eight.
            let eights: [__m512; SIDE] = std::array::from_fn(|place| {
                let first = place & 8 | place & 3;
                quarters(avx, fours[first], fours[first + 4], place & 4 != 0)
            });
            let columns: [__m512; SIDE] = std::array::from_fn(|place| {
                let first = place & 7;
                quarters(avx, eights[first], eights[first + 8], place & 8 != 0)
            });
            *self.square = columns.map(pulp::cast);
        }
    }

    #[inline(always)]
    fn quarters(avx: Avx512f, one: __m512, other: __m512, odd: bool) -> __m512 {
        if odd {
            avx._mm512_shuffle_f32x4::<0b1101_1101>(one, other)
        } else {
            avx._mm512_shuffle_f32x4::<0b1000_1000>(one, other)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_exchange_rows_and_columns() {
        let square: Square =
            std::array::from_fn(|row| std::array::from_fn(|column| (row * SIDE + column) as f32));
        let (mut one, mut other) = (square, square);
        transpose(&mut one);
        one_by_one(&mut other);
        for row in 0..SIDE {
            for column in 0..SIDE {
                assert_eq!(one[row][column], square[column][row]);
                assert_eq!(other[row][column], square[column][row]);
            }
        }
    }
}
