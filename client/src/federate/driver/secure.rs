//! Secure aggregation on our side: the cryptography that the machine asks for, and what must outlive the process.
//!
//! The secrets of an attempt live in its [`Vault`] and die with it or with the process. What is kept on disk is only which sum we helped to
//! open (`opened`), beside the file of `state`: afterwards no second one of that round is opened for other participants, and none of a round
//! before it.

mod opened;

use std::{fmt, time::SystemTime};

use aggregation::masking::{Context, Hashed, PublicKey, Vault, VaultError};
use bytes::Bytes;
use chacha20::{ChaCha20Rng, rand_core::SeedableRng as _};
use protocol::{
    Digest,
    message::Content,
    participant::SecureSetup,
    quic::{Rejection, TlsMaterial, verify_signature},
    secagg::{
        Action, AttemptId, Deceit, Keys, MemberId, RosterEntry, Sealed, Share, Unfit,
        VerifiedMember,
    },
};
use ring::rand::SecureRandom as _;
use zeroize::Zeroizing;

use super::Driver;
use crate::{
    error::ClientError,
    federate::{happening::Happening, training::RingForm},
    settings::Settings,
    terms,
};

/// The secrets of the attempt under way.
#[derive(Default)]
pub(super) struct Secure {
    vault: Option<(AttemptId, Vault)>,
    /// With whose key we sign in it.
    signer: Option<TlsMaterial>,
    /// The update without masks, as the round's training made it.
    pub(super) plain: Bytes,
}

impl fmt::Debug for Secure {
    /// Shows no byte of the update.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attempt = self.vault.as_ref().map(|(attempt, _)| attempt);
        f.debug_struct("Secure")
            .field("attempt", &attempt)
            .field("plain", &format_args!("{} bytes", self.plain.len()))
            .finish_non_exhaustive()
    }
}

/// A masked update.
pub(in crate::federate) struct Masked {
    vault: Vault,
    bytes: Bytes,
    content: Content,
}

impl fmt::Debug for Masked {
    /// Shows no byte of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Masked")
            .field("vault", &self.vault)
            .field("content", &self.content)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
impl Masked {
    /// Makes garbage of it, as a faulty machine does.
    pub(in crate::federate) fn spoil(&mut self) {
        let mut bytes = self.bytes.to_vec();
        for (place, byte) in bytes.iter_mut().enumerate() {
            *byte ^= (place * 151 + 77) as u8;
        }
        self.content = Content::of(&bytes);
        self.bytes = Bytes::from(bytes);
    }
}

/// What the machine needs for secure aggregation.
pub(super) fn setup(settings: &Settings) -> SecureSetup {
    SecureSetup {
        public_key: settings.tls.public_key(),
        verify: verify_signature,
    }
}

/// Randomness that only this machine knows; the generator is wiped when dropped.
fn rng() -> Result<ChaCha20Rng, ClientError> {
    let mut seed = Zeroizing::new([0; 32]);
    let filled = ring::rand::SystemRandom::new().fill(seed.as_mut());
    filled.map_err(|_| ClientError::Internal {
        what: "the system has no randomness".to_owned(),
    })?;
    Ok(ChaCha20Rng::from_seed(*seed))
}

#[cfg(test)]
impl Driver {
    /// Whether the secrets of an attempt are here and closed.
    pub(in crate::federate) fn can_reveal(&self) -> bool {
        self.secure.vault.is_some()
    }
}

impl Driver {
    /// The form in which the plan has updates summed, if not as values.
    pub(super) fn ring(&self) -> Result<Option<RingForm>, ClientError> {
        let plan = self.agreement()?.0;
        let fixed = terms::ring_of(plan)?;
        Ok(fixed.map(|fixed| RingForm {
            fixed,
            weight_max: plan.limits.weight_max,
            norm_max: terms::clip_of(plan).unwrap_or(plan.limits.update_norm_max),
        }))
    }

    /// Does what an attempt asks for.
    pub(super) fn secure(&mut self, attempt: AttemptId, action: Action) -> Result<(), ClientError> {
        match action {
            Action::CheckRoster(entries) => {
                let now = SystemTime::now();
                let numbered = (1..).map(MemberId).zip(entries);
                let found = numbered
                    .map(|(member, entry)| self.check(member, entry, now))
                    .collect();
                self.machine
                    .in_attempt(attempt, |member| member.roster_checked(found));
            }
            Action::Advertise { context, own } => {
                let vault = Vault::draw(Context(context.0), own.0, &mut rng()?);
                let advertised = vault.advertised();
                let keys = Keys {
                    sealing: advertised.sealing.0,
                    masking: advertised.masking.0,
                    commitment: advertised.commitment.0,
                };
                self.secure.vault = Some((attempt, vault));
                let tls = self.tls.clone();
                self.secure.signer = Some(tls.clone());
                self.machine.in_attempt(attempt, |member| {
                    member.advertised(keys, |statement| tls.sign(statement).to_vec());
                    Ok(())
                });
            }
            Action::Share {
                keys,
                threshold,
                places,
            } => self.share(attempt, (keys.0, threshold), &places)?,
            Action::Mask { shares, peers } => self.mask(attempt, shares, &peers)?,
            Action::Confirm { statement } => {
                // The members know the certificate that we had when the attempt began.
                let tls = self.secure.signer.as_ref().unwrap_or(&self.tls);
                let signature = tls.sign(&statement).to_vec();
                self.machine.in_attempt(attempt, |member| {
                    member.confirmed(signature);
                    Ok(())
                });
            }
            Action::Record(earlier) => self.write_down(&earlier)?,
            Action::Reveal { delivered, dropped } => self.reveal(attempt, &delivered, &dropped)?,
            // The machine sends by itself.
            Action::Send(_) => {}
        }
        Ok(())
    }

    fn check(
        &self,
        member: MemberId,
        entry: RosterEntry,
        now: SystemTime,
    ) -> Result<VerifiedMember, Unfit> {
        let RosterEntry { name, certificates } = entry;
        let found = self.settings.tls.check_participant(&certificates, now);
        match found {
            Ok(certificate) if certificate.identity.name() == name.as_str() => Ok(VerifiedMember {
                name,
                public_key: certificate.public_key,
            }),
            Ok(certificate) => {
                let what = format!("it is that of {}", certificate.identity);
                Err(Unfit::Deceit(Deceit::Certificate { name, what }))
            }
            Err(
                rejection @ (Rejection::Expired { .. }
                | Rejection::NotYetValid { .. }
                | Rejection::Revoked),
            ) => {
                tracing::warn!(
                    participant = %name, %rejection,
                    "we take no part in this attempt at secure aggregation with it"
                );
                Err(Unfit::Disputed { member })
            }
            Err(rejection) => {
                let what = rejection.to_string();
                Err(Unfit::Deceit(Deceit::Certificate { name, what }))
            }
        }
    }

    fn share(
        &mut self,
        attempt: AttemptId,
        (keys, threshold): ([u8; 32], u32),
        places: &[(MemberId, [u8; 32])],
    ) -> Result<(), ClientError> {
        let Some(vault) = self.secure.vault_of(attempt) else {
            return Ok(());
        };
        match vault.share(keys, threshold as usize, &public_keys(places), &mut rng()?) {
            Ok(sealed) => {
                let sealed = sealed.into_iter().map(|(member, bytes)| Sealed {
                    member: MemberId(member),
                    bytes: bytes.to_vec(),
                });
                let sealed: Vec<_> = sealed.collect();
                self.machine.in_attempt(attempt, |member| {
                    member.shared(&sealed);
                    Ok(())
                });
            }
            Err(VaultError::Peer { peer, .. }) => self.object(attempt, MemberId(peer)),
            Err(error) => return Err(internal(&error)),
        }
        Ok(())
    }

    /// Opens the shares and masks the update, on a blocking thread: it takes as long as the update is large.
    fn mask(
        &mut self,
        attempt: AttemptId,
        shares: Vec<Sealed>,
        peers: &[(MemberId, [u8; 32])],
    ) -> Result<(), ClientError> {
        let Some(form) = self.ring()? else {
            return Ok(());
        };
        let Some((_, mut vault)) = self.secure.vault.take_if(|(of, _)| *of == attempt) else {
            return Ok(());
        };
        let (plain, peers) = (self.secure.plain.clone(), public_keys(peers));
        let mask = move || {
            let masked = masked_bytes(&mut vault, &form, &shares, (&peers, &plain));
            let masked = match masked {
                Ok(Hashed { bytes, sha256 }) => Ok(Masked {
                    vault,
                    content: Content {
                        bytes: bytes.len() as u64,
                        sha256: Digest(sha256),
                    },
                    bytes: Bytes::from(bytes),
                }),
                Err(VaultError::Peer { peer, .. } | VaultError::Refused { peer }) => {
                    Err(MemberId(peer))
                }
                Err(VaultError::Shares(error)) => return Happening::Lost(error.to_string()),
            };
            Happening::Masked(attempt, Box::new(masked))
        };
        Happening::of_thread("masking the update", mask, self.happenings.clone());
        Ok(())
    }

    /// The masked update is here, or shares of a member cannot be used.
    pub(super) fn masked(&mut self, attempt: AttemptId, masked: Result<Masked, MemberId>) {
        match masked {
            Ok(Masked {
                vault,
                bytes,
                content,
            }) => {
                if let Some(header) = self.machine.masked(attempt, content) {
                    self.secure.vault = Some((attempt, vault));
                    self.kept.insert(header.id, bytes);
                }
            }
            Err(against) => self.object(attempt, against),
        }
    }

    fn object(&mut self, attempt: AttemptId, against: MemberId) {
        self.machine.in_attempt(attempt, |member| {
            member.object(against);
            Ok(())
        });
    }

    /// The vault opens for one list, and is gone.
    fn reveal(
        &mut self,
        attempt: AttemptId,
        delivered: &[MemberId],
        dropped: &[MemberId],
    ) -> Result<(), ClientError> {
        let Some((_, vault)) = self.secure.vault.take_if(|(of, _)| *of == attempt) else {
            return Ok(());
        };
        let ids = |list: &[MemberId]| -> Vec<u32> { list.iter().map(|id| id.0).collect() };
        let shares = vault.reveal(&ids(delivered), &ids(dropped));
        let shares = shares.map_err(|error| internal(&error))?;
        let shares = shares.into_iter().map(|(of, share)| Share {
            of: MemberId(of),
            x: share.x,
            y: share.y,
        });
        let shares = shares.collect();
        self.machine.in_attempt(attempt, |member| {
            member.revealed(shares);
            Ok(())
        });
        Ok(())
    }
}

impl Secure {
    /// Without an attempt; `plain` is the update that an earlier process finished.
    pub(super) fn with(plain: Bytes) -> Self {
        Self {
            plain,
            ..Self::default()
        }
    }

    fn vault_of(&mut self, attempt: AttemptId) -> Option<&mut Vault> {
        let (of, vault) = self.vault.as_mut()?;
        (*of == attempt).then_some(vault)
    }
}

/// Opens and keeps the shares of all peers, and masks the update against them.
fn masked_bytes(
    vault: &mut Vault,
    form: &RingForm,
    shares: &[Sealed],
    (peers, plain): (&[(u32, PublicKey)], &[u8]),
) -> Result<Hashed, VaultError> {
    for sealed in shares {
        vault.keep(sealed.member.0, &sealed.bytes)?;
    }
    let masks = vault.masks(peers)?;
    Ok(masks.masked(form.fixed.ring(), plain))
}

fn public_keys(keys: &[(MemberId, [u8; 32])]) -> Vec<(u32, PublicKey)> {
    keys.iter()
        .map(|(id, key)| (id.0, PublicKey(*key)))
        .collect()
}

fn internal(error: &VaultError) -> ClientError {
    ClientError::Internal {
        what: format!("secure aggregation: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use chacha20::rand_core::Rng as _;

    use super::*;

    #[test]
    fn no_byte_of_an_update_is_printed() {
        let plain = Bytes::from(vec![0x41; 64]);
        let secure = Secure::with(plain.clone());
        let vault = Vault::draw(Context([7; 32]), 3, &mut rng().unwrap());
        let masked = Masked {
            vault,
            content: Content::of(&plain),
            bytes: plain,
        };
        let said = format!("{secure:?} {masked:?}");
        assert!(
            said.contains("64 bytes") && said.contains("Vault(of 3)"),
            "{said}"
        );
        assert!(!said.contains("AAAA") && !said.contains("65, 65"), "{said}");
    }

    #[test]
    fn no_two_generators_draw_the_same() {
        assert_ne!(rng().unwrap().next_u64(), rng().unwrap().next_u64());
    }
}
