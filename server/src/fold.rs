//! The one place where updates become numbers: checked, kept on disk and folded as they arrive, then dropped.
//!
//! Runs on a thread of its own beside the driver, so that the event loop never waits for arithmetic or for the disk.
//! Jobs are done in the order in which they were given; the sum does not depend on it. Memory: the global adapter and the
//! sum (two adapters); updates stay on disk and are read module by module, however many there are.

use std::collections::BTreeMap;
use std::sync::Arc;

use aggregation::Adapter;
use aggregation::Encoding;
use aggregation::admission;
use bytes::Bytes;
use protocol::close::RefusalReason;
use protocol::coordinator::{Admission, RoundSummary};
use protocol::message::Content;
use protocol::secagg::Opening;
use protocol::{Digest, ParticipantName};
use tokio::sync::mpsc;

use crate::driver::Event;
use crate::error::ServerError;
use crate::journal::Journal;
use crate::record::{RoundRecord, RunFolder};
use crate::round::{Measured, Merger, Traffic};
use crate::spool::{Spool, Upload};
use crate::total::{Summing, Total, Unreadable};

/// Something for the folding thread to do.
#[derive(Debug)]
pub(crate) enum Job {
    /// Check an update and add it to the round's sum.
    Fold {
        /// What the coordinator said about it.
        admission: Admission,
        /// Its file.
        upload: Upload,
    },
    /// Begin the sum anew.
    Begin,
    /// Take the masks off the sum.
    Open(Box<Opening>),
    /// Form the next global adapter and write it.
    Merge {
        /// What the round came to.
        summary: RoundSummary,
        /// Bytes moved for it.
        traffic: Traffic,
    },
}

/// Why an update was not folded in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refused {
    pub(crate) reason: RefusalReason,
    /// What was found, for our log and record.
    pub(crate) detail: String,
}

/// The next global adapter, written and ready to be sent.
#[derive(Debug)]
pub(crate) struct Merged {
    pub(crate) content: Content,
    pub(crate) bytes: Bytes,
    pub(crate) record: RoundRecord,
}

/// The state of the folding thread.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) summing: Summing,
    /// Updates are masked: one by itself is of no use to anybody, and none is kept.
    pub(crate) is_masked: bool,
    pub(crate) global: Adapter,
    pub(crate) merger: Merger,
    pub(crate) files: RunFolder,
    pub(crate) journal: Arc<Journal>,
    pub(crate) spool: Arc<Spool>,
    /// Rounds of the run; the last one's adapter is also the run's.
    pub(crate) rounds: u32,
}

/// A round's sum and what was refused.
#[derive(Debug)]
pub(crate) struct Sum {
    total: Total,
    refused: BTreeMap<ParticipantName, Refused>,
    /// What opened it, if it was masked.
    opening: Option<Box<Opening>>,
    /// Why it cannot be used.
    failure: Option<String>,
}

impl Sum {
    /// A sum of which nothing was refused.
    pub(crate) fn of(total: Total) -> Self {
        Self {
            total,
            refused: BTreeMap::new(),
            opening: None,
            failure: None,
        }
    }

    /// Takes the masks off, and looks whether a sum of updates is under them.
    fn open(&mut self, opening: Box<Opening>) {
        let opened = match &mut self.total {
            Total::Values(_) => Err("the run's updates are not masked".to_owned()),
            Total::Ring(sum) => crate::opening::open(sum, &opening)
                .and_then(|()| sum.mean().map(drop).map_err(|error| error.to_string())),
        };
        self.failure = opened.err();
        self.opening = Some(opening);
    }
}

impl Folder {
    /// Does jobs until there are no more, and gives itself back with the last global adapter.
    pub(crate) fn work(
        mut self,
        mut sum: Sum,
        mut jobs: mpsc::UnboundedReceiver<Job>,
        events: &mpsc::Sender<Event>,
    ) -> Self {
        let _alarm = Alarm(events);
        while let Some(job) = jobs.blocking_recv() {
            let event = match job {
                Job::Fold { admission, upload } => self
                    .fold(&mut sum, admission, upload)
                    .unwrap_or_else(Event::Failed),
                Job::Begin => {
                    sum.total = self.summing.empty();
                    continue;
                }
                Job::Open(opening) => {
                    sum.open(opening);
                    continue;
                }
                Job::Merge { summary, traffic } => {
                    let full = std::mem::replace(&mut sum, self.empty_sum());
                    match full.failure {
                        Some(detail) => Event::Unopened { detail },
                        None => self
                            .merge(full, &summary, traffic)
                            .map_or_else(Event::Failed, |merged| Event::Merged(Box::new(merged))),
                    }
                }
            };
            // The driver is gone when its run was abandoned: then nobody wants the answer.
            if events.blocking_send(event).is_err() {
                break;
            }
        }
        self
    }

    fn empty_sum(&self) -> Sum {
        Sum::of(self.summing.empty())
    }

    /// Checks an update, keeps its bytes and adds it to the sum; an error is our own.
    fn fold(
        &self,
        sum: &mut Sum,
        admission: Admission,
        upload: Upload,
    ) -> Result<Event, ServerError> {
        let verdict = self.admit(sum, &admission, &upload)?;
        if let Err(refused) = &verdict {
            sum.refused
                .insert(admission.participant.clone(), refused.clone());
        }
        Ok(Event::Folded {
            participant: admission.participant,
            round: admission.round,
            verdict,
        })
    }

    fn admit(
        &self,
        sum: &mut Sum,
        admission: &Admission,
        upload: &Upload,
    ) -> Result<Result<(), Refused>, ServerError> {
        let file = upload.open()?;
        let keep = || match self.is_masked {
            true => Ok(()),
            false => self
                .spool
                .keep(&admission.transfer, upload)
                .map_err(AddError::Server),
        };
        let added = self
            .summing
            .add(&mut sum.total, (&file, admission.weight), keep);
        added.map_err(|error| match error {
            AddError::Unreadable(source) => upload.unreadable(source),
            AddError::Server(error) => error,
        })
    }

    fn merge(
        &mut self,
        sum: Sum,
        summary: &RoundSummary,
        traffic: Traffic,
    ) -> Result<Merged, ServerError> {
        let Sum {
            total,
            refused,
            opening,
            ..
        } = sum;
        let formed = self.merger.form(&self.global, total, summary.round)?;
        let is_last = summary.round.0 == self.rounds;
        let encoding = if is_last {
            Encoding::F32
        } else {
            self.summing.encoding
        };
        let encode = || {
            let bytes = Bytes::from(encoding.encode(formed.adapter.values()));
            (Content::of(&bytes), bytes)
        };
        let write = || {
            self.files.write_round(summary.round.0, &formed.adapter)?;
            if is_last {
                // On disk before any participant hears that the run is over.
                self.files.write_final(&formed.adapter)?;
            }
            Ok::<_, ServerError>(())
        };
        let ((content, bytes), (sha256, written)) = rayon::join(encode, || {
            rayon::join(|| Digest(formed.adapter.sha256()), write)
        });
        written?;
        let measured = Measured {
            traffic,
            rounding: encoding.relative_error(formed.adapter.values()),
            seconds: summary.opened_at.elapsed().as_secs_f64(),
        };
        let record = formed.record(summary, (&refused, opening.as_deref()), measured, sha256);
        // From here on the round is done, whatever happens.
        self.journal.round_done(&record)?;
        self.files.append(&record)?;
        self.spool.clear()?;
        self.global = formed.adapter;
        Ok(Merged {
            content,
            bytes,
            record,
        })
    }
}

/// Tells the driver if the thread panics: nobody else would answer what it was given.
struct Alarm<'a>(&'a mpsc::Sender<Event>);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Without a driver there is nobody to tell.
            let _ = self
                .0
                .blocking_send(Event::Broken("the folding thread panicked"));
        }
    }
}

/// Why an update could not be added: our own fault in either case.
enum AddError {
    /// Its file.
    Unreadable(std::io::Error),
    /// Keeping it.
    Server(ServerError),
}

impl From<Unreadable> for AddError {
    fn from(Unreadable(source): Unreadable) -> Self {
        Self::Unreadable(source)
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
