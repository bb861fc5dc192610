//! `foedus-client policy check`: the verdict on a plan before its run begins.

use std::path::Path;

use jiff::Timestamp;
use protocol::{plan::CheckedPlan, quic::PartyCertificate};

use super::{answer::say, arguments::PolicyCheckArguments, failure::Failure, open};
use crate::{
    Config,
    config::Bytes,
    error::ClientError,
    ledger::Reading,
    policy::{Circumstances, SitePolicy},
    privacy::{BudgetError, Ledger, PrivacySettings},
};

/// Shows what a plan asks for and whether the policy allows it.
pub(super) fn check(arguments: &PolicyCheckArguments) -> Result<(), Failure> {
    let config = Config::read(&arguments.config)?;
    let Some(policy) = config.site_policy(&arguments.config)? else {
        return Err(Failure::configuration(format!(
            "{} names no policy: add policy = \"policy.toml\"",
            arguments.config.display()
        )));
    };
    let tls = config.tls.load().map_err(ClientError::from)?;
    let (plan, signer) = open::plan(&arguments.plan, &tls)?;
    say!("{}", summary(&plan, &signer))?;
    let circumstances = Circumstances {
        server_certificate: signer.fingerprint,
        now: Timestamp::now(),
        day_bytes: day_bytes(&config.ledger)?,
    };
    policy
        .check(&plan, &circumstances)
        .map_err(ClientError::from)?;
    say!("allowed by {}", policy.path().display())?;
    if plan.privacy.is_some() {
        show_spent(&config, &policy)?;
    }
    Ok(())
}

/// Shows what is left for a private plan of what the site allows over the lifetime of its data; how much the plan would take follows from
/// the records, which `run --check` reads.
fn show_spent(config: &Config, policy: &SitePolicy) -> Result<(), Failure> {
    let settings = config.private_settings(Some(policy));
    let PrivacySettings { ledger, budget, .. } = settings.map_err(ClientError::from)?;
    let counted = Ledger::read(&ledger).map_err(BudgetError::from);
    let counted = counted.and_then(|ledger| Ok(ledger.accountant(|_| true)?));
    let spent = counted.map_err(ClientError::from)?.cost(budget.delta());
    let (epsilon, most) = (spent.epsilon, budget.epsilon());
    say!(
        "of epsilon {most} at delta {}, which the site allows over the lifetime of its data, {epsilon:.3} is spent by {}",
        budget.delta(),
        ledger.display()
    )?;
    if most <= epsilon {
        let spent = "nothing is left of the site's privacy budget (E_DP_BUDGET): the client would decline this plan; raise epsilon_max under [privacy], as far \
             as the policy allows, or leave the run";
        return Err(anyhow::anyhow!(spent).into());
    }
    Ok(())
}

/// What has left in the last 24 hours.
fn day_bytes(path: &Path) -> Result<u64, Failure> {
    let reading = Reading::at(path).map_err(ClientError::from)?;
    Ok(reading.totals.day_bytes(Timestamp::now()))
}

fn summary(plan: &CheckedPlan, signer: &PartyCertificate) -> String {
    let (lora, training) = (&plan.lora, &plan.training);
    format!(
        "run {}, plan {}\n    signed by {}, certificate {}\n    base {} ({})\n    rank {} on {}\n    \
         {} rounds of {} steps, at least {} updates merged a round\n    {} an update, {}, {}",
        plan.run,
        plan.digest(),
        signer.identity,
        signer.fingerprint,
        plan.base.name,
        plan.base.fingerprint,
        lora.rank,
        lora.target_modules.join(", "),
        plan.rounds,
        training.local_steps,
        plan.cohort.quorum,
        Bytes(plan.update_bytes()),
        plan.secure_aggregation.map_or_else(
            || "unmasked".to_owned(),
            |masks| format!(
                "masked, no sum of fewer than {} is opened",
                masks.cohort_min
            ),
        ),
        plan.privacy.as_ref().map_or_else(
            || "without differential privacy".to_owned(),
            |privacy| format!(
                "epsilon at most {} at delta {}",
                privacy.epsilon_max, privacy.delta
            ),
        ),
    )
}
