//! The bytes that members sign: each with a label of its own, bound to the attempt's context and to the signer.

use super::message::Keys;
use super::roster::MemberId;
use crate::ids::Digest;

/// Checks an Ed25519 signature: public key, message, signature.
pub type Verify = fn(&[u8; 32], &[u8], &[u8]) -> bool;

/// What a member signs of its keys.
pub(super) fn of_keys(context: &Digest, member: MemberId, keys: &Keys) -> Vec<u8> {
    [
        b"flsa/v1/keys".as_slice(),
        &context.0,
        &member.0.to_le_bytes(),
        &keys.sealing,
        &keys.masking,
        &keys.commitment,
    ]
    .concat()
}

/// What a member signs of who shared and who delivered.
pub(super) fn of_delivery(
    context: &Digest,
    keys: &Digest,
    member: MemberId,
    (sharers, delivered): (&[MemberId], &[MemberId]),
) -> Vec<u8> {
    [
        b"flsa/v1/cons".as_slice(),
        &context.0,
        &keys.0,
        &list(sharers).0,
        &list(delivered).0,
        &member.0.to_le_bytes(),
    ]
    .concat()
}

/// The digest of a list of members.
fn list(members: &[MemberId]) -> Digest {
    let bytes: Vec<u8> = members.iter().flat_map(|one| one.0.to_le_bytes()).collect();
    Digest::of(&bytes)
}
