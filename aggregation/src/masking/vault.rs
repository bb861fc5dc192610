//! A participant's secrets in one attempt, and what its peers entrusted to it.
//!
//! A vault opens once: [`Vault::reveal`] takes it with it. So one attempt's secrets cannot be revealed in two ways, whoever asks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rand_chacha::rand_core::CryptoRng;

use super::keys::{Commitment, Context, PairSecret, PublicKey, SelfSecret};
use super::mask::{MaskSet, Sign};
use super::sealing::{SEALED_BYTES, SealError, SharePair, open, seal};
use super::shamir::{Share, ShareError, split};

/// The secrets of one participant in one attempt.
pub struct Vault {
    context: Context,
    own: u32,
    sealing: PairSecret,
    masking: PairSecret,
    seed: SelfSecret,
    /// The digest of all keys.
    keys: [u8; 32],
    /// Sealing keys of those who got shares.
    peers: BTreeMap<u32, PublicKey>,
    held: BTreeMap<u32, SharePair>,
}

impl fmt::Debug for Vault {
    /// Shows whose it is and nothing else.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault(of {})", self.own)
    }
}

/// What a participant tells everybody at the beginning of an attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Advertised {
    /// For which shares are sealed.
    pub sealing: PublicKey,
    /// From which pair masks are made.
    pub masking: PublicKey,
    /// To the seed of the own mask.
    pub commitment: Commitment,
}

/// Something that a vault cannot do.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum VaultError {
    /// What a peer sent cannot be used.
    #[error("what participant {peer} sent cannot be used: {source}")]
    Peer {
        /// Whose keys or shares.
        peer: u32,
        /// What is wrong with them.
        source: SealError,
    },
    /// Shares cannot be made.
    #[error(transparent)]
    Shares(#[from] ShareError),
    /// Both secrets of one peer are asked for, or a secret of which we have no share.
    #[error("of participant {peer} both secrets are asked for, or one of which no share is here")]
    Refused {
        /// Which.
        peer: u32,
    },
}

impl Vault {
    /// Draws fresh secrets.
    pub fn draw(context: Context, own: u32, rng: &mut impl CryptoRng) -> Self {
        Self {
            context,
            own,
            sealing: PairSecret::draw(rng),
            masking: PairSecret::draw(rng),
            seed: SelfSecret::draw(rng),
            keys: [0; 32],
            peers: BTreeMap::new(),
            held: BTreeMap::new(),
        }
    }

    /// What everybody may know of them.
    pub fn advertised(&self) -> Advertised {
        Advertised {
            sealing: self.sealing.public(),
            masking: self.masking.public(),
            commitment: self.seed.commitment(&self.context, self.own),
        }
    }

    /// Splits both secrets into shares at places 1, 2, ... for these participants and their sealing keys; our own share stays here.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn share(
        &mut self,
        keys: [u8; 32],
        threshold: usize,
        places: &[(u32, PublicKey)],
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<(u32, [u8; SEALED_BYTES])>, VaultError> {
        self.keys = keys;
        let of_seed = split(&self.seed.to_bytes(), threshold, places.len(), rng)?;
        let of_key = split(&self.masking.to_bytes(), threshold, places.len(), rng)?;
        let mut sealed = Vec::new();
        for ((&(peer, public), of_self_mask), of_pair_key) in places.iter().zip(of_seed).zip(of_key)
        {
            let shares = SharePair {
                of_self_mask,
                of_pair_key,
            };
            if peer == self.own {
                self.held.insert(peer, shares);
                continue;
            }
            let about = (&self.context, &keys);
            let bytes = seal((&self.sealing, &public), about, (self.own, peer), &shares)
                .map_err(|source| VaultError::Peer { peer, source })?;
            self.peers.insert(peer, public);
            sealed.push((peer, bytes));
        }
        Ok(sealed)
    }

    /// Opens and keeps what a peer entrusts to us.
    ///
    /// # Errors
    /// [`VaultError::Peer`].
    pub fn keep(&mut self, peer: u32, sealed: &[u8]) -> Result<(), VaultError> {
        let forged = VaultError::Peer {
            peer,
            source: SealError::Forged,
        };
        let public = self.peers.get(&peer).ok_or(forged)?;
        let sealed: &[u8; SEALED_BYTES] = sealed.try_into().map_err(|_| forged)?;
        let about = (&self.context, &self.keys);
        let shares = open((&self.sealing, public), about, (peer, self.own), sealed)
            .map_err(|source| VaultError::Peer { peer, source })?;
        self.held.insert(peer, shares);
        Ok(())
    }

    /// All masks of our vector: our own, and one for each of these peers by its masking key.
    ///
    /// # Errors
    /// [`VaultError::Peer`].
    pub fn masks(&self, peers: &[(u32, PublicKey)]) -> Result<MaskSet, VaultError> {
        let mut masks = MaskSet::new();
        masks.push(self.seed.mask_key(&self.context, self.own), Sign::Plus);
        for &(peer, public) in peers {
            let weak = VaultError::Peer {
                peer,
                source: SealError::WeakKey,
            };
            let key = self
                .masking
                .mask_key(&self.context, self.own, (peer, &public));
            masks.push(key.ok_or(weak)?, Sign::of_pair(self.own, peer));
        }
        Ok(masks)
    }

    /// Gives our shares of the mask seeds of those that delivered and of the masking keys of those that dropped out. The vault is
    /// gone afterwards, and with it every other secret.
    ///
    /// # Errors
    /// [`VaultError::Refused`]: nothing is revealed.
    pub fn reveal(
        mut self,
        delivered: &[u32],
        dropped: &[u32],
    ) -> Result<Vec<(u32, Share)>, VaultError> {
        let gone: BTreeSet<_> = dropped.iter().collect();
        if let Some(&peer) = delivered.iter().find(|peer| gone.contains(peer)) {
            return Err(VaultError::Refused { peer });
        }
        let mut shares = Vec::with_capacity(delivered.len() + dropped.len());
        let kinds = delivered.iter().map(|peer| (peer, true));
        for (&peer, has_delivered) in kinds.chain(dropped.iter().map(|peer| (peer, false))) {
            let pair = self
                .held
                .remove(&peer)
                .ok_or(VaultError::Refused { peer })?;
            let share = if has_delivered {
                pair.of_self_mask
            } else {
                pair.of_pair_key
            };
            shares.push((peer, share));
        }
        Ok(shares)
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    /// Three that have shared with each other.
    fn vaults() -> Vec<Vault> {
        let mut rng = ChaCha20Rng::from_seed([5; 32]);
        let mut vaults: Vec<_> = (1..=3)
            .map(|own| Vault::draw(Context([1; 32]), own, &mut rng))
            .collect();
        let places: Vec<_> = vaults
            .iter()
            .map(|vault| (vault.own, vault.advertised().sealing))
            .collect();
        let sealed: Vec<_> = vaults
            .iter_mut()
            .map(|vault| {
                (
                    vault.own,
                    vault.share([2; 32], 2, &places, &mut rng).unwrap(),
                )
            })
            .collect();
        for (from, sealed) in sealed {
            for (to, bytes) in sealed {
                vaults[to as usize - 1].keep(from, &bytes).unwrap();
            }
        }
        vaults
    }

    #[test]
    fn it_never_gives_both_secrets_of_one_peer_and_opens_once() {
        let mut vaults = vaults();
        let refused = vaults.remove(0).reveal(&[1, 2], &[2, 3]).unwrap_err();
        assert_eq!(refused, VaultError::Refused { peer: 2 });
        let stranger = vaults.remove(0).reveal(&[1, 9], &[]).unwrap_err();
        assert_eq!(stranger, VaultError::Refused { peer: 9 });
        let twice = vaults.remove(0).reveal(&[1, 1], &[]).unwrap_err();
        assert_eq!(twice, VaultError::Refused { peer: 1 });
    }

    #[test]
    fn shares_that_come_back_give_the_secrets_they_are_of() {
        let vaults = vaults();
        let context = Context([1; 32]);
        let (masking, commitment) = (
            vaults[2].advertised().masking,
            vaults[0].advertised().commitment,
        );
        let mut revealed: BTreeMap<u32, Vec<Share>> = BTreeMap::new();
        for vault in vaults.into_iter().take(2) {
            for (of, share) in vault.reveal(&[1, 2], &[3]).unwrap() {
                revealed.entry(of).or_default().push(share);
            }
        }
        let key = super::super::recover_pair_key(&masking, &revealed[&3], 2).unwrap();
        assert_eq!(key.secret.public(), masking);
        let seed =
            super::super::recover_self_mask(&context, 1, &commitment, &revealed[&1], 2).unwrap();
        assert_eq!(seed.secret.commitment(&context, 1), commitment);
    }

    #[test]
    fn what_was_changed_on_its_way_is_named_by_its_sender() {
        let mut vault = vaults().remove(0);
        for bytes in [[0; SEALED_BYTES].as_slice(), &[0; 3]] {
            let source = SealError::Forged;
            assert_eq!(
                vault.keep(2, bytes),
                Err(VaultError::Peer { peer: 2, source })
            );
        }
        let weak = vault.masks(&[(2, PublicKey([0; 32]))]).unwrap_err();
        let source = SealError::WeakKey;
        assert_eq!(weak, VaultError::Peer { peer: 2, source });
    }
}
