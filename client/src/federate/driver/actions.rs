//! What the machine asks for, done.

use std::sync::Arc;

use aggregation::Encoding;
use bytes::Bytes;
use protocol::{
    Digest, Round, TransferId,
    close::CloseCode,
    message::{ToServer, TransferHeader},
    participant::{self, Action, Report},
    plan::{RunPlan, SignedPlan},
    transcript::Evidence,
};

use super::{Driver, keeping};
use crate::{
    error::ClientError,
    federate::{
        happening::{Agreed, Happening},
        session,
        training::{Task, Training},
    },
    ledger::LedgerError,
    observer::Event,
    policy::Refusal,
    site::Learner,
    state::{TrainingFile, TrainingOf},
    terms::clip_of,
};

impl Driver {
    /// Does what the machine asks for; gives its outcome once it has ended.
    pub(in crate::federate) fn act(&mut self) -> Result<Option<participant::Outcome>, ClientError> {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Connect => self.connect()?,
                Action::Send(message) => self.send(message)?,
                Action::CheckPlan(signed) => self.check_plan(&signed)?,
                Action::Train {
                    global,
                    first_step,
                    steps,
                    ..
                } => {
                    self.train(&global, first_step, steps)?;
                }
                Action::Secure { attempt, action } => self.secure(attempt, action)?,
                Action::StopTraining { .. } => self.stop_training(),
                Action::SendTransfer { header } => self.deliver(header)?,
                Action::Keep { adapter } => self.keep_final(&adapter)?,
                Action::Forget { transfer } => drop(self.kept.remove(&transfer)),
                Action::Withdraw { transfer } => self.withdraw(transfer),
                Action::Close(code) => self.close(code),
                Action::Remember(evidence) => self.keep_evidence(&evidence)?,
                Action::Report(report) => self.report(report),
                Action::End(outcome) => return Ok(Some(outcome)),
            }
        }
        Ok(None)
    }

    /// Says something to the server, if the institution's policy lets it leave; that the site declines or leaves may always be said.
    fn send(&mut self, message: ToServer) -> Result<(), ClientError> {
        let Some(session) = &self.session else {
            return Ok(());
        };
        let is_free = match message {
            ToServer::Decline { .. } | ToServer::Leave { .. } => true,
            // Who comes back to say that it leaves greets first.
            ToServer::Hello { .. } => self.cause.is_some(),
            _ => false,
        };
        if !is_free && matches!(self.cause, Some(ClientError::Policy(_))) {
            // It was to be said before we left.
            return Ok(());
        }
        if let Some(policy) = self.settings.policy.as_ref().filter(|_| !is_free) {
            let certificate = session.connection.peer_certificate().fingerprint;
            let circumstances = self.circumstances(certificate);
            match self.egress.permit(&message, policy, &circumstances) {
                Err(ClientError::Policy(refusal)) => return self.refuse(refusal),
                permitted => permitted?,
            }
        }
        session.send(self.egress.message(message)?);
        Ok(())
    }

    fn connect(&mut self) -> Result<(), LedgerError> {
        self.attempt.0 += 1;
        let (attempt, settings) = (self.attempt, self.settings.clone());
        self.tls = settings.tls.clone();
        self.machine.identified_by(self.tls.public_key());
        self.observer.observe(&Event::Connecting {
            server: settings.server.clone(),
        });
        let (happenings, server) = (self.happenings.clone(), settings.server.clone());
        self.egress.dial(&server, |meter| {
            tokio::spawn(async move {
                let outcome = session::dial(settings, &meter, (attempt, &happenings)).await;
                // Without a receiver the run is over.
                let _ = happenings.send(Happening::Dialed { attempt, outcome });
            })
        })
    }

    /// Checks the signature at once and the rest on a blocking thread.
    fn check_plan(&mut self, signed: &SignedPlan) -> Result<(), ClientError> {
        let Some(session) = &self.session else {
            return Err(ClientError::Internal {
                what: "a plan came without a connection".to_owned(),
            });
        };
        let certificate = session.connection.peer_certificate().fingerprint;
        let plan = match signed.open(self.examiner.as_ref()) {
            Ok(plan) => plan,
            Err(error) => {
                self.egress.refused(vec![error.to_string()])?;
                return Ok(self.machine.refuse_plan(error)?);
            }
        };
        self.egress.about(&plan, &self.settings);
        let counted = self.egress.check_counted(&plan, &self.settings);
        let permitted = self.permit_plan(&plan, certificate);
        let permitted = permitted.map_err(ClientError::from);
        if let Err(error) = permitted.and_then(|()| Ok(counted?)) {
            let refused = Happening::PlanChecked(Box::new(Err(error)));
            // The driver holds the other end, which is we.
            let _ = self.happenings.send(refused);
            return Ok(());
        }
        let (site, happenings) = (Arc::clone(&self.site), self.happenings.clone());
        let compare = move || {
            let agreed = site
                .agree(&plan)
                .map(|agreement| Agreed { plan, agreement });
            Happening::PlanChecked(Box::new(agreed))
        };
        Happening::of_thread("comparing the plan", compare, happenings);
        Ok(())
    }

    /// Asks the institution's policy, before the base model or the text is looked at.
    fn permit_plan(&self, plan: &RunPlan, server_certificate: Digest) -> Result<(), Refusal> {
        match &self.settings.policy {
            Some(policy) => policy.check(plan, &self.circumstances(server_certificate)),
            None => Ok(()),
        }
    }

    fn train(
        &mut self,
        header: &TransferHeader,
        first_step: u32,
        steps: u32,
    ) -> Result<(), ClientError> {
        if let Err(refusal) = self.permit_transfer(
            header.plan,
            header.round,
            self.agreement()?.0.update_bytes(),
        ) {
            return self.refuse(refusal);
        }
        let (when, encoding) = (format!("round {}", header.round), self.adapter_encoding()?);
        match self.adapter(header.id, encoding, when) {
            Ok(global) => {
                self.next = Some(Task {
                    round: header.round,
                    digest: header.sha256,
                    form: self.update_form(header.round)?,
                    clip: clip_of(self.agreement()?.0.plan()),
                    global,
                    first_step,
                    steps,
                    state: self.settings.state.clone(),
                    file: self.training_file(header),
                });
            }
            Err(error) => {
                self.leave("the round's global adapter cannot be used", error);
                return Ok(());
            }
        }
        self.begin_next()
    }

    /// Where the training of a round is kept while it is under way.
    fn training_file(&self, header: &TransferHeader) -> Option<TrainingFile> {
        let of = TrainingOf {
            plan: header.plan,
            round: header.round,
            global: header.sha256,
        };
        let state = self.settings.state.as_deref()?;
        Some(TrainingFile::beside(
            state,
            of,
            self.settings.checkpoint_every,
        ))
    }

    /// Begins the waiting round, once the learner is back from the last one and that one's update is on disk.
    pub(super) fn begin_next(&mut self) -> Result<(), ClientError> {
        if self.training.is_some() || self.keeping.is_some() {
            return Ok(());
        }
        let Some(task) = self.next.take() else {
            return Ok(());
        };
        let learner = match self.learner.take().map_or_else(|| self.make_learner(), Ok) {
            Ok(learner) => learner,
            Err(error) => {
                self.leave("this site cannot begin to train", error);
                return Ok(());
            }
        };
        let (turn, observer) = (self.turn.clone(), Arc::clone(&self.observer));
        let happenings = self.happenings.clone();
        self.training = Some(Training::begin(task, learner, turn, observer, happenings));
        Ok(())
    }

    fn make_learner(&self) -> Result<Box<dyn Learner>, ClientError> {
        let (plan, agreement) = self.agreement()?;
        let of_this_plan =
            |(of, state): &(Digest, Bytes)| (*of == plan.digest()).then(|| state.clone());
        let earlier = self.earlier.as_ref().and_then(of_this_plan);
        agreement.learner(self.anchor.as_deref(), earlier.as_deref())
    }

    pub(super) fn stop_training(&mut self) {
        self.next = None;
        if let Some(training) = &self.training {
            training.stop();
        }
    }

    /// On disk before the server hears that it is here.
    fn keep_final(&self, header: &TransferHeader) -> Result<(), ClientError> {
        let when = "the end of the run".to_owned();
        let adapter = self.adapter(header.id, Encoding::F32, when)?;
        self.agreement()?.1.keep(&adapter)
    }

    fn deliver(&mut self, header: TransferHeader) -> Result<(), ClientError> {
        if let Err(refusal) = self.permit_transfer(header.plan, header.round, header.remaining()) {
            return self.refuse(refusal);
        }
        let (Some(session), Some(payload)) = (&mut self.session, self.kept.get(&header.id)) else {
            return Ok(());
        };
        let header = self.egress.transfer(header)?;
        let observer = Arc::clone(&self.observer);
        let observe = move |event: &Event| observer.observe(event);
        let kept = keeping::done(self.keeping.as_ref());
        let payload = (payload.clone(), kept);
        session.deliver(header, payload, observe, self.happenings.clone());
        Ok(())
    }

    fn withdraw(&mut self, transfer: TransferId) {
        self.kept.remove(&transfer);
        if let Some(session) = &mut self.session {
            session.withdraw(transfer);
        }
    }

    /// Asks the institution's policy whether this much of an update may leave in this round, before it is computed and again
    /// before it leaves.
    fn permit_transfer(&self, plan: Digest, round: Round, bytes: u64) -> Result<(), Refusal> {
        let (Some(policy), Some(session)) = (&self.settings.policy, &self.session) else {
            return Ok(());
        };
        let circumstances = self.circumstances(session.connection.peer_certificate().fingerprint);
        policy.check_transfer(bytes, self.egress.round_bytes(plan, round), &circumstances)
    }

    /// Leaves the run because going on would be against the policy.
    fn refuse(&mut self, refusal: Refusal) -> Result<(), ClientError> {
        self.egress.refused(refusal.sentences())?;
        let reason = refusal.for_server();
        self.leave(reason.as_str(), refusal.into());
        Ok(())
    }

    fn close(&mut self, code: CloseCode) {
        // Whatever is still being dialed belongs to the attempt that ends here.
        self.attempt.0 += 1;
        if let Some(session) = self.session.take() {
            session.close(code);
        }
    }

    fn keep_evidence(&mut self, evidence: &Evidence) -> Result<(), ClientError> {
        if let Some(file) = &mut self.evidence {
            file.append(evidence)?;
        }
        self.settle_feedback();
        Ok(())
    }

    fn report(&self, report: Report) {
        self.observer.observe(&match report {
            Report::Accepted { round } => Event::Accepted { round },
            Report::Refused { round, reason } => Event::Refused { round, reason },
            Report::Postponed { round, until } => Event::Postponed { round, until },
            Report::Unanswered { round } => Event::Unanswered { round },
            Report::Reconnecting { attempt } => Event::Reconnecting { attempt },
        });
    }
}
