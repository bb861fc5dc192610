//! From the server's signed plan to something to train with, or to a reason why not.

use std::sync::Arc;

use finetune::{base::BaseModel, data::Dataset};
use protocol::{Text, plan::CheckedPlan};

use super::happening::Agreed;
use crate::{
    error::ClientError,
    settings::TrainingText,
    terms::{self, Terms},
};

/// Compares a plan with our base model and tokenizes the training text for it. Takes its time: for a blocking thread.
pub(super) fn agree(
    plan: CheckedPlan,
    base: &BaseModel,
    text: &TrainingText,
) -> Result<Agreed, ClientError> {
    let terms = terms::check(plan.plan(), base)?;
    let dataset = read(text, base, &terms)?;
    Ok(Agreed {
        plan,
        terms,
        dataset,
    })
}

fn read(text: &TrainingText, base: &BaseModel, terms: &Terms) -> Result<Arc<Dataset>, ClientError> {
    let limit = terms.recipe.max_tokens;
    let dataset = match text {
        TrainingText::File(path) => {
            return Ok(Arc::new(Dataset::load_jsonl(path, &base.tokenizer, limit)?));
        }
        TrainingText::Ready(dataset) => dataset,
    };
    let longest = dataset
        .examples
        .iter()
        .map(|example| example.tokens.len())
        .max();
    match longest.filter(|&found| found > limit) {
        Some(found) => {
            let source_name = dataset.source.display().to_string();
            Err(ClientError::LongExample {
                source_name,
                found,
                limit,
            })
        }
        None => Ok(Arc::clone(dataset)),
    }
}

/// Gives the reason that the server may know. Nothing about the site's files and data leaves with it.
pub(super) fn reason_for_server(error: &ClientError) -> Text {
    match error {
        ClientError::Declined(objection) => Text::new(&objection.to_string()),
        _ => Text::new("this site's training text cannot be used with the plan"),
    }
}
