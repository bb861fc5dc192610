//! Takes part in a federated run: the one owner of the participant's state machine.
//!
//! `protocol::participant` decides; this loop feeds it what happened and does what it asks, through sessions that only move
//! bytes and a training on a blocking thread, so that the connection stays alive while the device works. It ends with the
//! final adapter or with who has to act. It never ends the process, installs no log and knows no configuration file, so
//! that the simulator runs many in one process.

mod agreement;
mod arrivals;
mod driver;
mod egress;
mod examiner;
mod feedback;
mod following;
mod happening;
mod session;
mod training;

#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use aggregation::Adapter;
use finetune::base::BaseModel;
use protocol::{Digest, close::CloseCode, participant, plan::RunPlan};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::MissedTickBehavior,
};

use self::{agreement::TrainingSite, driver::Driver, happening::Happening};
use crate::{
    error::ClientError,
    observer::{Observer, RoundDone},
    privacy::{BudgetError, PrivacySettings},
    settings::{DeviceTurn, Settings, TrainingText},
    shutdown::Shutdown,
    site::Site,
};

/// How long a replaced certificate may go unnoticed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A run that ended with an adapter.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The plan that was agreed to.
    pub plan: RunPlan,
    /// The final adapter.
    pub adapter: Adapter,
    /// SHA-256 of the transcript's last record: whoever took part, and the operator, must have the same.
    pub last_record: Option<Digest>,
    /// The rounds that this participant trained in.
    pub rounds: Vec<RoundDone>,
    /// Bytes of updates sent.
    pub bytes_up: u64,
    /// Bytes of adapters and anchors received, broken transfers included.
    pub bytes_down: u64,
}

/// Takes part in the run that the server plans, until it is over.
///
/// The base model and the device may be shared with others: training holds `turn` for as long as a round's steps take.
/// Nothing leaves but the update, its weight, the steps done and what `settings` allows.
///
/// # Errors
/// [`ClientError`] says who has to act; [`ClientError::is_temporary`] whether waiting may help.
pub async fn federate(
    settings: Settings,
    base: Arc<BaseModel>,
    text: TrainingText,
    turn: DeviceTurn,
    observer: Arc<dyn Observer>,
    shutdown: Shutdown,
) -> Result<Outcome, ClientError> {
    let site = training_site(&settings, base, text)?;
    participate(settings, site, turn, observer, shutdown).await
}

/// Makes the [`Site`] that [`federate`] takes part as: it trains the base model on the text.
///
/// # Errors
/// [`ClientError`] if the site's own privacy budget goes beyond its policy's.
pub fn training_site(
    settings: &Settings,
    base: Arc<BaseModel>,
    text: TrainingText,
) -> Result<Arc<dyn Site>, ClientError> {
    Ok(Arc::new(TrainingSite {
        privacy: privacy(settings)?,
        base,
        text,
        checkpointing: settings.checkpointing,
        share_train_loss: settings.share_train_loss,
        out: settings.out.clone(),
    }))
}

/// What private training may cost at the site: its own budget, within its policy's.
fn privacy(settings: &Settings) -> Result<Option<PrivacySettings>, ClientError> {
    let own = settings.privacy.clone();
    let policy = settings.policy.as_ref();
    Ok(
        match (own, policy.and_then(|policy| policy.lifetime_privacy())) {
            (Some(own), Some(bound)) => Some(own.bounded(bound).map_err(BudgetError::from)?),
            (own, _) => own,
        },
    )
}

/// Takes part as [`federate`] does, with any [`Site`].
///
/// # Errors
/// As [`federate`].
pub async fn participate(
    settings: Settings,
    site: Arc<dyn Site>,
    turn: DeviceTurn,
    observer: Arc<dyn Observer>,
    mut shutdown: Shutdown,
) -> Result<Outcome, ClientError> {
    let (sender, mut happenings) = unbounded_channel();
    let mut driver = Driver::new(settings, site, turn, observer, sender)?;
    let ended = drive(&mut driver, &mut happenings, &mut shutdown).await;
    // What is still waiting there may hold a connection.
    drop(happenings);
    let code = match &ended {
        Ok(_) => CloseCode::Left,
        Err(_) => CloseCode::Internal,
    };
    driver.rest(code).await;
    ended.and_then(|outcome| driver.end(outcome))
}

/// Does what the participant's machine asks and tells it what happens, until it has ended.
async fn drive(
    driver: &mut Driver,
    happenings: &mut UnboundedReceiver<Happening>,
    shutdown: &mut Shutdown,
) -> Result<participant::Outcome, ClientError> {
    let mut asked_to_stop = false;
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if let Some(outcome) = driver.act()? {
            return Ok(outcome);
        }
        tokio::select! {
            _ = looks.tick(), if driver.has_identity_files() => driver.look_at_identity(SystemTime::now()),
            Some(happening) = happenings.recv() => driver.handle(happening)?,
            () = until(driver.timeout()) => driver.time_out(),
            () = shutdown.requested(), if !asked_to_stop => {
                asked_to_stop = true;
                driver.stop();
            }
        }
    }
}

/// Waits for the instant, or for ever if there is none.
async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}
