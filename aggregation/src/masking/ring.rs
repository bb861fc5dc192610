//! The ring in which vectors are masked and summed, and the fixed point that fits it.
//!
//! A value `v` with weight `u` in (0, 1] becomes `round(clamp(v, -c, c) * U / c)` with `U = round(u * 2^m)`, ties to even, as two's
//! complement in the integers modulo `2^b`; `U` itself is one more coordinate. So no coordinate of one participant is above `2^m`
//! in magnitude, and with `N * 2^m <= 2^(b-1) - 1` no sum of `N` of them can overflow, whatever they hold (algorithms.md 4.4).
//! Rounding is to nearest instead of stochastic: masked and plain runs then give the same bytes. The error is at most half a step of
//! `c / U`: with 32 bits and a weight near the largest far below what bf16 does to a value. A plan whose step is longer than values move
//! in a round is refused (E_RING_STEP).

/// The integers modulo `2^bits`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ring {
    /// Two bytes an element.
    Bits16,
    /// Three bytes an element.
    Bits24,
    /// Four bytes an element.
    Bits32,
}

impl Ring {
    /// The exponent of the modulus.
    pub fn bits(self) -> u32 {
        match self {
            Self::Bits16 => 16,
            Self::Bits24 => 24,
            Self::Bits32 => 32,
        }
    }

    /// Bytes of one element, on the wire and in a key stream.
    pub fn width(self) -> usize {
        self.bits() as usize / 8
    }

    /// The largest element.
    pub(super) fn mask(self) -> u32 {
        u32::MAX >> (32 - self.bits())
    }

    /// The largest value of a signed element.
    pub fn signed_max(self) -> u32 {
        self.mask() >> 1
    }

    /// The element that stands for a signed integer.
    #[inline(always)]
    pub(super) fn of_signed(self, value: i32) -> u32 {
        value as u32 & self.mask()
    }

    /// The signed integer that an element stands for.
    #[inline(always)]
    pub(super) fn to_signed(self, element: u32) -> i32 {
        let unused = 32 - self.bits();
        ((element << unused) as i32) >> unused
    }

    /// Reads one element from its bytes.
    #[inline(always)]
    pub(super) fn read(self, bytes: &[u8]) -> u32 {
        match self {
            Self::Bits16 => u32::from_le_bytes([bytes[0], bytes[1], 0, 0]),
            Self::Bits24 => u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]),
            Self::Bits32 => u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
        }
    }
}

/// Fixed point in a ring, for so many participants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FixedRing {
    ring: Ring,
    participants_max: u32,
    value_max: f64,
    fraction_bits: u32,
}

/// Bounds for which no fixed point exists.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum RingError {
    /// So many participants leave too few bits for a value.
    #[error(
        "{participants_max} participants leave {fraction_bits} bits for a value in a ring of 2^{bits}, at least \
         {FRACTION_BITS_MIN} are needed: use a larger ring or lower limits.participants_max"
    )]
    Overflow {
        /// Participants that may contribute.
        participants_max: u32,
        /// The ring's exponent.
        bits: u32,
        /// Bits that would be left.
        fraction_bits: u32,
    },
    /// The largest magnitude is no positive number.
    #[error("the largest value is {found}; it must be a finite number above 0")]
    ValueMax {
        /// What was given.
        found: f64,
    },
}

/// Fewer would leave a handful of distinct values.
const FRACTION_BITS_MIN: u32 = 4;

impl FixedRing {
    /// Picks the most fraction bits with which the sum over `participants_max` cannot overflow.
    ///
    /// # Units
    /// `value_max` bounds the magnitude of one value of an update; what is beyond is cut off there, and counted.
    ///
    /// # Errors
    /// [`RingError`].
    pub fn for_bounds(
        ring: Ring,
        participants_max: u32,
        value_max: f64,
    ) -> Result<Self, RingError> {
        if !(value_max.is_finite() && 0.0 < value_max) {
            return Err(RingError::ValueMax { found: value_max });
        }
        let fraction_bits = (ring.signed_max() / participants_max.max(1))
            .checked_ilog2()
            .unwrap_or(0);
        if fraction_bits < FRACTION_BITS_MIN || participants_max == 0 {
            return Err(RingError::Overflow {
                participants_max,
                bits: ring.bits(),
                fraction_bits,
            });
        }
        Ok(Self {
            ring,
            participants_max,
            value_max,
            fraction_bits,
        })
    }

    /// The ring.
    pub fn ring(&self) -> Ring {
        self.ring
    }

    /// How many may contribute.
    pub fn participants_max(&self) -> u32 {
        self.participants_max
    }

    /// The largest magnitude of a value.
    pub fn value_max(&self) -> f64 {
        self.value_max
    }

    /// How many bits one participant's coordinate has, without its sign.
    pub fn fraction_bits(&self) -> u32 {
        self.fraction_bits
    }

    /// The largest coordinate of one participant: `2^m`.
    pub fn one(&self) -> u32 {
        1 << self.fraction_bits
    }

    /// The distance of two neighbouring values at full weight.
    pub fn step(&self) -> f64 {
        self.value_max / f64::from(self.one())
    }

    /// The largest count of cut-off values that one participant reports; more are reported as so many.
    pub(super) fn count_max(&self) -> u32 {
        self.ring.signed_max() / self.participants_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fraction_bits_are_those_of_the_published_table() {
        let bits = |ring, participants| {
            FixedRing::for_bounds(ring, participants, 1.0)
                .unwrap()
                .fraction_bits()
        };
        for (participants, expected) in [(2, 29), (10, 27), (100, 24), (1000, 21)] {
            assert_eq!(bits(Ring::Bits32, participants), expected, "{participants}");
        }
        for (participants, expected) in [(10, 19), (100, 16), (1000, 13)] {
            assert_eq!(bits(Ring::Bits24, participants), expected, "{participants}");
        }
        for (participants, expected) in [(10, 11), (100, 8), (1000, 5)] {
            assert_eq!(bits(Ring::Bits16, participants), expected, "{participants}");
        }
    }

    #[test]
    fn one_more_participant_than_fit_costs_a_bit_and_too_many_are_refused() {
        // 2^15 - 1 = 32767: 15 participants leave 11 bits, 16 leave 10.
        for (participants, expected) in [(15, 11), (16, 10)] {
            let fixed = FixedRing::for_bounds(Ring::Bits16, participants, 1.0).unwrap();
            assert_eq!(fixed.fraction_bits(), expected);
            assert!(participants * fixed.one() <= Ring::Bits16.signed_max());
        }
        let error = FixedRing::for_bounds(Ring::Bits16, 2048, 1.0).unwrap_err();
        assert!(error.to_string().contains("larger ring"), "{error}");
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(FixedRing::for_bounds(Ring::Bits32, 3, bad).is_err());
        }
        assert!(FixedRing::for_bounds(Ring::Bits32, 0, 1.0).is_err());
    }

    #[test]
    fn signed_integers_survive_every_ring() {
        for ring in [Ring::Bits16, Ring::Bits24, Ring::Bits32] {
            let most = ring.signed_max() as i32;
            for value in [0, 1, -1, 12_345, -12_345, most, -most, -most - 1] {
                let element = ring.of_signed(value);
                assert_eq!(ring.to_signed(element), value);
                assert_eq!(ring.read(&element.to_le_bytes()), element);
            }
        }
    }
}
