//! A round's sum: of values, or of vectors in the plan's ring, which may be masked.

use std::io;
use std::sync::Arc;

use aggregation::admission::{self, AdmissionError, AdmissionRules};
use aggregation::encoded::EncodedUpdate;
use aggregation::masking::{FixedRing, RingSum, RingSumError};
use aggregation::strategy::fedavg::{FedAvg, FoldError};
use aggregation::strategy::fixed_point::FixedPoint;
use aggregation::{AdapterLayout, Encoding};
use protocol::close::RefusalReason;

use crate::fold::{Refused, reason};
use crate::spool::UpdateFile;

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
}

/// A sum under way.
#[derive(Debug)]
pub(crate) enum Total {
    /// Of updates that were looked into.
    Values(FedAvg),
    /// Of vectors in the ring.
    Ring(RingSum),
}

impl Summing {
    /// An empty sum.
    pub(crate) fn empty(&self) -> Total {
        match self.ring {
            Some(ring) => Total::Ring(RingSum::new(ring, self.layout.parameters())),
            None => Total::Values(FedAvg::new(Arc::clone(&self.layout), self.fixed)),
        }
    }

    /// Adds an update, or says why not. `keep` is called once it is found good and before it is in the sum.
    ///
    /// # Errors
    /// The file cannot be read, or `keep` failed; the sum must not be used any more.
    pub(crate) fn add<E: From<Unreadable>>(
        &self,
        total: &mut Total,
        (file, weight): (&UpdateFile, u64),
        keep: impl FnOnce() -> Result<(), E>,
    ) -> Result<Result<(), Refused>, E> {
        match total {
            Total::Values(fedavg) => {
                let update = EncodedUpdate::new(file, self.encoding);
                let admitted = match admission::admit(&self.layout, update, weight, &self.rules) {
                    Ok(admitted) => admitted,
                    Err(AdmissionError::Refused(refusal)) => {
                        let (reason, detail) = (reason(&refusal), refusal.to_string());
                        return Ok(Err(Refused { reason, detail }));
                    }
                    Err(AdmissionError::Read(source)) => return Err(Unreadable(source).into()),
                };
                keep()?;
                match fedavg.fold_admitted(&admitted) {
                    Ok(()) => Ok(Ok(())),
                    Err(FoldError::Refused(error)) => Ok(Err(internal(&error))),
                    Err(FoldError::Read(source)) => Err(Unreadable(source).into()),
                }
            }
            Total::Ring(sum) => {
                keep()?;
                match sum.add(file) {
                    Ok(()) => Ok(Ok(())),
                    Err(RingSumError::Read(source)) => Err(Unreadable(source).into()),
                    Err(error @ RingSumError::Size { .. }) => Ok(Err(Refused {
                        reason: RefusalReason::WrongSize,
                        detail: error.to_string(),
                    })),
                    Err(error) => Ok(Err(internal(&error))),
                }
            }
        }
    }
}

/// Bytes of an update that the system does not give back.
#[derive(Debug)]
pub(crate) struct Unreadable(pub(crate) io::Error);

fn internal(error: &impl ToString) -> Refused {
    Refused {
        reason: RefusalReason::Internal,
        detail: error.to_string(),
    }
}
