//! Whose seals are believed: those of the server that we are connected to, by our authority.

use std::sync::{Mutex, PoisonError};

use protocol::{
    identity::Identity,
    quic::{Authorities, ServerExaminer},
    seal::{Examiner, Seal, SealFault},
};

/// Believes the server of the present connection, whatever key it has at the time.
#[derive(Debug, Default)]
pub(super) struct PeerExaminer {
    peer: Mutex<Option<ServerExaminer>>,
}

impl PeerExaminer {
    /// A connection to this server is open; those are the authorities that vouch for it.
    pub(super) fn meet(&self, server: Identity, authorities: Authorities) {
        let examiner = ServerExaminer::new(authorities, server);
        *self.peer.lock().unwrap_or_else(PoisonError::into_inner) = Some(examiner);
    }
}

impl Examiner for PeerExaminer {
    fn examine(&self, bytes: &[u8], seal: &Seal) -> Result<(), SealFault> {
        let peer = self.peer.lock().unwrap_or_else(PoisonError::into_inner);
        match peer.as_ref() {
            Some(peer) => peer.examine(bytes, seal),
            None => Err(SealFault::Untrusted {
                what: "no server was met yet".to_owned(),
            }),
        }
    }
}
