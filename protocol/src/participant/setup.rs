//! What a participant is made from.

use std::sync::Arc;

use super::{Patience, SecureSetup, Spooled};
use crate::ids::ParticipantName;
use crate::message::Capabilities;
use crate::seal::Examiner;
use crate::text::Text;

/// What a participant starts with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its name, as its certificate states it.
    pub name: ParticipantName,
    /// Program and version, for the server's log.
    pub software: Text,
    /// What it can do beyond the protocol's minimum.
    pub capabilities: Capabilities,
    /// Spreads its reconnections from those of others.
    pub seed: u64,
    /// How long to wait for a server that is away.
    pub patience: Patience,
    /// An update that was not acknowledged before the process ended.
    pub spooled: Option<Spooled>,
    /// What it takes to take part in secure aggregation.
    pub secure: Option<SecureSetup>,
    /// Knows the server's seals.
    pub examiner: Arc<dyn Examiner>,
}

impl Setup {
    /// A participant without a spool that waits by [`Patience::default`].
    pub fn new(
        name: ParticipantName,
        software: Text,
        seed: u64,
        examiner: Arc<dyn Examiner>,
    ) -> Self {
        let (capabilities, patience) = (Capabilities::NONE, Patience::default());
        Self {
            name,
            software,
            capabilities,
            seed,
            patience,
            spooled: None,
            secure: None,
            examiner,
        }
    }
}
