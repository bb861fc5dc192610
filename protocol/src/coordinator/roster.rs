//! Who is connected, and how far each has come in joining.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::ids::{ConnectionId, Digest, ParticipantName, Round, TransferId};
use crate::message::{Beginning, TransferHeader};
use crate::text::Text;

/// All participants that the coordinator has heard of, and their live connections. One connection each.
#[derive(Debug, Default)]
pub(super) struct Roster {
    members: BTreeMap<ParticipantName, Member>,
    names: BTreeMap<ConnectionId, ParticipantName>,
}

/// One participant.
#[derive(Debug, Default)]
pub(super) struct Member {
    /// Its live connection.
    pub(super) link: Option<Link>,
    /// It declined or left since it last connected.
    pub(super) withdrawn: bool,
}

/// One live connection.
#[derive(Debug)]
pub(super) struct Link {
    /// The owner's number for it.
    pub(super) connection: ConnectionId,
    /// How far it has come.
    pub(super) stage: Stage,
    /// When it last moved on: the start of the stage, then every step or byte.
    pub(super) moved_at: Instant,
    /// Program and version, from its Hello.
    pub(super) software: Text,
    /// What Ready listed as begun and no transfer has gone on with yet.
    pub(super) begun: Vec<Beginning>,
    /// Adapters that are whole at the participant: of the present one it may get a delta against one of them.
    pub(super) bases: Vec<Digest>,
    /// The adapter that was sent last, until it is acknowledged.
    pub(super) sent: Option<TransferHeader>,
    /// Deltas, and transfers that went on behind such a beginning: those that may be asked for once more.
    pub(super) resendable: Vec<TransferId>,
    /// What its signatures are checked by.
    pub(super) credentials: Option<Credentials>,
}

/// The certificate behind a connection.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    /// The chain, DER, its own first.
    pub(super) certificates: Vec<Vec<u8>>,
    /// Its Ed25519 key.
    pub(super) public_key: [u8; 32],
    /// When it is over.
    pub(super) expires_at: Instant,
}

/// How far a connection has come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Stage {
    /// Connected; Hello is expected.
    Greeting,
    /// Welcome was sent; Ready or Decline is expected.
    Deciding,
    /// Takes part.
    Ready {
        /// Contents that it need not be sent.
        holds: Vec<Digest>,
        /// The last round of whose record it was told.
        recorded: Round,
    },
}

impl Stage {
    /// The stage in words, for errors.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Greeting => "waiting for Hello",
            Self::Deciding => "waiting for Ready or Decline",
            Self::Ready { .. } => "taking part",
        }
    }
}

impl Roster {
    /// Enters a connection and returns the one it supersedes.
    pub(super) fn connect(
        &mut self,
        connection: ConnectionId,
        name: ParticipantName,
        now: Instant,
    ) -> Option<ConnectionId> {
        let member = self.members.entry(name.clone()).or_default();
        let link = Link {
            connection,
            stage: Stage::Greeting,
            moved_at: now,
            software: Text::default(),
            credentials: None,
            begun: Vec::new(),
            bases: Vec::new(),
            sent: None,
            resendable: Vec::new(),
        };
        let old = member.link.replace(link).map(|link| link.connection);
        member.withdrawn = false;
        if let Some(old) = old {
            self.names.remove(&old);
        }
        self.names.insert(connection, name);
        old
    }

    /// Forgets a connection and returns whose it was; `None` if it was forgotten before.
    pub(super) fn disconnect(&mut self, connection: ConnectionId) -> Option<ParticipantName> {
        let name = self.names.remove(&connection)?;
        if let Some(member) = self.members.get_mut(&name) {
            member.link = None;
        }
        Some(name)
    }

    /// Whose live connection this is.
    pub(super) fn name(&self, connection: ConnectionId) -> Option<&ParticipantName> {
        self.names.get(&connection)
    }

    /// The live connection with this number.
    pub(super) fn link_mut(&mut self, connection: ConnectionId) -> Option<&mut Link> {
        let name = self.names.get(&connection)?;
        self.members.get_mut(name)?.link.as_mut()
    }

    /// The participant's live connection.
    pub(super) fn link(&self, name: &ParticipantName) -> Option<&Link> {
        self.members.get(name)?.link.as_ref()
    }

    /// The participant's connection, if it takes part.
    pub(super) fn ready(&self, name: &ParticipantName) -> Option<&Link> {
        self.link(name)
            .filter(|link| matches!(link.stage, Stage::Ready { .. }))
    }

    /// Notes that the participant wants no part, until it connects again.
    pub(super) fn withdraw(&mut self, name: &ParticipantName) {
        if let Some(member) = self.members.get_mut(name) {
            member.withdrawn = true;
        }
    }

    /// Whether the participant declined or left.
    pub(super) fn is_withdrawn(&self, name: &ParticipantName) -> bool {
        self.members
            .get(name)
            .is_some_and(|member| member.withdrawn)
    }

    /// The live connections, by participant name.
    pub(super) fn links(&self) -> impl Iterator<Item = (&ParticipantName, &Link)> {
        self.members
            .iter()
            .filter_map(|(name, member)| Some((name, member.link.as_ref()?)))
    }

    /// The participants that take part, by name.
    pub(super) fn all_ready(&self) -> impl Iterator<Item = (&ParticipantName, &Link)> {
        self.links()
            .filter(|(_, link)| matches!(link.stage, Stage::Ready { .. }))
    }
}
