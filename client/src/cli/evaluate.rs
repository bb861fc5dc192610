//! `foedus-client evaluate`.

use std::num::NonZeroUsize;

use finetune::{
    answers::{Scores, ask, questions},
    base::BaseModel,
    data::Dataset,
    model::LossSum,
};

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
    let adapter = adapter.as_ref().map(|read| &read.adapter);
    let loss = measure("evaluating", &base, adapter, &dataset)?;
    let asked = arguments.answers.map(NonZeroUsize::get);
    let scores =
        asked.map(|count| answers(&base, adapter, &dataset, count, arguments.max_new_tokens));
    let scores = scores.transpose()?;
    if arguments.json {
        let mut line = keys(&loss);
        if let Some(scores) = scores {
            line.insert(
                "answers".to_owned(),
                serde_json::to_value(scores).map_err(anyhow::Error::from)?,
            );
        }
        say!("{}", serde_json::Value::from(line))?;
        return Ok(());
    }
    say!("{}", sentence(&loss))?;
    if let Some(Scores {
        answers,
        exact,
        bleu,
        distinct_1,
        distinct_2,
    }) = scores
    {
        say!(
            "{answers} answers, {exact} as wanted, BLEU {bleu:.2}, distinct-1 {distinct_1:.4}, distinct-2 {distinct_2:.4}"
        )?;
    }
    Ok(())
}

/// Has the model answer some of the questions, spread over the data set, with progress on stderr.
fn answers(
    base: &BaseModel,
    adapter: Option<&aggregation::Adapter>,
    dataset: &Dataset,
    count: usize,
    max_new_tokens: usize,
) -> Result<Scores, Failure> {
    let all = questions(dataset, base);
    if all.is_empty() {
        return Err(Failure::usage(format!(
            "{} asks nothing: --answers needs prompts and completions, or messages, that are not longer than --max-tokens",
            dataset.source.display()
        )));
    }
    let count = count.min(all.len());
    let mut progress = Progress::begin("answering", count as u64);
    let mut given = Vec::with_capacity(count);
    for index in 0..count {
        let question = &all[index * all.len() / count];
        let answer = ask(base, adapter, question, max_new_tokens);
        given.push(answer.map_err(anyhow::Error::from)?);
        progress.show(given.len() as u64, count as u64, "answers");
    }
    progress.end();
    Ok(Scores::of(&given))
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
