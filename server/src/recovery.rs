//! From what an earlier process of the same run left to the state in which the run goes on.
//!
//! The journal decides: adapters, lines and updates that it does not know are written again or removed, and what it knows
//! must be there. A run that begins is one with an empty journal.

use std::sync::Arc;

use aggregation::{Adapter, Encoding};
use protocol::coordinator::{Admission, History};
use protocol::message::TransferHeader;
use protocol::transcript::{Chain, SealedRecord};
use protocol::{Digest, Round};

use crate::error::ServerError;
use crate::fold::{Refused, Sum};
use crate::journal::{Found, Identity, Journal, JournalError};
use crate::participant_privacy::ParticipantPrivacy;
use crate::record::{JOURNAL_FILE, RoundRecord, RunFolder};
use crate::released::{Base, Released};
use crate::round::Traffic;
use crate::settling::Disk;
use crate::spool::{HELD_BYTES_MAX, Parts, Spool, UpdateBytes};
use crate::start::Prepared;
use crate::total::{Candidate, Summing, Total};
use crate::transcript;

/// A run's state on disk, opened, and what was in it.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) disk: Disk,
    /// Noise on what is released, if the plan has it.
    pub(crate) participant_privacy: Option<ParticipantPrivacy>,
    /// Updates of which a beginning is here.
    pub(crate) parts: Parts,
    pub(crate) history: History,
    pub(crate) records: Vec<RoundRecord>,
    /// What is on record about them, and the chain that it forms.
    pub(crate) transcript: Vec<SealedRecord>,
    pub(crate) chain: Chain,
    /// The adapter that came out of the last round that is done, or the one that the run starts from.
    pub(crate) global: Arc<Adapter>,
    /// The same as it is sent.
    pub(crate) released: Released,
    /// Updates of the open round that count.
    pub(crate) accepted: Vec<Admission>,
}

/// Checks that a run which the folder holds is this one and not at its end. One that a server has open is being served.
pub(crate) fn check(prepared: &Prepared, start: &Adapter) -> Result<(), ServerError> {
    let folder = prepared.config.run.folder();
    let journal = folder.join(JOURNAL_FILE);
    if !journal.exists() {
        return Ok(());
    }
    let identity = Identity::new(prepared.plan.digest(), Digest(start.sha256()));
    match Journal::open(&journal, &identity) {
        Err(JournalError::Busy { .. }) => Ok(()),
        Err(error) => Err(error.into()),
        Ok((_, found)) if found.is_finished => Err(ServerError::RunExists { folder }),
        Ok(_) => Ok(()),
    }
}

impl Recovered {
    /// Opens the run's folder and reads how far the run has come.
    ///
    /// # Errors
    /// [`ServerError`] if the run is finished, another server's, of another plan, or not all there.
    pub(crate) fn open(prepared: &mut Prepared) -> Result<Self, ServerError> {
        let path = prepared.config.run.folder();
        let mut files = RunFolder::open(&path, &prepared.sidecar, prepared.dropout)?;
        let start = prepared.take_start().ok_or_else(|| ServerError::Internal {
            what: "the start adapter was taken before".to_owned(),
        })?;
        let identity = Identity::new(prepared.plan.digest(), Digest(start.sha256()));
        let (journal, found) = Journal::open(&files.journal(), &identity)?;
        let Found {
            rounds: records,
            transcript,
            history,
            unsettled,
            is_finished,
        } = found;
        if is_finished {
            return Err(ServerError::RunExists { folder: path });
        }
        let chain = transcript::chain(prepared.plan.digest(), &transcript)?;
        files.restore(&records, &transcript)?;
        let open = history.open.iter();
        let accepted: Vec<_> = open
            .flat_map(|open| open.accepted.values().cloned())
            .collect();
        let counted = [headers(&accepted), headers(&unsettled)].concat();
        // What is held in memory has its share of the room, and no share is larger than a window.
        let window = prepared.config.transport.stream_window_bytes;
        let held_bytes_max = HELD_BYTES_MAX.min(window.into());
        let (spool, parts) = Spool::open(&files.updates(), &counted, held_bytes_max)?;
        let spool = spool.keeping(prepared.plan.secure_aggregation.is_none());
        let disk = Disk {
            files: Arc::new(files),
            journal: Arc::new(journal),
            spool: Arc::new(spool),
        };
        let participant_privacy =
            ParticipantPrivacy::new(&prepared.plan, disk.files.noise_key(), &records);
        // What the first round's adapter has its delta against.
        let first = (prepared.sends_deltas() && records.len() == 1).then(|| start.clone());
        let global = last_adapter(
            prepared,
            (&disk, participant_privacy.as_ref()),
            start,
            &records,
            &unsettled,
        )?;
        if let (Some(last), false) = (records.last(), unsettled.is_empty()) {
            disk.journal.settled(last.round)?;
            disk.spool.forget(&headers(&unsettled))?;
            disk.spool.drop_spares()?;
        }
        if let Some(participant_privacy) = &participant_privacy {
            participant_privacy.forget_done(&records)?;
        }
        let global = Arc::new(global);
        let last = transcript.last().filter(|_| prepared.sends_deltas());
        let before = last.and_then(|last| {
            let before = adapter_before(&disk, &records, first, &global)?;
            Some((last.record.heading.before, before))
        });
        let released = released(prepared, &history, &global, before);
        Ok(Self {
            disk,
            participant_privacy,
            parts,
            history,
            records,
            transcript,
            chain,
            global,
            released,
            accepted,
        })
    }

    /// How the updates of the open round are summed.
    pub(crate) fn summing(&self, prepared: &Prepared) -> Summing {
        summing(prepared, self.participant_privacy.as_ref())
    }

    /// Folds the updates of the open round that count, as they were folded before.
    pub(crate) fn sum(&self, prepared: &Prepared) -> Result<Sum, ServerError> {
        let total = fold(&self.summing(prepared), &self.disk.spool, &self.accepted)?;
        Ok(Sum::of(total, headers(&self.accepted)))
    }

    /// Bulk bytes that the run had moved, and those of the open round, as far as they are known.
    pub(crate) fn traffic(&self) -> (Traffic, Traffic) {
        let round = Traffic {
            up: self.accepted.iter().map(|one| one.transfer.bytes).sum(),
            down: 0,
        };
        let up: u64 = self.records.iter().map(|record| record.bytes_up).sum();
        let down = self.records.iter().map(|record| record.bytes_down).sum();
        let whole = Traffic {
            up: up + round.up,
            down,
        };
        (whole, round)
    }
}

/// The form in which participants get the adapter: after the last round exactly.
fn encoding(prepared: &Prepared, history: &History) -> Encoding {
    if prepared.plan.rounds <= history.rounds_done {
        Encoding::F32
    } else {
        prepared.adapter_encoding()
    }
}

/// The present adapter as it is sent; as a delta too, if there is one before it.
fn released(
    prepared: &Prepared,
    history: &History,
    global: &Arc<Adapter>,
    before: Option<(Digest, Adapter)>,
) -> Released {
    let form = encoding(prepared, history);
    let released = Released::whole(global, form);
    let Some((sha256, before)) = before else {
        return released;
    };
    let base = Base {
        adapter: &before,
        encoding: prepared.adapter_encoding(),
        sha256,
    };
    released.against(base, global, form)
}

/// The adapter that the last round started from: the result of the round before it, or the run's first.
fn adapter_before(
    disk: &Disk,
    records: &[RoundRecord],
    first: Option<Adapter>,
    like: &Adapter,
) -> Option<Adapter> {
    let (_, earlier) = records.split_last()?;
    let Some(before) = earlier.last() else {
        return first;
    };
    match disk.files.read_round(before, like) {
        Ok(adapter) => Some(adapter),
        // The run goes on without it: participants get the whole.
        Err(error) => {
            tracing::warn!(%error, "no delta of the present adapter; it is sent whole");
            None
        }
    }
}

/// Reads the adapter that came out of the last round; one that had not come to the disk is formed again.
fn last_adapter(
    prepared: &Prepared,
    (disk, participant_privacy): (&Disk, Option<&ParticipantPrivacy>),
    start: Adapter,
    records: &[RoundRecord],
    unsettled: &[Admission],
) -> Result<Adapter, ServerError> {
    let Some((last, earlier)) = records.split_last() else {
        return Ok(start);
    };
    let lost = match disk.files.read_round(last, &start) {
        Ok(adapter) => return Ok(adapter),
        Err(lost) if unsettled.is_empty() => return Err(lost),
        Err(lost) => lost,
    };
    let before = match earlier.last() {
        Some(before) => disk.files.read_round(before, &start)?,
        None => start,
    };
    // With the norm and the noise of that round.
    let then = participant_privacy.map(|participant_privacy| participant_privacy.before(last));
    let noised = match &then {
        Some(then) => match then.noised_before(last, &headers(unsettled))? {
            Some(noised) => Some(noised),
            None => return Err(lost),
        },
        None => None,
    };
    let sum = fold(&summing(prepared, then.as_ref()), &disk.spool, unsettled)?;
    let round = Round(last.round);
    let formed = prepared
        .merger()
        .form(&before, sum, round, noised.as_ref())?;
    if Digest(formed.adapter.sha256()).to_string() != last.adapter_sha256 {
        return Err(lost);
    }
    tracing::info!(round = last.round, "formed the round's adapter again");
    disk.files.write_round(last.round, &formed.adapter)?;
    Ok(Arc::unwrap_or_clone(formed.adapter))
}

/// Folds updates that were accepted, as they were folded before.
fn fold(summing: &Summing, spool: &Spool, accepted: &[Admission]) -> Result<Total, ServerError> {
    let mut total = summing.empty();
    for accepted in accepted {
        let bytes = UpdateBytes::File(Arc::new(spool.read(&accepted.transfer)?));
        let candidate = Candidate {
            participant: &accepted.participant,
            bytes: &bytes,
            weight: accepted.weight,
        };
        let keep = || Ok(Some(spool.kept(&accepted.transfer)));
        let added = summing.add(&mut total, candidate, keep)?;
        added.map_err(|Refused { detail, .. }| ServerError::Internal {
            what: format!("the kept update of {}: {detail}", accepted.participant),
        })?;
    }
    Ok(total)
}

/// How updates are summed, within the norm that privacy of participants has set.
fn summing(prepared: &Prepared, participant_privacy: Option<&ParticipantPrivacy>) -> Summing {
    let mut summing = prepared.summing();
    if let Some(participant_privacy) = participant_privacy {
        participant_privacy.bound(&mut summing);
    }
    summing
}

fn headers(accepted: &[Admission]) -> Vec<TransferHeader> {
    accepted.iter().map(|one| one.transfer).collect()
}
