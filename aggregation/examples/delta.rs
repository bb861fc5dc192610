//! How large a delta of two adapters is, and how long it takes to write and to rebuild, by hand: no test depends on it.
//!
//! `cargo run --release -p aggregation --example delta -- BEFORE AFTER` takes two PEFT folders, such as those of two rounds of
//! a run. Without them it takes 84 MB of values that move by a few hundredths of the usual size. One thread does the work.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::path::Path;
use std::time::Instant;

use aggregation::delta::{Delta, Travelling, between};
use aggregation::{Encoding, peft};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest as _, Sha256};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const FORMS: [(Encoding, Encoding); 3] = [
    (Encoding::Bf16, Encoding::Bf16),
    (Encoding::Bf16, Encoding::F32),
    (Encoding::F32, Encoding::F32),
];

fn main() -> Result<(), Failure> {
    let folders: Vec<_> = std::env::args().skip(1).collect();
    let (before, after) = match folders.as_slice() {
        [before, after] => (values(before.as_ref())?, values(after.as_ref())?),
        _ => drawn(21_000_000),
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    pool.install(|| {
        for (from, to) in FORMS {
            measure((&before, from), (&after, to))?;
        }
        Ok(())
    })
}

fn measure(
    (before, from): (&[f32], Encoding),
    (after, to): (&[f32], Encoding),
) -> Result<(), Failure> {
    let (base, whole) = (from.encode(before), to.encode(after));
    let side = |values, encoding, bytes: &[u8]| Travelling {
        values,
        encoding,
        sha256: Sha256::digest(bytes).into(),
    };
    let (base_side, next_side) = (side(before, from, &base), side(after, to, &whole));
    let begun = Instant::now();
    let bytes = between(base_side, next_side)?;
    let written = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let rebuilt = Delta::parse(&bytes)?.rebuild(base.as_slice())?;
    let read = begun.elapsed().as_secs_f64();
    assert!(rebuilt == whole, "other bytes came out");
    let megabytes = whole.len() as f64 / 1e6;
    println!(
        "{from:?} to {to:?}: {megabytes:.1} MB in {:.1} %, written at {:.0} MB/s, rebuilt at {:.0} MB/s",
        100.0 * bytes.len() as f64 / whole.len() as f64,
        megabytes / written,
        megabytes / read
    );
    Ok(())
}

fn values(folder: &Path) -> Result<Vec<f32>, Failure> {
    let config = std::fs::read(folder.join("adapter_config.json"))?;
    let model = std::fs::read(folder.join("adapter_model.safetensors"))?;
    Ok(peft::load(&config, &model)?.0.into_values())
}

fn drawn(count: usize) -> (Vec<f32>, Vec<f32>) {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut unit = || (rng.next_u32() >> 8) as f32 / (1 << 24) as f32 - 0.5;
    let before: Vec<f32> = (0..count).map(|_| 0.04 * unit()).collect();
    let after = before.iter().map(|value| value + 0.001 * (unit() + unit()));
    let after = after.collect();
    (before, after)
}
