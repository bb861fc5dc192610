//! The files that say who we are and who is not trusted any more, looked at again while the server runs.
//!
//! A revocation list that is replaced takes effect at once: new handshakes are judged by it, and so are the connections that
//! are up, whatever they are at. A renewed certificate, for the same key or another one, is used from the next handshake on,
//! and its key signs plan and records from then on. Files that cannot be used change nothing; that our own certificate is over or
//! revoked keeps no list from being used.

use std::time::{Duration, SystemTime};

use protocol::quic::{IdentityWatch, TlsFiles, TlsMaterial};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::driver::Event;
use crate::narrate::warn_of_expiry;

/// How long a replaced file may go unnoticed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Tells the driver of every change of the files and of every day that has passed, on which it warns of what ends soon, until the run is
/// over.
pub(crate) async fn watch(files: TlsFiles, mut tls: TlsMaterial, events: mpsc::Sender<Event>) {
    let mut watch = IdentityWatch::new(files, &tls, SystemTime::now());
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = SystemTime::now();
        if watch.is_new_day(now) {
            warn_of_dates(&tls, now);
            warn_of_refusal(&tls, now);
            if events.send(Event::NewDay).await.is_err() {
                return;
            }
        }
        let Some(found) = watch.look(now) else {
            continue;
        };
        if let Ok(material) = &found {
            tls = material.clone();
            warn_of_dates(&tls, now);
            warn_of_refusal(&tls, now);
        }
        if events.send(Event::Identity(found)).await.is_err() {
            return;
        }
    }
}

/// Warns if our certificate ends soon, and if there is no revocation list or an old one.
pub(crate) fn warn_of_dates(tls: &TlsMaterial, now: SystemTime) {
    warn_of_expiry(tls.identity(), tls.expires(), now);
    if !tls.checks_revocation() {
        tracing::warn!(
            "no revocation list: revoked participants are let in; set identity.revocations"
        );
    }
    if tls.revocations_due().is_some_and(|due| due < now) {
        tracing::warn!(
            "the revocation list is out of date; get a newer one from the federation's authority"
        );
    }
}

/// Warns if participants would not let us pass: what else was in the files was taken all the same.
fn warn_of_refusal(tls: &TlsMaterial, now: SystemTime) {
    let identity = tls.identity();
    if let Err(rejection) = tls.check(identity.role(), now) {
        tracing::warn!(%identity, %rejection, "participants would refuse this server's certificate; have another one signed");
    }
}
