//! Updates that arrived: checked, kept on disk and added to the sum, those that wait together at once.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;

use aggregation::admission;
use protocol::close::RefusalReason;
use protocol::coordinator::Admission;

use super::{Folded, Folder, Refused, Sum};
use crate::error::ServerError;
use crate::spool::{UpdateFile, Upload};
use crate::total::Candidate;

/// An update that arrived: what the coordinator said about it, its file by name, and open.
type Arrived = (Admission, Upload, Arc<UpdateFile>);

impl Folder {
    /// Checks updates, keeps their bytes and adds them to the sum; an error is our own.
    pub(super) fn fold(
        &self,
        sum: &mut Sum,
        arrived: Vec<(Admission, Upload)>,
    ) -> Result<Vec<Folded>, ServerError> {
        let open = |(admission, upload): (Admission, Upload)| {
            let file = upload.open()?;
            Ok((admission, upload, Arc::new(file)))
        };
        let arrived: Vec<_> = arrived
            .into_iter()
            .map(open)
            .collect::<Result<_, ServerError>>()?;
        if self.is_masked {
            return self.judge(sum, &arrived);
        }
        let sync = |(_, upload, file): &Arrived| upload.sync(file);
        let (synced, folded) = thread::scope(|scope| {
            // The disk works while we look at what is in them.
            let syncing = scope.spawn(|| arrived.iter().try_for_each(sync));
            let folded = self.judge(sum, &arrived);
            (
                syncing.join().unwrap_or_else(|panic| resume_unwind(panic)),
                folded,
            )
        });
        synced?;
        // Once for all of them, and before anybody hears that they count.
        self.disk.spool.sync()?;
        folded
    }

    fn judge(&self, sum: &mut Sum, arrived: &[Arrived]) -> Result<Vec<Folded>, ServerError> {
        let judge = |arrived: &Arrived| {
            let verdict = self.admit(sum, arrived)?;
            let Admission {
                participant, round, ..
            } = &arrived.0;
            if let Err(refused) = &verdict {
                sum.refused.insert(participant.clone(), refused.clone());
            }
            Ok(Folded {
                participant: participant.clone(),
                round: *round,
                verdict,
            })
        };
        arrived.iter().map(judge).collect()
    }

    fn admit(
        &self,
        sum: &mut Sum,
        (admission, upload, file): &Arrived,
    ) -> Result<Result<(), Refused>, ServerError> {
        let keep = || match self.is_masked {
            true => Ok(None),
            false => self.disk.spool.keep(&admission.transfer, upload).map(Some),
        };
        let candidate = Candidate {
            participant: &admission.participant,
            file,
            weight: admission.weight,
        };
        let added = self.summing.add(&mut sum.total, candidate, keep);
        if let Ok(Ok(())) = &added {
            sum.updates.push(admission.transfer);
        }
        added
    }
}

/// The wire's reason for a refusal.
pub(crate) fn reason(refusal: &admission::Refusal) -> RefusalReason {
    match refusal {
        admission::Refusal::WrongSize { .. } => RefusalReason::WrongSize,
        admission::Refusal::ZeroWeight => RefusalReason::ZeroWeight,
        admission::Refusal::OverWeight { .. } => RefusalReason::OverWeight,
        admission::Refusal::NotFinite { .. } => RefusalReason::NotFinite,
        admission::Refusal::OverNorm { .. } => RefusalReason::OverNorm,
    }
}
