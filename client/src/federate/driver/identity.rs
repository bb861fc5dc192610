//! Our own certificate while a run goes on: taken up anew when its files are replaced, and warned of before it ends.

use std::time::{Instant, SystemTime};

use protocol::{
    close::CloseCode,
    identity::Identity,
    quic::{IdentityWatch, Rejection, days_left},
};

use super::Driver;
use crate::observer::Event;

impl Driver {
    /// Looks after the files of our identity. A new certificate is used from the next connection on; the present one goes on
    /// unless a new list revokes the server.
    pub(in crate::federate) fn look_at_identity(&mut self, now: SystemTime) {
        let Some(watch) = &mut self.identity else {
            return;
        };
        let is_new_day = watch.is_new_day(now);
        match watch.look(now) {
            Some(Ok(tls)) => {
                let serial = tls.serial().to_owned();
                self.settings.tls = tls;
                self.observer.observe(&Event::IdentityReloaded { serial });
                self.warn_of_own_expiry(now);
                self.warn_of_refusal(now);
                self.cut_off_revoked(now);
            }
            Some(Err(reason)) => self.observer.observe(&Event::IdentityKept { reason }),
            None => {}
        }
        if is_new_day {
            self.warn_of_dates(now);
        }
    }

    /// Warns if our certificate or that of the connected server ends soon, and of an old revocation list.
    fn warn_of_dates(&self, now: SystemTime) {
        self.warn_of_own_expiry(now);
        if let Some(session) = &self.session {
            let server = &session.connection;
            self.warn_of_expiry(server.peer(), server.peer_certificate().expires, now);
        }
        if self
            .settings
            .tls
            .revocations_due()
            .is_some_and(|due| due < now)
        {
            tracing::warn!(
                "the revocation list is out of date; get a newer one from the federation's authority"
            );
        }
    }

    /// Ends the present connection at once if the list in use revokes the server. The next handshake says whether the server has
    /// another certificate by now; if not, it ends our part in the run.
    pub(super) fn cut_off_revoked(&mut self, now: SystemTime) {
        let Some(session) = &self.session else {
            return;
        };
        let server = session.connection.peer().clone();
        match session.connection.recheck(&self.settings.tls, now) {
            Ok(()) => {}
            Err(rejection @ Rejection::Revoked) => {
                session.close(CloseCode::Revoked);
                self.session = None;
                self.obstacle(format!("cut off {server}: {rejection}"));
                self.machine.handle_disconnected(None, Instant::now());
            }
            // What held when the connection was made let the server pass; the next one will be judged by what holds now.
            Err(rejection) => {
                tracing::warn!(%server, %rejection, "would not be taken for the server again");
            }
        }
    }

    /// Whether our certificate was replaced since the present connection was asked for: what a server holds against the old one, it does
    /// not hold against the new one.
    pub(super) fn has_newer_certificate(&mut self, now: SystemTime) -> bool {
        // It may be in its place for less time than passes between two looks.
        self.look_at_identity(now);
        self.tls.serial() != self.settings.tls.serial()
    }

    /// Whether there are files to look after.
    pub(in crate::federate) fn has_identity_files(&self) -> bool {
        self.identity.is_some()
    }

    /// Warns if a certificate ends soon.
    pub(super) fn warn_of_expiry(&self, identity: &Identity, expires: SystemTime, now: SystemTime) {
        if let Some(days) = days_left(expires, now) {
            self.observer.observe(&Event::Expiring {
                identity: identity.clone(),
                days,
            });
        }
    }

    pub(super) fn warn_of_own_expiry(&self, now: SystemTime) {
        let tls = &self.settings.tls;
        self.warn_of_expiry(tls.identity(), tls.expires(), now);
    }

    /// Warns if servers would not let us in: what else was in the files was taken all the same.
    fn warn_of_refusal(&self, now: SystemTime) {
        let tls = &self.settings.tls;
        if let Err(rejection) = tls.check(tls.identity().role(), now) {
            tracing::warn!(%rejection, "servers would refuse this site's certificate; have another one signed");
        }
    }

    /// Begins to watch, if the settings name files.
    pub(super) fn watch_identity(&mut self, now: SystemTime) {
        let files = self.settings.tls_files.clone();
        let tls = &self.settings.tls;
        self.identity = files.map(|files| IdentityWatch::new(files, tls, now));
        self.warn_of_dates(now);
    }
}
