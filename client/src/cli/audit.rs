//! `foedus-client audit`: what a training on this site's text would give away, before the site says yes.

use std::{ops::ControlFlow, path::Path};

use anyhow::Context as _;
use finetune::train::StepReport;
use protocol::plan::PrivacyUnit;

use super::{answer::say, arguments::AuditArguments, failure::Failure, open, progress::Progress};
use crate::{
    Config,
    audit::{self, AuditNoise, AuditSettings},
    error::ClientError,
    recipe_of,
    terms::lora_of,
};

pub(super) fn audit(arguments: &AuditArguments) -> Result<(), Failure> {
    let config = Config::read(&arguments.config)?;
    let planned = arguments
        .plan
        .as_ref()
        .map(|plan| of_plan(plan, &config))
        .transpose()?;
    let max_tokens = planned
        .as_ref()
        .map_or(arguments.recipe.max_tokens, |planned| {
            planned.recipe.max_tokens
        });
    let out = &arguments.out;
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    open::place(&out.join("audit.html"))?;
    let base = open::base_on(&config.model, config.device, config.base_precision)?;
    let text = open::dataset(&config.data, &base, max_tokens)?;
    let settings = AuditSettings {
        seed: arguments.recipe.seed,
        candidates: arguments.candidates,
        coins: arguments.coins,
        ..planned.unwrap_or_else(|| {
            let (lora, recipe) = (&arguments.lora, &arguments.recipe);
            let recipe = recipe.recipe(lora.dropout, text.examples.len());
            AuditSettings::new(recipe, lora.config())
        })
    };
    let mut progress = Progress::begin(
        "training with canaries".to_owned(),
        settings.recipe.total_steps,
    );
    let mut observe = |report: &StepReport| {
        progress.show(report.step + 1, settings.recipe.total_steps, "steps");
        ControlFlow::Continue(())
    };
    let findings =
        audit::audit(&base, &text, &settings, &mut observe).map_err(anyhow::Error::from)?;
    progress.end();
    write(
        &arguments.out.join("audit.html"),
        &audit::to_html(&findings),
    )?;
    let json = serde_json::to_string_pretty(&findings)
        .context("the findings cannot be written as JSON")?;
    write(&arguments.out.join("audit.json"), &json)?;
    let leaks = findings.leaks();
    for leak in &leaks {
        say!("{leak}")?;
    }
    say!(
        "{} leak(s) found; {} shows them",
        leaks.len(),
        arguments.out.join("audit.html").display()
    )?;
    Ok(())
}

/// The training that a plan asks for, over all of its rounds.
fn of_plan(path: &Path, config: &Config) -> Result<AuditSettings, Failure> {
    let tls = config.tls.load().map_err(ClientError::from)?;
    let (plan, _) = open::plan(path, &tls)?;
    let lora = lora_of(&plan).map_err(ClientError::from)?;
    let mut settings = AuditSettings::new(recipe_of(&plan), lora);
    if let Some(asked) = &plan.privacy {
        settings.privacy = Some(AuditNoise {
            clip_norm: asked.clip_norm,
            noise_multiplier: asked.noise_multiplier,
        });
        settings.delta = asked.delta;
        settings.protects_groups = asked.unit == PrivacyUnit::Group;
    }
    Ok(settings)
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    Ok(std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?)
}
