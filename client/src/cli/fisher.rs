//! `foedus-client fisher`.

use anyhow::Context as _;
use finetune::lora::LoraConfig;

use super::{answer::say, arguments::FisherArguments, failure::Failure, open, progress::Progress};

/// Computes the anchor, writes it and prints its digest.
pub(super) fn fisher(arguments: &FisherArguments) -> Result<(), Failure> {
    let base = open::base(&arguments.model)?;
    let dataset = open::dataset(&arguments.data, &base.tokenizer, arguments.max_tokens)?;
    open::parent_of(&arguments.out)?;
    let target_modules = arguments.target_modules.clone();
    let lora = LoraConfig {
        target_modules,
        ..LoraConfig::default()
    };
    let mut progress = Progress::begin("fisher", dataset.examples.len() as u64);
    let seed = arguments.seed;
    let anchor = finetune::fisher::fisher(&base, &lora, &dataset, seed, &mut |report| {
        let state = format!("{} tokens", report.tokens);
        progress.show(report.done as u64, report.examples as u64, &state);
    });
    progress.end();
    let anchor = anchor.map_err(anyhow::Error::from)?;
    let out = &arguments.out;
    std::fs::write(out, anchor.to_bytes())
        .with_context(|| format!("cannot write {}", out.display()))?;
    say!(
        "anchor of {} modules from {} examples and {} tokens written to {}",
        anchor.modules.len(),
        anchor.examples,
        anchor.tokens,
        out.display()
    )?;
    say!("sha256 {}", hex::encode(anchor.sha256()))?;
    Ok(())
}
