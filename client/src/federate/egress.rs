//! The driver's hold on the egress ledger: every byte is written down here before it is handed to a connection.
//!
//! Without a ledger, in a simulation, the same calls do nothing. A connection's datagrams are written down once its socket is
//! closed, because only then do they not grow any more.

use std::{path::Path, time::Duration};

use jiff::Timestamp;
use protocol::{
    Digest, Round,
    codec::{self, EncodeError},
    message::{ToServer, TransferHeader},
    plan::CheckedPlan,
    quic::{DatagramMeter, GREETING_BYTES, PartyCertificate},
};
use tokio::task::JoinHandle;

use crate::{
    error::ClientError,
    ledger::{Fact, Ledger, LedgerError, Purpose, RunReference},
    policy::{Circumstances, SitePolicy},
    privacy::{self, BudgetError, PrivacySettings},
    settings::Settings,
};

/// What this process has sent and is about to send.
pub(super) struct Egress {
    ledger: Option<Ledger>,
    /// The connection that is being made or in use.
    connection: u64,
    run: Option<RunReference>,
    /// Where the run's cost in privacy is counted, if it has one.
    privacy: Option<PrivacySettings>,
    wires: Vec<Wire>,
}

/// Something that is in the ledger by now. Only in this form is anything handed to a connection, and only this file gives it that form.
#[derive(Debug)]
pub(super) struct Recorded<T>(T);

impl<T> Recorded<T> {
    /// What may leave.
    pub(super) fn leaves(self) -> T {
        self.0
    }

    /// For tests of what moves bytes, without a ledger.
    #[cfg(test)]
    pub(super) fn nowhere(what: T) -> Self {
        Self(what)
    }
}

/// A socket that has not been counted yet.
struct Wire {
    connection: u64,
    meter: DatagramMeter,
    dialing: JoinHandle<()>,
}

fn greeting(connection: u64, address: &str) -> Fact {
    Fact::Dial {
        connection,
        address: address.to_owned(),
        bytes: GREETING_BYTES,
    }
}

impl Egress {
    /// Opens the ledger that the settings name, if they name one.
    pub(super) fn open(settings: &Settings) -> Result<Self, LedgerError> {
        let open =
            |path: &Path| Ledger::open(path, &settings.tls, &settings.software, Timestamp::now());
        Ok(Self {
            ledger: settings.ledger.as_deref().map(open).transpose()?,
            connection: 0,
            run: None,
            privacy: None,
            wires: Vec::new(),
        })
    }

    /// Bytes that left in the last 24 hours.
    pub(super) fn day_bytes(&self, now: Timestamp) -> u64 {
        self.ledger
            .as_ref()
            .map_or(0, |ledger| ledger.day_bytes(now))
    }

    /// Bytes that left for a round.
    pub(super) fn round_bytes(&self, plan: Digest, round: Round) -> u64 {
        self.ledger
            .as_ref()
            .map_or(0, |ledger| ledger.round_bytes(plan, round))
    }

    /// A connection is about to be made by `dial`, which is given what counts its datagrams.
    pub(super) fn dial(
        &mut self,
        address: &str,
        dial: impl FnOnce(DatagramMeter) -> JoinHandle<()>,
    ) -> Result<(), LedgerError> {
        self.settle()?;
        let meter = DatagramMeter::default();
        let Some(ledger) = &mut self.ledger else {
            drop(dial(meter));
            return Ok(());
        };
        self.connection = ledger.next_connection();
        let fact = greeting(self.connection, address);
        ledger.record(fact, Timestamp::now())?;
        self.wires.push(Wire {
            connection: self.connection,
            dialing: dial(meter.clone()),
            meter,
        });
        Ok(())
    }

    /// The connection that is being made is about to be tried at another of the server's addresses, which gets a greeting of its own.
    pub(super) fn dial_next(&mut self, address: &str) -> Result<(), LedgerError> {
        self.record(greeting(self.connection, address))
    }

    /// The server has proved who it is.
    pub(super) fn connected(&mut self, server: &PartyCertificate) -> Result<(), LedgerError> {
        let (connection, certificate) = (self.connection, server.fingerprint);
        let server = server.identity.to_string();
        self.record(Fact::Connected {
            connection,
            server,
            certificate,
        })
    }

    /// From here on it is about this plan.
    pub(super) fn about(&mut self, plan: &CheckedPlan, settings: &Settings) {
        let privacy = settings.privacy.clone();
        self.privacy = privacy.filter(|_| plan.privacy.is_some());
        let run = plan.run.to_string();
        self.run = Some(RunReference {
            run,
            plan: plan.digest(),
        });
    }

    /// Looks whether the privacy ledger counts what updates have left for: of this plan every round, and anything at all if the
    /// policy has everything counted in one ledger.
    pub(super) fn check_counted(
        &self,
        plan: &CheckedPlan,
        settings: &Settings,
    ) -> Result<(), BudgetError> {
        let (Some(egress), Some(privacy)) = (&self.ledger, &self.privacy) else {
            return Ok(());
        };
        let left = egress.totals().private_rounds();
        let counted = privacy::Ledger::read(&privacy.ledger)?;
        let forgotten = |what: String| {
            let path = privacy.ledger.clone();
            Err(BudgetError::Forgotten { path, what })
        };
        let policy = settings.policy.as_ref();
        let is_for_all = policy.is_some_and(|policy| policy.privacy_ledger().is_some());
        if is_for_all && counted.entries().is_empty() && !left.is_empty() {
            let runs = left.len();
            return forgotten(format!("the {runs} private runs that updates left in"));
        }
        let Some(&round) = left.get(&plan.digest()) else {
            return Ok(());
        };
        let steps = u64::from(round) * u64::from(plan.training.local_steps);
        if counted.counted_until(plan.digest()) < steps {
            let run = &plan.run;
            return forgotten(format!(
                "all of run {run} until round {round}, whose update left"
            ));
        }
        Ok(())
    }

    /// Asks the institution's policy whether a message may leave. It counts against the day and its round as an update does.
    ///
    /// Before there is a plan nothing but the greeting is said, and the plan itself is judged.
    ///
    /// # Errors
    /// [`ClientError::Policy`] names the limit.
    pub(super) fn permit(
        &self,
        message: &ToServer,
        policy: &SitePolicy,
        circumstances: &Circumstances,
    ) -> Result<(), ClientError> {
        let Some(run) = &self.run else {
            return Ok(());
        };
        let bytes = length(message)?;
        let in_round =
            round_of(message).map_or(0, |round| self.round_bytes(run.plan, Round(round)));
        Ok(policy.check_transfer(bytes, in_round, circumstances)?)
    }

    /// A message is about to leave.
    pub(super) fn message(&mut self, message: ToServer) -> Result<Recorded<ToServer>, ClientError> {
        self.record(Fact::Message {
            connection: self.connection,
            message: message.name().to_owned(),
            run: self.run.clone(),
            round: round_of(&message),
            bytes: length(&message)?,
        })?;
        Ok(Recorded(message))
    }

    /// What is left of a transfer is about to leave.
    pub(super) fn transfer(
        &mut self,
        header: TransferHeader,
    ) -> Result<Recorded<TransferHeader>, ClientError> {
        let header_bytes = codec::framed_bytes(&header).map_err(|error| unsendable(&error))?;
        let run = self.run.clone().ok_or_else(|| ClientError::Internal {
            what: "an update without a run".to_owned(),
        })?;
        self.record(Fact::Transfer {
            connection: self.connection,
            purpose: Purpose::Update,
            run,
            round: header.round.0,
            sha256: header.sha256,
            from: header.offset,
            to: header.bytes,
            header_bytes,
            epsilon: self.epsilon()?,
        })?;
        Ok(Recorded(header))
    }

    /// What the data has cost so far, the update that leaves included: its steps were counted before they were taken.
    fn epsilon(&self) -> Result<Option<f64>, BudgetError> {
        let Some(privacy) = &self.privacy else {
            return Ok(None);
        };
        let spent = privacy::Ledger::read(&privacy.ledger)?.accountant(|_| true)?;
        Ok(Some(spent.cost(privacy.budget.delta()).epsilon))
    }

    /// Something was refused.
    pub(super) fn refused(&mut self, reasons: Vec<String>) -> Result<(), LedgerError> {
        let run = self.run.clone();
        self.record(Fact::Refused { run, reasons })
    }

    /// Writes down the datagrams of connections whose sockets are closed by now.
    pub(super) fn settle(&mut self) -> Result<(), LedgerError> {
        let (settled, open): (Vec<_>, Vec<_>) = std::mem::take(&mut self.wires)
            .into_iter()
            .partition(|wire| wire.dialing.is_finished() && wire.meter.is_settled());
        self.wires = open;
        settled.into_iter().try_for_each(|wire| self.count(&wire))
    }

    /// Waits until the sockets are closed, at most `limit` each, and writes down what they sent.
    pub(super) async fn rest(&mut self, limit: Duration) -> Result<(), LedgerError> {
        for mut wire in std::mem::take(&mut self.wires) {
            wire.dialing.abort();
            // Aborted or done, it holds no socket any more.
            let _ = (&mut wire.dialing).await;
            // One that does not close in time has said its last word long ago and only waits for the server's.
            let _ = tokio::time::timeout(limit, wire.meter.settled()).await;
            self.count(&wire)?;
        }
        Ok(())
    }

    fn count(&mut self, wire: &Wire) -> Result<(), LedgerError> {
        let connection = wire.connection;
        let stream_bytes = self
            .ledger
            .as_ref()
            .map_or(0, |ledger| ledger.totals().connection_bytes(connection));
        self.record(Fact::Closed {
            connection,
            datagrams: wire.meter.datagrams(),
            datagram_bytes: wire.meter.bytes(),
            stream_bytes,
        })
    }

    fn record(&mut self, fact: Fact) -> Result<(), LedgerError> {
        match &mut self.ledger {
            Some(ledger) => ledger.record(fact, Timestamp::now()),
            None => Ok(()),
        }
    }
}

/// The bytes of a message with its length in front.
fn length(message: &ToServer) -> Result<u64, ClientError> {
    codec::framed_bytes(message).map_err(|error| unsendable(&error))
}

/// The round that a message is about.
fn round_of(message: &ToServer) -> Option<u32> {
    match message {
        ToServer::Progress { round, .. } => Some(round.0),
        ToServer::Offer { transfer, .. } => Some(transfer.round.0),
        ToServer::Trained { round, .. } => Some(round.0),
        ToServer::Secure { attempt, .. } => Some(attempt.round.0),
        _ => None,
    }
}

fn unsendable(error: &EncodeError) -> ClientError {
    ClientError::Internal {
        what: error.to_string(),
    }
}
