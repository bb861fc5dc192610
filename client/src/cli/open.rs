//! Opens what the arguments name: models, adapters, data sets and plans.

#[cfg(test)]
mod properties;

use std::{path::Path, sync::Arc, time::SystemTime};

use anyhow::Context as _;
use finetune::{
    base::{BaseFiles, BaseModel},
    data::{Dataset, Record},
    device::{self, DeviceChoice},
    precision::BasePrecision,
};
use protocol::{
    plan::CheckedPlan,
    quic::{PartyCertificate, PlanFile, TlsMaterial},
};

use super::{arguments::ModelArguments, failure::Failure, progress::Progress};
use crate::{adapter_folder::AdapterFolder, durable};

/// Loads the base model that the arguments name.
pub(super) fn base(arguments: &ModelArguments) -> Result<Arc<BaseModel>, Failure> {
    base_on(&arguments.model, arguments.device, arguments.base_precision)
}

/// Loads a base model onto a device.
pub(super) fn base_on(
    path: &Path,
    device: DeviceChoice,
    precision: BasePrecision,
) -> Result<Arc<BaseModel>, Failure> {
    let device = device::open(device).map_err(anyhow::Error::from)?;
    let files = files(path)?;
    let base = files
        .load(&device, precision)
        .map_err(anyhow::Error::from)?;
    Ok(Arc::new(base))
}

/// Opens a base model's files; all of their bytes are hashed, which a large model takes a while for.
pub(super) fn files(path: &Path) -> Result<BaseFiles, Failure> {
    let mut progress = Progress::begin(format!("reading {}", path.display()), 0);
    let files = BaseFiles::open_observed(path, &mut |read| {
        const MIB: u64 = 1 << 20;
        progress.show(read.done / MIB, read.total / MIB, "MiB");
    });
    progress.end();
    Ok(files.map_err(anyhow::Error::from)?)
}

/// Reads an adapter and refuses one that was made for another base or does not fit this one.
pub(super) fn adapter(folder: &Path, base: &BaseModel) -> Result<AdapterFolder, Failure> {
    let read = AdapterFolder::read(folder).map_err(anyhow::Error::from)?;
    read.check_base(folder, &base.fingerprint)
        .map_err(anyhow::Error::from)?;
    Ok(read)
}

/// Reads a plan that an operator sent, and believes it as one that came over a connection: by its signature.
pub(super) fn plan(
    path: &Path,
    tls: &TlsMaterial,
) -> Result<(CheckedPlan, PartyCertificate), Failure> {
    let advice = || {
        format!(
            "{} cannot be used: ask the operator for what foedus-server --write-plan wrote",
            path.display()
        )
    };
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = PlanFile::from_pem(&bytes).with_context(advice)?;
    Ok(file.open(tls, SystemTime::now()).with_context(advice)?)
}

/// Reads and tokenizes a data set, and refuses one that the model cannot read.
pub(super) fn dataset(
    file: &Path,
    base: &BaseModel,
    max_tokens: usize,
) -> Result<Arc<Dataset>, Failure> {
    let tokenizer = &base.tokenizer;
    if max_tokens < 2 {
        return Err(Failure::usage("--max-tokens must be at least 2"));
    }
    let dataset = if file.extension().is_some_and(|extension| extension == "txt") {
        let text = std::fs::read_to_string(file);
        let text = text.with_context(|| format!("cannot read {}", file.display()))?;
        Dataset::from_records(file, passages(&text), tokenizer, max_tokens)
    } else {
        Dataset::load_jsonl(file, tokenizer, max_tokens)
    };
    let dataset = dataset.map_err(anyhow::Error::from)?;
    let context = base.llama.config().max_position_embeddings;
    let mut examples = dataset.examples.iter();
    if let Some(long) = examples.find(|example| context < example.tokens.len()) {
        return Err(Failure::usage(format!(
            "{}:{}: the record has {} tokens, but the model reads texts of at most {context}: set max-tokens to {context} or less, and \
             longer ones are cut",
            file.display(),
            long.line,
            long.tokens.len()
        )));
    }
    Ok(Arc::new(dataset))
}

/// Splits plain text at its blank lines.
fn passages(text: &str) -> Vec<Record> {
    let text = text.replace("\r\n", "\n");
    let passages = text
        .split("\n\n")
        .map(str::trim)
        .filter(|passage| !passage.is_empty());
    passages
        .map(|passage| Record::Text(passage.to_owned()))
        .collect()
}

/// Finds out whether a file can be written, before there is anything to write.
pub(super) fn place(file: &Path) -> Result<(), Failure> {
    let tried = durable::try_place(file).map_err(|(found, cause)| {
        let what = format!(
            "{} cannot be written, because of {}",
            file.display(),
            found.display()
        );
        anyhow::Error::from(cause).context(what)
    });
    Ok(tried?)
}

/// Makes the folder that a file is to be written to.
pub(super) fn parent_of(file: &Path) -> Result<(), Failure> {
    let Some(folder) = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    else {
        return Ok(());
    };
    let made = std::fs::create_dir_all(folder);
    Ok(made.with_context(|| format!("cannot make the folder {}", folder.display()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_split_at_blank_lines() {
        let split = passages("one\ntwo\r\n\r\n\n\nthree\n");
        assert_eq!(
            split,
            [
                Record::Text("one\ntwo".to_owned()),
                Record::Text("three".to_owned())
            ]
        );
    }
}
