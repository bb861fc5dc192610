//! Sums and maxima over slices, in a fixed order that vectorises.
//!
//! A plain float sum may not be reordered by the compiler and runs one element at a time. Here sixteen running sums
//! are kept and joined at the end, always in the same order, whatever the machine's vector width.

const LANES: usize = 16;

/// Sum of a product.
#[inline(always)]
pub(crate) fn dot(x: &[f32], y: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (xs, ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let rest = xs
        .remainder()
        .iter()
        .zip(ys.remainder())
        .map(|(&x, &y)| x * y)
        .sum::<f32>();
    for (x, y) in xs.zip(ys) {
        for lane in 0..LANES {
            lanes[lane] = x[lane].mul_add(y[lane], lanes[lane]);
        }
    }
    joined(lanes) + rest
}

/// Replaces each value by `map(value)` and gives the sum of the new ones.
#[inline(always)]
pub(crate) fn replace_and_sum(values: &mut [f32], map: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let mut chunks = values.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for lane in 0..LANES {
            let value = map(chunk[lane]);
            chunk[lane] = value;
            lanes[lane] += value;
        }
    }
    let mut rest = 0.0;
    for value in chunks.into_remainder() {
        *value = map(*value);
        rest += *value;
    }
    joined(lanes) + rest
}

/// The largest value; NaN is passed over.
#[inline(always)]
pub(crate) fn largest(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = if chunk[lane] > lanes[lane] {
                chunk[lane]
            } else {
                lanes[lane]
            };
        }
    }
    lanes.iter().chain(rest).fold(
        f32::NEG_INFINITY,
        |best, &x| if x > best { x } else { best },
    )
}

#[inline(always)]
fn joined(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}
