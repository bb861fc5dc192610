//! `foedus-client evaluate`.

use finetune::{base::BaseModel, data::Dataset, model::LossSum};

use super::{
    answer::say, arguments::EvaluateArguments, failure::Failure, open, progress::Progress,
};

/// Evaluates and prints the result.
pub(super) fn evaluate(arguments: &EvaluateArguments) -> Result<(), Failure> {
    let base = open::base(&arguments.model)?;
    let dataset = open::dataset(&arguments.data, &base, arguments.max_tokens)?;
    let adapter = arguments
        .adapter
        .as_deref()
        .map(|folder| open::adapter(folder, &base));
    let adapter = adapter.transpose()?;
    let loss = measure(
        "evaluating",
        &base,
        adapter.as_ref().map(|read| &read.adapter),
        &dataset,
    )?;
    if arguments.json {
        say!("{}", serde_json::Value::from(keys(&loss)))?;
    } else {
        say!("{}", sentence(&loss))?;
    }
    Ok(())
}

/// Evaluates with progress on stderr.
pub(super) fn measure(
    label: &str,
    base: &BaseModel,
    adapter: Option<&aggregation::Adapter>,
    dataset: &Dataset,
) -> Result<LossSum, Failure> {
    let mut progress = Progress::begin(label, dataset.examples.len() as u64);
    let loss = finetune::evaluate::evaluate(base, adapter, dataset, &mut |report| {
        let state = format!("loss {:.4}", report.loss.mean());
        progress.show(report.done as u64, report.examples as u64, &state);
    });
    progress.end();
    Ok(loss.map_err(anyhow::Error::from)?)
}

/// Gives the result in words.
pub(super) fn sentence(loss: &LossSum) -> String {
    format!(
        "loss {:.6} nats per token, perplexity {:.4}, over {} response tokens",
        loss.mean(),
        loss.perplexity(),
        loss.tokens
    )
}

/// Gives the result as the keys of a JSON object.
pub(super) fn keys(loss: &LossSum) -> serde_json::Map<String, serde_json::Value> {
    let mut keys = serde_json::Map::new();
    keys.insert("nats".to_owned(), loss.nats.into());
    keys.insert("tokens".to_owned(), loss.tokens.into());
    keys.insert("loss".to_owned(), loss.mean().into());
    keys.insert("perplexity".to_owned(), loss.perplexity().into());
    keys
}
