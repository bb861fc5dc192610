//! `foedus-client policy check`: the verdict on a plan before its run begins.

use std::path::Path;

use anyhow::Context as _;
use jiff::Timestamp;
use protocol::{plan::CheckedPlan, quic::PartyCertificate};

use super::{answer::say, arguments::PolicyCheckArguments, failure::Failure, open};
use crate::{Config, config::Bytes, error::ClientError, ledger::Reading, policy::Circumstances};

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
    Ok(())
}

/// What has left in the last 24 hours. A site that never took part has no ledger yet.
fn day_bytes(path: &Path) -> Result<u64, Failure> {
    if !path.exists() {
        return Ok(0);
    }
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let reading = Reading::of(&bytes).with_context(|| format!("{} is damaged", path.display()))?;
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
