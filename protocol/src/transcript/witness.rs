//! A participant's memory of the transcript: the chain that it saw, and the updates that the server acknowledged to it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::chain::{Chain, TranscriptFault};
use super::record::{Excerpt, Verdict, participant_digest};
use crate::ids::{Digest, ParticipantName, Round};
use crate::seal::Examiner;

/// An update of ours that the server says it counted.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The digest of the run plan.
    pub plan: Digest,
    /// The round that it counts in.
    pub round: Round,
    /// SHA-256 of the update's bytes.
    pub update: Digest,
    /// Its weight, in training examples.
    pub weight: u64,
}

/// What a participant keeps, in the order in which it happened.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Evidence {
    /// An update was acknowledged.
    Accepted(Claim),
    /// A record was seen, and believed.
    Recorded(Box<Excerpt>),
}

/// Holds the server to its own words.
#[derive(Clone, Debug)]
pub struct Witness {
    plan: Digest,
    participant: Digest,
    chain: Chain,
    claims: BTreeMap<Round, Claim>,
    /// The adapter that the first round started from, if we were there.
    start: Option<Digest>,
    /// The last update of ours that counts, and the round that it counts in.
    counted: Option<(Round, Digest)>,
}

impl Witness {
    /// A witness that has seen nothing of the run.
    pub fn new(plan: Digest, name: &ParticipantName) -> Self {
        Self {
            plan,
            participant: participant_digest(plan, name),
            chain: Chain::new(plan),
            claims: BTreeMap::new(),
            start: None,
            counted: None,
        }
    }

    /// The plan of the run.
    pub fn plan(&self) -> Digest {
        self.plan
    }

    /// The last round of which a record was seen; 0 before the first.
    pub fn round(&self) -> Round {
        self.chain.round()
    }

    /// SHA-256 of the last record that was seen; none before the first.
    pub(crate) fn last(&self) -> Option<Digest> {
        (self.round() != Round(0)).then(|| self.chain.last())
    }

    /// Whether this update, the last one that was offered, counts by what was acknowledged or recorded so far. It was trained for `round`.
    pub fn counts(&self, round: Round, update: Digest) -> bool {
        self.counted
            .is_some_and(|(counted_in, counted)| round <= counted_in && counted == update)
    }

    /// Takes up what an earlier process kept. Seals were checked when it was kept.
    ///
    /// # Errors
    /// [`TranscriptFault`] if it does not hang together.
    pub fn recall(&mut self, evidence: &Evidence) -> Result<(), TranscriptFault> {
        match evidence {
            Evidence::Accepted(claim) => self.claim(*claim),
            Evidence::Recorded(excerpt) => self.note(excerpt)?,
        }
        Ok(())
    }

    /// Remembers an update that the server acknowledged: it counts in the claim's round.
    pub(crate) fn claim(&mut self, claim: Claim) {
        if claim.plan == self.plan && self.chain.round() < claim.round {
            self.counted = Some((claim.round, claim.update));
            self.claims.insert(claim.round, claim);
        }
    }

    /// Checks a record against everything known, and adds it to the chain.
    ///
    /// `delivering` is an update that is still being offered: if it is counted already, then as it was offered.
    ///
    /// # Errors
    /// [`TranscriptFault`]; the record is then not part of the chain.
    pub(crate) fn hear(
        &mut self,
        excerpt: &Excerpt,
        delivering: Option<Claim>,
        examiner: &dyn Examiner,
    ) -> Result<(), TranscriptFault> {
        excerpt.check(self.participant, examiner)?;
        let heading = &excerpt.heading;
        if let Some(offered) = delivering.filter(|offered| offered.round <= heading.round)
            && self.claims.is_empty()
            && counted(excerpt).next().is_some()
        {
            check_claim(&offered, excerpt)?;
        }
        self.note(excerpt)
    }

    /// Checks that the server goes on from the round that its records end with, and from the adapter that they name.
    ///
    /// All that was acknowledged must be on record by now, since nothing is asked of a participant before its update counts.
    pub(crate) fn check_start(
        &mut self,
        after: Round,
        adapter: Digest,
    ) -> Result<(), TranscriptFault> {
        let seen = self.chain.round();
        if seen != after {
            return Err(TranscriptFault::Unrecorded { found: after, seen });
        }
        if let Some((&round, _)) = self.claims.range(..=after).next() {
            return Err(TranscriptFault::Dropped { round });
        }
        match self.chain.after() {
            Some(named) if named != adapter => Err(TranscriptFault::Aggregate { round: after }),
            Some(_) => Ok(()),
            None => {
                self.start = Some(adapter);
                Ok(())
            }
        }
    }

    fn note(&mut self, excerpt: &Excerpt) -> Result<(), TranscriptFault> {
        let heading = &excerpt.heading;
        let round = heading.round;
        let mut settled = None;
        if let Some((&of, claim)) = self.claims.range(..=round).next() {
            settled = check_claim(claim, excerpt)?.then_some(of);
            if settled.is_none() && of == round {
                return Err(TranscriptFault::Dropped { round });
            }
        }
        let is_first = self.chain.after().is_none();
        if is_first && self.start.is_some_and(|start| start != heading.before) {
            return Err(TranscriptFault::Start { round });
        }
        self.chain.extend(heading)?;
        if let Some((update, _)) = counted(excerpt).last() {
            self.counted = Some((round, update));
        }
        if let Some(of) = settled {
            self.claims.remove(&of);
        }
        Ok(())
    }
}

/// The updates that a record counts as ours: digest and weight.
fn counted(excerpt: &Excerpt) -> impl Iterator<Item = (Digest, u64)> {
    excerpt
        .own
        .iter()
        .filter_map(|inclusion| match inclusion.line.verdict {
            Verdict::Accepted { update, weight } => Some((update, weight)),
            Verdict::Refused { .. } | Verdict::Missing => None,
        })
}

/// Whether the record counts this update, and as it was sent. One that counts another of ours instead is a lie: there is one at
/// a time.
fn check_claim(claim: &Claim, excerpt: &Excerpt) -> Result<bool, TranscriptFault> {
    let round = excerpt.heading.round;
    let expected = claim.weight;
    match counted(excerpt).find(|(update, _)| *update == claim.update) {
        Some((_, found)) if found == expected => Ok(true),
        Some((_, found)) => Err(TranscriptFault::OtherWeight {
            round,
            expected,
            found,
        }),
        None => match counted(excerpt).next() {
            Some((found, _)) => Err(TranscriptFault::OtherUpdate {
                round,
                expected: claim.update,
                found,
            }),
            None => Ok(false),
        },
    }
}
