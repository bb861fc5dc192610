//! Compares this engine's logits with those that transformers gave: `golden_logits MODEL GOLDEN.json`.
//!
//! GOLDEN.json is written by `scripts/golden_logits.py` (by hand, with torch) for the same MODEL, a Hugging Face folder or a
//! `.gguf` file. Prints a line a case and fails if a logit differs by more than 1e-4 of the largest logit, or the mean loss
//! by more than 1e-4 nats. Not part of the test suite, which reads golden files of its own.

#![expect(clippy::print_stdout, reason = "a program for people")]

use std::{error::Error, path::PathBuf};

use finetune::{
    base::BaseModel,
    batch::Batch,
    device::{self, DeviceChoice},
};
use serde::Deserialize;

const TOLERANCE: f64 = 1e-4;

#[derive(Deserialize)]
struct Golden {
    model: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    tokens: Vec<u32>,
    last_logits: Vec<f32>,
    mean_nats: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [model, golden] = arguments.as_slice() else {
        return Err("usage: golden_logits MODEL GOLDEN.json".into());
    };
    let golden: Golden = serde_json::from_slice(&std::fs::read(golden)?)?;
    let base = BaseModel::open(model, &device::open(DeviceChoice::Cpu)?)?;
    println!("{} against transformers' {}", base.name, golden.model);
    let mut far = 0;
    for (number, case) in golden.cases.iter().enumerate() {
        let batch = Batch::of_texts(&[&case.tokens]);
        let logits = base.llama.logits(&batch, None)?;
        let last = &logits[logits.len() - base.llama.config().vocab_size..];
        let logit = relative_difference(last, &case.last_logits)?;
        let loss = (base.llama.loss(&batch, None)?.mean() - case.mean_nats).abs();
        let verdict = if logit.max(loss) <= TOLERANCE {
            "equal"
        } else {
            far += 1;
            "FAR"
        };
        println!(
            "case {number}: {} tokens, largest difference of a logit {logit:.1e} of the largest, of the mean loss {loss:.1e}: {verdict}",
            case.tokens.len()
        );
    }
    match far {
        0 => Ok(()),
        far => Err(format!("{far} cases differ by more than {TOLERANCE:.0e}").into()),
    }
}

/// The largest difference, as a share of the largest expected value.
fn relative_difference(found: &[f32], expected: &[f32]) -> Result<f64, String> {
    if found.len() != expected.len() {
        let (found, expected) = (found.len(), expected.len());
        return Err(format!(
            "{found} logits here, {expected} in the golden file: another model?"
        ));
    }
    let largest = expected.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let pairs = found.iter().zip(expected);
    let difference = pairs.fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
    Ok(f64::from(difference) / f64::from(largest))
}
