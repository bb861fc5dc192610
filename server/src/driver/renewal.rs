//! Certificates and revocations that changed while connections are up.

use std::time::SystemTime;

use protocol::close::CloseCode;
use protocol::plan::SignedPlan;
use protocol::quic::{Connection, HandshakeError, Listener, RefusedPeer, Rejection, TlsMaterial};

use super::Driver;
use crate::error::ServerError;
use crate::observer::RunEvent;

impl Driver {
    /// Signs the plan, and what comes later, with the present key. A participant that opened its connection before is shown
    /// the certificate with it.
    fn sign_with(&mut self, material: &TlsMaterial) {
        self.tls = material.clone();
        let signed = SignedPlan::new(self.coordinator.plan(), |bytes| material.seal(bytes));
        if let Err(error) = self.coordinator.show_plan(signed) {
            self.give_up(ServerError::Internal {
                what: error.to_string(),
            });
        }
    }

    /// Uses new material for handshakes, and cuts off whoever it says is revoked.
    pub(super) fn renew(&mut self, listener: &Listener, found: Result<TlsMaterial, String>) {
        let taken = found.and_then(|material| {
            let taken = listener
                .reload(&material)
                .map_err(|error| error.to_string());
            taken.map(|()| material)
        });
        let material = match taken {
            Ok(material) => material,
            Err(reason) => return self.narrator.tell(&RunEvent::IdentityKept { reason }),
        };
        self.narrator.tell(&RunEvent::IdentityReloaded {
            serial: material.serial().to_owned(),
            expires: material.expires(),
            revocations_due: material.revocations_due(),
        });
        self.sign_with(&material);
        let now = SystemTime::now();
        for peer in self.peers.values() {
            let Err(rejection) = peer.outbox.connection().recheck(&material, now) else {
                continue;
            };
            let participant = peer.name.clone();
            if rejection != Rejection::Revoked {
                // It was let in by what held then; its next connection will be judged by what holds now.
                tracing::warn!(%participant, %rejection, "would not be let in again");
                continue;
            }
            let code = CloseCode::Revoked;
            self.tally.count(Some(&participant), code.label());
            let violation = Some(rejection.to_string());
            self.narrator.tell(&RunEvent::Closed {
                participant,
                code,
                violation,
            });
            // At once and not after what waits to be sent: nothing more is for this peer.
            peer.outbox.connection().close(code);
        }
    }

    /// Warns of participants whose certificates end soon: a connection may outlast the warning that it began with.
    pub(super) fn warn_of_peers(&self) {
        for peer in self.peers.values() {
            let connection = peer.outbox.connection();
            let expires = connection.peer_certificate().expires;
            self.narrator.warn_of_expiry(connection.peer(), expires);
        }
    }

    /// Turns away a peer that was let in by what held when its handshake began, and would not be by what holds now: it may have
    /// taken its time in between, and was among nobody's connections when those were checked again.
    pub(super) fn turn_away(&mut self, connection: &Connection, reason: Rejection) {
        connection.close(match reason {
            Rejection::Revoked => CloseCode::Revoked,
            Rejection::Expired { .. } => CloseCode::Expired,
            // It comes back, and is told at its next handshake.
            _ => CloseCode::Internal,
        });
        self.reject(&HandshakeError::Refused(Box::new(RefusedPeer {
            remote: connection.remote_address(),
            claimed: Some(connection.peer().clone()),
            reason,
        })));
    }
}
