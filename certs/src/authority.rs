//! The authority itself, in memory: its key, its certificate, and what it has issued.
//!
//! One self-signed Ed25519 certificate, path length 0: it signs parties and revocation lists and
//! no other authority. Keeping it on disk is the business of [`crate::folder`].

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use protocol::identity::{Identity, LabelError, Role, check_label};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    PublicKeyData, RevokedCertParams, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::error::IssueError;
use crate::inspect::AuthorityFacts;
use crate::issued::{Issued, key_digest, refuse_revoked};
use crate::key::PrivateKey;
use crate::renewal::EarlierCertificate;
use crate::request::{ReceivedRequest, subject, uri};
use crate::terms::Terms;

/// How long a revocation list counts as fresh. Programs warn after that; none stops.
const LIST_VALIDITY: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// A federation's certificate authority.
#[derive(Debug)]
pub struct Authority {
    federation: String,
    key: PrivateKey,
    certificate_pem: String,
    expires: Timestamp,
    issued: Vec<Issued>,
}

impl Authority {
    /// Makes the authority of a new federation, valid from `now` on.
    ///
    /// # Errors
    /// [`IssueError::Identity`] if `federation` is no name; [`IssueError::Crypto`] without
    /// randomness.
    pub fn create(
        federation: &str,
        now: Timestamp,
        validity: Duration,
    ) -> Result<Self, IssueError> {
        check_label(federation).map_err(federation_error)?;
        let key = PrivateKey::generate()?;
        let expires = end(now, validity)?;
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from_slice(&serial()?));
        params.not_before = moment(now)?;
        params.not_after = moment(expires)?;
        params.distinguished_name = authority_name(federation);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params
            .self_signed(key.pair())
            .map_err(IssueError::crypto("sign the authority's certificate"))?;
        Ok(Self {
            federation: federation.to_owned(),
            key,
            certificate_pem: certificate.pem(),
            expires,
            issued: Vec::new(),
        })
    }

    /// Puts an authority together from what was stored.
    ///
    /// # Errors
    /// A sentence saying what does not fit.
    pub fn restore(
        certificate_pem: String,
        key_pem: &str,
        issued: Vec<Issued>,
    ) -> Result<Self, String> {
        let facts = AuthorityFacts::read(&certificate_pem)?;
        let key = PrivateKey::from_pem(key_pem).ok_or("its key is not an Ed25519 key in PEM")?;
        if facts.public_key != key.pair().public_key_raw() {
            return Err("its key does not belong to its certificate".to_owned());
        }
        if let Some(fault) = issued.iter().find_map(Issued::fault) {
            return Err(format!("its index has {fault}"));
        }
        Ok(Self {
            federation: facts.federation,
            key,
            certificate_pem,
            expires: facts.expires,
            issued,
        })
    }

    /// Returns the federation.
    pub fn federation(&self) -> &str {
        &self.federation
    }

    /// Returns the authority's certificate in PEM: what all parties trust.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Returns the private key in PEM, for storing.
    pub fn key_pem(&self) -> Zeroizing<String> {
        self.key.to_pem()
    }

    /// Returns the end of the authority's validity.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// Returns all that was issued, oldest first.
    pub fn issued(&self) -> &[Issued] {
        &self.issued
    }

    /// Signs a request on these terms, and returns the certificate in PEM.
    ///
    /// # Errors
    /// [`IssueError`] if the request does not prove its key, is for another federation or another
    /// party than the terms, or has a key other than Ed25519 or one of which a certificate was revoked.
    pub fn sign(
        &mut self,
        request_pem: &str,
        terms: &Terms,
        now: Timestamp,
    ) -> Result<String, IssueError> {
        let request = self.admitted(request_pem, terms)?;
        self.issue(request.identity, &request.public_key, terms, now)
    }

    /// Reads a request that can be signed on these terms; refuses others as [`Self::sign`] does.
    pub(crate) fn admitted(
        &self,
        request_pem: &str,
        terms: &Terms,
    ) -> Result<ReceivedRequest, IssueError> {
        let request = ReceivedRequest::from_pem(request_pem)?;
        self.admit(&request.identity, terms)?;
        refuse_revoked(&self.issued, &request.public_key)?;
        Ok(request)
    }

    /// Signs a newer certificate for the party, the key and the hosts of one that was issued here, and returns it in PEM. The
    /// earlier one stays valid until its end.
    ///
    /// # Errors
    /// [`IssueError::Renewal`] if the certificate is not one of this authority, was revoked, or has expired, and
    /// [`IssueError::RevokedKey`] if another one of its key was revoked: then a new request is needed.
    pub fn renew(
        &mut self,
        certificate_pem: &str,
        days: u64,
        now: Timestamp,
    ) -> Result<String, IssueError> {
        let EarlierCertificate {
            identity,
            public_key,
            hosts,
            ..
        } = self.renewable(certificate_pem, now)?;
        let mut terms = Terms::new(identity.role(), identity.name(), now, days)?;
        terms.hosts = hosts;
        self.issue(identity, &public_key, &terms, now)
    }

    /// Reads a certificate that can be renewed; refuses others as [`Self::renew`] does.
    pub(crate) fn renewable(
        &self,
        certificate_pem: &str,
        now: Timestamp,
    ) -> Result<EarlierCertificate, IssueError> {
        let key = self.key.pair().public_key_raw();
        let earlier = EarlierCertificate::from_pem(certificate_pem, key)?;
        let refused = |what: String| IssueError::Renewal { what };
        let known = self.issued.iter().find(|one| one.serial == earlier.serial);
        let known =
            known.ok_or_else(|| refused("it is not in this authority's index".to_owned()))?;
        if known.revoked.is_some() {
            return Err(refused(format!("{} was revoked", known.serial)));
        }
        if known.expires <= now {
            let what = format!(
                "it expired on {}; make a new request with foedus-certs request",
                known.expires
            );
            return Err(refused(what));
        }
        refuse_revoked(&self.issued, &earlier.public_key)?;
        Ok(earlier)
    }

    fn issue(
        &mut self,
        identity: Identity,
        public_key: &impl PublicKeyData,
        terms: &Terms,
        now: Timestamp,
    ) -> Result<String, IssueError> {
        if now >= self.expires {
            return Err(IssueError::AuthorityExpired {
                expired: self.expires,
            });
        }
        let serial = serial()?;
        let expires = end(terms.starts, terms.validity)?.min(self.expires);
        let mut params = party_params(&identity, terms)?;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.not_before = moment(terms.starts)?;
        params.not_after = moment(expires)?;
        let certificate = params
            .signed_by(public_key, &self.issuer()?)
            .map_err(IssueError::crypto("sign a certificate"))?;
        self.issued.push(Issued {
            serial: hex::encode(serial),
            identity,
            issued: now,
            expires,
            key: Some(key_digest(public_key)),
            revoked: None,
        });
        Ok(certificate.pem())
    }

    fn admit(&self, identity: &Identity, terms: &Terms) -> Result<(), IssueError> {
        if identity.federation() != self.federation {
            return Err(IssueError::WrongFederation {
                own: self.federation.clone(),
                found: identity.federation().to_owned(),
            });
        }
        if identity.role() != terms.role || identity.name() != terms.name {
            return Err(IssueError::WrongParty {
                found: Box::new(identity.clone()),
                role: terms.role,
                name: terms.name.clone(),
            });
        }
        match terms.hosts.first() {
            Some(host) if terms.role != Role::Server => Err(IssueError::HostOfParticipant {
                host: host.to_string(),
            }),
            _ => Ok(()),
        }
    }

    /// Revokes what `what` names: a serial number, an identity, or a party's name, which means all
    /// certificates of that party. Returns the revoked ones.
    ///
    /// # Errors
    /// [`IssueError`] if nothing or more than one party has that name, or all are revoked already.
    pub fn revoke(&mut self, what: &str, now: Timestamp) -> Result<Vec<Issued>, IssueError> {
        let serial = what.replace(':', "").to_ascii_lowercase();
        let identity: Option<Identity> = what.parse().ok();
        let meant = |entry: &Issued| match &identity {
            Some(identity) => entry.identity == *identity,
            None => entry.serial == serial || entry.identity.name() == what,
        };
        let found = self.issued.iter().filter(|entry| meant(entry));
        let parties: BTreeSet<_> = found.map(|entry| entry.identity.clone()).collect();
        if parties.len() > 1 {
            return Err(IssueError::AmbiguousName {
                what: what.to_owned(),
                candidates: parties.into_iter().collect(),
            });
        }
        if parties.is_empty() {
            return Err(IssueError::UnknownCertificate {
                what: what.to_owned(),
            });
        }
        let mut revoked = Vec::new();
        for entry in self.issued.iter_mut().filter(|entry| meant(entry)) {
            if entry.revoked.is_none() {
                entry.revoked = Some(now);
                revoked.push(entry.clone());
            }
        }
        if revoked.is_empty() {
            return Err(IssueError::AlreadyRevoked {
                what: what.to_owned(),
            });
        }
        Ok(revoked)
    }

    /// Returns the signed revocation list in PEM, as of `now`.
    ///
    /// # Errors
    /// [`IssueError::Crypto`] if it cannot be made.
    pub fn crl_pem(&self, now: Timestamp) -> Result<String, IssueError> {
        let revoked_certs = self
            .issued
            .iter()
            .filter_map(|entry| Some((hex::decode(&entry.serial).ok()?, entry.revoked?)))
            .map(|(serial, revoked)| {
                Ok(RevokedCertParams {
                    serial_number: SerialNumber::from_slice(&serial),
                    revocation_time: moment(revoked)?,
                    reason_code: None,
                    invalidity_date: None,
                })
            })
            .collect::<Result<Vec<_>, IssueError>>()?;
        // Numbers only have to grow, and time does.
        let number = u64::try_from(now.as_second()).unwrap_or(0);
        let list = CertificateRevocationListParams {
            this_update: moment(now)?,
            next_update: moment(end(now, LIST_VALIDITY)?)?,
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer()?)
            .and_then(|list| list.pem())
            .map_err(IssueError::crypto("sign the revocation list"))
    }

    fn issuer(&self) -> Result<Issuer<'static, &KeyPair>, IssueError> {
        Issuer::from_ca_cert_pem(&self.certificate_pem, self.key.pair())
            .map_err(IssueError::crypto("use the authority's certificate"))
    }
}

fn party_params(identity: &Identity, terms: &Terms) -> Result<CertificateParams, IssueError> {
    let mut names = vec![uri(identity)?];
    for host in &terms.hosts {
        names.push(host.to_san()?);
    }
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    params.distinguished_name = subject(identity);
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![match identity.role() {
        Role::Server => ExtendedKeyUsagePurpose::ServerAuth,
        Role::Participant => ExtendedKeyUsagePurpose::ClientAuth,
    }];
    Ok(params)
}

fn authority_name(federation: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, federation);
    name.push(DnType::CommonName, "foedus authority");
    name
}

fn federation_error(source: LabelError) -> IssueError {
    IssueError::Identity(protocol::identity::IdentityError::Label {
        part: "federation",
        source,
    })
}

/// Returns 16 random bytes that DER writes as they are: positive, without leading zeros.
fn serial() -> Result<[u8; 16], IssueError> {
    let mut bytes = [0; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| IssueError::Crypto {
            doing: "make a serial number",
            what: "the system has no randomness".to_owned(),
        })?;
    bytes[0] = bytes[0] & 0x3f | 0x40;
    Ok(bytes)
}

fn end(start: Timestamp, validity: Duration) -> Result<Timestamp, IssueError> {
    start
        .checked_add(validity)
        .map_err(|_| IssueError::Validity {
            days: validity.as_secs() / (24 * 60 * 60),
        })
}

fn moment(at: Timestamp) -> Result<OffsetDateTime, IssueError> {
    OffsetDateTime::from_unix_timestamp(at.as_second()).map_err(|error| IssueError::Crypto {
        doing: "write a date",
        what: error.to_string(),
    })
}
