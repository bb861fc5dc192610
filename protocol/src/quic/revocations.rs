//! Which certificates are revoked: of each authority the newest list that it signed, whatever else is in the file.
//!
//! A list that none of our authorities signed may be that of an intermediate one; whether it counts is found out with the chain. Lists
//! for some certificates only (RFC 5280, section 5.2.5) are made by no authority of ours, and are not told apart.

use std::time::SystemTime;

use ring::signature::{ED25519, UnparsedPublicKey};
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_parser::num_bigint::BigUint;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use super::authorities::{Authorities, Authority};
use super::material::MaterialError;
use super::rejection::moment;

/// Revocation lists, read and found to be such.
#[derive(Default)]
pub(super) struct Revocations {
    /// At most one of each authority.
    newest: Vec<List>,
    /// Those that none of our authorities signed.
    others: Vec<List>,
}

struct List {
    content: CertRevocationList<'static>,
    /// The public key of the authority that signed it, if it is one of ours.
    signer: Option<Vec<u8>>,
    /// What grows from one list of an authority to the next (RFC 5280, section 5.2.3).
    number: Option<BigUint>,
    due: Option<SystemTime>,
}

impl Revocations {
    /// Reads one or more lists in PEM.
    ///
    /// # Errors
    /// [`MaterialError`] says what is wrong with them.
    pub(super) fn from_pem(pem: &str, authorities: &Authorities) -> Result<Self, MaterialError> {
        let what = "revocations";
        let mut found = Self::default();
        for der in CertificateRevocationListDer::pem_slice_iter(pem.as_bytes()) {
            let der = der.map_err(|cause| MaterialError::Pem { what, cause })?;
            found.take(List::read(&der, authorities)?);
        }
        if found.is_empty() {
            return Err(MaterialError::Empty { what });
        }
        Ok(found)
    }

    /// Says whether there is none at all.
    pub(super) fn is_empty(&self) -> bool {
        self.newest.is_empty() && self.others.is_empty()
    }

    /// Returns the lists by which certificates of this authority are judged.
    pub(super) fn of(&self, authority: &Authority) -> Vec<&CertRevocationList<'static>> {
        let own = self.newest.iter().filter(|list| list.is_of(&authority.key));
        own.chain(&self.others).map(|list| &list.content).collect()
    }

    /// Returns when the first newer list was promised.
    pub(super) fn due(&self) -> Option<SystemTime> {
        let lists = self.newest.iter().chain(&self.others);
        lists.filter_map(|list| list.due).min()
    }

    /// Says how a list is older than the one of the same authority in `current`, if one is.
    pub(super) fn older_than(&self, current: &Self) -> Option<String> {
        let said = |number: &Option<BigUint>| {
            let number = number.as_ref();
            number.map_or_else(
                || "no number".to_owned(),
                |number| format!("number {number}"),
            )
        };
        current.newest.iter().find_map(|before| {
            let now = self.newest.iter().find(|now| now.signer == before.signer)?;
            (now.number < before.number).then(|| {
                format!(
                    "the revocation list has {}, and the one in use, of the same authority, has {}; an older list may lack \
                     whom the newer one revokes: take the newest, or start again if this is on purpose",
                    said(&now.number),
                    said(&before.number)
                )
            })
        })
    }

    /// Takes a list in; of two of one authority the newer stays, and the later in the file if they are as old.
    fn take(&mut self, list: List) {
        if list.signer.is_none() {
            return self.others.push(list);
        }
        match self.newest.iter_mut().find(|one| one.signer == list.signer) {
            Some(one) if one.number <= list.number => *one = list,
            Some(_) => {}
            None => self.newest.push(list),
        }
    }
}

impl List {
    fn read(der: &[u8], authorities: &Authorities) -> Result<Self, MaterialError> {
        let useless = |what: String| MaterialError::Revocations { what };
        let content = OwnedCertRevocationList::from_der(der);
        let content = content.map_err(|error| useless(error.to_string()))?;
        let (_, parsed) =
            CertificateRevocationList::from_der(der).map_err(|error| useless(error.to_string()))?;
        let signer = authorities.iter().find(|one| has_signed(one, &parsed));
        let due = parsed.next_update().map(|due| due.timestamp());
        Ok(Self {
            content: content.into(),
            signer: signer.map(|authority| authority.key.clone()),
            number: parsed.crl_number().cloned(),
            due: due.and_then(|seconds| Some(moment(u64::try_from(seconds).ok()?))),
        })
    }

    fn is_of(&self, key: &[u8]) -> bool {
        self.signer.as_deref() == Some(key)
    }
}

/// Whether the list is this authority's: its name alone may be that of another one.
fn has_signed(authority: &Authority, list: &CertificateRevocationList<'_>) -> bool {
    UnparsedPublicKey::new(&ED25519, &authority.key)
        .verify(list.tbs_cert_list.as_ref(), &list.signature_value.data)
        .is_ok()
}
