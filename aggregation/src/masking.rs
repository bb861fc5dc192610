//! Secure aggregation as numbers: how updates are masked so that only their sum can be read.
//!
//! The construction is that of Bonawitz et al. 2017 (CCS, "Practical Secure Aggregation"): every participant adds to its vector a
//! mask of its own and one for each peer, with opposite signs on both sides, in the ring of integers modulo `2^bits`. Pair masks
//! cancel in the sum. The secrets behind masks are shared among peers (Shamir 1979), so that the sum can be read although some
//! participants drop out. Masks are ChaCha20 streams from 256-bit keys (RFC 8439), agreed on by X25519 (RFC 7748) and HKDF-SHA256
//! (RFC 5869).
//!
//! Here is arithmetic and cryptography only: no messages, no order of steps, no rule about what may be revealed. Those are in
//! `protocol::secagg`. Randomness is an argument. Secrets are wiped when dropped and never printed.
//!
//! ```text
//! update ── FixedRing::encode ──► vector ── MaskSet::add_to ──► masked vector
//!        ──► RingSum::add ──► MaskSet::take_from ──► RingSum::mean
//! ```

mod difference;
mod field;
mod hashed;
mod keys;
mod mask;
mod recovery;
mod ring;
mod sealing;
mod shamir;
mod stream;
mod sum;
mod vault;
mod vector;

pub use difference::RingUpdate;
pub use hashed::Hashed;
pub use keys::{Commitment, Context, PairSecret, PublicKey, SelfSecret};
pub use mask::{MaskKey, MaskSet, Sign};
pub use recovery::{Recovered, RecoveryError, recover_pair_key, recover_self_mask};
pub use ring::{FixedRing, Ring, RingError};
pub use sealing::{SEALED_BYTES, SealError, SharePair, open, seal};
pub use shamir::{SHARE_BYTES, Share, ShareError, combine, split};
pub use sum::{RingMean, RingSum, RingSumError};
pub use vault::{Advertised, Vault, VaultError};
pub use vector::{EncodeError, Encoded};

#[cfg(test)]
mod known_answers;
