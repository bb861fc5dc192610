//! The end of a round: its next adapter, its record, and both in the journal.

use std::sync::Arc;

use aggregation::{Adapter, Encoding};
use bytes::Bytes;
use protocol::Digest;
use protocol::coordinator::RoundSummary;
use protocol::message::{Content, TransferHeader};
use protocol::quic::TlsMaterial;
use protocol::transcript::{Outline, Record, SealedRecord};

use super::{Folder, Merged, Sum};
use crate::adapter_bytes::AdapterBytes;
use crate::error::ServerError;
use crate::released::{Base, Released};
use crate::round::{Measured, Traffic};
use crate::settling::Unsettled;
use crate::tally::Tally;
use crate::transcript;

impl Folder {
    /// Forms the next adapter of a full sum, and puts what the round came to on record.
    pub(super) fn merge(
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
        if !self.is_masked {
            holds_what_was_accepted(&updates, summary)?;
        }
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
            if is_last {
                self.disk.spool.drop_spares()?;
            }
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

/// Checks that the sum is of the updates that the coordinator counted for the round: the record says so, and signs it.
fn holds_what_was_accepted(
    updates: &[TransferHeader],
    summary: &RoundSummary,
) -> Result<(), ServerError> {
    let mut in_sum: Vec<_> = updates.iter().map(|update| update.sha256).collect();
    let accepted = summary.accepted.iter();
    let mut counted: Vec<_> = accepted.map(|update| update.sha256).collect();
    in_sum.sort();
    counted.sort();
    if in_sum == counted {
        return Ok(());
    }
    let round = summary.round;
    Err(ServerError::Internal {
        what: format!("the sum of round {round} is not of the updates that were counted for it"),
    })
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
