//! `foedus-client run`: the configuration file, signals and the display around `federate`.

mod check;

use std::{path::Path, sync::Arc, time::SystemTime};

use anyhow::Context as _;
use finetune::{
    base::{BaseFiles, BaseModel},
    device::Device,
};
use protocol::{
    identity::Role,
    quic::{Rejection, TlsMaterial},
};

use super::{
    answer::say,
    arguments::{LogArguments, RunArguments},
    failure::Failure,
    progress::RunBar,
};
use crate::{
    Config, DeviceTurn, Event, Outcome, Settings, Shutdown, ShutdownSwitch, SitePolicy,
    TrainingText,
    config::Bytes,
    error::ClientError,
    federate,
    privacy::{PrivacySettings, others_beside},
    telemetry,
};

/// Takes part in a run, or only checks the configuration.
pub(super) fn run(arguments: &RunArguments, log: &LogArguments) -> Result<(), Failure> {
    let config = Config::read(&arguments.config)?;
    config.check_files(&arguments.config)?;
    check::place(&config, &arguments.config)?;
    let policy = config.site_policy(&arguments.config)?;
    let tls = config.tls.load().map_err(ClientError::from)?;
    if tls.identity().role() != Role::Participant {
        let identity = tls.identity().clone();
        return Err(ClientError::NoParticipant { identity }.into());
    }
    let refusal = tls.check(Role::Participant, SystemTime::now()).err();
    config.check_places(&arguments.config, policy.as_ref())?;
    let device = check::device(&config, &arguments.config)?;
    if arguments.check {
        check::material(&config, policy.as_ref())?;
        return say_checked(&arguments.config, &tls, refusal);
    }
    let bar = RunBar::new();
    let filter = log.log.as_deref().unwrap_or(&config.log.filter);
    let format = log.log_format.unwrap_or(config.log.format);
    telemetry::install(format, filter, bar.clone()).map_err(Failure::usage)?;
    warn_without_list(&tls);
    if let Some(rejection) = refusal {
        // The server judges by its own clock and list.
        tracing::warn!(%rejection, "by our own files, servers will refuse our certificate");
    }
    if policy.is_none() {
        tracing::warn!("no policy is configured: this site trains whatever plan the server signs");
    }
    let base = read_base(&config, &device, &bar)?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    let outcome = runtime.block_on(take_part(&config, policy, tls, base, bar.clone()));
    // What still computes on its threads, such as the reading of a large text, is of no use to anybody: nothing waits for it.
    runtime.shutdown_background();
    bar.end();
    let outcome = outcome?;
    let last_record = outcome.last_record.map(|last| last.to_string());
    say!(
        "run {} is over after {} rounds: {} sent, {} received, adapter written to {}\nlast record {}",
        outcome.plan.run,
        outcome.plan.rounds,
        Bytes(outcome.bytes_up),
        Bytes(outcome.bytes_down),
        config.out.display(),
        last_record.as_deref().unwrap_or("none")
    )?;
    Ok(())
}

/// Reads the base model; between lines of a log stands nothing else, so its progress is only in the bar.
fn read_base(config: &Config, device: &Device, bar: &RunBar) -> Result<Arc<BaseModel>, Failure> {
    tracing::info!(model = %config.model.display(), "reading the base model");
    let files = BaseFiles::open_observed(&config.model, &mut |read| {
        const MIB: u64 = 1 << 20;
        let (done, total) = (read.done / MIB, read.total / MIB);
        bar.show(
            "reading the base model".to_owned(),
            done,
            total,
            "MiB".to_owned(),
        );
    });
    let base = files
        .and_then(|files| files.load(device, config.base_precision))
        .map_err(anyhow::Error::from)?;
    Ok(Arc::new(base))
}

/// Says whether servers would take our certificate, by our own authority and list, and how long it lasts.
fn say_checked(
    config: &Path,
    tls: &TlsMaterial,
    refusal: Option<Rejection>,
) -> Result<(), Failure> {
    if let Some(rejection) = refusal {
        return Err(ClientError::Certificate(rejection).into());
    }
    let left = tls.expires().duration_since(SystemTime::now());
    let days = left.unwrap_or_default().as_secs() / (24 * 3600);
    let (config, identity) = (config.display(), tls.identity());
    say!(
        "{config}: ok, this site is {identity}, and its certificate or the authority's ends in {days} days"
    )?;
    Ok(())
}

async fn take_part(
    config: &Config,
    policy: Option<SitePolicy>,
    tls: TlsMaterial,
    base: Arc<BaseModel>,
    bar: RunBar,
) -> Result<Outcome, Failure> {
    let mut settings = Settings::new(&config.server, tls);
    settings.share_train_loss = config.share.train_loss;
    settings.patience = config.patience;
    settings.transfer_bytes_max = config.transfer_max.0;
    settings.checkpointing = config.checkpointing;
    settings.privacy = Some(privacy(config, policy.as_ref())?);
    settings.policy = policy.map(Arc::new);
    settings.ledger = Some(config.ledger.clone());
    settings.state = Some(config.state.clone());
    settings.checkpoint_every = config.checkpoint_every;
    settings.out = Some(config.out.clone());
    settings.tls_files = Some(config.tls.clone());
    let text = TrainingText::File(config.data.clone());
    let observer = Arc::new(move |event: &Event| show(event, &bar));
    let (switch, shutdown) = Shutdown::channel();
    let signals = tokio::spawn(listen(switch));
    let outcome = federate(settings, base, text, DeviceTurn::new(), observer, shutdown).await;
    signals.abort();
    Ok(outcome?)
}

/// What private training may cost here, with a warning if the ledger that is named does not know all that was spent.
fn privacy(config: &Config, policy: Option<&SitePolicy>) -> Result<PrivacySettings, Failure> {
    let settings = config.private_settings(policy).map_err(ClientError::from)?;
    let others = others_beside(&config.data, &settings.ledger).map_err(ClientError::from)?;
    for other in others {
        tracing::warn!(
            ledger = %settings.ledger.display(), other = %other.display(),
            "another privacy ledger counts these records too, and what was spent there is not in the one that is named: lower epsilon_max by it"
        );
    }
    Ok(settings)
}

/// Turns SIGINT and SIGTERM into one request to stop.
async fn listen(switch: ShutdownSwitch) {
    use tokio::signal::unix::{SignalKind, signal};

    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        tracing::warn!("signals cannot be handled: a stop will not be announced to the server");
        return;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    switch.request();
    tracing::info!("stopping after the current step; the server is told");
    // The second signal ends the process at once: whoever sends it has waited long enough.
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    std::process::exit(1);
}

/// Writes an event to the log and to the bar.
fn show(event: &Event, bar: &RunBar) {
    match event {
        Event::Connecting { server } => tracing::info!(%server, "connecting"),
        Event::Connected { server } => tracing::info!(%server, "connected"),
        Event::Disconnected { reason } => tracing::warn!(%reason, "disconnected"),
        Event::IdentityReloaded { serial } => {
            tracing::info!(serial, "certificate and revocations were read again");
        }
        Event::IdentityKept { reason } => {
            tracing::warn!(%reason, "the files of [tls] changed and cannot be used; the ones from before stay");
        }
        Event::Expiring { identity, days } => {
            tracing::warn!(%identity, days, "certificate expires soon: have it renewed");
        }
        Event::Reconnecting { attempt } => {
            tracing::info!(attempt, "connecting again after a pause")
        }
        Event::Plan { plan } => {
            let (run, rounds, steps) = (&plan.run, plan.rounds, plan.training.local_steps);
            tracing::info!(%run, rounds, steps, base = %plan.base.name, "agreed to the run plan");
            if plan.multiplies_noise() {
                tracing::warn!(
                    "the plan's noise for privacy is on both factors of the adapter and multiplies in their product (docs/privacy.md)"
                );
            }
        }
        Event::Waiting { round } => tracing::info!(%round, "global adapter received"),
        Event::Step { round, report } => {
            // A private step may draw no record.
            let loss = match report.tokens {
                0 => "none".to_owned(),
                _ => format!("{:.4}", report.loss),
            };
            // A bar shows every step; a log file only needs to show that it goes on.
            if bar.is_drawn() {
                tracing::debug!(%round, step = report.done, of = report.asked, loss, "step");
            } else {
                tracing::info!(%round, step = report.done, of = report.asked, loss, "step");
            }
            let label = format!("round {round}");
            bar.show(label, report.done, report.asked, report.loss_sentence());
        }
        Event::Trained { done } => {
            let loss = format!("{:.4}", done.train_loss);
            let norm = format!("{:.4}", done.update_norm);
            let rounding = done.rounding.map(|share| format!("{share:.4}"));
            tracing::info!(round = %done.round, weight = done.weight, loss, norm, rounding, "trained");
        }
        Event::Uploading { round, sent, bytes } => {
            bar.show(
                format!("round {round}: sending"),
                *sent,
                *bytes,
                Bytes(*bytes).to_string(),
            );
            tracing::trace!(%round, sent, bytes, "sending the update");
        }
        Event::Accepted { round } => tracing::info!(%round, "update accepted"),
        Event::Refused { round, reason } => {
            tracing::warn!(%round, reason = reason.label(), "update refused: {reason}");
        }
        Event::Postponed { round, until } => {
            tracing::info!(%round, %until, "late for the round; the update may count until then");
        }
        Event::Unanswered { round } => {
            let says = "another round began before it was heard whether this update counts";
            tracing::warn!(%round, "{says}");
        }
        Event::Finished { rounds } => tracing::info!(rounds, "the run is over"),
    }
}

fn warn_without_list(tls: &TlsMaterial) {
    if !tls.checks_revocation() {
        tracing::warn!("no revocation list is configured: a revoked server would not be noticed");
    }
}
