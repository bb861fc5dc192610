//! `foedus-client fisher`.

use aggregation::ewc::Anchor;
use finetune::lora::LoraConfig;

use super::{
    answer::say, arguments::FisherArguments, failure::Failure, open, output::Kind,
    progress::Progress,
};

const ANCHOR: Kind = Kind {
    name: "anchor",
    is: |bytes| Anchor::from_bytes(bytes).is_ok(),
};

/// Computes the anchor, writes it and prints its digest.
pub(super) fn fisher(arguments: &FisherArguments) -> Result<(), Failure> {
    open::parent_of(&arguments.out)?;
    ANCHOR.prepare(&arguments.out)?;
    let base = open::base(&arguments.model)?;
    let dataset = open::dataset(&arguments.data, &base, arguments.max_tokens)?;
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
    ANCHOR.write(out, &anchor.to_bytes())?;
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
