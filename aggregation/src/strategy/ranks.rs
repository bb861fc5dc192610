//! Sorts each column of a stretch, many columns side by side.
//!
//! By Batcher's merge exchange (Knuth, The Art of Computer Programming 3, 5.2.2, algorithm M): a fixed network of
//! compare-exchange steps for any number of rows, each of which is a minimum and a maximum over whole rows. Values are
//! compared as integers whose order is the total order of floats, so equal inputs in any order give the same bits, zeros of
//! both signs included.

use pulp::{Arch, Simd, WithSimd};

use super::columns::Stretch;

/// Columns sorted side by side.
pub(super) const LANES: usize = 64;

/// The same columns of every row, as keys.
pub(super) type Keys = [[i32; LANES]];

/// The compare-exchange steps for one number of rows.
#[derive(Debug)]
pub(super) struct Network(Vec<(u32, u32)>);

impl Network {
    /// Makes the network for this many rows.
    pub(super) fn new(rows: usize) -> Self {
        let mut steps = Vec::new();
        let Some(most) = (rows.next_power_of_two() / 2).checked_ilog2() else {
            return Self(steps);
        };
        for power in (0..=most).rev().map(|exponent| 1_usize << exponent) {
            let (mut run, mut offset, mut distance) = (1 << most, 0, power);
            loop {
                let lows = (0..rows - distance.min(rows)).filter(|low| low & power == offset);
                steps.extend(lows.map(|low| (low as u32, (low + distance) as u32)));
                if run == power {
                    break;
                }
                (distance, run, offset) = (run - power, run / 2, power);
            }
        }
        Self(steps)
    }
}

/// What is made of a sorted column.
pub(super) trait OfRanks: Copy + Sync {
    /// Fills `out` from rows that are sorted column by column; there may be more columns than `out` has places.
    fn fill(self, sorted: &Keys, out: &mut [f32]);
}

/// Fills `out` with what each of the stretch's columns comes to.
pub(super) fn of_ranks(
    stretch: Stretch<'_>,
    network: &Network,
    keys: &mut Vec<[i32; LANES]>,
    made: impl OfRanks,
    out: &mut [f32],
) {
    keys.resize(stretch.rows(), [0; LANES]);
    let work = Work {
        stretch,
        network,
        keys,
        made,
        out,
    };
    Arch::new().dispatch(work);
}

/// The value of a key.
#[inline(always)]
pub(super) fn value(key: i32) -> f32 {
    f32::from_bits(flip(key) as u32)
}

#[inline(always)]
fn key(value: f32) -> i32 {
    flip(value.to_bits() as i32)
}

/// Between the bits of a float and an integer of the same order; its own inverse.
#[inline(always)]
fn flip(bits: i32) -> i32 {
    bits ^ (((bits >> 31) as u32) >> 1) as i32
}

struct Work<'a, M> {
    stretch: Stretch<'a>,
    network: &'a Network,
    keys: &'a mut Keys,
    made: M,
    out: &'a mut [f32],
}

impl<M: OfRanks> WithSimd for Work<'_, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (index, out) in self.out.chunks_mut(LANES).enumerate() {
            let from = index * LANES;
            for (row, keys) in self.keys.iter_mut().enumerate() {
                let values = &self.stretch.row(row)[from..from + out.len()];
                for (place, &found) in keys.iter_mut().zip(values) {
                    *place = key(found);
                }
            }
            for &(low, high) in &self.network.0 {
                let (head, tail) = self.keys.split_at_mut(high as usize);
                exchange(&mut head[low as usize], &mut tail[0]);
            }
            self.made.fill(self.keys, out);
        }
    }
}

/// Puts the smaller of each pair into the first row.
#[inline(always)]
fn exchange(low: &mut [i32; LANES], high: &mut [i32; LANES]) {
    for (low, high) in low.iter_mut().zip(high) {
        let (one, other) = (*low, *high);
        *low = one.min(other);
        *high = one.max(other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_sorts_whatever_the_number_of_rows() {
        // By the zero-one principle a network sorts everything if it sorts all noughts and ones.
        for rows in 1..=12_usize {
            let network = Network::new(rows);
            for input in 0..1_u32 << rows {
                let mut bits: Vec<_> = (0..rows).map(|row| input >> row & 1).collect();
                for &(low, high) in &network.0 {
                    assert!(low < high && (high as usize) < rows);
                    if bits[low as usize] > bits[high as usize] {
                        bits.swap(low as usize, high as usize);
                    }
                }
                assert!(bits.is_sorted(), "{rows} rows, input {input:b}");
            }
        }
        assert_eq!(Network::new(8).0.len(), 19);
    }

    #[test]
    fn keys_have_the_order_of_their_values() {
        let values = [
            f32::MIN,
            -1.0,
            -f32::from_bits(1),
            -0.0,
            0.0,
            f32::from_bits(1),
            1.0,
            f32::MAX,
        ];
        assert!(values.map(key).is_sorted_by(|one, other| one < other));
        for one in values {
            assert_eq!(value(key(one)).to_bits(), one.to_bits());
        }
    }
}
