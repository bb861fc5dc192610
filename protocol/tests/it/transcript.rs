//! The transcript (rules T1 to T6): what an honest server tells, and servers that lie about it. Each lie is found by name.

use std::sync::Arc;

use protocol::close::CloseCode;
use protocol::coordinator::{AcceptedUpdate, RoundSummary};
use protocol::message::{Content, Metrics, ToClient, TransferHeader, TransferKind};
use protocol::participant::{
    Action, AnchorCopy, Disposition, Outcome, Participant, Setup, Spooled,
};
use protocol::plan::CheckedPlan;
use protocol::transcript::{Chain, Evidence, Excerpt, SealedRecord, Verdict, Witness};
use protocol::{Digest, Round, Text};

use super::pair::{Eye, KEY, Pair, Weather, an_instant, content, name, plan, record, seal, sign};

/// What a lying server may say of a round.
struct Story {
    chain: Chain,
    round: u32,
    accepted: Vec<AcceptedUpdate>,
    before: Content,
    after: Content,
    key: &'static [u8],
}

impl Story {
    fn tell(&self) -> SealedRecord {
        let now = an_instant();
        let summary = RoundSummary {
            round: Round(self.round),
            opened_at: now,
            closed_at: now,
            accepted: self.accepted.clone(),
            refused: Vec::new(),
            missing: Vec::new(),
        };
        let honest = record(&self.chain, &summary, self.before, self.after);
        honest.record.seal(|bytes| seal(self.key, bytes))
    }
}

fn counted(who: &str, update: Content, weight: u64) -> AcceptedUpdate {
    AcceptedUpdate {
        participant: name(who),
        weight,
        bytes: update.bytes,
        sha256: update.sha256,
        rounds_late: 0,
        metrics: Metrics::default(),
    }
}

/// A participant whose update of the first round the server has acknowledged.
struct Site {
    machine: Participant,
    plan: CheckedPlan,
    evidence: Vec<Evidence>,
    actions: Vec<Action>,
}

const WEIGHT: u64 = 10;

impl Site {
    fn dial(plan: &CheckedPlan, evidence: Vec<Evidence>, spooled: Option<Spooled>) -> Self {
        let now = an_instant();
        let mut setup = Setup::new(name("a"), Text::new("x"), 1, Arc::new(Eye));
        setup.spooled = spooled;
        let mut site = Self {
            machine: Participant::new(setup, now),
            plan: plan.clone(),
            evidence,
            actions: Vec::new(),
        };
        site.machine.handle_connected(now);
        site.hears(ToClient::Welcome {
            version: 1,
            software: Text::default(),
            plan: sign(plan),
        });
        let mut witness = Witness::new(plan.digest(), &name("a"));
        for one in &site.evidence {
            witness.recall(one).unwrap();
        }
        site.machine
            .accept_plan(plan.clone(), AnchorCopy::Missing, witness)
            .unwrap();
        site.collect();
        site
    }

    fn acknowledged() -> Self {
        let plan = plan(&["a", "b"], 1, 3).check().unwrap();
        let mut site = Self::dial(&plan, Vec::new(), None);
        site.trains(1, "start");
        let update = content("update of a");
        site.machine
            .trained(Round(1), update, WEIGHT, Metrics::default())
            .unwrap();
        site.hears(ToClient::Accepted { round: Round(1) });
        site
    }

    fn story(&self) -> Story {
        Story {
            chain: Chain::new(self.plan.digest()),
            round: 1,
            accepted: vec![
                counted("a", content("update of a"), WEIGHT),
                counted("b", content("update of b"), 7),
            ],
            before: content("start"),
            after: content("global after 1"),
            key: KEY,
        }
    }

    fn hears(&mut self, message: ToClient) {
        self.machine.handle_message(message, an_instant());
        self.collect();
    }

    fn hears_record(&mut self, record: &SealedRecord) {
        self.hears(ToClient::Recorded(Box::new(record.excerpt(&name("a")))));
    }

    fn collect(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            if let Action::Remember(evidence) = &action {
                self.evidence.push(evidence.clone());
            }
            self.actions.push(action);
        }
    }

    fn asked(&mut self, round: u32, of: &str) -> TransferHeader {
        let kind = TransferKind::GlobalAdapter;
        let digest = self.plan.digest();
        let global = TransferHeader::from_server(kind, Round(round), digest, content(of));
        self.hears(ToClient::Train { global });
        global
    }

    fn trains(&mut self, round: u32, of: &str) {
        let global = self.asked(round, of);
        let got = self.machine.handle_transfer_received(&global, an_instant());
        assert_eq!(got, Disposition::Keep);
        self.collect();
        assert_eq!(self.machine.round(), Some(Round(round)));
    }

    #[track_caller]
    fn accuses(&self, words: &str) {
        let close = Action::Close(CloseCode::BadTranscript);
        assert!(self.actions.contains(&close), "{:?}", self.actions);
        let Some(Action::End(Outcome::Violation(violation))) = self.actions.last() else {
            panic!("{:?}", self.actions);
        };
        let sentence = violation.to_string();
        assert!(sentence.starts_with("the server broke the protocol: "));
        assert!(sentence.contains(words), "{sentence}");
    }
}

/// T1: every participant has the record of every round before anything that builds on it, wherever connections break.
#[test]
fn everyone_who_finishes_holds_the_whole_chain() {
    let stormy = Weather {
        cut: 20,
        cut_bulk: 50,
        kill: 100,
        crash: 10,
        spool: true,
        ..Weather::fair()
    };
    for seed in 0..40 {
        let mut pair = Pair::new(plan(&["a", "b", "c"], 2, 4), stormy.clone(), seed);
        pair.drive();
        let chain = pair.chain();
        for site in &pair.sites {
            let excerpts = site.evidence.iter().filter_map(|evidence| match evidence {
                Evidence::Recorded(excerpt) => Some(excerpt.as_ref()),
                Evidence::Accepted(_) => None,
            });
            let excerpts: Vec<&Excerpt> = excerpts.collect();
            for (sealed, excerpt) in pair.server.transcript.iter().zip(&excerpts) {
                assert_eq!(&sealed.excerpt(&site.name), *excerpt, "seed {seed}");
            }
            if let Some(Outcome::Finished { .. }) = site.outcome {
                assert_eq!(excerpts.len(), chain.round().0 as usize, "seed {seed}");
            }
        }
    }
}

/// T1: who joins late hears the whole chain from the plan on; who comes back hears what it missed.
#[test]
fn a_late_participant_hears_the_chain_from_its_beginning() {
    let mut open = plan(&["a"], 1, 3);
    open.cohort.participants = protocol::plan::Participants::Any;
    let mut pair = Pair::new(open, Weather::fair(), 1);
    pair.add_site(name("a"));
    pair.drive_until("round 1 is done", |pair| {
        pair.server.history.rounds_done == 1
    });
    let late = pair.add_site(name("late"));
    pair.drive();
    assert_eq!(
        pair.sites[late].evidence.len(),
        5,
        "3 records and 2 updates"
    );
    assert!(matches!(
        pair.sites[late].outcome,
        Some(Outcome::Finished { .. })
    ));
}

/// T2: a record that does not count what was acknowledged ends the run.
#[test]
fn a_server_that_drops_an_acknowledged_update_is_found() {
    let mut site = Site::acknowledged();
    let mut story = site.story();
    story.accepted.remove(0);
    site.hears_record(&story.tell());
    site.asked(2, "global after 1");
    site.accuses("acknowledged our update of round 1, and no record counts it");

    // Nor does it help to leave the line away.
    let mut site = Site::acknowledged();
    let mut excerpt = site.story().tell().excerpt(&name("a"));
    excerpt.own.clear();
    site.hears(ToClient::Recorded(Box::new(excerpt)));
    site.asked(2, "global after 1");
    site.accuses("no record counts it");
}

/// T2: also if the participant's process was killed between the acknowledgement and the record.
#[test]
fn an_update_that_was_acknowledged_to_an_earlier_process_is_not_forgotten() {
    let before = Site::acknowledged();
    let mut story = before.story();
    story.accepted.remove(0);
    let mut site = Site::dial(&before.plan, before.evidence, None);
    site.hears_record(&story.tell());
    site.asked(2, "global after 1");
    site.accuses("no record counts it");
}

/// A state that is older than what the site offered last, as after a backup was put back, makes no server guilty.
#[test]
fn an_old_state_accuses_nobody_of_having_counted_a_newer_update() {
    let before = Site::acknowledged();
    let update = content("update of a");
    let spooled = Spooled {
        plan: before.plan.digest(),
        round: Round(1),
        global: content("start").sha256,
        update,
        weight: WEIGHT,
        metrics: Metrics::default(),
    };
    let first = before.story().tell();
    let mut chain = Chain::new(before.plan.digest());
    chain.extend(&first.record.heading).unwrap();
    let second = Story {
        chain,
        round: 2,
        accepted: vec![counted("a", content("the newer update of a"), WEIGHT)],
        before: content("global after 1"),
        after: content("global after 2"),
        key: KEY,
    };
    // That the second round's update was acknowledged is not on this disk, and its state is the first round's.
    let mut site = Site::dial(&before.plan, before.evidence, Some(spooled));
    site.hears_record(&first);
    site.hears(ToClient::Accepted { round: Round(2) });
    site.hears_record(&second.tell());
    site.trains(3, "global after 2");
}

/// T3: weight and digest are the ones that were offered.
#[test]
fn a_server_that_changes_a_weight_or_an_update_is_found() {
    let mut site = Site::acknowledged();
    let mut story = site.story();
    story.accepted[0].weight = WEIGHT + 1;
    site.hears_record(&story.tell());
    site.accuses("counts our update with weight 11, and we sent 10");

    let mut site = Site::acknowledged();
    let mut story = site.story();
    story.accepted[0].sha256 = Digest::of(b"another");
    site.hears_record(&story.tell());
    site.accuses("as ours, and we sent");
}

/// T3: nothing else counts under the participant's name beside what it sent.
#[test]
fn a_second_update_under_our_name_is_found() {
    for weight in [1, WEIGHT] {
        let mut site = Site::acknowledged();
        let mut story = site.story();
        story
            .accepted
            .push(counted("a", content("made up"), weight));
        site.hears_record(&story.tell());
        site.accuses("more than one update of one participant counts");
    }
}

/// T3: a line that is not in the signed record counts for nothing.
#[test]
fn a_line_made_up_for_one_participant_is_found() {
    let mut site = Site::acknowledged();
    let mut story = site.story();
    story.accepted[0].weight = 1;
    let mut excerpt = story.tell().excerpt(&name("a"));
    excerpt.own[0].line.verdict = Verdict::Accepted {
        update: content("update of a").sha256,
        weight: WEIGHT,
    };
    site.hears(ToClient::Recorded(Box::new(excerpt)));
    site.accuses("one is not in the record that was signed");
}

/// T3: an update whose acknowledgement was lost counts as it was offered, if it counts.
#[test]
fn an_update_still_being_offered_is_counted_as_it_is() {
    let plan = plan(&["a", "b"], 1, 3).check().unwrap();
    for (weight, is_honest) in [(WEIGHT, true), (WEIGHT + 1, false)] {
        let mut site = Site::dial(&plan, Vec::new(), None);
        site.trains(1, "start");
        let update = content("update of a");
        site.machine
            .trained(Round(1), update, WEIGHT, Metrics::default())
            .unwrap();
        let mut story = site.story();
        story.accepted[0].weight = weight;
        site.hears_record(&story.tell());
        if is_honest {
            site.trains(2, "global after 1");
        } else {
            site.accuses("counts our update with weight 11");
        }
    }
}

/// T4: a record continues the one that was seen before, over a restart too.
#[test]
fn a_server_that_forks_the_chain_is_found() {
    let mut site = Site::acknowledged();
    let first = site.story();
    site.hears_record(&first.tell());
    site.trains(2, "global after 1");
    let mut other = site.story();
    other.accepted.remove(1);
    let mut chain = Chain::new(site.plan.digest());
    chain.extend(&other.tell().record.heading).unwrap();
    let fork = Story {
        chain,
        round: 2,
        accepted: Vec::new(),
        before: content("global after 1"),
        after: content("global after 2"),
        key: KEY,
    };
    let mut again = Site::dial(&site.plan, site.evidence.clone(), None);
    again.hears_record(&fork.tell());
    again.accuses("round 2 does not continue the record before it");
    site.hears_record(&fork.tell());
    site.accuses("round 2 does not continue the record before it");

    // A server whose disk was set back goes on from where it was, and not from where we were.
    let mut again = Site::dial(&again.plan, again.evidence.clone(), None);
    again.asked(1, "start");
    again.accuses("goes on after round 0, and its transcript, as we hold it, ends with round 1");
}

/// T5: a record is under the seal of the server, whose certificate the authority signed.
#[test]
fn a_record_signed_with_another_key_is_found() {
    let mut site = Site::acknowledged();
    let mut story = site.story();
    story.key = b"a stranger's key";
    site.hears_record(&story.tell());
    site.accuses("the record of round 1 is not the server's: the signer's certificate");

    let mut site = Site::acknowledged();
    let mut forged = site.story().tell();
    forged.seal.signature = seal(b"a stranger's key", b"").signature;
    site.hears_record(&forged);
    site.accuses("was not made with the key of the certificate beside it");
}

/// T6: the adapter to train from, and the final one, is the one on record; without a record there is none.
#[test]
fn an_adapter_that_no_record_names_is_found() {
    let mut site = Site::acknowledged();
    site.asked(2, "global after 1");
    site.accuses("goes on after round 1, and its transcript, as we hold it, ends with round 0");

    let mut site = Site::acknowledged();
    let story = site.story();
    site.hears_record(&story.tell());
    site.asked(2, "another global");
    site.accuses("the adapter sent after round 1 is not the one that the record");

    let mut site = Site::acknowledged();
    let mut story = site.story();
    story.before = content("another start");
    site.hears_record(&story.tell());
    site.accuses("round 1 did not start from the adapter that its transcript names");

    let mut site = Site::acknowledged();
    let story = site.story();
    site.hears_record(&story.tell());
    let (kind, digest) = (TransferKind::FinalAdapter, site.plan.digest());
    let adapter = TransferHeader::from_server(kind, Round(3), digest, content("final"));
    site.hears(ToClient::Finished { rounds: 3, adapter });
    site.accuses("goes on after round 3, and its transcript, as we hold it, ends with round 1");
}
