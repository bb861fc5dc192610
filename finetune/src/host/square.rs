//! Squares of sixteen by sixteen values and their transposition: how a matrix is packed across its rows.
//!
//! A transposing copy one value at a time costs a twentieth of a whole product; by registers it costs a hundredth. AVX-512
//! has registers for it; on other processors the values are exchanged one by one.

/// Side of a square.
pub(super) const SIDE: usize = 16;

/// Sixteen rows of sixteen values.
pub(super) type Square = [[f32; SIDE]; SIDE];

/// The way of transposing on this processor.
#[derive(Clone, Copy)]
pub(super) struct Transposer {
    #[cfg(target_arch = "x86_64")]
    wide: Option<pulp::x86::V4>,
}

impl Transposer {
    /// Asks the processor: once for many squares.
    pub(super) fn new() -> Self {
        Self {
            #[cfg(target_arch = "x86_64")]
            wide: pulp::x86::V4::try_new(),
        }
    }

    /// Exchanges rows and columns.
    #[inline(always)]
    pub(super) fn transpose(self, square: &mut Square) {
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = self.wide {
            pulp::Simd::vectorize(simd, by_registers::Transposition { simd, square });
            return;
        }
        one_by_one(square);
    }
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
    use pulp::{Simd, WithSimd, x86::V4};

    use super::{SIDE, Square};

    /// The even quarters of two registers, and the odd ones.
    const EVEN: i32 = 0b1000_1000;
    const ODD: i32 = 0b1101_1101;

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
            // Loops and not `map` or `from_fn`: what these call is compiled without the wide registers.
            let mut rows = [avx._mm512_setzero_ps(); SIDE];
            for (row, values) in rows.iter_mut().zip(&*self.square) {
                *row = pulp::cast(*values);
            }
            // Values of two rows in turn, then pairs of four rows.
            let mut pairs = rows;
            for place in (0..SIDE).step_by(2) {
                let (one, other) = (rows[place], rows[place + 1]);
                pairs[place] = avx._mm512_unpacklo_ps(one, other);
                pairs[place + 1] = avx._mm512_unpackhi_ps(one, other);
            }
            let mut fours = pairs;
            for place in (0..SIDE).step_by(4) {
                for half in 0..2 {
                    let one = avx._mm512_castps_pd(pairs[place + half]);
                    let other = avx._mm512_castps_pd(pairs[place + half + 2]);
                    fours[place + 2 * half] =
                        avx._mm512_castpd_ps(avx._mm512_unpacklo_pd(one, other));
                    fours[place + 2 * half + 1] =
                        avx._mm512_castpd_ps(avx._mm512_unpackhi_pd(one, other));
                }
            }
            // Even and odd quarters of two registers, four rows apart and then eight.
            let mut eights = fours;
            for place in 0..4 {
                for half in [0, 8] {
                    let (one, other) = (fours[half + place], fours[half + place + 4]);
                    eights[half + place] = avx._mm512_shuffle_f32x4::<EVEN>(one, other);
                    eights[half + place + 4] = avx._mm512_shuffle_f32x4::<ODD>(one, other);
                }
            }
            for place in 0..8 {
                let (one, other) = (eights[place], eights[place + 8]);
                self.square[place] = pulp::cast(avx._mm512_shuffle_f32x4::<EVEN>(one, other));
                self.square[place + 8] = pulp::cast(avx._mm512_shuffle_f32x4::<ODD>(one, other));
            }
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
        Transposer::new().transpose(&mut one);
        one_by_one(&mut other);
        for row in 0..SIDE {
            for column in 0..SIDE {
                assert_eq!(one[row][column], square[column][row]);
                assert_eq!(other[row][column], square[column][row]);
            }
        }
    }
}
