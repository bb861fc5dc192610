//! The participant's side of a run as a value.
//!
//! The mirror of the [`coordinator`](crate::coordinator), with the same four kinds of methods: getters, `handle_*`,
//! verbs, `poll_*`. One connection at a time, which the machine opens again when it is lost; the round's work goes on
//! meanwhile and outlives it.
//!
//! The machine believes nothing: a server that sends another plan, a round that cannot be, or an adapter of the wrong
//! size or digest ends the run with a [`Violation`] that names it. It does not see an adapter's bytes: the owner keeps
//! them under their transfer id as long as it is told to. The rules are in `docs/protocol.md`.

mod action;
mod connection;
mod leaving;
mod link;
mod offering;
mod requests;
mod secure;
mod setup;
mod task;
mod transfers;
mod witnessing;
mod work;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

pub use action::{Action, AnchorCopy, Disposition, Outcome, Report, Spooled};
pub use link::Patience;
pub use secure::SecureSetup;
pub use setup::Setup;

use crate::ids::{Digest, ParticipantName, Round};
use crate::message::{
    Beginning, Content, Metrics, ToClient, ToServer, TransferHeader, TransferKind,
};
use crate::plan::CheckedPlan;
use crate::seal::Examiner;
use crate::secagg::{Earlier, Member};
use crate::transcript::Witness;
use crate::violation::{Breach, Misuse, Party, Violation};
use leaving::Leaving;
use link::{LINGER_LIMIT, Link, Redial};
use requests::Requests;
use work::{Offer, Work};

/// One run, from a participant's side.
#[derive(Debug)]
pub struct Participant {
    name: ParticipantName,
    hello: ToServer,
    redial: Redial,
    link: Link,
    /// Why we leave, if we do.
    leaving: Option<Leaving>,
    /// The plan, once the owner agreed to it.
    plan: Option<CheckedPlan>,
    /// The plan that the owner is checking.
    proposed: Option<Digest>,
    spooled: Option<Spooled>,
    examiner: Arc<dyn Examiner>,
    /// What was seen of the run's transcript, once the plan was agreed to.
    witness: Option<Witness>,
    anchor: AnchorCopy,
    /// What the next Ready lists as begun.
    begun: Vec<Beginning>,
    /// The global or final adapter that arrived and is not in use yet.
    arrived: Option<TransferHeader>,
    work: Work,
    secure: Option<SecureSetup>,
    /// The attempt at secure aggregation under way.
    member: Option<Member>,
    /// The last attempt of the present round.
    last_attempt: u32,
    /// The last sum that we helped to open.
    earlier: Option<Earlier>,
    /// The last round that is settled for this participant, counted or refused.
    settled: Round,
    /// Whether the server heard of the finished update on the present connection.
    is_offered: bool,
    /// What the server asked for on the present connection.
    requests: Requests,
    /// The delta of no use that was answered last on the present connection.
    useless_delta: Option<(TransferKind, Round)>,
    /// The last round that the server named: a breach is found in it.
    named: Round,
    actions: VecDeque<Action>,
}

impl Participant {
    /// A participant that wants to connect.
    pub fn new(setup: Setup, now: Instant) -> Self {
        let Setup {
            name,
            software,
            capabilities,
            seed,
            patience,
            spooled,
            secure,
            examiner,
        } = setup;
        let version = crate::message::PROTOCOL_VERSION;
        Self {
            name,
            hello: ToServer::Hello {
                version,
                software,
                capabilities,
            },
            redial: Redial::new(patience, seed, now),
            link: Link::Dialing,
            leaving: None,
            plan: None,
            proposed: None,
            spooled,
            examiner,
            witness: None,
            anchor: AnchorCopy::Missing,
            begun: Vec::new(),
            arrived: None,
            work: Work::Idle,
            earlier: None,
            secure,
            member: None,
            last_attempt: 0,
            settled: Round(0),
            is_offered: false,
            requests: Requests::default(),
            useless_delta: None,
            named: Round(0),
            actions: VecDeque::from([Action::Connect]),
        }
    }

    // Getters.

    /// Our own name.
    pub fn name(&self) -> &ParticipantName {
        &self.name
    }

    /// The plan that the owner agreed to.
    pub fn plan(&self) -> Option<&CheckedPlan> {
        self.plan.as_ref()
    }

    /// The round being worked on.
    pub fn round(&self) -> Option<Round> {
        self.work.task().map(|(round, _)| round)
    }

    /// The last round of the plan that the server has named on any connection; 0 before the first.
    pub fn last_named(&self) -> Round {
        self.named
    }

    /// What the participant is doing, in words.
    pub fn state(&self) -> &'static str {
        match &self.link {
            Link::Up => self.work.label(),
            link => link.label(),
        }
    }

    /// Whether the run has ended for this participant.
    pub fn is_over(&self) -> bool {
        self.link == Link::Over
    }

    // What happened.

    /// A message arrived on the present connection.
    pub fn handle_message(&mut self, message: ToClient, now: Instant) {
        if matches!(
            self.link,
            Link::Down { .. } | Link::Dialing | Link::Ending { .. } | Link::Over
        ) {
            return;
        }
        if let Err(breach) = self.take(message, now) {
            self.accuse(breach);
        }
    }

    // What the owner wants.

    /// The key of the certificate with which the next connection is made; attempts at secure aggregation that begin on it are in
    /// its name.
    pub fn identified_by(&mut self, public_key: [u8; 32]) {
        if let Some(secure) = &mut self.secure {
            secure.public_key = public_key;
        }
    }

    /// Reports steps done in this round. Ignored if the round is no longer trained for, or while disconnected.
    pub fn progress(&mut self, round: Round, step: u32) {
        let (Work::Training { global }, Link::Up, Some(plan)) =
            (&self.work, &self.link, &self.plan)
        else {
            return;
        };
        if global.round == round {
            let steps = plan.training.local_steps;
            self.actions
                .push_back(Action::Send(ToServer::Progress { round, step, steps }));
        }
    }

    /// Training for the round is done. Returns the header under which the owner keeps the update's bytes until
    /// they are to be forgotten; `None` if the round no longer wants them.
    ///
    /// # Errors
    /// [`Misuse`] if the update does not have the size that the plan fixes.
    pub fn trained(
        &mut self,
        round: Round,
        update: Content,
        weight: u64,
        metrics: Metrics,
    ) -> Result<Option<TransferHeader>, Misuse> {
        let (Work::Training { global }, Some(plan)) = (&self.work, &self.plan) else {
            return Ok(None);
        };
        if global.round != round {
            return Ok(None);
        }
        if update.bytes != plan.update_bytes() {
            return Err(Misuse {
                verb: "trained",
                state: "the update's size is not the plan's",
            });
        }
        let transfer = TransferHeader::update(&self.name, round, plan.digest(), update);
        let (global, used) = (global.sha256, global.id);
        self.actions.push_back(Action::Forget { transfer: used });
        let offer = Offer {
            transfer,
            weight,
            metrics,
        };
        self.present(global, offer);
        Ok(Some(transfer))
    }

    // What to do now.

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`Participant::handle_timeout`], if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_deadline()
    }

    // Inside.

    fn take(&mut self, message: ToClient, now: Instant) -> Result<(), Breach> {
        let name = message.name();
        match (&self.link, message) {
            (Link::Greeting { .. }, ToClient::Welcome { version, plan, .. }) => {
                self.take_welcome(version, plan, now)
            }
            (_, ToClient::Failed { reason, detail }) => {
                self.part(Outcome::Failed { reason, detail }, now);
                Ok(())
            }
            (Link::Up, ToClient::Recorded(excerpt)) => self.take_record(excerpt),
            (Link::Up, ToClient::Train { global }) => self.take_train(global),
            (Link::Up, ToClient::Deliver { transfer, offset }) => {
                self.take_deliver(transfer, offset)
            }
            (Link::Up, ToClient::Accepted { round }) => self.take_accepted(round),
            (Link::Up, ToClient::Refused { round, reason }) => self.take_refused(round, reason),
            (Link::Up, ToClient::Postponed { round, until }) => self.take_postponed(round, until),
            (Link::Up, ToClient::Finished { rounds, adapter }) => {
                self.take_finished(rounds, adapter, now)
            }
            (Link::Up, ToClient::Secure { attempt, message }) => self.take_secure(attempt, message),
            (link, _) => Err(Breach::Unexpected {
                message: name,
                state: link.label(),
            }),
        }
    }

    /// All is said: waits for the server to close.
    fn part(&mut self, outcome: Outcome, now: Instant) {
        self.drop_work();
        self.link = Link::Ending {
            outcome,
            until: now + LINGER_LIMIT,
        };
    }

    fn end(&mut self, outcome: Outcome) {
        self.drop_work();
        self.link = Link::Over;
        self.actions.push_back(Action::End(outcome));
    }

    /// The server broke a rule: nothing more is said to it.
    fn accuse(&mut self, breach: Breach) {
        self.actions.push_back(Action::Close(breach.close_code()));
        self.end(Outcome::Violation(Violation {
            guilty: Party::Server,
            breach,
        }));
    }
}
