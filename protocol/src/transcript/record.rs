//! One round's record: its lines, its heading, what is signed of it and what one participant gets of it.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::chain::TranscriptFault;
use super::tree::{self, Tree};
use crate::close::RefusalReason;
use crate::codec;
use crate::coordinator::RoundSummary;
use crate::ids::{Digest, ParticipantName, Round};
use crate::seal::{Examiner, Seal};

/// The most lines of one participant in one record.
pub const OWN_LINES_MAX: usize = 4;

/// What the server signs of a round.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Heading {
    /// The digest of the run plan.
    pub plan: Digest,
    /// The round.
    pub round: Round,
    /// The hash of the record before; that of the plan for the first.
    pub previous: Digest,
    /// SHA-256 of the adapter that the round started from, as it travelled.
    pub before: Digest,
    /// SHA-256 of the adapter that came out of it, as it travels: what the next round starts from, or the final one.
    pub after: Digest,
    /// SHA-256 of the same adapter's values as little-endian f32: the name under which the server keeps it.
    pub adapter: Digest,
    /// How many lines the record has.
    pub lines: u32,
    /// The root of the hash tree over them.
    pub root: Digest,
}

/// What became of one participant, or of one of its updates.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Who, by [`participant_digest`].
    pub participant: Digest,
    /// What came of it.
    pub verdict: Verdict,
    /// A value that nobody can guess, so that the line's hash tells nothing to those who may not read the line.
    pub blind: Digest,
}

/// What came of a participant in a round.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Verdict {
    /// An update of it was counted.
    Accepted {
        /// SHA-256 of the update's bytes.
        update: Digest,
        /// Its weight, in training examples.
        weight: u64,
    },
    /// It was refused.
    Refused {
        /// Why.
        reason: RefusalReason,
    },
    /// It was asked, or is named in the plan, and delivered nothing in time.
    Missing,
}

/// A round's record, whole.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// What is signed.
    pub heading: Heading,
    /// In the order of their values.
    pub lines: Vec<Line>,
}

/// A record under the server's seal.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SealedRecord {
    /// The record.
    pub record: Record,
    /// The seal over its heading.
    pub seal: Seal,
}

/// What one participant gets of a record: the signed heading and its own lines.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Excerpt {
    /// What is signed.
    pub heading: Heading,
    /// The seal over it.
    pub seal: Seal,
    /// The participant's lines; at most [`OWN_LINES_MAX`].
    pub own: Vec<Inclusion>,
}

/// A line, and the way from it to the heading's root.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Inclusion {
    /// The line.
    pub line: Line,
    /// Its place among the record's lines, from 0.
    pub index: u32,
    /// The hashes beside the way to the root, from the line up.
    pub path: Vec<Digest>,
}

/// What a record is made of beside its round's summary.
#[derive(Clone, Copy, Debug)]
pub struct Outline {
    /// The digest of the run plan.
    pub plan: Digest,
    /// The hash of the record before; that of the plan for the first.
    pub previous: Digest,
    /// The adapter that the round started from, as it travelled.
    pub before: Digest,
    /// The adapter that came out of it, as it travels.
    pub after: Digest,
    /// The same in f32.
    pub adapter: Digest,
    /// What nobody outside the server knows: the source of the lines' blinds.
    pub secret: Digest,
}

/// The name under which a participant appears in a run's records.
///
/// It is made of the plan and the name, not of the certificate: a participant stays the same one when its certificate is
/// renewed, and the same institution has another digest in each run.
pub fn participant_digest(plan: Digest, name: &ParticipantName) -> Digest {
    hash(&[PARTICIPANT_CONTEXT, &plan.0, name.as_str().as_bytes()])
}

impl Heading {
    /// The bytes that are signed, and whose hash the next record names.
    pub fn signed_bytes(&self) -> Vec<u8> {
        [RECORD_CONTEXT, encode(self).as_slice()].concat()
    }

    /// The hash by which the next record names this one.
    pub fn hash(&self) -> Digest {
        Digest::of(&self.signed_bytes())
    }
}

impl Line {
    /// Whether it says that an update counts.
    fn counts(&self) -> bool {
        matches!(self.verdict, Verdict::Accepted { .. })
    }
}

impl Record {
    /// Draws up the record of a round.
    pub fn draw_up(outline: &Outline, summary: &RoundSummary) -> Self {
        let &Outline {
            plan,
            previous,
            before,
            after,
            adapter,
            secret,
        } = outline;
        let round = summary.round;
        let line = |name: &ParticipantName, verdict| {
            let participant = participant_digest(plan, name);
            let blind = blind(secret, round, participant);
            Line {
                participant,
                verdict,
                blind,
            }
        };
        let accepted = summary.accepted.iter().map(|update| {
            let verdict = Verdict::Accepted {
                update: update.sha256,
                weight: update.weight,
            };
            line(&update.participant, verdict)
        });
        let refused = summary.refused.iter();
        let refused =
            refused.map(|(name, reason)| line(name, Verdict::Refused { reason: *reason }));
        let missing = summary.missing.iter();
        let missing = missing.map(|name| line(name, Verdict::Missing));
        let mut lines: Vec<_> = accepted.chain(refused).chain(missing).collect();
        lines.sort();
        let heading = Heading {
            plan,
            round,
            previous,
            before,
            after,
            adapter,
            lines: u32::try_from(lines.len()).unwrap_or(u32::MAX),
            root: tree_over(&lines).root(),
        };
        Self { heading, lines }
    }

    /// Checks that the lines are those that the heading binds, in order, and that of nobody more than one update counts.
    ///
    /// # Errors
    /// [`TranscriptFault::Lines`].
    pub fn check_lines(&self) -> Result<(), TranscriptFault> {
        let fault = |what| TranscriptFault::Lines {
            round: self.heading.round,
            what,
        };
        if self.lines.len() as u64 != u64::from(self.heading.lines) {
            return Err(fault("their number is not the one that was signed"));
        }
        if self.tree().root() != self.heading.root {
            return Err(fault("they are not the ones that were signed"));
        }
        if !self.lines.is_sorted() {
            return Err(fault("they are not in order"));
        }
        let counted = self.lines.iter().filter(|line| line.counts());
        let counted: Vec<_> = counted.map(|line| line.participant).collect();
        if counted.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(fault(COUNTED_TWICE));
        }
        Ok(())
    }

    /// The hash tree over the lines.
    pub(super) fn tree(&self) -> Tree {
        tree_over(&self.lines)
    }

    /// Puts a seal under the record. `sign` gets the bytes to sign.
    pub fn seal(self, sign: impl FnOnce(&[u8]) -> Seal) -> SealedRecord {
        let seal = sign(&self.heading.signed_bytes());
        SealedRecord { record: self, seal }
    }
}

impl SealedRecord {
    /// Checks lines and seal. Whether it continues a chain is asked of [`Chain`](super::Chain).
    ///
    /// # Errors
    /// [`TranscriptFault`] names the round.
    pub fn check(&self, examiner: &dyn Examiner) -> Result<(), TranscriptFault> {
        check_seal(&self.record.heading, &self.seal, examiner)?;
        self.record.check_lines()
    }

    /// What this participant gets of the record.
    pub fn excerpt(&self, name: &ParticipantName) -> Excerpt {
        self.excerpt_of(&self.record.tree(), name)
    }

    /// The same, with the record's tree at hand.
    pub(super) fn excerpt_of(&self, tree: &Tree, name: &ParticipantName) -> Excerpt {
        let Record { heading, lines } = &self.record;
        let own = participant_digest(heading.plan, name);
        let first = lines.partition_point(|line| line.participant < own);
        let of_it = lines[first..]
            .iter()
            .take_while(|line| line.participant == own);
        let own = (first..).zip(of_it.take(OWN_LINES_MAX));
        let own = own.map(|(index, line)| Inclusion {
            line: line.clone(),
            index: u32::try_from(index).unwrap_or(u32::MAX),
            path: tree.path(index),
        });
        Excerpt {
            heading: *heading,
            seal: self.seal.clone(),
            own: own.collect(),
        }
    }
}

impl Excerpt {
    /// Checks the seal, and that each line is in the record and of this participant.
    ///
    /// # Errors
    /// [`TranscriptFault`] names the round.
    pub fn check(
        &self,
        participant: Digest,
        examiner: &dyn Examiner,
    ) -> Result<(), TranscriptFault> {
        let Heading {
            round, lines, root, ..
        } = self.heading;
        let fault = |what| TranscriptFault::Lines { round, what };
        check_seal(&self.heading, &self.seal, examiner)?;
        if OWN_LINES_MAX < self.own.len() {
            return Err(fault("there are more of one participant than there can be"));
        }
        let counted = self.own.iter().filter(|own| own.line.counts()).count();
        if 1 < counted {
            return Err(fault(COUNTED_TWICE));
        }
        for Inclusion { line, index, path } in &self.own {
            if line.participant != participant {
                return Err(fault("one is another participant's"));
            }
            let is_in = path.len() <= tree::PATH_MAX
                && tree::climb(line_hash(line), *index, lines, path) == Some(root);
            if !is_in {
                return Err(fault("one is not in the record that was signed"));
            }
        }
        Ok(())
    }
}

fn check_seal(
    heading: &Heading,
    seal: &Seal,
    examiner: &dyn Examiner,
) -> Result<(), TranscriptFault> {
    let round = heading.round;
    seal.check_size()
        .and_then(|()| examiner.examine(&heading.signed_bytes(), seal))
        .map_err(|fault| TranscriptFault::Seal { round, fault })
}

fn line_hash(line: &Line) -> Digest {
    tree::leaf(&encode(line))
}

fn tree_over(lines: &[Line]) -> Tree {
    Tree::over(lines.iter().map(line_hash).collect())
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    codec::encode(value).expect("a few digests and numbers fit a frame")
}

fn blind(secret: Digest, round: Round, participant: Digest) -> Digest {
    hash(&[
        BLIND_CONTEXT,
        &secret.0,
        &round.0.to_le_bytes(),
        &participant.0,
    ])
}

fn hash(parts: &[&[u8]]) -> Digest {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    Digest(hash.finalize().into())
}

/// A participant is asked for one update at a time, and in a round it counts or it does not: another beside it is made up.
const COUNTED_TWICE: &str = "more than one update of one participant counts";

const RECORD_CONTEXT: &[u8] = b"foedus/record/1";
const PARTICIPANT_CONTEXT: &[u8] = b"foedus/participant/1";
const BLIND_CONTEXT: &[u8] = b"foedus/blind/1";
