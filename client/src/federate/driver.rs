//! The participant's machine with its surroundings: what it asks for is done here, and what happens is told to it.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use aggregation::{Adapter, AdapterError, ewc::Anchor};
use bytes::Bytes;
use finetune::{
    base::BaseModel,
    data::Dataset,
    train::{AnchorPull, Trainer},
};
use protocol::{
    ParticipantName, Text, TransferId,
    close::CloseCode,
    message::{Metrics, TransferHeader, TransferKind},
    participant::{self, Action, AnchorCopy, Disposition, Participant, Report, Setup},
    plan::{CheckedPlan, EwcPlace, SignedPlan},
    quic::{Closed, Link},
};
use ring::rand::SecureRandom as _;
use tokio::sync::mpsc::UnboundedSender;

use super::{
    Outcome, agreement,
    happening::{Agreed, Attempt, DialError, Happening},
    session::{self, Session},
    training::{Task, Training, TrainingEnd},
};
use crate::{
    error::ClientError,
    observer::{Event, Observer, RoundDone},
    settings::{DeviceTurn, Settings, TrainingText},
    terms::Terms,
};

/// How long the last words may take to leave.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// One participant of one run.
pub(super) struct Driver {
    settings: Settings,
    base: Arc<BaseModel>,
    text: TrainingText,
    turn: DeviceTurn,
    observer: Arc<dyn Observer>,
    happenings: UnboundedSender<Happening>,
    machine: Participant,
    attempt: Attempt,
    session: Option<Session>,
    /// Bulk bytes that the machine wants kept.
    kept: BTreeMap<TransferId, Bytes>,
    anchor: Option<Bytes>,
    agreed: Option<(CheckedPlan, Terms, Arc<Dataset>)>,
    /// At rest between rounds; with the training otherwise.
    trainer: Option<Trainer>,
    training: Option<Training>,
    /// A round that came while the last one's training was still stopping.
    next: Option<Task>,
    rounds: Vec<RoundDone>,
    bytes_up: u64,
    bytes_down: u64,
    /// Why we declined or left, if it was our decision.
    cause: Option<ClientError>,
    last_obstacle: String,
}

impl Driver {
    pub(super) fn new(
        settings: Settings,
        base: Arc<BaseModel>,
        text: TrainingText,
        turn: DeviceTurn,
        observer: Arc<dyn Observer>,
        happenings: UnboundedSender<Happening>,
    ) -> Result<Self, ClientError> {
        let internal = |what: String| ClientError::Internal { what };
        let name = settings.tls.identity().name().parse::<ParticipantName>();
        let name = name.map_err(|error| internal(error.to_string()))?;
        let mut seed = [0; 8];
        // Only spreads reconnections; nothing that is computed depends on it.
        let filled = ring::rand::SystemRandom::new().fill(&mut seed);
        filled.map_err(|_| internal("the system has no randomness".to_owned()))?;
        let software = Text::new(&settings.software);
        let mut setup = Setup::new(name, software, u64::from_le_bytes(seed));
        setup.patience = settings.patience;
        Ok(Self {
            settings,
            base,
            text,
            turn,
            observer,
            happenings,
            machine: Participant::new(setup, Instant::now()),
            attempt: Attempt(0),
            session: None,
            kept: BTreeMap::new(),
            anchor: None,
            agreed: None,
            trainer: None,
            training: None,
            next: None,
            rounds: Vec::new(),
            bytes_up: 0,
            bytes_down: 0,
            cause: None,
            last_obstacle: "no connection was tried".to_owned(),
        })
    }

    // What the machine asks for.

    /// Does what the machine asks for; gives its outcome once it has ended.
    pub(super) fn act(&mut self) -> Result<Option<participant::Outcome>, ClientError> {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Connect => self.connect(),
                Action::Send(message) => {
                    if let Some(session) = &self.session {
                        session.send(message);
                    }
                }
                Action::CheckPlan(signed) => self.check_plan(&signed)?,
                Action::Train {
                    global,
                    first_step,
                    steps,
                    ..
                } => {
                    self.train(&global, first_step, steps)?;
                }
                Action::StopTraining { .. } => self.stop_training(),
                Action::SendTransfer { header } => self.deliver(header),
                Action::Forget { transfer } => drop(self.kept.remove(&transfer)),
                Action::Close(code) => self.close(code),
                Action::Report(report) => self.report(report),
                Action::End(outcome) => return Ok(Some(outcome)),
            }
        }
        Ok(None)
    }

    fn connect(&mut self) {
        self.attempt.0 += 1;
        let (attempt, settings) = (self.attempt, self.settings.clone());
        self.observer.observe(&Event::Connecting {
            server: settings.server.clone(),
        });
        let happenings = self.happenings.clone();
        tokio::spawn(async move {
            let outcome = session::dial(settings).await;
            // Without a receiver the run is over.
            let _ = happenings.send(Happening::Dialed { attempt, outcome });
        });
    }

    /// Checks the signature at once and the rest on a blocking thread.
    fn check_plan(&mut self, signed: &SignedPlan) -> Result<(), ClientError> {
        let Some(session) = &self.session else {
            return Err(ClientError::Internal {
                what: "a plan came without a connection".to_owned(),
            });
        };
        let plan = match signed.open_with(&session.connection.peer_public_key()) {
            Ok(plan) => plan,
            Err(error) => return Ok(self.machine.refuse_plan(error)?),
        };
        let (base, text) = (Arc::clone(&self.base), self.text.clone());
        let happenings = self.happenings.clone();
        tokio::task::spawn_blocking(move || {
            let agreed = agreement::agree(plan, &base, &text);
            let _ = happenings.send(Happening::PlanChecked(Box::new(agreed)));
        });
        Ok(())
    }

    fn train(
        &mut self,
        header: &TransferHeader,
        first_step: u32,
        steps: u32,
    ) -> Result<(), ClientError> {
        let when = format!("round {}", header.round);
        match self.adapter(header.id, when) {
            Ok(global) => self.next = Some(Task::new(header, global, first_step, steps)),
            Err(error) => {
                self.leave("the round's global adapter cannot be used", error);
                return Ok(());
            }
        }
        self.begin_next()
    }

    /// Begins the waiting round, once the trainer is back from the last one.
    fn begin_next(&mut self) -> Result<(), ClientError> {
        if self.training.is_some() {
            return Ok(());
        }
        let Some(task) = self.next.take() else {
            return Ok(());
        };
        let trainer = match self.trainer.take().map_or_else(|| self.make_trainer(), Ok) {
            Ok(trainer) => trainer,
            Err(error) => {
                self.leave("this site cannot begin to train", error);
                return Ok(());
            }
        };
        let (turn, observer) = (self.turn.clone(), Arc::clone(&self.observer));
        let happenings = self.happenings.clone();
        self.training = Some(Training::begin(task, trainer, turn, observer, happenings));
        Ok(())
    }

    fn make_trainer(&self) -> Result<Trainer, ClientError> {
        let (plan, terms, dataset) = self.agreement()?;
        let pull = match &plan.plan().ewc {
            Some(ewc) if ewc.place == EwcPlace::Client => {
                let missing = || ClientError::Internal {
                    what: "the anchor is missing".to_owned(),
                };
                let anchor = Anchor::from_bytes(self.anchor.as_deref().ok_or_else(missing)?)?;
                let anchor = anchor.bind(&terms.layout, &self.base.fingerprint)?;
                Some(AnchorPull {
                    anchor,
                    lambda: ewc.lambda,
                })
            }
            Some(_) | None => None,
        };
        let (base, dataset) = (Arc::clone(&self.base), Arc::clone(dataset));
        Ok(Trainer::new(
            base,
            dataset,
            terms.recipe.clone(),
            plan.plan().seed,
            pull,
        )?)
    }

    fn stop_training(&mut self) {
        self.next = None;
        if let Some(training) = &self.training {
            training.stop();
        }
    }

    fn deliver(&mut self, header: TransferHeader) {
        let (Some(session), Some(payload)) = (&mut self.session, self.kept.get(&header.id)) else {
            return;
        };
        let observer = Arc::clone(&self.observer);
        let observe = move |event: &Event| observer.observe(event);
        session.deliver(header, payload.clone(), observe, self.happenings.clone());
    }

    fn close(&mut self, code: CloseCode) {
        // Whatever is still being dialed belongs to the attempt that ends here.
        self.attempt.0 += 1;
        if let Some(session) = self.session.take() {
            session.close(code);
        }
    }

    fn report(&self, report: Report) {
        self.observer.observe(&match report {
            Report::Accepted { round } => Event::Accepted { round },
            Report::Refused { round, reason } => Event::Refused { round, reason },
            Report::Reconnecting { attempt } => Event::Reconnecting { attempt },
        });
    }

    // What happened.

    /// Tells the machine what happened.
    pub(super) fn handle(&mut self, happening: Happening) -> Result<(), ClientError> {
        let now = Instant::now();
        match happening {
            Happening::Dialed { attempt, outcome } if attempt == self.attempt => {
                self.dialed(outcome, now)?;
            }
            Happening::Message(attempt, message) if self.is_present(attempt) => {
                self.machine.handle_message(message, now);
            }
            Happening::Received(attempt, header, bytes) if self.is_present(attempt) => {
                self.received(&header, bytes, now);
            }
            Happening::Malformed(attempt, what) if self.is_present(attempt) => {
                self.last_obstacle = what;
                self.machine.handle_malformed(now);
            }
            Happening::Gone(attempt, closed) if self.is_present(attempt) => self.gone(&closed, now),
            // The last words of an earlier connection.
            Happening::Dialed { .. }
            | Happening::Message(..)
            | Happening::Received(..)
            | Happening::Malformed(..)
            | Happening::Gone(..) => {}
            Happening::Delivered(bytes) => self.bytes_up += bytes,
            Happening::PlanChecked(agreed) => self.plan_checked(*agreed, now)?,
            Happening::Stepped(round, step) => self.machine.progress(round, step),
            Happening::Trained(end) => self.trained(*end)?,
            Happening::Lost(what) => {
                self.training = None;
                self.leave(
                    "training failed at this site",
                    ClientError::Internal { what },
                );
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
                let server = link.connection.peer().to_string();
                self.observer.observe(&Event::Connected { server });
                let bytes_max = self.settings.transfer_bytes_max;
                let session = Session::start(link, self.attempt, bytes_max, &self.happenings);
                self.session = Some(session);
                self.machine.handle_connected(now);
            }
            // A refused certificate is refused again: nobody is helped by trying for ten minutes.
            Err(DialError::Handshake(error)) if !error.is_temporary() => return Err(error.into()),
            Err(error) => {
                self.obstacle(error.to_string());
                self.machine.handle_connect_failed(now);
            }
        }
        Ok(())
    }

    fn received(&mut self, header: &TransferHeader, bytes: Vec<u8>, now: Instant) {
        self.bytes_down += bytes.len() as u64;
        match self.machine.handle_transfer_received(header, now) {
            Disposition::Drop => {}
            Disposition::Keep if header.kind == TransferKind::Anchor => {
                self.anchor = Some(Bytes::from(bytes));
            }
            Disposition::Keep => drop(self.kept.insert(header.id, Bytes::from(bytes))),
        }
    }

    fn gone(&mut self, closed: &Closed, now: Instant) {
        self.session = None;
        let code = match closed {
            Closed::ByPeer(code) => Some(*code),
            _ => None,
        };
        self.obstacle(closed.to_string());
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
            Ok(Agreed {
                plan,
                terms,
                dataset,
            }) => {
                self.observer.observe(&Event::Plan {
                    plan: Box::new(plan.plan().clone()),
                });
                self.agreed = Some((plan.clone(), terms, dataset));
                self.machine.accept_plan(plan, AnchorCopy::Missing)?;
            }
            Err(error) => {
                self.machine
                    .decline(agreement::reason_for_server(&error), now)?;
                self.cause = Some(error);
            }
        }
        Ok(())
    }

    fn trained(&mut self, end: TrainingEnd) -> Result<(), ClientError> {
        let TrainingEnd {
            round,
            trainer,
            outcome,
        } = end;
        self.training = None;
        self.trainer = Some(trainer);
        match outcome {
            Ok(Some(mut update)) => {
                let weight_max = self.agreement()?.0.plan().limits.weight_max;
                update.done.weight = update.done.weight.min(weight_max);
                let loss = update.done.train_loss as f32;
                let train_loss = self.settings.share_train_loss.then_some(loss);
                let (weight, metrics) = (update.done.weight, Metrics { train_loss });
                if let Some(header) =
                    self.machine
                        .trained(round, update.content, weight, metrics)?
                {
                    self.kept.insert(header.id, update.bytes);
                    self.observer.observe(&Event::Trained {
                        done: update.done.clone(),
                    });
                    self.rounds.push(update.done);
                }
            }
            Ok(None) => {}
            Err(error) => self.leave("training failed at this site", error.into()),
        }
        self.begin_next()
    }

    // What the owner wants.

    /// Gives the instant of the machine's next deadline.
    pub(super) fn timeout(&self) -> Option<Instant> {
        self.machine.poll_timeout()
    }

    /// Tells the machine that the instant has come.
    pub(super) fn time_out(&mut self) {
        self.machine.handle_timeout(Instant::now());
    }

    /// Leaves the run because the site wants to.
    pub(super) fn stop(&mut self) {
        self.leave("the site stops", ClientError::Stopped);
    }

    /// Turns the machine's outcome into the caller's.
    pub(super) fn end(&mut self, outcome: participant::Outcome) -> Result<Outcome, ClientError> {
        match outcome {
            participant::Outcome::Finished { rounds, adapter } => {
                let adapter = self.adapter(adapter.id, "the end of the run".to_owned())?;
                self.observer.observe(&Event::Finished { rounds });
                Ok(Outcome {
                    plan: self.agreement()?.0.plan().clone(),
                    adapter,
                    rounds: std::mem::take(&mut self.rounds),
                    bytes_up: self.bytes_up,
                    bytes_down: self.bytes_down,
                })
            }
            participant::Outcome::Failed { reason, detail } => {
                Err(ClientError::RunFailed { reason, detail })
            }
            participant::Outcome::Declined | participant::Outcome::Left => {
                Err(self.cause.take().unwrap_or(ClientError::Stopped))
            }
            participant::Outcome::Closed(code) => Err(ClientError::Closed { code }),
            participant::Outcome::ServerAway => {
                let (server, last) = (self.settings.server.clone(), self.last_obstacle.clone());
                Err(ClientError::ServerAway { server, last })
            }
            participant::Outcome::Violation(violation) => Err(violation.into()),
        }
    }

    /// Waits until the device is free and the last words are out.
    pub(super) async fn rest(&mut self) {
        if let Some(training) = self.training.take() {
            training.ended().await;
        }
        if let Some(session) = self.session.take() {
            session.close(CloseCode::Left);
            // A server that does not acknowledge will notice by itself.
            let _ = tokio::time::timeout(DRAIN_LIMIT, session.connection.drained()).await;
        }
    }

    // Inside.

    /// Leaves the run, and remembers the first reason for it.
    fn leave(&mut self, reason: &str, cause: ClientError) {
        self.stop_training();
        self.machine.leave(Text::new(reason), Instant::now());
        self.cause.get_or_insert(cause);
    }

    fn obstacle(&mut self, reason: String) {
        self.observer.observe(&Event::Disconnected {
            reason: reason.clone(),
        });
        self.last_obstacle = reason;
    }

    fn is_present(&self, attempt: Attempt) -> bool {
        self.session
            .as_ref()
            .is_some_and(|session| session.attempt == attempt)
    }

    fn agreement(&self) -> Result<&(CheckedPlan, Terms, Arc<Dataset>), ClientError> {
        let missing = || ClientError::Internal {
            what: "no plan was agreed to".to_owned(),
        };
        self.agreed.as_ref().ok_or_else(missing)
    }

    /// Reads kept bytes as an adapter of the run's layout.
    fn adapter(&self, id: TransferId, when: String) -> Result<Adapter, ClientError> {
        let missing = || ClientError::Internal {
            what: format!("the adapter for {when} is missing"),
        };
        let bytes = self.kept.get(&id).ok_or_else(missing)?;
        let layout = Arc::clone(&self.agreement()?.1.layout);
        Adapter::from_le_bytes(layout, bytes)
            .map_err(|source: AdapterError| ClientError::Adapter { when, source })
    }
}
