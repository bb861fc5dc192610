//! Arithmetic in GF(2^8) with the polynomial 0x11b, in constant time and without tables.
//!
//! Elements are secrets here: neither a branch nor an address depends on one (FIPS 197, section 4, has the field).

/// The product of two elements.
#[inline]
pub(super) fn multiply(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    for _ in 0..8 {
        product ^= a & (b & 1).wrapping_neg();
        let carry = (a >> 7).wrapping_neg();
        a = (a << 1) ^ (0x1b & carry);
        b >>= 1;
    }
    product
}

/// The inverse of an element, `a^254`; that of 0 is 0.
pub(super) fn invert(a: u8) -> u8 {
    // 254 = 0b1111_1110: the squares of a from a^2 to a^128, multiplied.
    let (mut square, mut product) = (a, 1);
    for _ in 0..7 {
        square = multiply(square, square);
        product = multiply(product, square);
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_product_holds() {
        assert_eq!(multiply(0x57, 0x83), 0xc1);
        assert_eq!(multiply(0x57, 0x13), 0xfe);
    }

    #[test]
    fn every_element_but_zero_has_its_inverse_and_one_is_neutral() {
        assert_eq!(invert(0), 0);
        for a in 1..=255 {
            assert_eq!(multiply(a, invert(a)), 1, "{a:#04x}");
            assert_eq!(multiply(a, 1), a);
        }
    }

    #[test]
    fn multiplication_distributes_over_addition() {
        for a in 0..=255 {
            for b in [0, 1, 2, 0x1b, 0x80, 0xff] {
                for c in [3, 0x57, 0xc0] {
                    assert_eq!(multiply(a, b ^ c), multiply(a, b) ^ multiply(a, c));
                }
            }
        }
    }
}
