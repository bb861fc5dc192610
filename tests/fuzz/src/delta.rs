//! Bytes that claim to be an adapter as a delta against one that is here.

use aggregation::Encoding;
use aggregation::delta::{Delta, Travelling, between};

/// Values of the base.
const VALUES: usize = 40;

/// Any bytes are a delta or an error, and so is a good one with any damage; what is rebuilt is as long as the base says, and an
/// undamaged one gives the very bytes.
pub fn delta(bytes: &[u8]) {
    let base: Vec<f32> = (0..VALUES).map(|value| 0.01 * value as f32).collect();
    // As the bytes have it, in order and out of it.
    let moved = base.iter().zip(bytes.iter().cycle());
    let next: Vec<f32> = moved
        .map(|(value, &by)| value + 1e-4 * f32::from(by))
        .collect();
    let next = if bytes.is_empty() { base.clone() } else { next };
    let (from, to) = match bytes.first().map_or(0, |first| first % 3) {
        0 => (Encoding::Bf16, Encoding::Bf16),
        1 => (Encoding::Bf16, Encoding::F32),
        _ => (Encoding::F32, Encoding::F32),
    };
    let side = |values, encoding| Travelling {
        values,
        encoding,
        sha256: [7; 32],
    };
    let (held, whole) = (from.encode(&base), to.encode(&next));
    let mut delta = between(side(&base, from), side(&next, to)).expect("both have as many values");
    assert!(rebuilt(&delta, &held).expect("it is whole") == whole);
    for change in bytes.chunks_exact(3) {
        let place = usize::from(change[0]) % delta.len();
        match change[1] % 4 {
            0 => delta[place] = change[2],
            1 => delta[place] ^= 1 << (change[2] % 8),
            2 => delta.truncate(place.max(1)),
            _ => delta.insert(place, change[2]),
        }
    }
    for claimed in [delta.as_slice(), bytes] {
        if let Some(rebuilt) = rebuilt(claimed, &held) {
            let lengths = [Encoding::F32, Encoding::Bf16].map(|form| form.size(VALUES));
            assert!(
                lengths.contains(&rebuilt.len()),
                "rebuilt to another length"
            );
        }
    }
}

fn rebuilt(delta: &[u8], base: &[u8]) -> Option<Vec<u8>> {
    Delta::parse(delta)
        .and_then(|delta| delta.rebuild(base))
        .ok()
}
