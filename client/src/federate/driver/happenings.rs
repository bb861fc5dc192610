//! What happened, told to the machine.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use bytes::Bytes;
use finetune::train::TrainError;
use protocol::{
    Digest,
    close::CloseCode,
    message::{Metrics, TransferHeader, TransferKind},
    participant::{AnchorCopy, Disposition, Spooled},
    plan::Download,
    quic::{Closed, HandshakeError, Link},
    transcript::Witness,
};

use super::{Driver, Keeping};
use crate::{
    error::ClientError,
    evidence::EvidenceFile,
    federate::{
        agreement,
        arrivals::{Rebuilt, Unusable},
        feedback::Feedback,
        happening::{Agreed, DialError, Happening},
        session::Session,
        training::TrainingEnd,
    },
    observer::Event,
    site::Learner,
    state::{Draft, LeftOver, RoundState, TrainingFile},
};

impl Driver {
    /// Tells the machine what happened.
    pub(in crate::federate) fn handle(&mut self, happening: Happening) -> Result<(), ClientError> {
        self.egress.settle()?;
        let now = Instant::now();
        match happening {
            Happening::Dialed { attempt, outcome } if attempt == self.attempt => {
                self.dialed(outcome, now)?;
            }
            Happening::Redialing {
                attempt,
                address,
                written,
            } if attempt == self.attempt => {
                self.egress.dial_next(&address.to_string())?;
                // A task that was ended meanwhile dials nobody.
                let _ = written.send(());
            }
            Happening::Message(heard, message) if self.is_present(heard.attempt) => {
                self.machine.handle_message(message, now);
            }
            Happening::Received(heard, header, bytes) if self.is_present(heard.attempt) => {
                self.received(&header, bytes, now);
            }
            // The machine finds the same wrong with it, and nothing comes of it.
            Happening::Misfit(heard, header) if self.is_present(heard.attempt) => {
                self.received(&header, Bytes::new(), now);
            }
            Happening::Damaged(heard, header) if self.is_present(heard.attempt) => {
                let (kind, offset) = (header.kind.label(), header.offset);
                tracing::warn!(kind, offset, "a transfer does not have its SHA-256");
                self.machine.handle_transfer_damaged(&header);
            }
            Happening::Rebuilt(heard, delta, rebuilt) if self.is_present(heard.attempt) => {
                self.rebuilt(&delta, rebuilt, now);
            }
            Happening::Unusable(heard, delta, unusable) if self.is_present(heard.attempt) => {
                self.unusable(&delta, &unusable);
            }
            Happening::Unkept(error) => return Err(error.into()),
            Happening::Malformed(attempt, what) if self.is_present(attempt) => {
                self.machine.handle_malformed(what, now);
            }
            Happening::Gone(attempt, closed) if self.is_present(attempt) => self.gone(&closed, now),
            // The last words of an earlier connection.
            Happening::Dialed { .. }
            | Happening::Redialing { .. }
            | Happening::Message(..)
            | Happening::Received(..)
            | Happening::Misfit(..)
            | Happening::Damaged(..)
            | Happening::Rebuilt(..)
            | Happening::Unusable(..)
            | Happening::Malformed(..)
            | Happening::Gone(..) => {}
            Happening::Delivered(bytes) => self.bytes_up += bytes,
            Happening::PlanChecked(agreed) => self.plan_checked(*agreed, now)?,
            Happening::Stepped(round, step) => self.machine.progress(round, step),
            Happening::Trained(end) => self.trained(*end)?,
            Happening::Kept(kept) => {
                kept?;
                self.keeping = None;
                self.begin_next()?;
            }
            Happening::Masked(attempt, masked) => self.masked(attempt, *masked),
            Happening::Lost(what) => {
                let cause = ClientError::Internal { what };
                self.leave("work failed at this site", cause);
            }
        }
        Ok(())
    }

    fn dialed(
        &mut self,
        outcome: Result<Link, DialError>,
        now: Instant,
    ) -> Result<(), ClientError> {
        match outcome {
            Ok(link) => {
                let certificate = link.connection.peer_certificate();
                self.egress.connected(certificate)?;
                if let Some(policy) = &self.settings.policy
                    && let Err(refusal) = policy.check_server(certificate.fingerprint)
                {
                    self.egress.refused(refusal.sentences())?;
                    return Err(refusal.into());
                }
                let authorities = self.settings.tls.authorities().clone();
                self.examiner
                    .meet(link.connection.peer().clone(), authorities);
                self.warn_of_expiry(
                    link.connection.peer(),
                    certificate.expires,
                    SystemTime::now(),
                );
                self.peer = Some(link.connection.peer().clone());
                let server = link.connection.peer().to_string();
                self.observer.observe(&Event::Connected { server });
                let bytes_max = self.settings.transfer_bytes_max;
                // The tasks of the last connection end first.
                self.session = None;
                let session = Session::start(
                    link,
                    self.attempt,
                    bytes_max,
                    &self.arrivals,
                    &self.happenings,
                );
                self.session = Some(session);
                self.machine.transfers_kept(self.arrivals.list()?);
                self.machine.handle_connected(now);
                // The handshake was judged by the list that was in use when it began.
                self.cut_off_revoked(SystemTime::now());
            }
            // A refused certificate is refused again: nobody is helped by trying for ten minutes.
            Err(DialError::Handshake(error))
                if !error.is_temporary() && !self.is_of_old_certificate(&error) =>
            {
                return Err(error.into());
            }
            Err(error) => {
                self.obstacle(error.to_string());
                self.machine.handle_connect_failed(now);
            }
        }
        Ok(())
    }

    /// Whether a server refused a certificate of ours that was replaced meanwhile.
    fn is_of_old_certificate(&mut self, error: &HandshakeError) -> bool {
        matches!(error, HandshakeError::RefusedByPeer { .. })
            && self.has_newer_certificate(SystemTime::now())
    }

    fn received(&mut self, header: &TransferHeader, bytes: Bytes, now: Instant) {
        match self.machine.handle_transfer_received(header, now) {
            Disposition::Drop => {}
            Disposition::Keep if header.kind == TransferKind::Anchor => {
                self.anchor = Some(bytes);
            }
            Disposition::Keep => drop(self.kept.insert(header.id, bytes)),
        }
    }

    fn rebuilt(&mut self, delta: &TransferHeader, rebuilt: Rebuilt, now: Instant) {
        let Rebuilt { content, bytes } = rebuilt;
        let (round, came, whole) = (delta.round, delta.bytes, content.bytes);
        tracing::debug!(%round, came, whole, "an adapter was rebuilt from its delta");
        if let Some(header) = self.machine.handle_delta_rebuilt(delta, content, now) {
            self.kept.insert(header.id, bytes);
        }
    }

    fn unusable(&mut self, delta: &TransferHeader, unusable: &Unusable) {
        let (round, reason, what) = (delta.round, unusable.reason.label(), &unusable.what);
        tracing::warn!(%round, reason, what, "a delta is of no use; the whole adapter is asked for");
        self.machine.handle_delta_unusable(delta, unusable.reason);
    }

    fn gone(&mut self, closed: &Closed, now: Instant) {
        self.session = None;
        let code = match closed {
            Closed::ByPeer(CloseCode::Revoked) if self.has_newer_certificate(SystemTime::now()) => {
                None
            }
            Closed::ByPeer(code) => Some(*code),
            _ => None,
        };
        // The end of the run is no obstacle.
        if code != Some(CloseCode::Finished) {
            self.obstacle(closed.to_string());
        }
        self.machine.handle_disconnected(code, now);
    }

    fn plan_checked(
        &mut self,
        agreed: Result<Agreed, ClientError>,
        now: Instant,
    ) -> Result<(), ClientError> {
        if self.machine.is_over() {
            return Ok(());
        }
        match agreed {
            Ok(Agreed { plan, agreement }) => {
                self.observer.observe(&Event::Plan {
                    plan: Box::new(plan.plan().clone()),
                });
                if plan.secure_aggregation.is_some() {
                    // What an earlier process finished is without masks, and never sent.
                    self.kept.clear();
                }
                self.arrivals.expect(&plan);
                if plan.download == Download::Delta {
                    self.arrivals.keep_base();
                }
                self.agreed = Some((plan.clone(), agreement));
                let witness = self.witness(plan.digest())?;
                self.restore_feedback()?;
                self.recall_opened(plan.digest())?;
                self.machine
                    .accept_plan(plan, AnchorCopy::Missing, witness)?;
                self.settle_feedback();
            }
            Err(error) => {
                let reasons = match &error {
                    ClientError::Policy(refusal) => refusal.sentences(),
                    other => vec![other.to_string()],
                };
                self.egress.refused(reasons)?;
                self.machine
                    .decline(agreement::reason_for_server(&error), now)?;
                // One that had to end before has its own reason.
                self.cause.get_or_insert(error);
            }
        }
        Ok(())
    }

    /// Takes up what rounding cut off of the updates of an earlier process of this run.
    fn restore_feedback(&mut self) -> Result<(), ClientError> {
        let (plan, agreement) = self.agreement()?;
        let (digest, layout) = (plan.digest(), Arc::clone(agreement.layout()));
        let kept = self.left_over.take();
        let Some((spooled, kept)) = kept.filter(|(spooled, _)| spooled.plan == digest) else {
            return Ok(());
        };
        self.feedback =
            Feedback::restore(&layout, &spooled, &kept).map_err(ClientError::LeftOver)?;
        Ok(())
    }

    /// What the last update left over is taken up as soon as it is known to count.
    pub(super) fn settle_feedback(&mut self) {
        let Self {
            feedback, machine, ..
        } = self;
        feedback.settle(|round, update| machine.counts(round, update));
    }

    /// Remembers what earlier processes saw of the run.
    fn witness(&mut self, plan: Digest) -> Result<Witness, ClientError> {
        let name = self.machine.name();
        let Some(state) = &self.settings.state else {
            return Ok(Witness::new(plan, name));
        };
        let (evidence, witness) = EvidenceFile::open(state, plan, name)?;
        self.evidence = Some(evidence);
        Ok(witness)
    }

    /// Begins to write down a finished update: the server does not have all of it before that is done.
    fn keep(
        &mut self,
        spooled: Spooled,
        (update, draft): (&Bytes, Option<Draft>),
        left_over: Option<LeftOver>,
        learner: &dyn Learner,
    ) {
        let Some(draft) = draft else {
            return;
        };
        let state = RoundState {
            spooled,
            update: update.clone(),
            trainer: Bytes::from(learner.checkpoint()),
            left_over,
        };
        let (happenings, path) = (self.happenings.clone(), self.settings.state.clone());
        let keep = move || {
            draft.finish(&state)?;
            path.map_or(Ok(()), |path| TrainingFile::remove(&path))
        };
        self.keeping = Some(Keeping::begin(keep, happenings));
    }

    fn trained(&mut self, end: TrainingEnd) -> Result<(), ClientError> {
        let TrainingEnd {
            round,
            global,
            learner,
            outcome,
        } = end;
        self.training = None;
        match outcome {
            Ok(Some(mut update)) => {
                let weight_max = self.agreement()?.0.plan().limits.weight_max;
                update.done.weight = update.done.weight.min(weight_max);
                let loss = update.done.train_loss as f32;
                let train_loss = self.settings.share_train_loss.then_some(loss);
                let (weight, metrics) = (update.done.weight, Metrics { train_loss });
                let spooled = Spooled {
                    plan: self.agreement()?.0.digest(),
                    round,
                    global,
                    update: update.content,
                    weight,
                    metrics,
                };
                let sha256 = update.content.sha256;
                let left_over = update
                    .left_over
                    .map(|rest| self.feedback.follow(round, sha256, rest));
                let draft = update.draft.take();
                self.keep(spooled, (&update.bytes, draft), left_over, learner.as_ref());
                if let Some(header) =
                    self.machine
                        .trained(round, update.content, weight, metrics)?
                {
                    if self.agreement()?.0.secure_aggregation.is_some() {
                        // Without masks it is never sent, so it is not where transfers are sent from.
                        self.secure.plain = update.bytes;
                    } else {
                        self.kept.insert(header.id, update.bytes);
                    }
                    self.observer.observe(&Event::Trained {
                        done: update.done.clone(),
                    });
                    self.rounds.push(update.done);
                }
            }
            Ok(None) => {}
            Err(error @ ClientError::Budget(_)) => {
                self.leave("this site's privacy budget allows no more steps", error);
            }
            Err(
                error @ (ClientError::Diverged { .. }
                | ClientError::Training(TrainError::Diverged { .. })),
            ) => self.leave("training diverged at this site", error),
            Err(error) => self.leave("training failed at this site", error),
        }
        self.learner = Some(learner);
        self.begin_next()
    }
}
