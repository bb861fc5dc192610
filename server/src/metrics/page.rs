//! What is shown: every family by name, with the sentence that explains it.
//!
//! The names are an interface: dashboards and alerts depend on them. A test holds them and docs/monitoring.md together.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use protocol::close::RunFailure;

use self::network::of_network;
use super::counts::{Counts, Party};
use super::exposition::{Kind, Page};
use super::histogram::Histogram;
use super::phase::Phase;
use super::process::Process;
use crate::network::Costs;

mod network;

/// Gives the page, of events and of what no event tells: the journal's commits and what connections cost.
pub(super) fn of(
    counts: &Counts,
    (commits, costs): (&Histogram, &Costs),
    process: Process,
    now: Instant,
) -> String {
    let mut page = Page::default();
    of_run(&mut page, counts, now);
    of_rounds(&mut page, counts, now);
    of_participants(&mut page, counts);
    of_updates(&mut page, counts);
    of_network(&mut page, costs);
    of_certificates(&mut page, counts);
    of_machine(&mut page, commits, process);
    page.into_text()
}

fn of_run(page: &mut Page, counts: &Counts, now: Instant) {
    let facts = &counts.facts;
    let plan = facts.plan.to_string();
    page.family(
        "foedus_run_info",
        Kind::Gauge,
        "The run, the digest of its plan, and the version of the server.",
    )
    .sample(
        &[
            ("run", facts.run.as_str()),
            ("plan", &plan),
            ("version", env!("CARGO_PKG_VERSION")),
        ],
        1.0,
    );
    let mut phases = page.family(
        "foedus_run_phase",
        Kind::Gauge,
        "1 for the phase that the run is in.",
    );
    for phase in Phase::ALL {
        phases.sample(&[("phase", phase.label())], is(phase == counts.phase));
    }
    let since = now.saturating_duration_since(counts.phase_since);
    page.gauge(
        "foedus_run_phase_seconds",
        "How long the run has been in its phase.",
        since.as_secs_f64(),
    );
    let mut failures = page.family(
        "foedus_run_failed",
        Kind::Gauge,
        "1 for the reason for which the run ended without its last adapter.",
    );
    for reason in RunFailure::ALL {
        let failed = counts
            .failed
            .as_ref()
            .is_some_and(|(found, _)| found == reason);
        failures.sample(&[("reason", reason.label())], is(failed));
    }
    let help =
        "1 if the server cannot go on by a fault of its own or of its disk; its log says which.";
    page.gauge("foedus_server_broken", help, is(counts.broken.is_some()));
}

fn of_rounds(page: &mut Page, counts: &Counts, now: Instant) {
    page.gauge(
        "foedus_rounds_planned",
        "Rounds of the run.",
        f64::from(counts.facts.rounds),
    );
    let help = "Rounds that are done, those of earlier processes of the run included.";
    page.gauge(
        "foedus_rounds_finished",
        help,
        f64::from(counts.rounds_finished),
    );
    page.gauge(
        "foedus_round",
        "The open round, or the last one; 0 before the first.",
        f64::from(counts.round),
    );
    page.gauge(
        "foedus_round_quorum",
        "Updates that make a round count.",
        f64::from(counts.facts.quorum),
    );
    page.gauge(
        "foedus_round_asked",
        "Participants that were asked when the round was opened.",
        counts.round_asked as f64,
    );
    page.gauge(
        "foedus_round_accepted",
        "Updates that count in the round.",
        counts.round_accepted as f64,
    );
    let help = "1 while the round waits beyond its soft deadline because its quorum is missing.";
    page.gauge(
        "foedus_round_quorum_missing",
        help,
        is(counts.waits_since.is_some()),
    );
    let help =
        "Time that rounds waited beyond their soft deadlines because their quorum was missing.";
    page.counter(
        "foedus_round_quorum_wait_seconds_total",
        help,
        counts.waited(now).as_secs_f64(),
    );
    let help = "Rounds by duration, from the opening to the next adapter.";
    page.histogram("foedus_round_seconds", help, &counts.round_seconds);
    let help = "Attempts at secure aggregation that began.";
    page.counter("foedus_secure_attempts_total", help, counts.attempts as f64);
    let help = "Attempts at secure aggregation that came to nothing.";
    page.counter(
        "foedus_secure_attempts_failed_total",
        help,
        counts.attempts_failed as f64,
    );
    let help = "Participants left out of attempts because earlier ones failed over them.";
    page.counter("foedus_secure_left_out_total", help, counts.left_out as f64);
}

fn of_participants(page: &mut Page, counts: &Counts) {
    page.gauge(
        "foedus_participants_connected",
        "Participants that have a connection.",
        counts.connected() as f64,
    );
    page.gauge(
        "foedus_participants_joined",
        "Participants that agreed to the plan and have a connection.",
        counts.joined() as f64,
    );
    let named = named(counts);
    if !named.is_empty() {
        let help = "1 for each named participant that agreed to the plan and has a connection.";
        let mut family = page.family("foedus_participant_joined", Kind::Gauge, help);
        for (name, party) in &named {
            family.sample(&[("participant", name)], is(party.has_joined));
        }
    }
    page.counter(
        "foedus_connections_total",
        "Connections of participants that were let in.",
        counts.connections as f64,
    );
    let help = "Peers that were not let in, by what was wrong.";
    by_reason(
        page,
        "foedus_handshakes_rejected_total",
        help,
        &counts.rejected,
    );
    let help = "Connections of participants that this server closed, by why.";
    by_reason(
        page,
        "foedus_connections_closed_total",
        help,
        &counts.closed,
    );
    page.counter(
        "foedus_participants_declined_total",
        "Participants that refused the plan.",
        counts.declined as f64,
    );
    page.counter(
        "foedus_participants_left_total",
        "Participants that left the run.",
        counts.left as f64,
    );
    let help = "Times that a participant was given up for a round because it made no progress.";
    page.counter(
        "foedus_participants_stalled_total",
        help,
        counts.stalled as f64,
    );
}

fn of_updates(page: &mut Page, counts: &Counts) {
    let named = named(counts);
    let mut family = page.family(
        "foedus_updates_accepted_total",
        Kind::Counter,
        "Updates that count.",
    );
    if named.is_empty() {
        family.sample(&[], counts.accepted as f64);
    }
    for (name, party) in &named {
        family.sample(&[("participant", name)], party.accepted as f64);
    }
    let help = "Updates and offers that were refused, by why.";
    by_reason(page, "foedus_updates_refused_total", help, &counts.refused);
    let help = "Updates that were late for their round and may count in a later one.";
    page.counter(
        "foedus_updates_postponed_total",
        help,
        counts.postponed as f64,
    );
    let help = "Adapters that participants asked for once more, and whole.";
    page.counter("foedus_transfers_resent_total", help, counts.resent as f64);
    let help = "Contents of transfers received, refused ones included.";
    page.counter(
        "foedus_transfers_received_bytes_total",
        help,
        counts.received_bytes as f64,
    );
    let help = "Contents of transfers handed over to be sent.";
    page.counter(
        "foedus_transfers_sent_bytes_total",
        help,
        counts.sent_bytes as f64,
    );
}

fn of_certificates(page: &mut Page, counts: &Counts) {
    let help = "When the first of this server's certificate and the authority's ends.";
    let expires = seconds(counts.facts.expires);
    page.gauge("foedus_certificate_expiry_timestamp_seconds", help, expires);
    if let Some(due) = counts.facts.revocations_due {
        let help = "Until when the authority promised a newer revocation list.";
        page.gauge(
            "foedus_revocations_due_timestamp_seconds",
            help,
            seconds(due),
        );
    }
    let help = "When the certificate ends that a participant showed last; the first of the connected if none is named.";
    let mut family = page.family(
        "foedus_participant_certificate_expiry_timestamp_seconds",
        Kind::Gauge,
        help,
    );
    let named = named(counts);
    for (name, party) in &named {
        if let Some(expires) = party.expires {
            family.sample(&[("participant", name)], seconds(expires));
        }
    }
    let first = counts
        .parties
        .values()
        .filter_map(|party| party.expires)
        .min();
    if let (true, Some(first)) = (named.is_empty(), first) {
        family.sample(&[], seconds(first));
    }
    let help = "Times that replaced certificates or revocations were taken up.";
    page.counter("foedus_identity_reloads_total", help, counts.reloads as f64);
    let help = "Times that replaced certificates or revocations could not be used.";
    page.counter(
        "foedus_identity_reloads_failed_total",
        help,
        counts.reloads_failed as f64,
    );
    let help =
        "1 while the files of this server's identity cannot be used; those from before are in use.";
    page.gauge(
        "foedus_identity_files_unusable",
        help,
        is(counts.has_unusable_files),
    );
}

fn of_machine(page: &mut Page, commits: &Histogram, process: Process) {
    page.histogram(
        "foedus_journal_commit_seconds",
        "Commits to the journal by duration.",
        commits,
    );
    if let Some(bytes) = process.resident_bytes {
        page.gauge(
            "process_resident_memory_bytes",
            "Memory of the process that is not swapped out.",
            bytes,
        );
    }
    if let Some(started) = process.started {
        page.gauge(
            "process_start_time_seconds",
            "When the process began.",
            started,
        );
    }
}

/// The participants that the configuration names.
fn named(counts: &Counts) -> Vec<(&str, &Party)> {
    let names = counts.facts.named.iter();
    let found = names.filter_map(|name| Some((name.as_str(), counts.parties.get(name)?)));
    found.collect()
}

fn by_reason(
    page: &mut Page,
    name: &'static str,
    help: &str,
    counts: &BTreeMap<&'static str, u64>,
) {
    let mut family = page.family(name, Kind::Counter, help);
    for (reason, count) in counts {
        family.sample(&[("reason", reason)], *count as f64);
    }
}

fn is(so: bool) -> f64 {
    if so { 1.0 } else { 0.0 }
}

/// Seconds of Unix time; what is before it is 0.
fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests;
