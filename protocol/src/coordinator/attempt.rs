//! The beginning of an attempt at secure aggregation: whether there may be one more, who is in it, who is left out, and whose
//! certificate is over.
//!
//! What happens in an attempt, and after it, is `secure`'s; over whom earlier ones failed, `suspicion`'s.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::action::Action;
use super::roster::Credentials;
use super::round::{OpenRound, Work};
use super::suspicion::Suspicions;
use super::{Coordinator, Entry, Phase, Report};
use crate::close::{CloseCode, RunFailure};
use crate::ids::ParticipantName;
use crate::plan::Participants;
use crate::secagg::{AttemptId, Failure, Gathering, RosterEntry, VerifiedMember};
use crate::text::Text;

/// Attempts of one round that may come to nothing, after which the run fails instead of trying on.
const ATTEMPTS_MAX: usize = 8;
/// Objections beside them, at most: members take part in 64 attempts of a round, and some may end with a process of ours.
const OBJECTIONS_MAX: u32 = 40;

/// A certificate with less time than this left may be over by another site's clock.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);

impl Coordinator {
    /// Those that have trained and are there, with their credentials.
    pub(super) fn trained<'a>(
        &'a self,
        open: &'a OpenRound,
    ) -> impl Iterator<Item = (&'a ParticipantName, &'a Credentials)> {
        open.works.iter().filter_map(|(name, work)| {
            let link = self.roster.ready(name)?;
            matches!(work, Work::Trained(_)).then_some(())?;
            Some((name, link.credentials.as_ref()?))
        })
    }

    /// Closes connections whose certificate is over: other members would not go on with it. Whether there was one; a site that has
    /// renewed its certificate comes back with that.
    pub(super) fn close_expired(&mut self, now: Instant) -> bool {
        let Phase::Open(open) = &self.phase else {
            return false;
        };
        let over = |(name, credentials): (&ParticipantName, &Credentials)| {
            (credentials.expires_at <= now + CLOCKS_DIFFER).then(|| name.clone())
        };
        let expired: Vec<_> = self.trained(open).filter_map(over).collect();
        for participant in &expired {
            if let Some(connection) = self.roster.link(participant).map(|link| link.connection) {
                self.report(Report::Expired {
                    participant: participant.clone(),
                });
                self.close(connection, CloseCode::Expired, None);
            }
        }
        !expired.is_empty()
    }

    /// Whether as many attempts came to nothing as may.
    ///
    /// Colluders that object in turns end an attempt each, and the next ones are without them: so many objections as there are
    /// participants beyond the quorum are not counted. A sum that is fixed is opened with all of its members, so there each counts.
    pub(super) fn has_had_its_attempts(&self, open: &OpenRound) -> bool {
        let failures = &open.failures;
        let counted = if let Some(fixed) = &open.fixed {
            failures.range(fixed.attempt..).count()
        } else {
            let is_objection = |failure: &&Failure| matches!(failure, Failure::Objection { .. });
            let objections = failures.values().filter(is_objection).count();
            failures.len() - objections.min(self.dispensable())
        };
        ATTEMPTS_MAX <= counted
    }

    /// Participants that a round may have beyond its quorum.
    fn dispensable(&self) -> usize {
        let cohort = &self.plan.cohort;
        let all = match &cohort.participants {
            Participants::Named(names) => u32::try_from(names.len()).unwrap_or(u32::MAX),
            Participants::Any => self.plan.limits.participants_max,
        };
        let asked = cohort.select.map_or(all, |select| all.min(select));
        asked.saturating_sub(cohort.quorum).min(OBJECTIONS_MAX) as usize
    }

    /// Ends the run if as many attempts came to nothing as may.
    pub(super) fn give_up_attempts(&mut self) {
        let Phase::Open(open) = &self.phase else {
            return;
        };
        if let Some((_, last)) = open.failures.last_key_value()
            && self.has_had_its_attempts(open)
        {
            let (round, attempts) = (open.round, open.failures.len());
            let detail = format!("round {round} had {attempts} attempts; in the last one {last}");
            self.fail(RunFailure::SumNotOpened, Text::new(&detail));
        }
    }

    /// Those that are in the next attempt, and whom it does without.
    fn members(&self, open: &OpenRound) -> (Vec<ParticipantName>, BTreeMap<ParticipantName, u32>) {
        if let Some(fixed) = &open.fixed {
            return (fixed.members.iter().cloned().collect(), BTreeMap::new());
        }
        let present: Vec<_> = self.trained(open).map(|(name, _)| name).collect();
        let least = self.plan.cohort.quorum as usize;
        let suspicions = Suspicions::over(open.failures.values());
        let left_out = suspicions.left_out(&present, least);
        let stays = |name: &&ParticipantName| !left_out.contains_key(*name);
        let most = self.plan.limits.participants_max as usize;
        let members = present.into_iter().filter(stays).take(most).cloned();
        (members.collect(), left_out)
    }

    /// Begins an attempt among those who are there.
    pub(super) fn begin_attempt(&mut self, now: Instant) {
        let Phase::Open(open) = &self.phase else {
            return;
        };
        let attempt = AttemptId {
            round: open.round,
            number: open.attempts + 1,
        };
        let (names, left_out) = self.members(open);
        let (mut entries, mut members) = (Vec::new(), Vec::new());
        let chosen =
            |(name, _): &(&ParticipantName, &Credentials)| names.binary_search(name).is_ok();
        for (name, credentials) in self.trained(open).filter(chosen) {
            let (name, public_key) = (name.clone(), credentials.public_key);
            entries.push(RosterEntry {
                name: name.clone(),
                certificates: credentials.certificates.clone(),
            });
            members.push(VerifiedMember { name, public_key });
        }
        let about = (attempt, self.release.adapter.sha256);
        let begun = Gathering::new(&self.plan, about, &entries, members, self.verify, now);
        let Some(mut gathering) = begun else {
            // Names are in order and the plan has secure aggregation, or we would not be here.
            return self.give_up(Text::new(
                "an attempt at secure aggregation could not begin",
            ));
        };
        let is_fixed = open.fixed.is_some();
        if is_fixed {
            gathering = gathering.of_all();
        }
        // Its number must never come again, whatever happens: keys belong to it.
        self.record(Entry::Attempted {
            round: attempt.round,
            number: attempt.number,
        });
        self.actions.push_back(Action::BeginSum { attempt });
        for (participant, &failures) in &left_out {
            self.report(Report::LeftOut {
                attempt,
                participant: participant.clone(),
                failures,
            });
        }
        self.report(Report::AttemptBegan {
            attempt,
            members: names,
        });
        if let Phase::Open(open) = &mut self.phase {
            open.attempts = attempt.number;
            if !is_fixed {
                open.left_out = left_out.into_keys().collect();
            }
            open.sent.clear();
            open.gathering = Some(gathering);
        }
    }
}
