//! The one owner of the coordinator: a loop over a closed set of events that performs its actions.
//!
//! Sessions and the folding thread send events; nothing else touches the run's state. Every event is handed over with
//! the time at which it is handled, then all actions are performed, then the loop sleeps until the coordinator's next
//! deadline. What the events mean is decided in `protocol::coordinator`, what is in an update in [`crate::fold`].

mod bulk;
mod event;
mod perform;
mod renewal;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use protocol::close::CloseCode;
use protocol::coordinator::{Coordinator, Outcome};
use protocol::quic::{Closed, HandshakeError, Link, Listener, TlsMaterial};
use protocol::{ConnectionId, Misuse, ParticipantName, Text};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub(crate) use self::event::Event;
use crate::error::ServerError;
use crate::fold::Job;
use crate::journal::Journal;
use crate::narrate::Narrator;
use crate::network::Network;
use crate::observer::RunEvent;
use crate::record::RoundRecord;
use crate::released::Released;
use crate::round::Traffic;
use crate::session::{self, Outbox, Outgoing, Shared};
use crate::tally::Tally;

/// Events that are handled before anything is said in answer.
const EVENTS_AT_ONCE: usize = 64;

/// Longer than any connection lasts: what an instant can hold.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// What a run starts with.
pub(crate) struct Parts {
    pub(crate) coordinator: Coordinator,
    /// What we prove ourselves and sign with.
    pub(crate) tls: TlsMaterial,
    pub(crate) listener: Listener,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) shared: Shared,
    pub(crate) jobs: mpsc::UnboundedSender<Job>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) network: Arc<Network>,
    /// Of the rounds that are done.
    pub(crate) records: Vec<RoundRecord>,
    /// Of the run so far, and of its open round.
    pub(crate) traffic: (Traffic, Traffic),
    pub(crate) global: Released,
    pub(crate) anchor: Bytes,
    pub(crate) narrator: Narrator,
}

/// How a run ended, as the driver saw it.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    pub(crate) records: Vec<RoundRecord>,
    pub(crate) traffic: Traffic,
    /// Our own failure, if that is why.
    pub(crate) broken: Option<ServerError>,
}

/// The state of the loop.
pub(crate) struct Driver {
    coordinator: Coordinator,
    tls: TlsMaterial,
    shared: Shared,
    jobs: mpsc::UnboundedSender<Job>,
    journal: Arc<Journal>,
    network: Arc<Network>,
    narrator: Narrator,
    peers: BTreeMap<ConnectionId, Peer>,
    sessions: JoinSet<()>,
    connections: u64,
    /// The adapter that the open round starts from, as it is sent.
    global: Released,
    anchor: Bytes,
    /// Since the last round's record.
    round_traffic: Traffic,
    traffic: Traffic,
    /// Whom we turned away since the last round's record.
    tally: Tally,
    /// What was found in updates that the coordinator is about to report as refused.
    findings: BTreeMap<ParticipantName, String>,
    records: Vec<RoundRecord>,
    broken: Option<ServerError>,
    outcome: Option<Outcome>,
}

/// One live connection.
struct Peer {
    name: ParticipantName,
    outbox: Outbox,
}

/// Drives a run to its end.
pub(crate) async fn drive(parts: Parts, shutdown: impl Future<Output = ()>) -> Ended {
    let Parts {
        coordinator,
        tls,
        mut listener,
        mut events,
        shared,
        jobs,
        journal,
        network,
        records,
        traffic: (traffic, round_traffic),
        global,
        anchor,
        narrator,
    } = parts;
    let mut driver = Driver {
        coordinator,
        tls,
        shared,
        jobs,
        journal,
        network,
        narrator,
        peers: BTreeMap::new(),
        sessions: JoinSet::new(),
        connections: 0,
        global,
        anchor,
        round_traffic,
        traffic,
        tally: Tally::default(),
        findings: BTreeMap::new(),
        records,
        broken: None,
        outcome: None,
    };
    let mut shutdown = pin!(shutdown);
    let mut is_stopping = false;
    let outcome = loop {
        driver.perform_all();
        if let Some(outcome) = driver.outcome.take() {
            break outcome;
        }
        let deadline = driver.coordinator.poll_timeout();
        let event = tokio::select! {
            arrival = listener.accept() => arrival.map_or(Event::Broken("the listener ended"), Event::Arrived),
            event = events.recv() => event.unwrap_or(Event::Broken("the event queue ended")),
            () = sleep_until(deadline) => Event::Deadline,
            () = &mut shutdown, if !is_stopping => Event::Shutdown,
            // Sessions end one by one; their end is an event of its own.
            Some(_) = driver.sessions.join_next(), if !driver.sessions.is_empty() => continue,
        };
        is_stopping |= matches!(event, Event::Shutdown);
        let round = driver.coordinator.open_round();
        driver.handle(event, &listener);
        // Whatever else has happened by now shares one write to the journal. What comes after a round's end waits until that is
        // performed: an update would be added to the sum that is still the ended round's.
        for _ in 0..EVENTS_AT_ONCE {
            if driver.coordinator.open_round() != round {
                break;
            }
            let Ok(event) = events.try_recv() else { break };
            is_stopping |= matches!(event, Event::Shutdown);
            driver.handle(event, &listener);
        }
    };
    driver.end(listener, events, outcome).await
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

impl Driver {
    fn handle(&mut self, event: Event, listener: &Listener) {
        let now = Instant::now();
        match event {
            Event::Arrived(Ok(link)) => self.connect(link, now),
            Event::Arrived(Err(error)) => self.reject(&error),
            Event::Disconnected { connection, how } => self.disconnect(connection, &how, now),
            Event::Message {
                connection,
                message,
            } => self.coordinator.handle_message(connection, message, now),
            Event::Malformed { connection, what } => {
                if let Some(peer) = self.peers.get(&connection) {
                    tracing::warn!(participant = %peer.name, what, "malformed bytes");
                }
                self.coordinator.handle_malformed(connection, now);
            }
            Event::Identity(found) => self.renew(listener, found),
            Event::NewDay => self.warn_of_peers(),
            Event::Failed(error) => self.give_up(error),
            Event::Deadline => self.coordinator.handle_timeout(now),
            Event::Shutdown => self.coordinator.stop(),
            // Who does not wait for the answer any more has its own.
            Event::Probed(answer) => drop(answer.send(())),
            Event::Broken(what) => self.give_up(ServerError::Internal {
                what: what.to_owned(),
            }),
            of_updates => self.handle_bulk(of_updates, now),
        }
    }

    fn connect(&mut self, link: Link, now: Instant) {
        if let Err(reason) = link.connection.recheck(&self.tls, SystemTime::now()) {
            return self.turn_away(&link.connection, reason);
        }
        let identity = link.connection.peer();
        let Ok(name) = identity.name().parse::<ParticipantName>() else {
            // Both alphabets are the same; a name that is none of ours has no place in the run.
            return link.connection.close(CloseCode::NotInCohort);
        };
        let expires = link.connection.peer_certificate().expires;
        self.narrator.warn_of_expiry(identity, expires);
        self.narrator.tell(&RunEvent::Connected {
            participant: name.clone(),
            expires,
        });
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        let shared = self.shared.clone();
        self.network
            .enter(connection, name.clone(), link.connection.clone());
        let certificates = link.connection.peer_certificates();
        let public_key = link.connection.peer_public_key();
        let left = expires.duration_since(SystemTime::now());
        let expires_at = now + left.unwrap_or_default().min(YEAR);
        let outbox = session::start(&mut self.sessions, (connection, name.clone()), link, shared);
        self.peers.insert(
            connection,
            Peer {
                name: name.clone(),
                outbox,
            },
        );
        self.coordinator.handle_connected(connection, name, now);
        self.coordinator
            .handle_identified(connection, (certificates, public_key), expires_at);
    }

    fn reject(&mut self, error: &HandshakeError) {
        self.tally.count(None, error.label());
        let peer = error.refused().map_or_else(
            || "unknown".to_owned(),
            |peer| match &peer.claimed {
                Some(identity) => format!("{identity} at {}", peer.remote),
                None => peer.remote.to_string(),
            },
        );
        self.narrator.tell(&RunEvent::HandshakeRejected {
            peer,
            label: error.label(),
            reason: error.to_string(),
            count: match error {
                HandshakeError::TurnedAway { count, .. } => *count,
                _ => 1,
            },
        });
    }

    fn disconnect(&mut self, connection: ConnectionId, how: &Closed, now: Instant) {
        let Some(peer) = self.peers.remove(&connection) else {
            return;
        };
        self.network.leave(connection);
        self.narrator.tell(&RunEvent::Disconnected {
            participant: peer.name,
            how: how.to_string(),
        });
        match how {
            Closed::ByPeer(CloseCode::Left) => self.coordinator.handle_left(connection, now),
            _ => self.coordinator.handle_disconnected(connection, now),
        }
    }

    /// Takes note that the coordinator was used wrongly: a fault of this file.
    fn must(&mut self, result: Result<(), Misuse>) {
        if let Err(misuse) = result {
            self.give_up(ServerError::Internal {
                what: misuse.to_string(),
            });
        }
    }

    fn give_up(&mut self, error: ServerError) {
        if error.is_of_disk() {
            // Nothing is lost: the run goes on when the server is started again, and participants come back.
            self.coordinator.stop();
        } else {
            // Participants learn that it is our fault and nothing about our insides.
            self.coordinator
                .give_up(Text::new("the server cannot go on; its log says why"));
        }
        if self.broken.is_none() {
            self.narrator.tell(&RunEvent::Broken {
                what: error.to_string(),
            });
            self.broken = Some(error);
        }
    }

    fn put(&self, connection: ConnectionId, outgoing: Outgoing) {
        if let Some(peer) = self.peers.get(&connection) {
            peer.outbox.put(outgoing);
        }
    }
}
