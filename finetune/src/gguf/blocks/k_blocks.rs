//! The K formats: 256 values in a block of 8 or 16 groups, each with a quantized scale of its own.

use super::{LARGE, f16_at};

/// Scale and minimum of group `j` of 8, six bits each, packed into twelve bytes (`get_scale_min_k4`).
fn scale_and_minimum(packed: &[u8], j: usize) -> (f32, f32) {
    let (scale, minimum) = if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        (
            (packed[j + 4] & 15) | ((packed[j - 4] >> 6) << 4),
            (packed[j + 4] >> 4) | ((packed[j] >> 6) << 4),
        )
    };
    (f32::from(scale), f32::from(minimum))
}

pub(super) fn q4_k(bytes: &[u8; 144], values: &mut [f32; LARGE]) {
    let (d, dmin) = (f16_at(bytes, 0), f16_at(bytes, 2));
    let (packed, quants) = (&bytes[4..16], &bytes[16..]);
    for group in 0..8 {
        let (scale, minimum) = scale_and_minimum(packed, group);
        let (scale, minimum) = (d * scale, dmin * minimum);
        let shift = 4 * (group % 2);
        for i in 0..32 {
            let quant = (quants[32 * (group / 2) + i] >> shift) & 15;
            values[32 * group + i] = scale * f32::from(quant) - minimum;
        }
    }
}

pub(super) fn q5_k(bytes: &[u8; 176], values: &mut [f32; LARGE]) {
    let (d, dmin) = (f16_at(bytes, 0), f16_at(bytes, 2));
    let (packed, high, quants) = (&bytes[4..16], &bytes[16..48], &bytes[48..]);
    for group in 0..8 {
        let (scale, minimum) = scale_and_minimum(packed, group);
        let (scale, minimum) = (d * scale, dmin * minimum);
        let shift = 4 * (group % 2);
        for i in 0..32 {
            let low = (quants[32 * (group / 2) + i] >> shift) & 15;
            let quant = low | (((high[i] >> group) & 1) << 4);
            values[32 * group + i] = scale * f32::from(quant) - minimum;
        }
    }
}

pub(super) fn q6_k(bytes: &[u8; 210], values: &mut [f32; LARGE]) {
    let (low, high, scales) = (&bytes[..128], &bytes[128..192], &bytes[192..208]);
    let d = f16_at(bytes, 208);
    for (i, value) in values.iter_mut().enumerate() {
        // Two halves of 128 values; in each, four runs of 32: bits 0-1, 2-3, 4-5 and 6-7 of the high byte.
        let (half, run, at) = (i / 128, (i % 128) / 32, i % 32);
        let low_byte = low[64 * half + 32 * (run % 2) + at];
        let low_bits = if run < 2 {
            low_byte & 15
        } else {
            low_byte >> 4
        };
        let high_bits = (high[32 * half + at] >> (2 * run)) & 3;
        let quant = f32::from(low_bits | (high_bits << 4)) - 32.0;
        let scale = f32::from(scales[8 * half + 2 * run + at / 16].cast_signed());
        *value = d * scale * quant;
    }
}
