//! How a server that was started again tells its peers at once that their connections are gone.
//!
//! A packet of a connection that an endpoint does not know is answered by a stateless reset (RFC 9000, section 10.3), which the
//! peer believes because it carries the token that came with the connection's ID. Tokens and IDs are made from the server's
//! private key here, so that the process after a crash makes the same ones: a peer then learns of the crash at its next packet, a
//! keep-alive at the latest, instead of after the whole idle timeout.
//!
//! The address listened on is part of the derivation: a second server with the same certificate could otherwise be made to end
//! connections of the first by packets passed on to it (RFC 9000, section 21.11).

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::EndpointConfig;
use quinn_proto::HashedConnectionIdGenerator;
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use ring::hmac::{self, HMAC_SHA256};

const SALT: &[u8] = b"foedus stateless reset 1";

/// What the reset tokens of an endpoint are made from.
pub(super) struct ResetSecret(Prk);

/// The length of the key that connection IDs are marked with.
struct MarkLength;

impl KeyType for MarkLength {
    fn len(&self) -> usize {
        size_of::<u64>()
    }
}

impl ResetSecret {
    /// Extracts it from a private key's DER form (HKDF-SHA256, RFC 5869).
    pub(super) fn extract(private_key: &[u8]) -> Self {
        Self(Salt::new(HKDF_SHA256, SALT).extract(private_key))
    }

    /// Has the endpoint that listens on `local` make its tokens and connection IDs from this secret.
    pub(super) fn configure(&self, local: SocketAddr, config: &mut EndpointConfig) {
        let local = local.to_string();
        let tokens = [b"token", local.as_bytes()];
        let marks = [b"mark.", local.as_bytes()];
        let invariant = "less than 255 hashes are asked for";
        let tokens = self.0.expand(&tokens, HMAC_SHA256).expect(invariant);
        let marks = self.0.expand(&marks, MarkLength).expect(invariant);
        let mut mark = [0; size_of::<u64>()];
        marks.fill(&mut mark).expect("it has the length asked for");
        let mark = u64::from_le_bytes(mark);
        config.reset_key(Arc::new(hmac::Key::from(tokens)));
        // Only what carries the mark is answered: other traffic costs a hash and no packet.
        config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(mark)));
    }
}
