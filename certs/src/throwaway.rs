//! Whole federations in memory, for tests and simulations.
//!
//! Real keys and real certificates of a real authority whose key is dropped with it: what is
//! tested with them is what runs with the operator's.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use protocol::identity::{Identity, Role};
use zeroize::Zeroizing;

use crate::authority::Authority;
use crate::error::IssueError;
use crate::files::{self, Readers, failed};
use crate::request::Request;
use crate::terms::Terms;

/// How long throw-away certificates are valid.
const VALIDITY: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The PEM texts of one party, as `protocol::quic::TlsMaterial::from_pem` takes them.
#[derive(Clone)]
pub struct Material {
    /// Whose they are.
    pub identity: Identity,
    /// The party's certificate.
    pub certificate: String,
    /// The party's private key.
    pub key: Zeroizing<String>,
    /// The authority's certificate.
    pub authority: String,
    /// The revocation list when this was issued.
    pub revocations: String,
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material")
            .field("identity", &self.identity.to_string())
            .finish_non_exhaustive()
    }
}

/// A federation with an authority, a server named `server`, and participants.
#[derive(Debug)]
pub struct Federation {
    authority: Authority,
    server: Material,
    participants: BTreeMap<String, Material>,
}

impl Federation {
    /// Makes a federation; its certificates are valid for a week from now.
    ///
    /// # Errors
    /// [`IssueError::Identity`] if a name is none.
    pub fn create<S: AsRef<str>>(name: &str, participants: &[S]) -> Result<Self, IssueError> {
        let now = Timestamp::now();
        let mut authority = Authority::create(name, now, VALIDITY)?;
        let server = issue(&mut authority, Role::Server, "server", now, VALIDITY)?;
        let participants = participants
            .iter()
            .map(|name| {
                let name = name.as_ref();
                let role = Role::Participant;
                let material = issue(&mut authority, role, name, now, VALIDITY)?;
                Ok((name.to_owned(), material))
            })
            .collect::<Result<_, IssueError>>()?;
        Ok(Self {
            authority,
            server,
            participants,
        })
    }

    /// Returns the server's material.
    pub fn server(&self) -> &Material {
        &self.server
    }

    /// Returns a participant's material; none if there is no such participant.
    pub fn participant(&self, name: &str) -> Option<&Material> {
        self.participants.get(name)
    }

    /// Returns all participants' material, by name.
    pub fn participants(&self) -> impl Iterator<Item = &Material> {
        self.participants.values()
    }

    /// Issues one more certificate, valid from `starts` on; also one that has expired.
    ///
    /// # Errors
    /// [`IssueError::Identity`] if `name` is none.
    pub fn issue(
        &mut self,
        role: Role,
        name: &str,
        starts: Timestamp,
        validity: Duration,
    ) -> Result<Material, IssueError> {
        issue(&mut self.authority, role, name, starts, validity)
    }

    /// Revokes a party's certificates, and returns the new revocation list.
    ///
    /// # Errors
    /// As [`Authority::revoke`].
    pub fn revoke(&mut self, name: &str) -> Result<String, IssueError> {
        let now = Timestamp::now();
        self.authority.revoke(name, now)?;
        self.authority.crl_pem(now)
    }

    /// Returns the revocation list as of `now`, from which it has its number.
    ///
    /// # Errors
    /// As [`Authority::crl_pem`].
    pub fn revocations(&self, now: Timestamp) -> Result<String, IssueError> {
        self.authority.crl_pem(now)
    }

    /// Writes everybody's files into one folder: `ca.crt`, `crl.pem`, `server.crt`, `server.key`,
    /// and `NAME.crt` and `NAME.key` of each participant. A second federation replaces the first.
    ///
    /// # Errors
    /// [`IssueError::File`] from the system.
    pub fn write(&self, folder: &Path) -> Result<(), IssueError> {
        std::fs::create_dir_all(folder).map_err(|cause| failed("write", folder, cause))?;
        let open = Readers::Everybody;
        files::replace(
            &folder.join("ca.crt"),
            self.authority.certificate_pem(),
            open,
        )?;
        let list = self.authority.crl_pem(Timestamp::now())?;
        files::replace(&folder.join("crl.pem"), &list, open)?;
        for party in std::iter::once(&self.server).chain(self.participants()) {
            let file = |suffix: &str| folder.join(format!("{}.{suffix}", party.identity.name()));
            files::replace(&file("key"), &party.key, Readers::Owner)?;
            files::replace(&file("crt"), &party.certificate, open)?;
        }
        Ok(())
    }
}

fn issue(
    authority: &mut Authority,
    role: Role,
    name: &str,
    starts: Timestamp,
    validity: Duration,
) -> Result<Material, IssueError> {
    let identity = Identity::new(authority.federation(), role, name)?;
    let request = Request::new(identity.clone())?;
    let terms = Terms {
        role,
        name: name.to_owned(),
        hosts: Vec::new(),
        starts,
        validity,
    };
    let now = Timestamp::now();
    Ok(Material {
        identity,
        certificate: authority.sign(request.request_pem(), &terms, now)?,
        key: request.key_pem().clone(),
        authority: authority.certificate_pem().to_owned(),
        revocations: authority.crl_pem(now)?,
    })
}
