//! What a round's updates come to: a sum of values or of vectors in the plan's ring, which may be masked, or a ballot on which a
//! robust rule decides.

mod values;

use std::sync::Arc;

use aggregation::admission::{self, AdmissionError, AdmissionRules, Admitted};
use aggregation::encoded::EncodedUpdate;
use aggregation::masking::{FixedRing, RingSum, RingSumError};
use aggregation::strategy::fedavg::FedAvg;
use aggregation::strategy::fixed_point::FixedPoint;
use aggregation::strategy::robust::RobustRule;
use aggregation::{AdapterLayout, Encoding};
use protocol::ParticipantName;
use protocol::close::RefusalReason;

use self::values::Values;
use crate::ballot::Ballot;
use crate::error::ServerError;
use crate::fold::{Refused, reason};
use crate::spool::{KeptUpdate, UpdateBytes};

/// How a run's updates are summed.
#[derive(Clone, Debug)]
pub(crate) struct Summing {
    pub(crate) layout: Arc<AdapterLayout>,
    pub(crate) rules: AdmissionRules,
    /// In which updates travel as values.
    pub(crate) encoding: Encoding,
    pub(crate) fixed: FixedPoint,
    /// In which they travel otherwise.
    pub(crate) ring: Option<FixedRing>,
    /// What looks at all of them together, if they are not summed.
    pub(crate) rule: Option<RobustRule>,
    /// The norm to which longer updates are shrunk as they are added.
    pub(crate) clip: Option<f64>,
}

/// A sum under way.
#[derive(Debug)]
pub(crate) enum Total {
    /// Of updates that were looked into.
    Values(Values),
    /// Of vectors in the ring.
    Ring(RingSum),
    /// None: all updates are kept until the round closes.
    Ballot(Ballot),
}

impl Total {
    /// Lets go of updates that take up the room for those on their way.
    ///
    /// # Errors
    /// One of those that waited to be added cannot be read; the sum must not be used any more.
    pub(crate) fn make_room(&mut self) -> Result<(), ServerError> {
        match self {
            Self::Values(values) => values.make_room(),
            Self::Ring(_) | Self::Ballot(_) => Ok(()),
        }
    }
}

/// An update that is to be added.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) participant: &'a ParticipantName,
    pub(crate) bytes: &'a UpdateBytes,
    pub(crate) weight: u64,
}

impl Summing {
    /// An empty sum.
    pub(crate) fn empty(&self) -> Total {
        let layout = || Arc::clone(&self.layout);
        match (self.ring, self.rule) {
            (Some(ring), _) => Total::Ring(RingSum::new(ring, self.layout.parameters())),
            (None, Some(rule)) => Total::Ballot(Ballot::new(rule, layout(), self.encoding)),
            (None, None) => Total::Values(Values::new(FedAvg::new(layout(), self.fixed))),
        }
    }

    /// Adds an update, or says why not. `keep` is called once it is found good and before it is in the sum; what it keeps is
    /// `None` for an update that is masked.
    ///
    /// # Errors
    /// A file cannot be read, or `keep` failed; the sum must not be used any more.
    pub(crate) fn add(
        &self,
        total: &mut Total,
        candidate: Candidate<'_>,
        keep: impl FnOnce() -> Result<Option<KeptUpdate>, ServerError>,
    ) -> Result<Result<(), Refused>, ServerError> {
        match total {
            Total::Values(values) => {
                let admitted = match self.admit(candidate)? {
                    Ok(admitted) => admitted,
                    Err(refused) => return Ok(Err(refused)),
                };
                if let Err(error) = values.check(&admitted) {
                    return Ok(Err(internal(&error)));
                }
                keep()?;
                values.add(admitted, self.clip).map(Ok)
            }
            Total::Ballot(ballot) => {
                if let Err(refused) = self.admit(candidate)? {
                    return Ok(Err(refused));
                }
                let Some(kept) = keep()? else {
                    return Ok(Err(internal(&"a masked update under a robust strategy")));
                };
                ballot.add(candidate.participant.clone(), kept);
                Ok(Ok(()))
            }
            Total::Ring(sum) => {
                keep()?;
                match sum.add(candidate.bytes) {
                    Ok(()) => Ok(Ok(())),
                    Err(RingSumError::Read(source)) => Err(candidate.bytes.unreadable(source)),
                    Err(error @ RingSumError::Size { .. }) => Ok(Err(Refused {
                        reason: RefusalReason::WrongSize,
                        detail: error.to_string(),
                    })),
                    Err(error) => Ok(Err(internal(&error))),
                }
            }
        }
    }

    /// Looks whether an update that travels as values keeps the plan's limits.
    fn admit(
        &self,
        candidate: Candidate<'_>,
    ) -> Result<Result<Admitted<UpdateBytes>, Refused>, ServerError> {
        let update = EncodedUpdate::new(candidate.bytes.clone(), self.encoding);
        match admission::admit(&self.layout, update, candidate.weight, &self.rules) {
            Ok(admitted) => Ok(Ok(admitted)),
            Err(AdmissionError::Refused(refusal)) => Ok(Err(Refused {
                reason: reason(&refusal),
                detail: refusal.to_string(),
            })),
            Err(AdmissionError::Read(source)) => Err(candidate.bytes.unreadable(source)),
        }
    }
}

fn internal(error: &impl ToString) -> Refused {
    Refused {
        reason: RefusalReason::Internal,
        detail: error.to_string(),
    }
}
