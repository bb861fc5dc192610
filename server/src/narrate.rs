//! A run in words: each event as a log line, then to the observer.

use std::sync::Arc;
use std::time::SystemTime;

use protocol::RunId;
use protocol::identity::Identity;
use protocol::quic::days_left;

use crate::observer::{Observer, RunEvent};
use crate::record::RoundRecord;

/// Tells the log and the observer.
pub(crate) struct Narrator {
    pub(crate) run: RunId,
    pub(crate) observer: Arc<dyn Observer>,
}

impl Narrator {
    /// Tells of an event.
    pub(crate) fn tell(&self, event: &RunEvent) {
        log(&self.run, event);
        self.observer.observe(event);
    }

    /// Warns if a certificate ends soon.
    pub(crate) fn warn_of_expiry(&self, identity: &Identity, expires: SystemTime) {
        warn_of_expiry(identity, expires, SystemTime::now());
    }
}

/// Warns if a certificate ends within 30 days of `now`.
pub(crate) fn warn_of_expiry(identity: &Identity, expires: SystemTime, now: SystemTime) {
    if let Some(days) = days_left(expires, now) {
        tracing::warn!(%identity, days, "certificate expires soon; renew it with foedus-certs renew");
    }
}

fn log(run: &RunId, event: &RunEvent) {
    match event {
        RunEvent::Listening { .. }
        | RunEvent::Resumed { .. }
        | RunEvent::IdentityReloaded { .. }
        | RunEvent::IdentityKept { .. }
        | RunEvent::RoundOpened { .. }
        | RunEvent::QuorumMissing { .. }
        | RunEvent::RoundClosed { .. }
        | RunEvent::RoundFinished(_) => log_run(run, event),
        RunEvent::Finished { .. } | RunEvent::Broken { .. } | RunEvent::Failed { .. } => {
            log_end(run, event);
        }
        RunEvent::AttemptBegan { .. }
        | RunEvent::AttemptFailed { .. }
        | RunEvent::LeftOut { .. }
        | RunEvent::Expired { .. } => log_attempt(run, event),
        RunEvent::HandshakeRejected { .. }
        | RunEvent::Connected { .. }
        | RunEvent::Closed { .. }
        | RunEvent::Joined { .. }
        | RunEvent::Disconnected { .. }
        | RunEvent::Declined { .. }
        | RunEvent::Left { .. }
        | RunEvent::Resending { .. }
        | RunEvent::Stalled { .. } => log_peer(run, event),
        RunEvent::Progress { .. }
        | RunEvent::Receiving { .. }
        | RunEvent::Transferred { .. }
        | RunEvent::Accepted { .. }
        | RunEvent::Postponed { .. }
        | RunEvent::Refused { .. } => log_update(run, event),
    }
}

/// What concerns everybody.
fn log_run(run: &RunId, event: &RunEvent) {
    match event {
        RunEvent::Listening {
            address,
            plan,
            rounds,
            ..
        } => {
            tracing::info!(%run, %address, %plan, rounds, "listening");
        }
        RunEvent::Resumed {
            round, accepted, ..
        } => {
            tracing::info!(%run, %round, accepted, "going on from the journal");
        }
        RunEvent::IdentityReloaded { serial, .. } => {
            tracing::info!(%run, serial, "certificates and revocations were read again");
        }
        RunEvent::IdentityKept { reason } => {
            tracing::warn!(%run, reason, "the files of [identity] changed and cannot be used; the ones from before stay");
        }
        RunEvent::RoundOpened { round, asked } => {
            let asked: Vec<&str> = asked.iter().map(|name| name.as_str()).collect();
            tracing::info!(%run, %round, asked = asked.join(" "), "round opened");
        }
        RunEvent::QuorumMissing {
            round,
            accepted,
            quorum,
        } => {
            let says = "soft deadline passed without a quorum; waiting on";
            tracing::warn!(%run, %round, accepted, quorum, "{says}");
        }
        RunEvent::RoundClosed { round, accepted } => {
            tracing::debug!(%run, %round, accepted, "round closed");
        }
        RunEvent::RoundFinished(record) => {
            let RoundRecord {
                round,
                seconds,
                update_norm,
                inexactness,
                rule,
                ..
            } = record.as_ref();
            let left_out = record.participants.iter().filter(|one| one.is_left_out);
            let left_out: Vec<_> = left_out.map(|one| one.name.as_str()).collect();
            let left_out = (!left_out.is_empty()).then(|| left_out.join(" "));
            tracing::info!(
                %run, round, seconds, accepted = record.participants.len(),
                refused = record.refused.len(), missing = record.missing.len(), update_norm,
                inexactness, rule, left_out, adapter = record.adapter_sha256, "round finished"
            );
            if *update_norm == 0.0 {
                tracing::warn!(%run, round, "the round changed nothing: every value of its updates was zero, or was rounded to it");
            }
        }
        _ => {}
    }
}

/// How the run ends.
fn log_end(run: &RunId, event: &RunEvent) {
    match event {
        RunEvent::Finished { rounds, adapter } => {
            tracing::info!(%run, rounds, %adapter, "run finished");
        }
        RunEvent::Broken { what } => {
            tracing::error!(%run, what, "the server cannot go on");
        }
        RunEvent::Failed { reason, detail } => {
            tracing::warn!(%run, reason = reason.label(), detail, "run ended before its last round");
        }
        _ => {}
    }
}

/// What becomes of attempts at secure aggregation.
fn log_attempt(run: &RunId, event: &RunEvent) {
    match event {
        RunEvent::AttemptBegan { attempt, members } => {
            let names: Vec<&str> = members.iter().map(|name| name.as_str()).collect();
            tracing::info!(%run, %attempt, members = names.join(" "), "secure aggregation begins");
        }
        RunEvent::LeftOut {
            attempt,
            participant,
            failures,
        } => {
            tracing::warn!(
                %run, %attempt, %participant, failures,
                "secure aggregation goes on without this participant: attempts came to nothing over it"
            );
        }
        RunEvent::Expired { participant } => {
            tracing::warn!(
                %run, %participant,
                "this participant's certificate is over: its connection was closed, to be opened with a renewed one"
            );
        }
        RunEvent::AttemptFailed { attempt, reason } => {
            tracing::warn!(%run, %attempt, reason, "secure aggregation came to nothing and begins again");
        }
        _ => {}
    }
}

/// Who comes and goes.
fn log_peer(run: &RunId, event: &RunEvent) {
    match event {
        RunEvent::HandshakeRejected {
            peer,
            label,
            reason,
            ..
        } => {
            tracing::warn!(%run, peer, reason = label, detail = reason, "handshake rejected");
        }
        RunEvent::Connected { participant, .. } => {
            tracing::debug!(%run, %participant, "connected");
        }
        RunEvent::Closed {
            participant,
            code,
            violation: Some(violation),
        } => {
            tracing::warn!(%run, %participant, reason = code.label(), detail = violation, "cut off");
        }
        RunEvent::Closed {
            participant,
            code,
            violation: None,
        } => {
            tracing::info!(%run, %participant, reason = code.label(), "connection closed by us");
        }
        RunEvent::Joined {
            participant,
            software,
        } => {
            tracing::info!(%run, %participant, software, "joined");
        }
        RunEvent::Disconnected { participant, how } => {
            tracing::info!(%run, %participant, how, "disconnected");
        }
        RunEvent::Declined {
            participant,
            reason,
        } => {
            tracing::warn!(%run, %participant, reason, "declined the run plan");
        }
        RunEvent::Left {
            participant,
            reason,
        } => {
            tracing::warn!(%run, %participant, reason, "left the run");
        }
        RunEvent::Resending {
            participant,
            round,
            kind,
            reason,
        } => {
            let (kind, reason) = (kind.label(), reason.label());
            tracing::warn!(%run, %participant, %round, kind, reason, "sent once more, whole");
        }
        RunEvent::Stalled { participant } => {
            let says = "no progress within cohort.stall_limit; given up for this round";
            tracing::warn!(%run, %participant, "{says}");
        }
        _ => {}
    }
}

/// What becomes of updates.
fn log_update(run: &RunId, event: &RunEvent) {
    match event {
        RunEvent::Progress {
            participant,
            round,
            step,
            steps,
        } => {
            tracing::debug!(%run, %participant, %round, step, steps, "training");
        }
        RunEvent::Receiving {
            participant,
            received,
            total,
        } => {
            tracing::trace!(%run, %participant, received, total, "receiving");
        }
        RunEvent::Transferred { received, sent } => {
            tracing::trace!(%run, received, sent, "transferred");
        }
        RunEvent::Postponed {
            participant,
            round,
            until,
        } => {
            let says = "late for its round; the update may count in a later one";
            tracing::info!(%run, %participant, %round, %until, "{says}");
        }
        RunEvent::Accepted { participant, round } => {
            tracing::info!(%run, %participant, %round, "update accepted");
        }
        RunEvent::Refused {
            participant,
            round,
            reason,
            detail,
        } => {
            let label = reason.label();
            let detail = detail.as_deref().unwrap_or_else(|| reason.sentence());
            tracing::warn!(%run, %participant, %round, reason = label, detail, "update refused");
        }
        _ => {}
    }
}
