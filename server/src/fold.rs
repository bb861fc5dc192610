//! The one place where updates become numbers: checked, kept on disk and folded as they arrive, then dropped.
//!
//! Runs on a thread of its own beside the driver, so that the event loop never waits for arithmetic or for the disk.
//! Jobs are done in the order in which they were given; the sum does not depend on it. Memory: the global adapter and the
//! sum (two adapters); updates stay on disk and are read module by module, however many there are. Under a robust rule there is
//! no sum: updates are judged as they arrive, and looked at together, in blocks of bounded size, when their round closes.
//!
//! A round is done once the journal has what it came to: its updates are on disk, so its adapter can be formed again. The
//! adapter's folder is written while participants fetch the adapter ([`crate::settling`]); the last round's before.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;

use aggregation::Adapter;
use aggregation::Encoding;
use aggregation::admission;
use bytes::Bytes;
use protocol::close::RefusalReason;
use protocol::coordinator::{Admission, RoundSummary};
use protocol::message::{Content, TransferHeader};
use protocol::quic::TlsMaterial;
use protocol::secagg::Opening;
use protocol::transcript::{Chain, Outline, Record, SealedRecord};
use protocol::{Digest, ParticipantName, Round};
use tokio::sync::mpsc;

use crate::adapter_bytes::AdapterBytes;
use crate::driver::Event;
use crate::error::ServerError;
use crate::participant_privacy::ParticipantPrivacy;
use crate::record::RoundRecord;
use crate::released::{Base, Released};
use crate::round::{Measured, Merger, Traffic};
use crate::settling::{Disk, Settling, Unsettled};
use crate::spool::{UpdateFile, Upload};
use crate::tally::Tally;
use crate::total::{Candidate, Summing, Total, Unreadable};
use crate::transcript;

/// Updates that are judged before the first of them is answered.
const UPDATES_AT_ONCE: usize = 64;

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

/// An update that arrived: what the coordinator said about it, its file by name, and open.
type Arrived = (Admission, Upload, UpdateFile);

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

/// A round's sum and what was refused.
#[derive(Debug)]
pub(crate) struct Sum {
    total: Total,
    /// The updates that are in it.
    updates: Vec<TransferHeader>,
    refused: BTreeMap<ParticipantName, Refused>,
    /// What opened it, if it was masked.
    opening: Option<Box<Opening>>,
    /// Why it cannot be used.
    failure: Option<String>,
}

impl Sum {
    /// The sum of these updates, of which nothing was refused.
    pub(crate) fn of(total: Total, updates: Vec<TransferHeader>) -> Self {
        Self {
            total,
            updates,
            refused: BTreeMap::new(),
            opening: None,
            failure: None,
        }
    }

    /// Takes the masks off, and looks whether a sum of updates is under them.
    fn open(&mut self, opening: Box<Opening>) {
        let opened = match &mut self.total {
            Total::Values(_) | Total::Ballot(_) => {
                Err("the run's updates are not masked".to_owned())
            }
            Total::Ring(sum) => crate::opening::open(sum, &opening).and_then(|liars| {
                for participant in liars {
                    let attempt = opening.attempt;
                    tracing::warn!(%attempt, %participant, "shares that are wrong were left aside");
                }
                sum.check().map_err(|error| error.to_string())
            }),
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

    /// Checks updates, keeps their bytes and adds them to the sum; an error is our own.
    fn fold(
        &self,
        sum: &mut Sum,
        arrived: Vec<(Admission, Upload)>,
    ) -> Result<Vec<Folded>, ServerError> {
        let open = |(admission, upload): (Admission, Upload)| {
            let file = upload.open()?;
            Ok((admission, upload, file))
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
            false => self
                .disk
                .spool
                .keep(&admission.transfer, upload)
                .map(Some)
                .map_err(AddError::Server),
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
        added.map_err(|error| match error {
            AddError::Unreadable(source) => upload.unreadable(source),
            AddError::Server(error) => error,
        })
    }

    fn merge(
        &mut self,
        sum: Sum,
        summary: &RoundSummary,
        (traffic, turned_away): (Traffic, Tally),
        signer: &TlsMaterial,
    ) -> Result<Merged, ServerError> {
        let Sum {
            total,
            updates,
            refused,
            opening,
            ..
        } = sum;
        if !self.keeps_beginnings {
            self.disk.spool.drop_parts()?;
        }
        // On disk before anything is made with it.
        let noised = self.participant_privacy.as_ref();
        let noised =
            noised.map(|participant_privacy| participant_privacy.noised(summary.round, &updates));
        let noised = noised.transpose()?;
        let formed = self
            .merger
            .form(&self.global, total, summary.round, noised.as_ref())?;
        let is_last = summary.round.0 == self.rounds;
        let encoding = if is_last {
            Encoding::F32
        } else {
            self.adapters
        };
        let sent = AdapterBytes::new(&formed.adapter, encoding);
        let bytes = sent.get();
        let (content, sha256) = digests(&formed.adapter, encoding, &bytes);
        let measured = Measured {
            traffic,
            rounding: encoding.relative_error(formed.adapter.values()),
            seconds: summary.opened_at.elapsed().as_secs_f64(),
        };
        let mut record = formed.record(summary, (&refused, opening.as_deref()), measured, sha256);
        record.turned_away = turned_away.into_records();
        if self.is_masked {
            // No update was kept from which it could be formed again.
            self.disk.files.write_round(record.round, &formed.adapter)?;
        }
        if is_last {
            // On disk before any participant hears that the run is over.
            self.disk.files.write_final(&formed.adapter)?;
        }
        let sealed = self.put_on_record(summary, content.sha256, sha256, signer)?;
        // From here on the round is done, whatever happens.
        self.disk.journal.round_done(&record, &sealed)?;
        let released = Released::new(content, sent, bytes);
        let released = self.go_on(released, &formed.adapter, encoding);
        if let Some(participant_privacy) = &mut self.participant_privacy {
            participant_privacy.go_on(&record);
            participant_privacy.bound(&mut self.summing);
        }
        let round = Unsettled {
            record: record.clone(),
            sealed: sealed.clone(),
            adapter: formed.adapter,
            updates,
            is_written: self.is_masked,
        };
        if is_last || self.is_masked {
            self.disk.settle(&round)?;
        } else {
            self.unsettled = Some(round);
        }
        Ok(Merged {
            released,
            record,
            sealed,
        })
    }

    /// Takes the round's adapter for the global one, and gives it as it is sent.
    fn go_on(
        &mut self,
        mut released: Released,
        adapter: &Arc<Adapter>,
        encoding: Encoding,
    ) -> Released {
        if self.by_deltas {
            let base = Base {
                adapter: &self.global,
                encoding: self.adapters,
                sha256: self.travelling,
            };
            released = released.against(base, adapter, encoding);
        }
        self.global = Arc::clone(adapter);
        self.travelling = released.release.adapter.sha256;
        released
    }

    /// Draws up the round's record and signs it.
    fn put_on_record(
        &mut self,
        summary: &RoundSummary,
        after: Digest,
        adapter: Digest,
        signer: &TlsMaterial,
    ) -> Result<SealedRecord, ServerError> {
        let plan = self.chain.plan();
        let outline = Outline {
            plan,
            previous: self.chain.last(),
            before: self.travelling,
            after,
            adapter,
            secret: transcript::secret(signer, plan),
        };
        let sealed = Record::draw_up(&outline, summary).seal(|bytes| signer.seal(bytes));
        let extended = self.chain.extend(&sealed.record.heading);
        extended.map_err(|fault| ServerError::Internal {
            what: fault.to_string(),
        })?;
        Ok(sealed)
    }
}

/// The content as which an adapter is sent, and the digest of its exact values.
fn digests(adapter: &Adapter, encoding: Encoding, bytes: &Bytes) -> (Content, Digest) {
    if encoding == Encoding::F32 {
        let content = Content::of(bytes);
        (content, content.sha256)
    } else {
        rayon::join(|| Content::of(bytes), || Digest(adapter.sha256()))
    }
}

/// Takes the updates that wait by now, and the job behind them if there is one.
fn take_arrived(
    jobs: &mut mpsc::UnboundedReceiver<Job>,
    arrived: &mut Vec<(Admission, Upload)>,
) -> Option<Job> {
    while arrived.len() < UPDATES_AT_ONCE {
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
