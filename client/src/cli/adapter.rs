//! `foedus-client adapter new` and `adapter show`.

use std::sync::Arc;

use aggregation::{Adapter, peft::Sidecar};

use super::{
    answer::say,
    arguments::{AdapterCommand, AdapterNewArguments, AdapterShowArguments},
    failure::Failure,
    open,
};
use crate::adapter_folder::{self, AdapterFolder};

/// Runs one of the two.
pub(super) fn adapter(command: &AdapterCommand) -> Result<(), Failure> {
    match command {
        AdapterCommand::New(arguments) => new(arguments),
        AdapterCommand::Show(arguments) => show(arguments),
    }
}

/// Makes a fresh adapter.
fn new(arguments: &AdapterNewArguments) -> Result<(), Failure> {
    adapter_folder::prepare(&arguments.out, &[]).map_err(anyhow::Error::from)?;
    let base = open::files(&arguments.model)?;
    let lora = arguments.lora.config();
    let layout = base.adapter_layout(&lora).map_err(anyhow::Error::from)?;
    let adapter = Adapter::initial(Arc::new(layout), arguments.seed);
    let sidecar = Sidecar {
        base_fingerprint: base.fingerprint,
        base_name: base.name,
    };
    adapter_folder::write(&arguments.out, &adapter, lora.dropout, &sidecar)
        .map_err(anyhow::Error::from)?;
    say!(
        "fresh adapter of {} modules, {} parameters, rank {}, for {} written to {}",
        adapter.layout().modules().len(),
        adapter.layout().parameters(),
        adapter.layout().rank(),
        sidecar.base_name,
        arguments.out.display()
    )?;
    Ok(())
}

/// Shows an adapter.
fn show(arguments: &AdapterShowArguments) -> Result<(), Failure> {
    let read = AdapterFolder::read(&arguments.folder).map_err(anyhow::Error::from)?;
    let layout = read.adapter.layout();
    let base = read.sidecar.as_ref();
    let facts = [
        ("base", base.map(|known| known.base_name.clone()).into()),
        (
            "base_fingerprint",
            base.map(|known| hex::encode(known.base_fingerprint)).into(),
        ),
        ("rank", layout.rank().into()),
        ("alpha", layout.alpha().into()),
        ("rslora", layout.rslora().into()),
        ("dropout", read.config.dropout.into()),
        ("target_modules", read.config.target_modules.clone().into()),
        ("modules", layout.modules().len().into()),
        ("parameters", layout.parameters().into()),
        ("norm", read.adapter.norm().into()),
        ("product_norm", read.adapter.product_norm().into()),
        ("layout_digest", hex::encode(layout.digest()).into()),
        ("sha256", hex::encode(read.adapter.sha256()).into()),
    ];
    if arguments.json {
        let facts = facts
            .into_iter()
            .map(|(key, value): (&str, serde_json::Value)| (key.to_owned(), value));
        say!("{}", serde_json::Value::Object(facts.collect()))?;
        return Ok(());
    }
    for (key, value) in facts {
        let value: serde_json::Value = value;
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        say!("{key:<17} {text}")?;
    }
    Ok(())
}
