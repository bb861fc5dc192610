//! The site that trains: from the server's plan to a trainer, or to a reason why not.

use std::{path::PathBuf, sync::Arc};

use aggregation::{Adapter, AdapterLayout, ewc::Anchor, peft::Sidecar, privacy::Budget};
use finetune::{
    base::BaseModel,
    data::Dataset,
    model::Checkpointing,
    recipe::Recipe,
    train::{AnchorPull, Trainer},
};
use protocol::{
    Text,
    plan::{CheckedPlan, EwcPlace, PrivacyPlan, PrivacyUnit},
};

use crate::{
    adapter_folder,
    error::ClientError,
    privacy::{BudgetError, Noise, PrivacySettings, PrivateLearner, PrivateTerms, RunBudget},
    settings::TrainingText,
    site::{Agreement, Learner, Site},
    terms::{self, Objection, Terms},
};

/// A base model and the text to tune it on.
pub(super) struct TrainingSite {
    pub(super) base: Arc<BaseModel>,
    pub(super) text: TrainingText,
    /// Memory is the site's affair: it changes no result, so the plan says nothing about it.
    pub(super) checkpointing: Checkpointing,
    /// What private training may cost here, and where it is counted.
    pub(super) privacy: Option<PrivacySettings>,
    /// Whether the training loss leaves.
    pub(super) share_train_loss: bool,
    /// Where the final adapter goes.
    pub(super) out: Option<PathBuf>,
}

impl Site for TrainingSite {
    /// Compares the plan with our base model and tokenizes the training text for it.
    fn agree(&self, plan: &CheckedPlan) -> Result<Box<dyn Agreement>, ClientError> {
        let terms = terms::check(plan.plan(), &self.base)?;
        let is_private = plan.privacy.is_some() || plan.participant_privacy.is_some();
        if is_private && self.share_train_loss {
            return Err(Objection::PlainMetrics.into());
        }
        if plan.privacy.is_none()
            && let Some(settings) = &self.privacy
            && settings.declines_unprotected().map_err(BudgetError::from)?
        {
            return Err(Objection::Unprotected.into());
        }
        let dataset = read(&self.text, &self.base, &terms)?;
        let private = plan.privacy.as_ref();
        let private = private.map(|asked| self.private(plan, asked, &dataset, &terms.recipe));
        Ok(Box::new(TrainingAgreement {
            plan: plan.clone(),
            private: private.transpose()?,
            recipe: Recipe {
                checkpointing: self.checkpointing,
                ..terms.recipe
            },
            layout: terms.layout,
            base: Arc::clone(&self.base),
            dataset,
            out: self.out.clone(),
        }))
    }
}

/// A plan that can be trained by, with what it takes.
struct TrainingAgreement {
    plan: CheckedPlan,
    layout: Arc<AdapterLayout>,
    recipe: Recipe,
    base: Arc<BaseModel>,
    dataset: Arc<Dataset>,
    private: Option<PrivateTerms>,
    out: Option<PathBuf>,
}

impl Agreement for TrainingAgreement {
    fn layout(&self) -> &Arc<AdapterLayout> {
        &self.layout
    }

    fn learner(
        &self,
        anchor: Option<&[u8]>,
        earlier: Option<&[u8]>,
    ) -> Result<Box<dyn Learner>, ClientError> {
        let (llama, dataset) = (Arc::clone(&self.base.llama), Arc::clone(&self.dataset));
        let (seed, pull) = (self.plan.plan().seed, self.pull(anchor)?);
        let mut trainer = Trainer::new(llama, dataset, self.recipe.clone(), seed, pull)?;
        if let Some(private) = &self.private {
            trainer = trainer.with_privacy(private.steps()?)?;
        }
        if let Some(earlier) = earlier {
            trainer.resume(&self.layout, earlier)?;
        }
        Ok(match &self.private {
            Some(private) => Box::new(PrivateLearner::new(trainer, private.account.clone())),
            None => Box::new(trainer),
        })
    }

    fn keep(&self, adapter: &Adapter) -> Result<(), ClientError> {
        let Some(out) = &self.out else {
            return Ok(());
        };
        let sidecar = Sidecar {
            base_fingerprint: self.base.fingerprint,
            base_name: self.base.name.clone(),
        };
        let dropout = self.plan.plan().lora.dropout;
        Ok(adapter_folder::write(out, adapter, dropout, &sidecar)?)
    }
}

impl TrainingAgreement {
    /// The pull toward the anchor, if it is the participants' business.
    fn pull(&self, anchor: Option<&[u8]>) -> Result<Option<AnchorPull>, ClientError> {
        let Some(ewc) = &self.plan.plan().ewc else {
            return Ok(None);
        };
        if ewc.place != EwcPlace::Client {
            return Ok(None);
        }
        let missing = || ClientError::Internal {
            what: "the anchor is missing".to_owned(),
        };
        let anchor = Anchor::from_bytes(anchor.ok_or_else(missing)?)?;
        let anchor = anchor.bind(&self.layout, &self.base.fingerprint)?;
        Ok(Some(AnchorPull {
            anchor,
            lambda: ewc.lambda,
        }))
    }
}

impl TrainingSite {
    /// What the plan's privacy means on this site's records, if its whole run fits into the budgets.
    fn private(
        &self,
        plan: &CheckedPlan,
        asked: &PrivacyPlan,
        dataset: &Dataset,
        recipe: &Recipe,
    ) -> Result<PrivateTerms, ClientError> {
        let settings = self.privacy.as_ref().ok_or(Objection::NoLedger)?;
        if asked.unit == PrivacyUnit::Group && settings.group_by.is_none() {
            return Err(Objection::NoGroups.into());
        }
        let limit = Budget::new(asked.epsilon_max, asked.delta).map_err(BudgetError::from)?;
        let run = RunBudget {
            purpose: format!("run {}", plan.run),
            training: plan.digest(),
            limit: Some(limit),
        };
        let file = match &self.text {
            TrainingText::File(file) => Some(file.as_path()),
            TrainingText::Ready(_) => None,
        };
        let noise = Noise {
            clip_norm: asked.clip_norm,
            noise_multiplier: asked.noise_multiplier,
            expected_units: recipe.step_examples() as f64,
        };
        let terms = PrivateTerms::new(settings, run, dataset, file, noise)?;
        terms.account.check(recipe.total_steps)?;
        Ok(terms)
    }
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
        ClientError::Policy(refusal) => refusal.for_server(),
        ClientError::Declined(objection) => Text::new(&objection.for_server()),
        // Not by how much: that would tell how many records there are.
        ClientError::Budget(_) => Text::new("this site's privacy budget does not allow the plan"),
        _ => Text::new("this site's training text cannot be used with the plan"),
    }
}
