//! How far the sites that do not train move each value of the adapter.
//!
//! A site moves a value by its own share of what the round has for that value, so that all sites together come to a closed
//! form. Where adapters travel whole that is 1 for every value, as in the peers' benchmarks. Where they come as deltas the sizes of
//! moves are what is measured: they are drawn with the spread of an optimizer's steps, no two values move alike, and most of a value's
//! move goes on in one direction, so that moves become small beside values from round to round, as they do in training.

use super::scenario::Scenario;
use crate::experiment::Download;

/// What the first participant adds where all values move alike.
pub(super) const STEP: f64 = 0.001;
/// The spread of drawn moves: a few steps at a learning rate of 10^-4.
const SPREAD: f64 = 0.0005;
/// What of a drawn move goes on as in the rounds before, and what is the round's own; their squares add up to 1.
const PARTS: (f32, f32) = (0.8, 0.6);
/// Shares of participants differ in the order of this many.
const SHARES: u32 = 4;

/// The moves of all participants.
#[derive(Clone, Copy, Debug)]
pub(super) enum Moves {
    /// All values by the same number.
    Alike,
    /// Each value by a number of its own.
    Drawn,
}

impl Moves {
    /// The moves that a scenario has.
    pub(super) fn of(scenario: &Scenario) -> Self {
        match scenario.download {
            Download::Whole => Self::Alike,
            Download::Delta => Self::Drawn,
        }
    }

    /// The share of participant `index`.
    pub(super) fn share(self, index: u32) -> f32 {
        let share = match self {
            Self::Alike => STEP * (f64::from(index) + 1.0),
            // With weights and participants as they are by default, one spread on average.
            Self::Drawn => SPREAD * f64::from(index % SHARES + 1) / 3.0,
        };
        share as f32
    }

    /// These values, each moved by this share of what the round has for it.
    pub(super) fn moved(self, values: &[f32], share: f32, round: u32) -> Vec<f32> {
        match self {
            // One addition a value, as in the peers' benchmarks: what is measured is the exchange.
            Self::Alike => values.iter().map(|value| value + share).collect(),
            Self::Drawn => {
                let values = values.iter().enumerate();
                let moved = values.map(|(place, value)| value + share * self.unit(round, place));
                moved.collect()
            }
        }
    }

    /// What the round, from 1, has for the value at `place`; of drawn ones the mean is 0 and the spread 1, and none is beyond 5.
    pub(super) fn unit(self, round: u32, place: usize) -> f32 {
        match self {
            Self::Alike => 1.0,
            Self::Drawn => {
                let (steady, own) = PARTS;
                let of_round = u64::from(round) << 40 | place as u64;
                steady * drawn(place as u64) + own * drawn(of_round)
            }
        }
    }
}

/// The sum of four even numbers, which is nearly a normal one (Irwin and Hall 1927), from one output of SplitMix64 (Steele, Lea
/// and Flood 2014).
fn drawn(number: u64) -> f32 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    let parts = (0..4).map(|part| (mixed >> (16 * part)) as u16);
    let sum: i32 = parts.map(i32::from).sum();
    // Four even numbers over 2^16 have a variance of 4/12.
    (sum - 2 * 65_535) as f32 / 65_536.0 * 3.0_f32.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_moves_have_a_spread_of_one_and_go_on_in_the_next_round() {
        let count = 100_000;
        let units = |round| (0..count).map(move |place| f64::from(Moves::Drawn.unit(round, place)));
        let mean = units(1).sum::<f64>() / count as f64;
        let variance = units(1).map(|unit| unit * unit).sum::<f64>() / count as f64;
        assert!(mean.abs() < 0.02, "{mean}");
        assert!((variance - 1.0).abs() < 0.02, "{variance}");
        assert!(units(1).all(|unit| unit.abs() < 5.0));
        let together: f64 = units(1).zip(units(2)).map(|(one, other)| one * other).sum();
        assert!((together / count as f64 - 0.64).abs() < 0.02, "{together}");
    }
}
