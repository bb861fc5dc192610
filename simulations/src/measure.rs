//! Measuring a model on held-out and general text, with its progress shown.

use std::sync::Arc;

use aggregation::Adapter;
use finetune::base::BaseModel;
use finetune::data::Dataset;
use finetune::evaluate::evaluate;
use finetune::model::LossSum;

use crate::progress::Progress;
use crate::text::Text;

/// Losses of one model on everything there is.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Per institution, in the text's order.
    pub institutions: Vec<LossSum>,
    /// On general text.
    pub general: LossSum,
}

/// Measures one model: the base, or the base with an adapter.
///
/// # Errors
/// If a loss is not finite or nothing can be counted.
pub fn everything(
    base: &Arc<BaseModel>,
    adapter: Option<&Adapter>,
    text: &Text,
    progress: &Progress,
) -> anyhow::Result<Measured> {
    let institutions = text
        .institutions
        .iter()
        .map(|one| loss(base, adapter, &one.held_out, &one.name, progress))
        .collect::<anyhow::Result<_>>()?;
    let general = loss(base, adapter, &text.general, "general English", progress)?;
    Ok(Measured {
        institutions,
        general,
    })
}

/// Measures one model on one data set.
///
/// # Errors
/// As [`everything`].
pub fn loss(
    base: &Arc<BaseModel>,
    adapter: Option<&Adapter>,
    dataset: &Dataset,
    label: &str,
    progress: &Progress,
) -> anyhow::Result<LossSum> {
    let task = progress.task(label, dataset.examples.len() as u64);
    let measured = evaluate(base, adapter, dataset, &mut |report| {
        task.set(report.done as u64, "");
    })?;
    Ok(measured)
}
