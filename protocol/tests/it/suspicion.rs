//! Servers that lie to a participant (rules V1 to V7): each lie ends the run with a violation that names the server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::close::{CloseCode, RefusalReason};
use protocol::coordinator::RoundSummary;
use protocol::message::{Content, Metrics, ToClient, ToServer, TransferHeader, TransferKind};
use protocol::participant::{
    Action, AnchorCopy, Disposition, Outcome, Participant, Report, SecureSetup, Setup, Spooled,
};
use protocol::plan::{
    ANCHOR_BYTES_MAX, Announced, CheckedPlan, Download, EwcPlace, EwcPlan, RunPlan, SignedPlan,
    SignedPlanError, ValueEncoding,
};
use protocol::seal::SealFault;
use protocol::secagg::{AttemptId, ForMember, Piece, RosterEntry};
use protocol::transcript::{Chain, Witness};
use protocol::{Digest, Round, Text};

use super::pair::{ADAPTER_BYTES, Eye, an_instant, content, masked, name, plan, record, sign};

mod repeats;

struct Victim {
    machine: Participant,
    plan: CheckedPlan,
    now: Instant,
    actions: Vec<Action>,
}

impl Victim {
    /// A participant that has agreed to this plan.
    fn ready(plan: RunPlan) -> Self {
        Self::with(plan.check().unwrap(), None)
    }

    /// One that an earlier process left this update to.
    fn with(plan: CheckedPlan, spooled: Option<Spooled>) -> Self {
        let now = an_instant();
        let mut setup = Setup::new(name("a"), Text::new("x"), 1, Arc::new(Eye));
        setup.spooled = spooled;
        setup.secure = Some(SecureSetup {
            public_key: [1; 32],
            verify: |_, _, _| true,
        });
        let mut victim = Self {
            machine: Participant::new(setup, now),
            plan,
            now,
            actions: vec![],
        };
        victim.machine.handle_connected(now);
        let signed = sign(&victim.plan);
        victim.hears(welcome(signed.clone()));
        assert!(victim.actions.contains(&Action::CheckPlan(signed)));
        let plan = victim.plan.clone();
        let witness = Witness::new(plan.digest(), &name("a"));
        victim
            .machine
            .accept_plan(plan, AnchorCopy::Missing, witness)
            .unwrap();
        victim
    }

    /// Hears honest records of the rounds before this one, each from the adapter "g" to the adapter "g".
    fn was_told(&mut self, round: u32) {
        let mut chain = Chain::new(self.plan.digest());
        for number in 1..round {
            let summary = RoundSummary {
                round: Round(number),
                opened_at: self.now,
                closed_at: self.now,
                accepted: Vec::new(),
                refused: Vec::new(),
                missing: Vec::new(),
            };
            let record = record(&chain, &summary, content("g"), content("g"));
            chain.extend(&record.record.heading).unwrap();
            self.hears(ToClient::Recorded(Box::new(record.excerpt(&name("a")))));
        }
    }

    fn hears(&mut self, message: ToClient) {
        self.machine.handle_message(message, self.now);
        self.collect();
    }

    /// Hears the beginning of a roster, which is not all of it.
    fn hears_of_attempt(&mut self, number: u32) {
        let round = Round(1);
        let attempt = AttemptId { round, number };
        let entry = RosterEntry {
            name: name("a"),
            certificates: Vec::new(),
        };
        let (first, total, items) = (0, 3, vec![entry].into());
        let message = ForMember::Roster(Piece {
            first,
            total,
            items,
        });
        self.hears(ToClient::Secure { attempt, message });
    }

    fn gets(&mut self, header: &TransferHeader) -> Disposition {
        let disposition = self.machine.handle_transfer_received(header, self.now);
        self.collect();
        disposition
    }

    fn collect(&mut self) {
        self.actions
            .extend(std::iter::from_fn(|| self.machine.poll_action()));
    }

    fn global(&self, round: u32, of: &str) -> TransferHeader {
        let digest = self.plan.digest();
        TransferHeader::from_server(
            TransferKind::GlobalAdapter,
            Round(round),
            digest,
            content(of),
        )
    }

    /// Asks and sends honestly, so that training begins.
    fn trains(&mut self, round: u32) {
        let global = self.global(round, "g");
        self.hears(ToClient::Train { global });
        assert_eq!(self.gets(&global), Disposition::Keep);
        assert_eq!(self.machine.round(), Some(Round(round)));
        assert_eq!(self.machine.state(), "training");
    }

    #[track_caller]
    fn accuses(&mut self, code: CloseCode, words: &str) {
        self.collect();
        assert!(
            self.actions.contains(&Action::Close(code)),
            "{:?}",
            self.actions
        );
        let Some(Action::End(Outcome::Violation(violation))) = self.actions.last() else {
            panic!("{:?}", self.actions);
        };
        let sentence = violation.to_string();
        assert!(
            sentence.starts_with("the server broke the protocol: "),
            "{sentence}"
        );
        assert!(sentence.contains(words), "{sentence}");
        assert!(self.machine.is_over());
    }
}

fn welcome(plan: SignedPlan) -> ToClient {
    ToClient::Welcome {
        version: 1,
        software: Text::default(),
        plan,
    }
}

fn simple() -> RunPlan {
    plan(&["a"], 1, 3)
}

/// V1: one run has one plan.
#[test]
fn another_plan_after_a_reconnection_is_a_violation() {
    let mut victim = Victim::ready(simple());
    victim.machine.handle_disconnected(None, victim.now);
    victim.now += Duration::from_secs(1);
    victim.machine.handle_timeout(victim.now);
    victim.machine.handle_connected(victim.now);
    let other = plan(&["a"], 1, 4).check().unwrap();
    victim.hears(welcome(sign(&other)));
    victim.accuses(CloseCode::WrongPlan, "Welcome names another run plan");
}

/// V1: every transfer and request names the plan that was agreed to.
#[test]
fn a_request_under_another_plan_is_a_violation() {
    let mut victim = Victim::ready(simple());
    let other = Digest::of(b"other");
    let global =
        TransferHeader::from_server(TransferKind::GlobalAdapter, Round(1), other, content("g"));
    victim.hears(ToClient::Train { global });
    victim.accuses(CloseCode::WrongPlan, "another run plan");
}

/// V2: rounds lie within the plan and never come back.
#[test]
fn a_round_that_cannot_be_is_a_violation() {
    for round in [0, 4, u32::MAX] {
        let mut victim = Victim::ready(simple());
        let global = victim.global(round, "g");
        victim.hears(ToClient::Train { global });
        victim.accuses(
            CloseCode::WrongRound,
            &format!("names round {round}, expected 1 to 3"),
        );
    }
    let mut victim = Victim::ready(simple());
    victim.was_told(2);
    victim.trains(2);
    victim.hears(ToClient::Refused {
        round: Round(2),
        reason: RefusalReason::Late,
    });
    let global = victim.global(2, "g");
    victim.hears(ToClient::Train { global });
    victim.accuses(
        CloseCode::WrongRound,
        "Train names round 2, expected 3 to 3",
    );
}

/// V3: an adapter has the size of the plan and the digest that was announced.
#[test]
fn an_adapter_of_wrong_size_or_digest_is_a_violation() {
    let mut victim = Victim::ready(simple());
    let short = Content {
        bytes: ADAPTER_BYTES - 4,
        sha256: Digest::of(b"g"),
    };
    let digest = victim.plan.digest();
    let header = TransferHeader::from_server(TransferKind::GlobalAdapter, Round(1), digest, short);
    assert_eq!(victim.gets(&header), Disposition::Drop);
    victim.accuses(
        CloseCode::BadTransfer,
        "length in bytes: found 1048572, expected 1048576",
    );

    let mut victim = Victim::ready(simple());
    let (announced, other) = (victim.global(1, "announced"), victim.global(1, "other"));
    victim.hears(ToClient::Train { global: announced });
    assert_eq!(victim.gets(&other), Disposition::Drop);
    victim.accuses(CloseCode::BadTransfer, "digest of the global adapter");

    let mut victim = Victim::ready(simple());
    let mut invented = victim.global(1, "g");
    invented.id = protocol::TransferId([1; 16]);
    assert_eq!(victim.gets(&invented), Disposition::Drop);
    victim.accuses(CloseCode::BadTransfer, "id, kind or offset");
}

/// V3: a round has one global adapter, whichever of announcement and bytes comes first.
#[test]
fn two_adapters_for_one_round_are_a_violation() {
    let mut victim = Victim::ready(simple());
    victim.trains(1);
    let global = victim.global(1, "another");
    victim.hears(ToClient::Train { global });
    victim.accuses(
        CloseCode::BadTransfer,
        "two different global adapters were sent for round 1",
    );

    let mut victim = Victim::ready(simple());
    let early = victim.global(1, "early");
    assert_eq!(victim.gets(&early), Disposition::Keep);
    let global = victim.global(1, "another");
    victim.hears(ToClient::Train { global });
    victim.accuses(CloseCode::BadTransfer, "two different global adapters");
}

/// V3: bytes may overtake their announcement.
#[test]
fn bytes_that_overtake_their_announcement_are_used() {
    let mut victim = Victim::ready(simple());
    let global = victim.global(1, "g");
    assert_eq!(victim.gets(&global), Disposition::Keep);
    victim.hears(ToClient::Train { global });
    let train = Action::Train {
        round: Round(1),
        global,
        first_step: 0,
        steps: 4,
    };
    assert_eq!(victim.actions.last(), Some(&train));
}

/// V3: the anchor is the plan's, and training waits for it.
#[test]
fn another_anchor_than_the_plans_is_a_violation() {
    let mut with_anchor = simple();
    let anchor = content("anchor");
    with_anchor.ewc = Some(EwcPlan {
        lambda: 1.0,
        place: EwcPlace::Client,
        anchor: anchor.sha256,
    });
    let header = |victim: &Victim, of: &str| {
        let digest = victim.plan.digest();
        TransferHeader::from_server(TransferKind::Anchor, Round(1), digest, content(of))
    };

    let mut victim = Victim::ready(with_anchor.clone());
    let global = victim.global(1, "g");
    victim.hears(ToClient::Train { global });
    assert_eq!(victim.gets(&global), Disposition::Keep);
    assert_eq!(victim.machine.state(), "receiving the global adapter");
    let good = header(&victim, "anchor");
    assert_eq!(victim.gets(&good), Disposition::Keep);
    assert_eq!(victim.machine.state(), "training");

    let mut victim = Victim::ready(with_anchor.clone());
    let mut long = header(&victim, "anchor");
    long.bytes = ANCHOR_BYTES_MAX + 1;
    assert_eq!(victim.gets(&long), Disposition::Drop);
    victim.accuses(
        CloseCode::BadTransfer,
        "length in bytes of the anchor: found 268435457, expected at most 268435456",
    );

    let mut victim = Victim::ready(with_anchor);
    let bad = header(&victim, "another");
    assert_eq!(victim.gets(&bad), Disposition::Drop);
    victim.accuses(CloseCode::BadTransfer, "digest of the anchor");

    let mut victim = Victim::ready(simple());
    let unneeded = header(&victim, "anchor");
    assert_eq!(victim.gets(&unneeded), Disposition::Drop);
    victim.accuses(CloseCode::Unexpected, "an anchor is not allowed");
}

/// V3, C10: what is judged by a header is what the participant would say of the whole.
#[test]
fn a_transfer_that_the_plan_does_not_have_is_known_by_its_header() {
    let anchor = content("anchor");
    let plan = |download, with_anchor: bool| {
        let mut plan = simple();
        plan.encoding = ValueEncoding::Bf16;
        plan.download = download;
        plan.ewc = with_anchor.then_some(EwcPlan {
            lambda: 1.0,
            place: EwcPlace::Client,
            anchor: anchor.sha256,
        });
        plan.check().unwrap()
    };
    let whole = plan(Download::Whole, false);
    let deltas = plan(Download::Delta, true);
    let judge = |plan: &CheckedPlan, kind, bytes, sha256| {
        let content = Content { bytes, sha256 };
        plan.judge(&TransferHeader::from_server(
            kind,
            Round(1),
            plan.digest(),
            content,
        ))
    };
    let sha256 = Digest::of(b"adapter");
    for (adapter, delta, length) in [
        (
            TransferKind::GlobalAdapter,
            TransferKind::GlobalDelta,
            ADAPTER_BYTES / 2,
        ),
        (
            TransferKind::FinalAdapter,
            TransferKind::FinalDelta,
            ADAPTER_BYTES,
        ),
    ] {
        assert_eq!(judge(&whole, adapter, length, sha256), Announced::Fits);
        for wrong in [0, length - 1, length + 1, u64::MAX] {
            assert_eq!(judge(&whole, adapter, wrong, sha256), Announced::Unfit);
        }
        assert_eq!(judge(&whole, delta, 100, sha256), Announced::Unfit);
        assert_eq!(judge(&deltas, delta, length - 1, sha256), Announced::Fits);
        for long in [length, u64::MAX] {
            let useless = Announced::UselessDelta { whole: length };
            assert_eq!(judge(&deltas, delta, long, sha256), useless);
        }
    }
    let kind = TransferKind::Anchor;
    let (longest, sha256) = (ANCHOR_BYTES_MAX, anchor.sha256);
    assert_eq!(judge(&deltas, kind, longest, sha256), Announced::Fits);
    let (other, too_long) = (Digest::of(b"another"), ANCHOR_BYTES_MAX + 1);
    for (plan, bytes, sha256) in [
        (&deltas, too_long, sha256),
        (&deltas, 1, other),
        (&whole, 1, sha256),
    ] {
        assert_eq!(judge(plan, kind, bytes, sha256), Announced::Unfit);
    }
    let update = judge(&whole, TransferKind::Update, ADAPTER_BYTES, other);
    assert_eq!(update, Announced::Unfit);
}

/// V4: each message has its place.
#[test]
fn a_message_out_of_place_is_a_violation() {
    let update = Digest::of(b"update");
    let out_of_place = [
        (
            welcome(sign(&simple().check().unwrap())),
            "Welcome is not allowed while taking part",
        ),
        (
            ToClient::Deliver {
                transfer: Default::default(),
                offset: 0,
            },
            "Deliver is not allowed",
        ),
        (
            ToClient::Accepted { round: Round(1) },
            "Accepted is not allowed while training",
        ),
    ];
    for (message, words) in out_of_place {
        let mut victim = Victim::ready(simple());
        victim.trains(1);
        victim.hears(message);
        victim.accuses(CloseCode::Unexpected, words);
    }
    let mut victim = Victim::ready(simple());
    victim.trains(1);
    let update = Content {
        bytes: ADAPTER_BYTES,
        sha256: update,
    };
    let header = victim
        .machine
        .trained(Round(1), update, 1, Default::default())
        .unwrap()
        .unwrap();
    victim.hears(ToClient::Deliver {
        transfer: header.id,
        offset: ADAPTER_BYTES + 1,
    });
    victim.accuses(
        CloseCode::BadTransfer,
        "offset: found 1048577, expected at most 1048576",
    );
}

/// V4: nobody sends updates to a participant.
#[test]
fn an_update_sent_to_a_participant_is_a_violation() {
    let mut victim = Victim::ready(simple());
    let header = TransferHeader::update(&name("b"), Round(1), victim.plan.digest(), content("u"));
    assert_eq!(victim.gets(&header), Disposition::Drop);
    victim.accuses(CloseCode::Unexpected, "an update");
}

/// V5: an unsigned plan is a violation, and its author is named.
#[test]
fn a_plan_that_is_not_signed_by_the_server_is_a_violation() {
    let now = an_instant();
    let setup = Setup::new(name("a"), Text::new("x"), 1, Arc::new(Eye));
    let mut machine = Participant::new(setup, now);
    let plan = simple().check().unwrap();
    let mut forged = sign(&plan);
    forged.seal.signature[0] ^= 1;
    machine.handle_connected(now);
    machine.handle_message(welcome(forged.clone()), now);
    let error = forged.open(&Eye).unwrap_err();
    assert_eq!(error, SignedPlanError::Seal(SealFault::Signature));
    machine.refuse_plan(error).unwrap();
    let mut victim = Victim {
        machine,
        plan,
        now,
        actions: vec![],
    };
    victim.accuses(
        CloseCode::BadSignature,
        "the run plan is not signed by the server",
    );
}

/// V6: what is no message, or no transfer as announced, is the server's fault and said with what was found. After the last word
/// nothing more is held against it.
#[test]
fn a_server_whose_bytes_make_no_sense_is_accused_of_them() {
    let mut victim = Victim::ready(simple());
    victim.trains(1);
    let what = "it announces 9000 bytes, more than the limit of 4000".to_owned();
    victim.machine.handle_malformed(what.clone(), victim.now);
    victim.accuses(CloseCode::Malformed, &what);
    assert_eq!(victim.machine.last_named(), Round(1));
    let mut leaving = Victim::ready(simple());
    let reason = Text::new("enough");
    leaving.machine.leave(reason, leaving.now);
    leaving.machine.handle_malformed(what, leaving.now);
    leaving.collect();
    assert_eq!(leaving.actions.last(), Some(&Action::End(Outcome::Left)));
}

/// V5: a plan is agreed to once, and only the one that was proposed.
#[test]
fn agreeing_to_a_plan_that_was_not_proposed_is_our_own_mistake() {
    let mut victim = Victim::ready(simple());
    let again = victim.plan.clone();
    let witness = Witness::new(again.digest(), &name("a"));
    let misuse = victim
        .machine
        .accept_plan(again, AnchorCopy::Held, witness)
        .unwrap_err();
    assert_eq!(misuse.verb, "accept_plan");
    assert!(victim.machine.decline(Text::default(), victim.now).is_err());
}

/// J10: a participant does not wait for ever either.
#[test]
fn a_server_that_never_answers_hello_is_left_after_ten_seconds_and_tried_again() {
    let now = an_instant();
    let setup = Setup::new(name("a"), Text::new("x"), 1, Arc::new(Eye));
    let mut victim = Victim {
        machine: Participant::new(setup, now),
        plan: simple().check().unwrap(),
        now,
        actions: vec![],
    };
    victim.machine.handle_connected(now);
    let limit = now + Duration::from_secs(10);
    assert_eq!(victim.machine.poll_timeout(), Some(limit));
    victim
        .machine
        .handle_timeout(limit - Duration::from_millis(1));
    victim.collect();
    assert_eq!(victim.machine.state(), "waiting for Welcome");
    victim.actions.clear();

    victim.machine.handle_timeout(limit);
    victim.collect();
    let reconnecting = Action::Report(Report::Reconnecting { attempt: 1 });
    let left = [Action::Close(CloseCode::Silent), reconnecting];
    assert_eq!(victim.actions, left);
    let again = victim.machine.poll_timeout().unwrap();
    assert!(again - limit <= Duration::from_millis(500), "{again:?}");
    victim.machine.handle_timeout(again);
    victim.collect();
    assert_eq!(victim.actions.last(), Some(&Action::Connect));
}

/// R3: what is left of an update that is refused is not sent. One that counts is all there, and only forgotten.
#[test]
fn an_update_that_is_refused_on_its_way_is_withdrawn() {
    let (round, reason) = (Round(1), RefusalReason::Late);
    let answers = [
        (ToClient::Refused { round, reason }, true),
        (ToClient::Accepted { round }, false),
    ];
    for (answer, is_withdrawn) in answers {
        let mut victim = Victim::ready(simple());
        victim.trains(1);
        let (update, metrics) = (content("update"), Metrics::default());
        let header = victim.machine.trained(round, update, 1, metrics);
        let transfer = header.unwrap().unwrap().id;
        let offset = 0;
        victim.hears(ToClient::Deliver { transfer, offset });
        victim.hears(answer);
        let (withdrawn, forgotten) = (Action::Withdraw { transfer }, Action::Forget { transfer });
        let found = [withdrawn, forgotten].map(|action| victim.actions.contains(&action));
        assert_eq!(found, [is_withdrawn, !is_withdrawn]);
    }
}

/// S10: a server cannot have keys and shares said without end by beginning one attempt after the other.
#[test]
fn a_server_that_begins_attempts_without_end_is_left() {
    let mut victim = Victim::with(masked(plan(&["a", "b", "c"], 3, 2)), None);
    victim.trains(1);
    let update = Content {
        bytes: victim.plan.update_bytes(),
        sha256: Digest::of(b"update"),
    };
    let trained = victim
        .machine
        .trained(Round(1), update, 1, Metrics::default());
    assert!(trained.unwrap().is_some());
    for number in 1..=64 {
        victim.hears_of_attempt(number);
        assert!(!victim.machine.is_over(), "{:?}", victim.actions);
    }
    victim.hears_of_attempt(65);
    victim.accuses(
        CloseCode::Deceived,
        "attempt 65 of this round, of which there are at most 64",
    );
}

fn spooled(plan: Digest) -> Spooled {
    Spooled {
        plan,
        round: Round(1),
        global: content("g").sha256,
        update: content("without masks"),
        weight: 1,
        metrics: Metrics::default(),
    }
}

/// Whether an update was offered, masked or not.
fn offers(victim: &Victim) -> bool {
    let is_offer = |action: &Action| matches!(action, Action::Send(ToServer::Offer { .. }));
    victim.actions.iter().any(is_offer)
}

/// S1: an update that an earlier process left without masks is offered to nobody, whatever the server says of it.
#[test]
fn a_server_that_asks_for_a_late_update_under_masks_gets_none() {
    let plan = masked(plan(&["a", "b", "c"], 3, 2));
    let left = spooled(plan.digest());
    let mut victim = Victim::with(plan, Some(left));
    let (round, until) = (Round(1), Round(2));
    victim.hears(ToClient::Postponed { round, until });
    assert!(!offers(&victim), "{:?}", victim.actions);
    victim.accuses(CloseCode::Unexpected, "Postponed");
}

/// L1: an update of another plan is not offered as a late one of this.
#[test]
fn a_late_update_of_another_plan_is_not_offered() {
    let plan = plan(&["a", "b"], 2, 2).check().unwrap();
    let mut victim = Victim::with(plan, Some(spooled(Digest::of(b"another plan"))));
    let (round, until) = (Round(1), Round(2));
    victim.hears(ToClient::Postponed { round, until });
    assert!(!offers(&victim), "{:?}", victim.actions);
}
