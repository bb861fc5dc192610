//! What `federate` needs to know, whether it comes from a file or from the simulator.

use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::policy::SitePolicy;
use finetune::{data::Dataset, model::Checkpointing};
use protocol::{
    participant::Patience,
    quic::{Limits, TlsFiles, TlsMaterial},
};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use crate::privacy::PrivacySettings;

/// One participant's side of a connection.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The server as "host:port".
    pub server: String,
    /// Our certificate and key, the authority and its revocation list.
    pub tls: TlsMaterial,
    /// The files of `tls`, to be looked at again while the run goes on; none keeps it as it is.
    pub tls_files: Option<TlsFiles>,
    /// Bounds of the transport.
    pub limits: Limits,
    /// Whether the mean training loss of each round may leave the site.
    pub share_train_loss: bool,
    /// How long to wait for a server that is away.
    pub patience: Patience,
    /// The largest transfer that is taken in, in bytes.
    pub transfer_bytes_max: u64,
    /// What training keeps between forward and backward: memory against time, the result is the same.
    pub checkpointing: Checkpointing,
    /// What the institution lets a plan ask; none lets it ask anything.
    pub policy: Option<Arc<SitePolicy>>,
    /// The egress ledger; none keeps no record, which is for simulations.
    pub ledger: Option<PathBuf>,
    /// The file in which a finished update outlives this process; none keeps it in memory only.
    pub state: Option<PathBuf>,
    /// How often a round's training is kept beside it, so that the next process goes on from there.
    pub checkpoint_every: Duration,
    /// What private training may cost this site, and where it is counted; without it private plans are declined.
    pub privacy: Option<PrivacySettings>,
    /// The folder that the final adapter is written to before the server hears that it arrived; none leaves it to the caller.
    pub out: Option<PathBuf>,
    /// Program and version, as the server's log will name it.
    pub software: String,
}

impl Settings {
    /// Makes the settings with every default: nothing is shared beside the update and its weight.
    pub fn new(server: impl Into<String>, tls: TlsMaterial) -> Self {
        Self {
            server: server.into(),
            tls,
            tls_files: None,
            limits: Limits::default(),
            share_train_loss: false,
            patience: Patience::default(),
            transfer_bytes_max: crate::config::TRANSFER_MAX.0,
            checkpointing: Checkpointing::None,
            policy: None,
            ledger: None,
            state: None,
            checkpoint_every: crate::config::CHECKPOINT_EVERY,
            privacy: None,
            out: None,
            software: concat!("foedus-client ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// Where the site's text comes from.
#[derive(Clone, Debug)]
pub enum TrainingText {
    /// A JSONL file; it is tokenized once the plan has said how long an example may be.
    File(PathBuf),
    /// Examples that are tokenized already. The plan must allow their length.
    Ready(Arc<Dataset>),
}

/// The right to use the device: participants that share one take turns.
#[derive(Clone, Debug)]
pub struct DeviceTurn(Arc<Semaphore>);

impl Default for DeviceTurn {
    fn default() -> Self {
        Self::new()
    }
}

impl DeviceTurn {
    /// Makes the turn of one device: one training at a time.
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }

    /// Waits for the turn; it is over when the permit is dropped. First come, first served.
    pub async fn take(&self) -> OwnedSemaphorePermit {
        let permit: Result<_, AcquireError> = Arc::clone(&self.0).acquire_owned().await;
        permit.expect("the semaphore is never closed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn turns_are_taken_one_at_a_time() {
        let turn = DeviceTurn::new();
        let first = turn.take().await;
        let waiting = turn.clone();
        let second = tokio::spawn(async move { waiting.take().await });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        drop(second.await.unwrap());
    }
}
