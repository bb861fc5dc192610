//! Updates that arrived: checked, kept on disk and added to the sum, those that wait together at once.

use std::collections::BTreeSet;
use std::panic::resume_unwind;
use std::thread;

use aggregation::admission;
use protocol::TransferId;
use protocol::close::RefusalReason;
use protocol::coordinator::Admission;

use super::{Folded, Folder, Refused, Sum};
use crate::error::ServerError;
use crate::spool::{Batch, UpdateBytes, Upload};
use crate::total::Candidate;

/// An update that arrived: what the coordinator said about it, where it is, and open.
type Arrived = (Admission, Upload, UpdateBytes);

impl Folder {
    /// Checks updates, keeps their bytes and adds them to the sum; an error is our own.
    pub(super) fn fold(
        &self,
        sum: &mut Sum,
        arrived: Vec<(Admission, Upload)>,
    ) -> Result<Vec<Folded>, ServerError> {
        let open = |(admission, upload): (Admission, Upload)| {
            let bytes = upload.open()?;
            Ok((admission, upload, bytes))
        };
        let arrived: Vec<_> = arrived
            .into_iter()
            .map(open)
            .collect::<Result<_, ServerError>>()?;
        if self.is_masked {
            return self.judge(sum, &arrived, None);
        }
        let spool = &self.disk.spool;
        let headers = arrived
            .iter()
            .map(|(one, upload, _)| (&one.transfer, upload));
        let batch = spool.batch(headers)?;
        // Those in memory are written with their batch.
        let files = arrived.iter().filter_map(|(.., bytes)| bytes.file());
        let files: Vec<_> = files.cloned().collect();
        let (synced, judged) = thread::scope(|scope| {
            // The disk works while we look at what is in them.
            let syncing = scope.spawn(|| {
                batch.write()?;
                files.iter().try_for_each(|file| file.sync())
            });
            let folded = self.judge(sum, &arrived, Some(&batch));
            let judged = folded.map(|folded| (counted(&arrived, &folded), folded));
            // Those in memory make room for others while the disk works on.
            drop(arrived);
            (
                syncing.join().unwrap_or_else(|panic| resume_unwind(panic)),
                judged,
            )
        });
        synced?;
        let (counted, folded) = judged?;
        spool.enter(&batch, &counted)?;
        // Once for all of them, and before anybody hears that they count.
        spool.sync()?;
        Ok(folded)
    }

    /// Looks at one after the other; `batch` has those in memory unless none is kept.
    fn judge(
        &self,
        sum: &mut Sum,
        arrived: &[Arrived],
        batch: Option<&Batch>,
    ) -> Result<Vec<Folded>, ServerError> {
        let judge = |arrived: &Arrived| {
            let verdict = self.admit(sum, arrived, batch)?;
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
        let folded = arrived
            .iter()
            .map(judge)
            .collect::<Result<_, ServerError>>()?;
        sum.total.make_room()?;
        Ok(folded)
    }

    fn admit(
        &self,
        sum: &mut Sum,
        (admission, upload, bytes): &Arrived,
        batch: Option<&Batch>,
    ) -> Result<Result<(), Refused>, ServerError> {
        let spool = &self.disk.spool;
        let keep = || {
            let kept = batch.map(|batch| spool.keep(&admission.transfer, upload, batch));
            kept.transpose()
        };
        let candidate = Candidate {
            participant: &admission.participant,
            bytes,
            weight: admission.weight,
        };
        let added = self.summing.add(&mut sum.total, candidate, keep);
        if let Ok(Ok(())) = &added {
            sum.updates.push(admission.transfer);
        }
        added
    }
}

/// The updates that were not refused.
fn counted(arrived: &[Arrived], folded: &[Folded]) -> BTreeSet<TransferId> {
    let judged = arrived.iter().zip(folded);
    let counted = judged.filter(|(_, folded)| folded.verdict.is_ok());
    counted.map(|((one, ..), _)| one.transfer.id).collect()
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
