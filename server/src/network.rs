//! What the connections of a run cost: the datagrams of those that are there and of those that were.
//!
//! Only counts for monitoring; nothing in the run depends on them. A connection's counts live in the transport while it is
//! there, and are added up here when it ends, so that no sum falls.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::plan::Participants;
use protocol::quic::{Connection, Datagrams};
use protocol::{ConnectionId, ParticipantName};

/// The connections of one run, since this process began.
#[derive(Debug)]
pub(crate) struct Network(Mutex<Connections>);

#[derive(Debug, Default)]
struct Connections {
    live: BTreeMap<ConnectionId, (ParticipantName, Connection)>,
    /// Of all that have ended.
    ended: Datagrams,
    /// Of those of the participants that the plan names: nobody else can make an entry.
    ended_of: BTreeMap<ParticipantName, Datagrams>,
}

/// The counts at one instant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Costs {
    /// Of all connections of participants.
    pub(crate) all: Datagrams,
    /// Of those of each participant that the plan names.
    pub(crate) of: BTreeMap<ParticipantName, Datagrams>,
    /// The round trip to each of them that is there.
    pub(crate) round_trip: BTreeMap<ParticipantName, Duration>,
}

impl Network {
    /// No connection was there.
    pub(crate) fn new(participants: &Participants) -> Self {
        let named = match participants {
            Participants::Named(names) => &names[..],
            Participants::Any => &[],
        };
        let of = named
            .iter()
            .map(|name| (name.clone(), Datagrams::default()));
        Self(Mutex::new(Connections {
            ended_of: of.collect(),
            ..Connections::default()
        }))
    }

    /// A connection was let in.
    pub(crate) fn enter(&self, id: ConnectionId, name: ParticipantName, connection: Connection) {
        self.connections().live.insert(id, (name, connection));
    }

    /// A connection has ended.
    pub(crate) fn leave(&self, id: ConnectionId) {
        let mut connections = self.connections();
        if let Some((name, connection)) = connections.live.remove(&id) {
            let datagrams = connection.datagrams();
            connections.ended += datagrams;
            if let Some(of) = connections.ended_of.get_mut(&name) {
                *of += datagrams;
            }
        }
    }

    /// Gives what everything has cost so far.
    pub(crate) fn costs(&self) -> Costs {
        let connections = self.connections();
        let mut costs = Costs {
            all: connections.ended,
            of: connections.ended_of.clone(),
            round_trip: BTreeMap::new(),
        };
        for (name, connection) in connections.live.values() {
            let datagrams = connection.datagrams();
            costs.all += datagrams;
            if let Some(of) = costs.of.get_mut(name) {
                *of += datagrams;
                // A newer connection has the larger number, and comes later here.
                costs
                    .round_trip
                    .insert(name.clone(), connection.round_trip());
            }
        }
        costs
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
