//! Known blocks: packed here by the layout of ggml-common.h, value by value, and read back.

use super::*;

fn half_bytes(value: f32) -> [u8; 2] {
    f16::from_f32(value).to_le_bytes()
}

#[test]
fn q4_0_block_is_centred_at_eight() {
    let mut block = half_bytes(0.5).to_vec();
    block.extend((0..16).map(|i: u8| i | ((15 - i) << 4)));
    let values = BlockFormat::Q4_0.widen(&block).unwrap();
    for i in 0..16 {
        assert_eq!(values[i], (i as f32 - 8.0) * 0.5);
        assert_eq!(values[i + 16], (7.0 - i as f32) * 0.5);
    }
}

#[test]
fn q4_1_block_adds_its_minimum() {
    let mut block = [half_bytes(0.25), half_bytes(-1.0)].concat();
    block.extend((0..16).map(|i: u8| i | (3 << 4)));
    let values = BlockFormat::Q4_1.widen(&block).unwrap();
    for i in 0..16 {
        assert_eq!(values[i], i as f32 * 0.25 - 1.0);
        assert_eq!(values[i + 16], -0.25);
    }
}

#[test]
fn q5_blocks_take_the_fifth_bit_from_their_mask() {
    // Value i has fifth bit set when i is odd.
    let mask = 0xaaaa_aaaau32.to_le_bytes();
    let quants: Vec<u8> = (0..16).map(|i: u8| i | (i << 4)).collect();
    let five = |i: usize| (i % 16) as f32 + if i % 2 == 1 { 16.0 } else { 0.0 };
    let block = [&half_bytes(2.0)[..], &mask, &quants].concat();
    let values = BlockFormat::Q5_0.widen(&block).unwrap();
    let block = [&half_bytes(2.0)[..], &half_bytes(1.0), &mask, &quants].concat();
    let with_minimum = BlockFormat::Q5_1.widen(&block).unwrap();
    for i in 0..32 {
        assert_eq!(values[i], (five(i) - 16.0) * 2.0);
        assert_eq!(with_minimum[i], five(i) * 2.0 + 1.0);
    }
}

#[test]
fn q8_0_block_is_signed() {
    let mut block = half_bytes(0.125).to_vec();
    block.extend((0..32).map(|i: i8| (i - 16).cast_unsigned()));
    let values = BlockFormat::Q8_0.widen(&block).unwrap();
    let expected: Vec<f32> = block[2..]
        .iter()
        .map(|b| f32::from(b.cast_signed()) * 0.125)
        .collect();
    assert_eq!(values, expected);
    assert!(values.iter().any(|v| *v < 0.0));
}

/// Packs eight six-bit scales and minima as `quantize_row_q4_K_ref` does.
fn packed_scales(scales: [u8; 8], minima: [u8; 8]) -> [u8; 12] {
    let mut packed = [0u8; 12];
    packed[..4].copy_from_slice(&scales[..4]);
    packed[4..8].copy_from_slice(&minima[..4]);
    for j in 4..8 {
        packed[j + 4] = (scales[j] & 15) | ((minima[j] & 15) << 4);
        packed[j - 4] |= (scales[j] >> 4) << 6;
        packed[j] |= (minima[j] >> 4) << 6;
    }
    packed
}

const SCALES: [u8; 8] = [1, 63, 17, 32, 48, 5, 33, 62];
const MINIMA: [u8; 8] = [0, 2, 63, 16, 31, 47, 8, 1];

#[test]
fn q4_k_block_has_a_scale_and_a_minimum_for_each_group() {
    let quant = |i: usize| ((i * 7 + i / 32) % 16) as u8;
    let mut quants = [0u8; 128];
    for i in 0..256 {
        quants[32 * (i / 64) + i % 32] |= quant(i) << (4 * ((i / 32) % 2));
    }
    let block = [
        &half_bytes(0.5)[..],
        &half_bytes(0.25),
        &packed_scales(SCALES, MINIMA),
        &quants,
    ]
    .concat();
    let values = BlockFormat::Q4_K.widen(&block).unwrap();
    for i in 0..256 {
        let (scale, minimum) = (f32::from(SCALES[i / 32]), f32::from(MINIMA[i / 32]));
        let expected = 0.5 * scale * f32::from(quant(i)) - 0.25 * minimum;
        assert_eq!(values[i], expected, "value {i}");
    }
}

#[test]
fn q5_k_block_takes_the_fifth_bit_of_its_group() {
    let quant = |i: usize| ((i * 11 + i / 32) % 32) as u8;
    let (mut quants, mut high) = ([0u8; 128], [0u8; 32]);
    for i in 0..256 {
        quants[32 * (i / 64) + i % 32] |= (quant(i) & 15) << (4 * ((i / 32) % 2));
        high[i % 32] |= (quant(i) >> 4) << (i / 32);
    }
    let packed = packed_scales(SCALES, MINIMA);
    let block = [
        &half_bytes(0.5)[..],
        &half_bytes(0.25),
        &packed,
        &high,
        &quants,
    ]
    .concat();
    let values = BlockFormat::Q5_K.widen(&block).unwrap();
    for i in 0..256 {
        let (scale, minimum) = (f32::from(SCALES[i / 32]), f32::from(MINIMA[i / 32]));
        let expected = 0.5 * scale * f32::from(quant(i)) - 0.25 * minimum;
        assert_eq!(values[i], expected, "value {i}");
    }
}

#[test]
fn q6_k_block_has_sixteen_signed_scales() {
    // Packing of quantize_row_q6_K_ref: for each half, l in 0..32, runs at l, l + 32, l + 64, l + 96.
    let quant = |i: usize| ((i * 13 + i / 16) % 64) as u8;
    let scale = |group: usize| (group as i8 - 8) * 9;
    let (mut low, mut high) = ([0u8; 128], [0u8; 64]);
    for half in 0..2 {
        for l in 0..32 {
            let q = |run: usize| quant(128 * half + 32 * run + l);
            low[64 * half + l] = (q(0) & 15) | ((q(2) & 15) << 4);
            low[64 * half + l + 32] = (q(1) & 15) | ((q(3) & 15) << 4);
            high[32 * half + l] =
                (q(0) >> 4) | ((q(1) >> 4) << 2) | ((q(2) >> 4) << 4) | ((q(3) >> 4) << 6);
        }
    }
    let scales: Vec<u8> = (0..16).map(|group| scale(group).cast_unsigned()).collect();
    let block = [&low[..], &high, &scales, &half_bytes(0.5)].concat();
    let values = BlockFormat::Q6_K.widen(&block).unwrap();
    for (i, value) in values.iter().enumerate() {
        let expected = 0.5 * f32::from(scale(i / 16)) * (f32::from(quant(i)) - 32.0);
        assert_eq!(*value, expected, "value {i}");
    }
}

#[test]
fn plain_formats_widen_exactly_and_sizes_match_ggml() {
    assert_eq!(
        BlockFormat::F32.widen(&1.5f32.to_le_bytes()).unwrap(),
        [1.5]
    );
    assert_eq!(BlockFormat::F16.widen(&half_bytes(-0.75)).unwrap(), [-0.75]);
    assert_eq!(
        BlockFormat::BF16
            .widen(&bf16::from_f32(3.0).to_le_bytes())
            .unwrap(),
        [3.0]
    );
    assert!(BlockFormat::Q3_K.widen(&[0; 110]).is_none());
    for id in 0..64 {
        if let Some(format) = BlockFormat::from_id(id) {
            let (values, bytes) = format.block();
            assert!(values > 0 && bytes > 0);
            if let Some(widened) = format.widen(&vec![0; bytes * 3]) {
                assert_eq!(widened.len(), values * 3);
            }
        }
    }
}
