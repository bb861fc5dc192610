//! Who is in an attempt: numbered names with the certificates that stand for them.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::ids::{Digest, ParticipantName};
use crate::seal::CHAIN_BYTES_MAX;

/// The number of a member in an attempt, from 1, in the order of names.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct MemberId(pub u32);

/// One member as the server names it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RosterEntry {
    /// Its name.
    pub name: ParticipantName,
    /// Its certificate chain, DER, its own first.
    pub certificates: Vec<Vec<u8>>,
}

impl RosterEntry {
    /// Bytes of its certificates.
    pub fn bytes(&self) -> usize {
        self.certificates.iter().map(Vec::len).sum()
    }
}

/// One member whose certificate holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifiedMember {
    /// Its name, as its certificate says.
    pub name: ParticipantName,
    /// The Ed25519 key of its certificate.
    pub public_key: [u8; 32],
}

/// The members of an attempt, by number.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Roster {
    members: Vec<VerifiedMember>,
    digest: Digest,
}

impl Roster {
    /// Takes members in the order of their names; `None` if they are not, or one is there twice.
    pub fn new(members: Vec<VerifiedMember>) -> Option<Self> {
        let ordered = members.windows(2).all(|pair| pair[0].name < pair[1].name);
        if !ordered || u32::try_from(members.len()).is_err() {
            return None;
        }
        let mut hash = Sha256::new();
        hash.update(b"flsa/v1/roster");
        for (id, member) in (1_u32..).zip(&members) {
            hash.update(id.to_le_bytes());
            // Names are at most 63 bytes.
            hash.update([member.name.as_str().len() as u8]);
            hash.update(member.name.as_str());
            hash.update(member.public_key);
        }
        let digest = Digest(hash.finalize().into());
        Some(Self { members, digest })
    }

    /// How many there are.
    pub fn len(&self) -> u32 {
        self.members.len() as u32
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// SHA-256 over numbers, names and keys.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The member with this number.
    pub fn get(&self, id: MemberId) -> Option<&VerifiedMember> {
        self.members.get((id.0 as usize).checked_sub(1)?)
    }

    /// The number of this name.
    pub fn id(&self, name: &ParticipantName) -> Option<MemberId> {
        let found = self
            .members
            .binary_search_by(|member| member.name.cmp(name));
        found.ok().map(|index| MemberId(index as u32 + 1))
    }

    /// The name of a member; for numbers that were checked before.
    pub(super) fn name(&self, id: MemberId) -> ParticipantName {
        let member = self
            .get(id)
            .expect("the number was found to be in the roster");
        member.name.clone()
    }

    /// All numbers.
    pub fn ids(&self) -> impl Iterator<Item = MemberId> {
        (1..=self.len()).map(MemberId)
    }
}

/// The longest certificate chain that is relayed, in bytes: as long as a seal's. Each goes to every member, and beside those that its
/// authority gave out a participant may put what it likes into its chain.
pub const CERTIFICATE_BYTES_MAX: usize = CHAIN_BYTES_MAX;
