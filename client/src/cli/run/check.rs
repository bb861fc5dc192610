//! What `run` finds out before it connects to anybody: whether there is a place for its result, and, for `--check`, whether the text and
//! the base model can be used at all. Whether they suit a plan is known when there is one.

use std::path::Path;

use finetune::{
    base::BaseFiles,
    data::Dataset,
    device::{self, Device},
    privacy::Units,
};

use crate::{
    Config, ConfigError, SitePolicy, adapter_folder,
    cli::failure::Failure,
    error::ClientError,
    ledger::Reading,
    privacy::{BudgetError, Ledger},
};

/// Checks that the final adapter takes the place of nothing but an earlier adapter.
pub(super) fn place(config: &Config, file: &Path) -> Result<(), ConfigError> {
    let kept = [&config.state, &config.ledger, &config.privacy.ledger];
    let kept = kept.map(|path| path.as_path());
    adapter_folder::check_place(&config.out, &kept).map_err(|refused| ConfigError::Value {
        path: file.to_owned(),
        key: "out",
        found: format!("{:?}", config.out),
        rule: refused.to_string(),
    })
}

/// Opens the device that the run is to use.
pub(super) fn device(config: &Config, file: &Path) -> Result<Device, ConfigError> {
    device::open(config.device).map_err(|error| ConfigError::Value {
        path: file.to_owned(),
        key: "device",
        found: config.device.to_string(),
        rule: error.to_string(),
    })
}

/// Reads what a run would read at this site: the model's files but for the bytes of the weights, every record and both ledgers.
pub(super) fn material(config: &Config, policy: Option<&SitePolicy>) -> Result<(), Failure> {
    let tokenizer = BaseFiles::inspect(&config.model).map_err(anyhow::Error::from)?;
    // No plan has said yet how long an example may be.
    let dataset = Dataset::load_jsonl(&config.data, &tokenizer, usize::MAX);
    let dataset = dataset.map_err(anyhow::Error::from)?;
    let privacy = super::privacy(config, policy)?;
    Reading::at(&config.ledger).map_err(ClientError::from)?;
    Ledger::read(&privacy.ledger)
        .map_err(BudgetError::from)
        .map_err(ClientError::from)?;
    if let Some(field) = &privacy.group_by {
        Units::groups(&dataset, &config.data, field, privacy.records_max)
            .map_err(anyhow::Error::from)?;
    }
    Ok(())
}
