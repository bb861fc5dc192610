//! The one place where updates become numbers: checked, kept on disk and folded as they arrive (`judging`), then dropped.
//!
//! Runs on a thread of its own beside the driver, so that the event loop never waits for arithmetic or for the disk.
//! Jobs are done in the order in which they were given; the sum does not depend on it. Memory: the global adapter, the one that
//! follows and, of rounds of more than 64 updates, their sum (two adapters); large updates stay on disk and are read module by module,
//! however many there are. Under a robust rule there is no sum: updates are judged as they arrive, and looked at together, in blocks of
//! bounded size, when their round closes.
//!
//! A round is done once the journal has what it came to (`merging`): its updates are on disk, so its adapter can be formed again. The
//! adapter's folder is written while participants fetch the adapter ([`crate::settling`]); the last round's before.

mod judging;
mod merging;
mod sum;

use std::sync::Arc;
use std::thread;

use aggregation::{Adapter, Encoding};
use protocol::close::RefusalReason;
use protocol::coordinator::{Admission, RoundSummary};
use protocol::quic::TlsMaterial;
use protocol::secagg::Opening;
use protocol::transcript::{Chain, SealedRecord};
use protocol::{Digest, ParticipantName, Round};
use tokio::sync::mpsc;

pub(crate) use self::judging::reason;
pub(crate) use self::sum::Sum;
use crate::driver::Event;
use crate::participant_privacy::ParticipantPrivacy;
use crate::record::RoundRecord;
use crate::released::Released;
use crate::round::{Merger, Traffic};
use crate::settling::{Disk, Settling, Unsettled};
use crate::spool::Upload;
use crate::tally::Tally;
use crate::total::Summing;

/// Updates that are judged before the first of them is answered, unless their bytes are over the other limit first.
const UPDATES_AT_ONCE: usize = 64;
/// Who sent a large update does not wait until the next one is looked into.
const BYTES_AT_ONCE: u64 = 32 << 20;

/// Something for the folding thread to do.
#[derive(Debug)]
pub(crate) enum Job {
    /// Check an update and add it to the round's sum.
    Fold {
        /// What the coordinator said about it.
        admission: Admission,
        /// Where it is.
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
        /// Whom we turned away meanwhile.
        turned_away: Tally,
        /// The key that signs the round's record.
        signer: TlsMaterial,
    },
}

/// Why an update was not folded in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refused {
    pub(crate) reason: RefusalReason,
    /// What was found, for our log and record.
    pub(crate) detail: String,
}

/// What came of an update.
#[derive(Debug)]
pub(crate) struct Folded {
    pub(crate) participant: ParticipantName,
    pub(crate) round: Round,
    /// Whether it is in the sum.
    pub(crate) verdict: Result<(), Refused>,
}

/// The next global adapter, written and ready to be sent.
#[derive(Debug)]
pub(crate) struct Merged {
    pub(crate) released: Released,
    pub(crate) record: RoundRecord,
    pub(crate) sealed: SealedRecord,
}

/// The state of the folding thread.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) summing: Summing,
    /// Updates are masked: one by itself is of no use to anybody, and none is kept.
    pub(crate) is_masked: bool,
    pub(crate) global: Arc<Adapter>,
    /// In which the adapters that rounds start from travel.
    pub(crate) adapters: Encoding,
    /// Whether participants that have the adapter before get the next one as a delta.
    pub(crate) by_deltas: bool,
    /// SHA-256 of the global adapter as it travels.
    pub(crate) travelling: Digest,
    /// The records of the rounds that are done.
    pub(crate) chain: Chain,
    pub(crate) merger: Merger,
    /// Noise on what is released, if the plan has it.
    pub(crate) participant_privacy: Option<ParticipantPrivacy>,
    pub(crate) disk: Disk,
    /// Rounds of the run; the last one's adapter is also the run's.
    pub(crate) rounds: u32,
    /// The round that was done last, until its folder is being written.
    pub(crate) unsettled: Option<Unsettled>,
    /// Whether beginnings of updates are kept when their round is over: they may count in a later one.
    pub(crate) keeps_beginnings: bool,
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
        let (mut settling, mut next) = (None, None);
        while let Some(job) = next.take().or_else(|| jobs.blocking_recv()) {
            let event = match job {
                Job::Fold { admission, upload } => {
                    let mut arrived = vec![(admission, upload)];
                    next = take_arrived(&mut jobs, &mut arrived);
                    self.fold(&mut sum, arrived)
                        .map_or_else(Event::Failed, Event::Folded)
                }
                Job::Begin => {
                    sum.total = self.summing.empty();
                    sum.updates.clear();
                    continue;
                }
                Job::Open(opening) => {
                    sum.open(opening);
                    continue;
                }
                Job::Merge {
                    summary,
                    traffic,
                    turned_away,
                    signer,
                } => {
                    let full = std::mem::replace(&mut sum, self.empty_sum());
                    // A crash needs the folder of the round before, or its updates.
                    let before = settling.take().map_or(Ok(()), Settling::finish);
                    match (before, full.failure.clone()) {
                        (Err(error), _) => Event::Failed(error),
                        (Ok(()), Some(detail)) => Event::Unopened {
                            detail,
                            traffic,
                            turned_away,
                        },
                        (Ok(()), None) => self
                            .merge(full, &summary, (traffic, turned_away), &signer)
                            .map_or_else(Event::Failed, |merged| Event::Merged(Box::new(merged))),
                    }
                }
            };
            // The driver is gone when its run was abandoned: then nobody wants the answer.
            let is_heard = events.blocking_send(event).is_ok();
            if let Some(round) = self.unsettled.take() {
                settling = Some(Settling::begin(self.disk.clone(), round, events.clone()));
            }
            if !is_heard {
                break;
            }
        }
        if let Some(Err(error)) = settling.map(Settling::finish) {
            tracing::error!(%error, "the next start writes it");
        }
        self
    }

    fn empty_sum(&self) -> Sum {
        Sum::of(self.summing.empty(), Vec::new())
    }
}

/// Takes the updates that wait by now, up to the limits, and the job behind them if there is one.
fn take_arrived(
    jobs: &mut mpsc::UnboundedReceiver<Job>,
    arrived: &mut Vec<(Admission, Upload)>,
) -> Option<Job> {
    let bytes = |arrived: &[(Admission, Upload)]| -> u64 {
        let bytes = arrived
            .iter()
            .map(|(admission, _)| admission.transfer.bytes);
        bytes.sum()
    };
    while arrived.len() < UPDATES_AT_ONCE && bytes(arrived) < BYTES_AT_ONCE {
        match jobs.try_recv().ok()? {
            Job::Fold { admission, upload } => arrived.push((admission, upload)),
            other => return Some(other),
        }
    }
    None
}

/// Tells the driver if the thread panics: nobody else would answer what it was given.
struct Alarm<'a>(&'a mpsc::Sender<Event>);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            // Without a driver there is nobody to tell.
            let _ = self
                .0
                .blocking_send(Event::Broken("the folding thread panicked"));
        }
    }
}
