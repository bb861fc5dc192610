//! The secrets of one attempt: two X25519 key pairs and the seed of the self mask, and what is derived from them.
//!
//! All derivations are bound to the attempt's context, and each to its use by a label of its own (HKDF-SHA256, RFC 5869).

use std::fmt;

use hkdf::Hkdf;
use rand_chacha::rand_core::CryptoRng;
use sha2::{Digest, Sha256};
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

use super::mask::MaskKey;

/// The digest of everything an attempt is about: plan, model, roster, round and attempt. Made by the protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Context(pub [u8; 32]);

/// An X25519 public key.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PublicKey(pub [u8; 32]);

/// What binds a participant to its self mask before anybody knows its masked vector.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Commitment(pub [u8; 32]);

/// The secret half of an X25519 key pair of one attempt. Wiped when dropped.
#[derive(Clone)]
pub struct PairSecret(StaticSecret);

impl PairSecret {
    /// Draws a fresh key.
    pub fn draw(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.fill_bytes(bytes.as_mut());
        Self::from_bytes(&bytes)
    }

    /// Takes a key that was put together from shares.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(StaticSecret::from(*bytes))
    }

    /// The key's bytes, to be shared.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(x25519_dalek::PublicKey::from(&self.0).to_bytes())
    }

    /// The key of the mask that two participants share: the same from both sides.
    ///
    /// `own` and `peer` are their numbers in the roster. `None` if the peer's key is one of the few that make the
    /// agreement worthless (RFC 7748, section 6.1).
    pub fn mask_key(
        &self,
        context: &Context,
        own: u32,
        (peer, public): (u32, &PublicKey),
    ) -> Option<MaskKey> {
        let mine = (own, self.public());
        let theirs = (peer, *public);
        let (low, high) = if own < peer {
            (mine, theirs)
        } else {
            (theirs, mine)
        };
        let info = [
            b"flsa/v1/pair-mask".as_slice(),
            &low.1.0,
            &high.1.0,
            &low.0.to_le_bytes(),
            &high.0.to_le_bytes(),
        ];
        self.derive(context, public, &info).map(MaskKey::new)
    }

    /// A key of 32 bytes from the agreement with this public key; `None` if that contributes nothing.
    pub(super) fn derive(
        &self,
        context: &Context,
        public: &PublicKey,
        info: &[&[u8]],
    ) -> Option<Zeroizing<[u8; 32]>> {
        let agreed = self
            .0
            .diffie_hellman(&x25519_dalek::PublicKey::from(public.0));
        agreed
            .was_contributory()
            .then(|| expand(context, agreed.as_bytes(), info))
    }
}

impl fmt::Debug for PairSecret {
    /// Shows the public half only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PairSecret(of {})", hex::encode(&self.public().0[..4]))
    }
}

/// The seed of a participant's own mask in one attempt. Wiped when dropped.
#[derive(Clone)]
pub struct SelfSecret(Zeroizing<[u8; 32]>);

impl SelfSecret {
    /// Draws a fresh seed.
    pub fn draw(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.fill_bytes(bytes.as_mut());
        Self(bytes)
    }

    /// Takes a seed that was put together from shares.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(Zeroizing::new(*bytes))
    }

    /// The seed's bytes, to be shared.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.0.clone()
    }

    /// Binds the participant to this seed without telling it.
    pub fn commitment(&self, context: &Context, own: u32) -> Commitment {
        let mut hash = Sha256::new();
        hash.update(b"flsa/v1/b");
        hash.update(context.0);
        hash.update(own.to_le_bytes());
        hash.update(self.0.as_slice());
        Commitment(hash.finalize().into())
    }

    /// The key of the participant's own mask.
    pub fn mask_key(&self, context: &Context, own: u32) -> MaskKey {
        let info = [b"flsa/v1/self-mask".as_slice(), &own.to_le_bytes()];
        MaskKey::new(expand(context, self.0.as_slice(), &info))
    }
}

impl fmt::Debug for SelfSecret {
    /// Never shows the seed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SelfSecret")
    }
}

/// HKDF-SHA256 with the context as salt.
fn expand(context: &Context, secret: &[u8], info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(&context.0), secret)
        .expand_multi_info(info, key.as_mut())
        .expect("32 bytes are fewer than HKDF can give");
    key
}
