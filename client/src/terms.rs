//! Whether a run plan can be agreed to, and what it means in the words of the training engine.
//!
//! The first thing after the signature and before any training: another base model, a layout that does not follow from the
//! plan's own LoRA section, or a recipe that cannot be trained with are declined here. What a site's own policy allows is a
//! later gate and not this one.

use std::sync::Arc;

use aggregation::{
    AdapterLayout,
    masking::{FixedRing, Ring},
    privacy::{Accountant, Budget, PrivacyError, SampledGaussian},
};
use finetune::{
    LoadError,
    base::BaseModel,
    lora::{LoraConfig, Projection},
    recipe::{Recipe, RecipeError},
    schedule::Schedule,
};
use protocol::{
    Digest,
    plan::{ClipPlan, RingBits, RunPlan, Schedule as PlanSchedule},
};

/// What a checked plan asks of the training engine.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The adapter's layout on our base model.
    pub layout: Arc<AdapterLayout>,
    /// How to train.
    pub recipe: Recipe,
}

/// Why a plan cannot be agreed to, in a sentence for the site; the server gets [`Objection::for_server`].
#[derive(Debug, thiserror::Error)]
pub enum Objection {
    /// Our base model is another one.
    #[error(
        "the run is about base model {wanted_name} with fingerprint {wanted}, but this site has {found_name} with {found}: \
         its weights, config.json, tokenizer and chat template must be those of one revision"
    )]
    OtherBase {
        /// The plan's name for its base.
        wanted_name: String,
        /// The plan's fingerprint.
        wanted: Digest,
        /// Our base model's name.
        found_name: String,
        /// Our base model's fingerprint.
        found: Digest,
    },
    /// A projection that no Llama has.
    #[error("the plan adapts {name:?}, which is no projection of a Llama model")]
    UnknownProjection {
        /// The plan's name for it.
        name: String,
    },
    /// The layout cannot be made on our base model.
    #[error("the plan's LoRA section does not fit the base model: {0}")]
    Layout(#[from] LoadError),
    /// The layout is another one than the plan says.
    #[error(
        "the plan's layout digest is {wanted}, but its LoRA section (modules, rank, alpha, rsLoRA) gives {found} on this base model \
         (E_SCALE_MISMATCH)"
    )]
    OtherLayout {
        /// The plan's digest.
        wanted: Digest,
        /// What its LoRA section gives.
        found: Digest,
    },
    /// No fixed point fits the plan's ring.
    #[error("the plan's ring section cannot be used: {0}")]
    Ring(#[from] aggregation::masking::RingError),
    /// The plan asks for private updates, and nothing at this site counts what they cost.
    #[error("the plan asks for differential privacy, but this site keeps no privacy ledger")]
    NoLedger,
    /// The plan asks for no privacy, and this site counts what training costs its records.
    #[error(
        "the plan trains without differential privacy, which nothing counts, and this site's [privacy] bounds what all training costs \
         its records; only [privacy] required = false in client.toml lets such plans in"
    )]
    Unprotected,
    /// The plan protects persons, and this site has not said which records are one person's.
    #[error(
        "the plan protects all records of a person together, but this site's [privacy] group_by does not say which records these are"
    )]
    NoGroups,
    /// The site would send a number without noise beside private updates.
    #[error(
        "the plan asks for differential privacy, but this site's [share] train_loss would send the training loss, which tells about \
         records and has no noise on it (E_DP_METRICS); set it to false"
    )]
    PlainMetrics,
    /// The plan does not keep what it promises participants.
    #[error("the plan's participant_privacy section cannot be believed: {0}")]
    Promise(String),
    /// Longer texts than the base model reads.
    #[error(
        "the plan's training.max_tokens is {asked}, but the base model reads texts of at most {context} tokens: it must not be above that"
    )]
    LongTexts {
        /// The plan's longest text, in tokens.
        asked: usize,
        /// The base model's context, in tokens.
        context: usize,
    },
    /// The recipe cannot be trained with.
    #[error("the plan's training section cannot be used: {0}")]
    Recipe(#[from] RecipeError),
}

impl Objection {
    /// Gives the sentence that the server may know: what the plan asks and what this site requires, but nothing of its files.
    pub fn for_server(&self) -> String {
        match self {
            Self::OtherBase { .. } => "this site has another base model than the plan's".to_owned(),
            Self::Layout(_) => "the plan's LoRA section does not fit the base model".to_owned(),
            _ => self.to_string(),
        }
    }
}

/// Gives the training recipe of a run plan: the same for a participant and for the baseline that trains alone.
pub fn recipe_of(plan: &RunPlan) -> Recipe {
    let training = &plan.training;
    Recipe {
        learning_rate: training.learning_rate,
        schedule: match training.schedule {
            PlanSchedule::Constant => Schedule::Constant,
            PlanSchedule::Linear => Schedule::Linear,
            PlanSchedule::Cosine => Schedule::Cosine,
        },
        warmup_steps: u64::from(training.warmup_steps),
        total_steps: u64::from(plan.rounds) * u64::from(training.local_steps),
        batch_examples: training.batch_examples as usize,
        accumulation: training.accumulation as usize,
        max_tokens: training.max_tokens as usize,
        clip_norm: Some(training.clip_norm),
        weight_decay: training.weight_decay,
        dropout: plan.lora.dropout,
        ..Recipe::default()
    }
}

/// Gives the LoRA configuration of a run plan.
///
/// # Errors
/// [`Objection::UnknownProjection`].
pub fn lora_of(plan: &RunPlan) -> Result<LoraConfig, Objection> {
    let lora = &plan.lora;
    let projection = |name: &String| {
        name.parse::<Projection>()
            .map_err(|_| Objection::UnknownProjection { name: name.clone() })
    };
    Ok(LoraConfig {
        rank: lora.rank as usize,
        alpha: lora.alpha,
        dropout: lora.dropout,
        rslora: lora.rslora,
        target_modules: lora
            .target_modules
            .iter()
            .map(projection)
            .collect::<Result<_, _>>()?,
    })
}

/// Gives the fixed point in which a run plan has updates travel, if it does.
///
/// # Errors
/// [`Objection::Ring`].
pub fn ring_of(plan: &RunPlan) -> Result<Option<FixedRing>, Objection> {
    let Some(ring) = &plan.ring else {
        return Ok(None);
    };
    let bits = match ring.bits {
        RingBits::Bits16 => Ring::Bits16,
        RingBits::Bits24 => Ring::Bits24,
        RingBits::Bits32 => Ring::Bits32,
    };
    let fixed = FixedRing::for_bounds(bits, plan.limits.participants_max, ring.value_max)?;
    Ok(Some(fixed))
}

/// Gives the norm to which this site shrinks its updates before they leave, if the plan protects participants by a fixed one.
///
/// With a norm that follows the updates it is the server that shrinks them. Of updates in the ring nobody sees the norm, so what
/// rounding may add is taken off beforehand.
pub fn clip_of(plan: &RunPlan) -> Option<f64> {
    match plan.participant_privacy.as_ref()?.clip {
        ClipPlan::Fixed { norm } => Some(norm - plan.ring_rounding_norm().unwrap_or(0.0)),
        ClipPlan::Adaptive { .. } => None,
    }
}

/// Checks that the rounds of a plan that protects participants cost them no more than it says.
fn check_participant_budget(plan: &RunPlan) -> Result<(), Objection> {
    let Some(asked) = &plan.participant_privacy else {
        return Ok(());
    };
    let senseless = |error: PrivacyError| Objection::Promise(error.to_string());
    let budget = Budget::new(asked.epsilon_max, asked.delta).map_err(senseless)?;
    let step = SampledGaussian::new(1.0, asked.noise_multiplier).map_err(senseless)?;
    let run = Accountant::default().with(step, u64::from(plan.rounds));
    if run.is_within(budget) {
        return Ok(());
    }
    let found = run.cost(asked.delta).epsilon;
    Err(Objection::Promise(format!(
        "its {} rounds cost epsilon {found:.3} at delta {}, more than its epsilon_max of {} (E_DP_BUDGET)",
        plan.rounds, asked.delta, asked.epsilon_max
    )))
}

/// Checks a plan against our base model.
///
/// # Errors
/// The first [`Objection`].
pub fn check(plan: &RunPlan, base: &BaseModel) -> Result<Terms, Objection> {
    let found = Digest(base.fingerprint);
    if plan.base.fingerprint != found {
        return Err(Objection::OtherBase {
            wanted_name: plan.base.name.clone(),
            wanted: plan.base.fingerprint,
            found_name: base.name.clone(),
            found,
        });
    }
    ring_of(plan)?;
    check_participant_budget(plan)?;
    let layout = base.adapter_layout(&lora_of(plan)?)?;
    let found = Digest(layout.digest());
    if plan.layout_digest != found {
        return Err(Objection::OtherLayout {
            wanted: plan.layout_digest,
            found,
        });
    }
    let recipe = recipe_of(plan);
    recipe.check()?;
    // Whether a text is that long must not show in whether the training of a round fails.
    let (asked, context) = (
        recipe.max_tokens,
        base.llama.config().max_position_embeddings,
    );
    if context < asked {
        return Err(Objection::LongTexts { asked, context });
    }
    Ok(Terms {
        layout: Arc::new(layout),
        recipe,
    })
}
