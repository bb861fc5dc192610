//! The participant's machine with its surroundings: what it asks for is done in [`actions`], what happens is told to it in
//! [`happenings`]; here is what both share, and the beginning and the end.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use aggregation::{Adapter, AdapterError, Encoding};
use bytes::Bytes;
use jiff::Timestamp;
use protocol::{
    Digest, ParticipantName, Round, Text, TransferId, Violation,
    close::CloseCode,
    identity::Identity,
    message::TransferHeader,
    participant::{self, Participant, Setup, Spooled},
    plan::{CheckedPlan, ValueEncoding},
    quic::{IdentityWatch, TlsMaterial},
    violation::Breach,
};
use ring::rand::SecureRandom as _;
use tokio::sync::mpsc::UnboundedSender;

use super::{
    Outcome,
    arrivals::Arrivals,
    egress::Egress,
    examiner::PeerExaminer,
    feedback::Feedback,
    happening::{Attempt, Happening},
    session::Session,
    training::{Task, Training, UpdateForm},
};
use crate::{
    error::{ClientError, Scene},
    evidence::EvidenceFile,
    observer::{Event, Observer, RoundDone},
    policy::Circumstances,
    settings::{DeviceTurn, Settings},
    site::{Agreement, Learner, Site},
    state::{LeftOver, RoundState},
};

mod actions;
mod happenings;
mod identity;
mod keeping;
mod secure;

use keeping::Keeping;
pub(super) use secure::Masked;
use secure::Secure;

/// How long the last words may take to leave.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// One participant of one run.
pub(super) struct Driver {
    settings: Settings,
    /// As whom the present connection was made: the certificate of `settings` may be a newer one.
    tls: TlsMaterial,
    site: Arc<dyn Site>,
    turn: DeviceTurn,
    observer: Arc<dyn Observer>,
    happenings: UnboundedSender<Happening>,
    machine: Participant,
    attempt: Attempt,
    session: Option<Session>,
    egress: Egress,
    /// What came of the server's transfers, over all connections.
    arrivals: Arc<Arrivals>,
    /// Bulk bytes that the machine wants kept.
    kept: BTreeMap<TransferId, Bytes>,
    anchor: Option<Bytes>,
    agreed: Option<(CheckedPlan, Box<dyn Agreement>)>,
    /// The plan and the learner of the last round that an earlier process finished.
    earlier: Option<(Digest, Bytes)>,
    /// What rounding cut off then, until the plan is agreed to.
    left_over: Option<(Spooled, LeftOver)>,
    /// What rounding cut off of our updates.
    feedback: Feedback,
    /// At rest between rounds; with the training otherwise.
    learner: Option<Box<dyn Learner>>,
    /// The server that was there last, by its certificate.
    peer: Option<Identity>,
    /// Who may sign what we are told.
    examiner: Arc<PeerExaminer>,
    /// The files of our identity.
    identity: Option<IdentityWatch>,
    /// What is kept of the run's transcript, once the plan was agreed to.
    evidence: Option<EvidenceFile>,
    training: Option<Training>,
    /// The finished update on its way to the disk.
    keeping: Option<Keeping>,
    /// A round that came while the last one's training was still stopping.
    next: Option<Task>,
    rounds: Vec<RoundDone>,
    bytes_up: u64,
    secure: Secure,
    /// Why we declined or left, if it was our decision.
    cause: Option<ClientError>,
    last_obstacle: String,
}

impl Driver {
    pub(super) fn new(
        settings: Settings,
        site: Arc<dyn Site>,
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
        let examiner = Arc::new(PeerExaminer::default());
        let eye = Arc::clone(&examiner);
        let mut setup = Setup::new(name, software, u64::from_le_bytes(seed), eye);
        setup.patience = settings.patience;
        setup.secure = Some(secure::setup(&settings));
        let egress = Egress::open(&settings)?;
        let (mut kept, mut earlier, mut plain) = (BTreeMap::new(), None, Bytes::new());
        let mut left_over = None;
        if let Some(path) = &settings.state
            && let Some(state) = RoundState::read(path)?
        {
            let RoundState {
                spooled,
                update,
                trainer,
                left_over: rounded,
            } = state;
            let name = &setup.name;
            let header = TransferHeader::update(name, spooled.round, spooled.plan, spooled.update);
            plain = update.clone();
            kept.insert(header.id, update);
            earlier = Some((spooled.plan, trainer));
            left_over = rounded.map(|rounded| (spooled.clone(), rounded));
            setup.spooled = Some(spooled);
        }
        let arrivals = Arrivals::new(settings.state.as_deref());
        let mut driver = Self {
            tls: settings.tls.clone(),
            settings,
            site,
            turn,
            observer,
            happenings,
            machine: Participant::new(setup, Instant::now()),
            attempt: Attempt(0),
            session: None,
            egress,
            arrivals: Arc::new(arrivals),
            kept,
            earlier,
            left_over,
            feedback: Feedback::default(),
            anchor: None,
            agreed: None,
            learner: None,
            peer: None,
            examiner,
            identity: None,
            evidence: None,
            training: None,
            keeping: None,
            next: None,
            rounds: Vec::new(),
            bytes_up: 0,
            secure: Secure::with(plain),
            cause: None,
            last_obstacle: "no answer came".to_owned(),
        };
        driver.watch_identity(SystemTime::now());
        Ok(driver)
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
                let when = "the end of the run".to_owned();
                let adapter = self.adapter(adapter.id, Encoding::F32, when)?;
                if let Some(path) = &self.settings.state {
                    RoundState::remove(path)?;
                }
                self.arrivals.remove()?;
                if let Some(evidence) = self.evidence.take() {
                    evidence.finish()?;
                }
                self.observer.observe(&Event::Finished { rounds });
                Ok(Outcome {
                    plan: self.agreement()?.0.plan().clone(),
                    adapter,
                    last_record: self.machine.last_record(),
                    rounds: std::mem::take(&mut self.rounds),
                    bytes_up: self.bytes_up,
                    bytes_down: self.arrivals.bytes(),
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
            participant::Outcome::Violation(violation) => Err(self.accusation(violation)),
        }
    }

    /// Waits until the device is free, the files are at rest, and the last words are out and counted.
    pub(super) async fn rest(&mut self, code: CloseCode) {
        if let Some(training) = self.training.take() {
            training.ended().await;
        }
        if let Some(keeping) = self.keeping.take() {
            keeping.ended().await;
        }
        if let Some(session) = self.session.take() {
            session.close(code);
            // A server that does not acknowledge will notice by itself.
            let _ = tokio::time::timeout(DRAIN_LIMIT, session.connection.drained()).await;
        }
        if let Err(error) = self.egress.rest(DRAIN_LIMIT).await {
            // The run is over whatever the disk says; the next process notes the connection as not counted.
            tracing::error!(%error, "the last connection's datagrams are not in the egress ledger");
        }
    }

    // Inside.

    /// What the site's policy judges by beside the plan.
    fn circumstances(&self, server_certificate: Digest) -> Circumstances {
        let now = Timestamp::now();
        Circumstances {
            server_certificate,
            now,
            day_bytes: self.egress.day_bytes(now),
        }
    }

    /// What the server did wrong; about the transcript, also where what we saw of it is.
    fn accusation(&self, violation: Violation) -> ClientError {
        match (&violation.breach, &self.evidence) {
            (Breach::BadTranscript(_), Some(evidence)) => {
                let evidence = evidence.path().to_owned();
                ClientError::Transcript {
                    violation: Box::new(violation),
                    scene: self.scene(),
                    evidence,
                }
            }
            _ => ClientError::Violation {
                violation: Box::new(violation),
                scene: self.scene(),
            },
        }
    }

    /// Who the server is and how far it has come with us.
    fn scene(&self) -> Scene {
        let address = &self.settings.server;
        let server = match &self.peer {
            Some(peer) => format!("{peer} at {address}"),
            None => address.clone(),
        };
        Scene {
            server,
            round: self.machine.last_named(),
        }
    }

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

    fn agreement(&self) -> Result<(&CheckedPlan, &dyn Agreement), ClientError> {
        let missing = || ClientError::Internal {
            what: "no plan was agreed to".to_owned(),
        };
        let (plan, agreement) = self.agreed.as_ref().ok_or_else(missing)?;
        Ok((plan, agreement.as_ref()))
    }

    /// The form in which adapters come that rounds start from.
    fn adapter_encoding(&self) -> Result<Encoding, ClientError> {
        Ok(encoding(self.agreement()?.0.encoding.of_adapters()))
    }

    /// The form in which the plan has the update of this round travel. What was left over before it is settled by now.
    fn update_form(&mut self, round: Round) -> Result<UpdateForm, ClientError> {
        if let Some(ring) = self.ring()? {
            return Ok(UpdateForm::Ring(ring));
        }
        let plan = self.agreement()?.0;
        match encoding(plan.encoding) {
            Encoding::Int8 => {
                let lots = plan.lots();
                Ok(UpdateForm::blocks(lots, round, self.feedback.for_next()))
            }
            encoding => Ok(UpdateForm::Values(encoding)),
        }
    }

    /// Reads kept bytes as an adapter of the run's layout.
    fn adapter(
        &self,
        id: TransferId,
        encoding: Encoding,
        when: String,
    ) -> Result<Adapter, ClientError> {
        let missing = || ClientError::Internal {
            what: format!("the adapter for {when} is missing"),
        };
        let bytes = self.kept.get(&id).ok_or_else(missing)?;
        let layout = Arc::clone(self.agreement()?.1.layout());
        Adapter::from_encoded(layout, encoding, bytes).map_err(|source: AdapterError| {
            ClientError::ServerAdapter {
                when,
                source,
                scene: self.scene(),
            }
        })
    }
}

fn encoding(of: ValueEncoding) -> Encoding {
    match of {
        ValueEncoding::F32 => Encoding::F32,
        ValueEncoding::Bf16 => Encoding::Bf16,
        ValueEncoding::Int8 => Encoding::Int8,
    }
}
