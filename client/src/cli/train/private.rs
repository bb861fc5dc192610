//! What `--dp` means on one data set: the budget of all training on it, the policy's bounds on that and on this training, the noise that
//! keeps within both, and the account that counts the steps.

use std::path::Path;

use aggregation::privacy::{Accountant, Budget, PrivacyError, SampledGaussian};
use finetune::data::Dataset;

use crate::{
    cli::{
        arguments::{PrivateArguments, TrainArguments},
        failure::Failure,
        training::noise_begun_with,
    },
    error::ClientError,
    policy::SitePolicy,
    privacy::{Noise, PrivacySettings, PrivateTerms, RunBudget, ledger_beside, noise_for},
};

/// Finds the terms of private training, if that is asked for.
pub(super) fn terms(
    arguments: &TrainArguments,
    dataset: &Dataset,
) -> Result<Option<PrivateTerms>, Failure> {
    let asked = &arguments.private;
    if !asked.dp {
        return Ok(None);
    }
    check_usage(arguments)?;
    let policy = asked.dp_policy.as_deref().map(SitePolicy::read);
    let policy = policy.transpose()?;
    let data = arguments.data.as_path();
    let settings = settings(asked, policy.as_ref(), data)?;
    let of_run = policy.as_ref().map(of_run).transpose()?.flatten();
    let recipe = arguments
        .recipe
        .recipe(arguments.lora.dropout, dataset.examples.len());
    let (steps, expected_units) = (recipe.total_steps, recipe.step_examples() as f64);
    let begun_with = arguments.checkpoint.as_deref().map(noise_begun_with);
    let noise_multiplier = match asked.dp_noise.or(begun_with.transpose()?.flatten()) {
        Some(noise) => noise,
        None => {
            noise_for(&settings, of_run, dataset, data, (expected_units, steps)).map_err(alone)?
        }
    };
    let noise = Noise {
        clip_norm: asked.dp_clip_norm,
        noise_multiplier,
        expected_units,
    };
    let run = RunBudget::alone();
    let terms = PrivateTerms::new(&settings, run, dataset, Some(data), noise).map_err(alone)?;
    if let (Some(policy), Some(most)) = (&policy, of_run) {
        check_run(policy, most, terms.account.step(), steps)?;
    }
    // Without a single step left there is nothing to train.
    terms.account.check_next(1).map_err(ClientError::from)?;
    Ok(Some(terms))
}

/// Refuses what no epsilon counts, and what a file cannot say.
fn check_usage(arguments: &TrainArguments) -> Result<(), Failure> {
    if arguments.patience.is_some() {
        return Err(Failure::usage(
            "--patience with --dp: early stopping chooses by held-out records, which no epsilon counts; train a fixed number of steps instead",
        ));
    }
    let is_text = arguments
        .data
        .extension()
        .is_some_and(|extension| extension == "txt");
    if arguments.private.dp_group_by.is_some() && is_text {
        return Err(Failure::usage(
            "--dp-group-by needs JSON records: a text file has no fields",
        ));
    }
    Ok(())
}

/// What all private training on the data may cost, and where it is counted.
fn settings(
    asked: &PrivateArguments,
    policy: Option<&SitePolicy>,
    data: &Path,
) -> Result<PrivacySettings, Failure> {
    let budget = Budget::new(asked.dp_epsilon, asked.dp_delta);
    let budget = budget.map_err(|error| Failure::usage(error.to_string()))?;
    let named = policy.and_then(SitePolicy::privacy_ledger);
    let ledger = match (&asked.dp_ledger, named) {
        (Some(asked), Some(named)) if *asked != named => {
            return Err(Failure::usage(format!(
                "--dp-ledger {}: by the policy, all private training on this site's data is counted in {}",
                asked.display(),
                named.display()
            )));
        }
        (Some(ledger), _) => ledger.clone(),
        (None, Some(named)) => named,
        (None, None) => ledger_beside(data).map_err(ClientError::from)?,
    };
    let settings = PrivacySettings {
        ledger,
        budget,
        group_by: asked.dp_group_by.clone(),
        records_max: asked.dp_records_max,
        required: None,
    };
    match policy {
        Some(policy) => within(settings, policy),
        None => Ok(settings),
    }
}

/// Bounds the budget by the policy's, and looks whether what it wants protected is.
fn within(settings: PrivacySettings, policy: &SitePolicy) -> Result<PrivacySettings, Failure> {
    let file = policy.path().display();
    let Some(bound) = policy.lifetime_privacy() else {
        return Err(Failure::configuration(format!(
            "{file} has no [privacy] section and bounds no private training: leave --dp-policy out, or write the section"
        )));
    };
    if let (Some(line), None) = (policy.wants_groups(), &settings.group_by) {
        return Err(Failure::configuration(format!(
            "{file}:{line} wants all records of a person protected together: name the field by which they belong together, by --dp-group-by"
        )));
    }
    let bounded = settings.bounded(bound);
    bounded.map_err(|error| unusable(policy, &error))
}

/// What this training alone may cost.
fn of_run(policy: &SitePolicy) -> Result<Option<Budget>, Failure> {
    let budget = |[(epsilon, _), (delta, _)]: [(f64, usize); 2]| Budget::new(epsilon, delta);
    let of_run = policy.of_run().map(budget).transpose();
    of_run.map_err(|error| unusable(policy, &error))
}

fn unusable(policy: &SitePolicy, error: &PrivacyError) -> Failure {
    Failure::configuration(format!("{}: {error}", policy.path().display()))
}

/// Refuses a training that alone costs more than the policy allows a run: all its steps, also those that were taken before it was stopped.
fn check_run(
    policy: &SitePolicy,
    most: Budget,
    step: SampledGaussian,
    steps: u64,
) -> Result<(), Failure> {
    let whole = Accountant::default().with(step, steps);
    if whole.is_within(most) {
        return Ok(());
    }
    let line = policy.of_run().map_or(0, |[(_, line), _]| line);
    Err(Failure::configuration(format!(
        "{}:{line}: privacy.epsilon_run_max is {}, and this training would cost {:.3} at delta {}: train fewer steps or with more noise",
        policy.path().display(),
        most.epsilon(),
        whole.cost(most.delta()).epsilon,
        most.delta()
    )))
}

/// Training alone knows no run plan that could be declined: text that cannot be used speaks for itself.
fn alone(error: ClientError) -> Failure {
    match error {
        ClientError::Data(error) => anyhow::Error::from(error).into(),
        error => error.into(),
    }
}
