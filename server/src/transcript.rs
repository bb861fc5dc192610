//! The transcript as this server writes it and as anybody reads it: `transcript.jsonl`, a record a line.
//!
//! What a record is and how it is checked is decided in `protocol::transcript`. Here is what needs a key or a disk: the secret
//! behind the lines' blinds, the chain that a server goes on from, and the offline check of a file (`audit`).

mod adapters;
mod audit;
mod reader;

pub use audit::{Audit, AuditError, AuditedRound, audit};

use protocol::Digest;
use protocol::quic::TlsMaterial;
use protocol::transcript::{Chain, SealedRecord, TranscriptFault};

/// What nobody without the server's key can know about a run: a signature that is never published (Ed25519 signatures are
/// deterministic, so that it is the same after a crash).
pub(crate) fn secret(signer: &TlsMaterial, plan: Digest) -> Digest {
    let message = [b"foedus/transcript-secret/1".as_slice(), &plan.0].concat();
    Digest::of(&signer.sign(&message))
}

/// The chain that these records form.
///
/// # Errors
/// [`TranscriptFault`] if they do not continue each other, or a line was changed.
pub(crate) fn chain(plan: Digest, records: &[SealedRecord]) -> Result<Chain, TranscriptFault> {
    let mut chain = Chain::new(plan);
    for SealedRecord { record, .. } in records {
        record.check_lines()?;
        chain.extend(&record.heading)?;
    }
    Ok(chain)
}
